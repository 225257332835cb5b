//! Upgrades on real processes: a program becomes another one and back again, under load; programs that
//! cannot take over, each in a way of its own; what is kept and what is refused. No client is lost.
//!
//! The programs are copies of this test file with a line after their end that says which version they
//! are and how they behave.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::raise;
use prefork_server::servers::TcpConn;
use prefork_server::{
    Builder, Child, ChildServer, Death, Error, Event, ExecServer, Launch, Monitor, Observer,
    ParentOnly, PreFork, PreForkHooks, Start, States, TcpServer, UnixServer, defaults, metrics,
};

use crate::reload::{memory, under_load};
use crate::subject::{ended, log_warnings, millis};
use crate::support::leak::BOARDS;
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, connect, gate, holds, patient,
    processes, programs, scenarios, until, versions,
};

pub mod back;
mod tampering;

pub const PROGRAMS: Programs = programs![upgrading, upgrading_programs];

pub const SCENARIOS: Scenarios = scenarios![
    i08_upgrades_and_downgrades_lose_no_client_and_no_descriptor,
    i07_a_program_that_cannot_run_is_refused_and_the_old_one_serves_on,
    i07_a_program_that_hangs_is_refused_after_ten_seconds,
    a_program_whose_children_fail_gives_the_place_back,
    a_program_that_fails_after_its_trial_gives_the_place_back,
    the_way_back_is_there_when_the_file_is_not,
    counters_attributes_and_what_hooks_know_are_kept,
    metrics_are_exact_through_upgrades,
    a_connection_outlives_the_program_that_has_accepted_it,
    a_unix_socket_keeps_its_file_and_its_clients,
    sockets_of_a_service_manager_are_taken_over_again,
    programs_that_children_run_are_adopted,
    whoever_asks_is_told_the_outcome,
    children_of_the_old_program_leave_what_is_queued_to_others,
    children_that_die_meanwhile_are_reaped_and_replaced,
    a_stop_during_an_upgrade_wins,
    an_upgrade_during_an_upgrade_is_refused,
    the_tie_to_the_parent_survives,
    i09_an_instruction_for_nobody_changes_nothing,
];

/// How many upgrades and downgrades the first scenario makes beside four clients; `UPGRADES=10000` makes
/// the figure in the documents, beside sixteen.
const UPGRADES: usize = 4;

// The programs.

/// How a program behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Good,
    /// Exits at once.
    Exits,
    /// Never comes as far as to read the state.
    Hangs,
    /// Is killed in its trial, 10 ms after it was executed.
    Dies,
    /// Cannot use what the hooks have handed on.
    Refuses,
    /// Its children fail.
    Childless,
    /// Fails to start, but not in its trial.
    Fails,
    /// Panics instead.
    Panics,
    /// Reads states of an older format only.
    Older,
    /// Its children fail, and it hands on what another version cannot use.
    Later,
    /// Cannot say what it hands on.
    Unsaved,
    /// Gets SIGTERM while it says for the second time what it hands on.
    Signalled,
    /// Gets SIGTERM when it has taken over, and fails then.
    SignalledFails,
    /// Its children hang in their start.
    Stuck,
    /// Panics at what the hooks have handed on, but not in its trial.
    Upset,
    /// Runs another program before its server, which tells the descriptors that it has.
    Lists,
    /// Finds a state that is not what was handed on, but not in its trial.
    Future,
    CutOff,
    Flipped,
    /// Finds a descriptor missing, or leading to something else, but not in its trial.
    Missing,
    Swapped,
}

const MODES: [(&str, Mode); 21] = [
    ("good", Mode::Good),
    ("exits", Mode::Exits),
    ("hangs", Mode::Hangs),
    ("dies", Mode::Dies),
    ("refuses", Mode::Refuses),
    ("childless", Mode::Childless),
    ("fails", Mode::Fails),
    ("panics", Mode::Panics),
    ("older", Mode::Older),
    ("later", Mode::Later),
    ("unsaved", Mode::Unsaved),
    ("signalled", Mode::Signalled),
    ("signalled-fails", Mode::SignalledFails),
    ("stuck", Mode::Stuck),
    ("upset", Mode::Upset),
    ("lists", Mode::Lists),
    ("future", Mode::Future),
    ("cut-off", Mode::CutOff),
    ("flipped", Mode::Flipped),
    ("missing", Mode::Missing),
    ("swapped", Mode::Swapped),
];

/// The version and the behaviour of this program, from the end of its file.
fn own() -> (u32, Mode) {
    let Some((version, word)) = versions::own() else {
        return (1, Mode::Good);
    };
    let mode = MODES.iter().find(|(name, _)| *name == word);
    (version, mode.expect("a mode").1)
}

/// What the hooks hand on: how many upgrades there have been.
struct Hooks {
    version: u32,
    mode: Mode,
    launch: Launch,
    upgrades: u32,
    /// How often `save` was called.
    saves: u32,
    /// How many upgrades that fail are tried again at once.
    retries: u32,
    control: Option<ParentOnly<UnixListener>>,
    path: Option<PathBuf>,
}

impl Hooks {
    fn new(version: u32, mode: Mode) -> Self {
        Self {
            version,
            mode,
            launch: Launch::of_this_process(),
            upgrades: 0,
            saves: 0,
            retries: 0,
            control: None,
            path: None,
        }
    }
}

impl PreForkHooks for Hooks {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
            let listener = UnixListener::bind(path).expect("a socket");
            let (_, listener) = states
                .select_read_owned(listener, "control")
                .expect("a state");
            self.control = Some(listener);
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _: &str) {
        let listener = self.control.as_ref().and_then(ParentOnly::get);
        let listener = listener.expect("a listener");
        let (connection, _) = listener.accept().expect("a connection");
        let mut line = String::new();
        BufReader::new(&connection)
            .read_line(&mut line)
            .expect("a line");
        match line.trim().split_once(' ') {
            Some(("upgrade", path)) => {
                let asked = monitor.upgrade_and_tell(Some(Path::new(path)), &connection);
                asked.expect("a duplicate");
            }
            Some(("max_clients", number)) => {
                monitor.set_max_clients(number.parse().expect("a number"));
            }
            _ => panic!("{line:?}"),
        }
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        match self.mode {
            Mode::Fails => Err(io::Error::other("this program does not start")),
            Mode::Panics => panic!("this program panics"),
            Mode::SignalledFails => {
                raise(Signal::SIGTERM).expect("a signal");
                Err(io::Error::other("this program does not start"))
            }
            _ => defaults::handler_start(self, monitor, server),
        }
    }

    fn save(&mut self, _: &mut Monitor) -> Vec<u8> {
        self.saves += 1;
        match self.mode {
            Mode::Later => b"in a format of version 2".to_vec(),
            Mode::Unsaved => panic!("this program hands on nothing"),
            Mode::Signalled if self.saves == 2 => {
                raise(Signal::SIGTERM).expect("a signal");
                b"1".to_vec()
            }
            _ => (self.upgrades + 1).to_string().into_bytes(),
        }
    }

    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        if self.mode == Mode::Refuses {
            return Err(io::Error::other("this is of a later version"));
        }
        if self.mode == Mode::Upset && self.launch == Launch::Upgrade {
            panic!("this program is upset");
        }
        let text = std::str::from_utf8(saved).map_err(io::Error::other)?;
        self.upgrades = text.parse().map_err(io::Error::other)?;
        Ok(())
    }

    fn upgrade_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        println!("version {} serves on: {error}", self.version);
        if self.retries > 0 {
            self.retries -= 1;
            monitor.upgrade();
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        match self.mode {
            Mode::Childless | Mode::Later => {
                return Err(io::Error::other("these children cannot be used"));
            }
            Mode::Stuck => loop {
                thread::park();
            },
            _ => {}
        }
        defaults::server_start(self, start)
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        println!("exited {} {:?}", child.pid(), death.cause());
    }
}

/// Tells of upgrades.
struct Teller(u32);

impl Observer for Teller {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match event {
            Event::UpgradeBegan => println!("began"),
            Event::Adopted { child, .. } => {
                let child = monitor.child(*child).expect("a record");
                println!("adopted {} {:?}", child.pid(), child.state());
            }
            Event::Upgraded { blind, .. } => {
                println!("upgraded to {}, blind for {} us", self.0, blind.as_micros());
            }
            Event::UpgradeFailed { .. } => println!("event failed"),
            _ => {}
        }
    }
}

fn misbehave(mode: Mode) {
    match mode {
        Mode::Exits => std::process::exit(3),
        Mode::Hangs => loop {
            thread::park();
        },
        Mode::Dies => {
            let script = "sleep 0.01; kill -9 $PPID";
            let killer = Command::new("sh").args(["-c", script]).spawn();
            drop(killer.expect("a shell"));
            // Faster than that, the trial would be over, and the shell of the server itself would kill it.
            loop {
                thread::park();
            }
        }
        Mode::Lists => list_inherited(),
        _ => tampering::tamper(mode),
    }
}

/// Tells the descriptors of a program that this one runs.
fn list_inherited() {
    // Asked for first, as the documents say.
    if Launch::of_this_process() == Launch::Fresh {
        return;
    }
    let list = Command::new("ls").args(["-l", "/proc/self/fd"]).output();
    let list = String::from_utf8(list.expect("a list").stdout).expect("text");
    println!("inherited: {}", list.replace('\n', " "));
}

/// Answers each line with the pid of the child and the version of the program.
fn upgrading(args: Args) -> ExitCode {
    let (version, mode) = own();
    tampering::put_back();
    misbehave(mode);
    log_warnings();
    match Launch::of_this_process() {
        Launch::Trial => gate::pass("trial"),
        _ => println!("version {version} in {}", std::process::id()),
    }
    let served = metrics::counter("served");
    let answer = move |line: &str| {
        served.add(1);
        match line {
            "who" => format!("{} {version}", std::process::id()),
            "launch" => format!("{:?}", Launch::of_this_process()),
            other => format!("{other}?"),
        }
    };
    let hooks = Hooks {
        path: args.value("--control").map(PathBuf::from),
        retries: args.parsed("--retries").unwrap_or(0),
        ..Hooks::new(version, mode)
    };
    if let Some(path) = args.value("--unix") {
        let server = UnixServer::new(path, move |conn: prefork_server::servers::UnixConn| {
            converse(&conn, &answer)
        })
        .max_requests(0);
        let builder = sized(PreFork::builder(server).hooks(hooks), version);
        return ended(run(builder, |_| println!("listening on {path}")));
    }
    let limit = millis(&args, "--upgrade-timeout", 10_000);
    let server = TcpServer::new(move |conn: TcpConn| converse(&conn, &answer));
    let server = server.port(0).max_requests(0);
    let server = match args.has("--listen-fds") {
        true => server.listen_fds(),
        false => server,
    };
    let builder = sized(PreFork::builder(server).hooks(hooks), version);
    let builder = builder.upgrade_timeout(limit);
    let builder = match args.has("--few") {
        true => builder.max_clients(4).drain_timeout(SOON * 60),
        false => builder,
    };
    ended(run(builder, |server: &TcpServer| {
        println!("listening on {}", server.local_addrs()[0]);
    }))
}

fn converse<C>(conn: &C, answer: &impl Fn(&str) -> String) -> io::Result<()>
where
    for<'a> &'a C: Read + Write,
{
    for line in BufReader::new(conn).lines() {
        let answer = answer(&line?);
        writeln!(&*conn, "{answer}")?;
    }
    Ok(())
}

fn sized<H: PreForkHooks, S: ChildServer>(builder: Builder<H, S>, version: u32) -> Builder<H, S> {
    builder
        .start_servers(4)
        .min_spare_servers(1)
        .max_spare_servers(1000)
        .max_clients(40)
        .observe(Teller(version))
}

fn run<S: ChildServer>(builder: Builder<Hooks, S>, announce: impl Fn(&S)) -> Result<(), Error> {
    let mut prefork = builder.start()?;
    println!("{} upgrades so far", prefork.hooks().upgrades);
    announce(prefork.server());
    let report = prefork.run()?;
    let counted = format!("{:?}", prefork.monitor().metrics());
    println!("max_clients {}", prefork.monitor().max_clients());
    println!("counted {counted}");
    println!("{report}");
    Ok(())
}

/// Runs programs that say nothing.
fn upgrading_programs(_: Args) -> ExitCode {
    log_warnings();
    let (version, mode) = own();
    let hooks = Hooks::new(version, mode);
    let server = ExecServer::new("sleep").arg("1000");
    let builder = sized(PreFork::builder(server).hooks(hooks), version);
    ended(run(builder, |_| println!("listening on 127.0.0.1:0")))
}

// What scenarios do.

/// Writes a program of that version and mode.
fn write_program(path: &Path, version: u32, mode: Mode) {
    let own = std::env::current_exe().expect("this program");
    write_build(&own, path, version, mode);
}

/// The same of a build of this test file.
fn write_build(build: &Path, path: &Path, version: u32, mode: Mode) {
    let name = MODES.iter().find(|(_, known)| *known == mode);
    versions::write(build, path, version, name.expect("a name").0);
}

/// A server of version 1, in a file of its own that is the one of the next upgrade.
struct Upgraded {
    server: Server,
    path: PathBuf,
}

impl Upgraded {
    fn with(world: &mut World, program: &str, flags: &[&str]) -> Self {
        Self::of(world, Mode::Good, program, flags)
    }

    /// The same, of a version 1 that behaves in that way.
    fn of(world: &mut World, mode: Mode, program: &str, flags: &[&str]) -> Self {
        let path = world.tempdir().join("server");
        write_program(&path, 1, mode);
        let launch = world.command(&path).args(&["--program", program]);
        let server = launch.args(flags).spawn();
        Self { server, path }
    }

    fn new(world: &mut World, flags: &[&str]) -> Self {
        Self::with(world, "upgrading", flags)
    }

    fn upgrade_to(&self, version: u32, mode: Mode) {
        write_program(&self.path, version, mode);
        self.server.signal(Signal::SIGUSR2);
    }

    fn said(&self, text: &str) -> usize {
        self.server.stdout().matches(text).count()
    }

    #[track_caller]
    fn expect(&self, text: &str, times: usize) {
        let what = format!("{times} times {text:?}");
        let said = || (self.said(text) >= times).then_some(());
        until(&what, SOON * 2, || match self.server.try_wait() {
            Some(status) => panic!("{status}: {}", self.server.stderr()),
            None => said(),
        });
    }

    /// It has said that so often, and may have ended.
    #[track_caller]
    fn expect_said(&self, text: &str, times: usize) {
        until(text, SOON, || (self.said(text) >= times).then_some(()));
    }

    /// The first line with the text among what it has said after so many bytes.
    #[track_caller]
    fn expect_after(&self, length: u64, text: &str) -> String {
        until(text, SOON * 2, || {
            if let Some(status) = self.server.try_wait() {
                panic!("{status}: {}", self.server.stderr());
            }
            let said = self.server.stdout_after(length);
            let (lines, _) = said.rsplit_once('\n')?;
            let line = lines.lines().find(|line| line.contains(text));
            line.map(str::to_owned)
        })
    }

    #[track_caller]
    fn expect_version(&self, version: u32) {
        let address = self.server.address();
        let mut in_a_row = 0;
        until("the version in every child", SOON, || {
            let found = ask(&address).1 == version;
            in_a_row = if found { in_a_row + 1 } else { 0 };
            (in_a_row == 20).then_some(())
        });
    }

    /// Stops it, and returns its report.
    #[track_caller]
    fn stop(&self) -> String {
        assert!(self.server.stop(Signal::SIGTERM, SOON).success());
        let stdout = self.server.stdout();
        stdout.lines().last().expect("a report").to_owned()
    }
}

/// The child that answers, and its version.
#[track_caller]
fn ask(address: &Address) -> (u32, u32) {
    parsed(&connect(address).ask("who"))
}

fn parsed(answer: &str) -> (u32, u32) {
    let (pid, version) = answer.split_once(' ').expect("two words");
    (
        pid.parse().expect("a pid"),
        version.parse().expect("a version"),
    )
}

/// The children that were there before have not been replaced.
#[track_caller]
fn expect_alive(children: &[u32]) {
    let gone = children.iter().find(|pid| !processes::is_alive(**pid));
    assert_eq!(gone, None, "it has gone");
}

/// What a server holds but for boards: each program has two, for as long as its children live.
fn held(server: &Server) -> usize {
    let is_board = |target: &str| BOARDS.iter().any(|board| target.contains(board));
    let held = server.descriptors().into_iter();
    held.filter(|(_, target)| !is_board(target)).count()
}

fn held_when_settled(server: &Server) -> usize {
    server.descriptors_settled();
    held(server)
}

/// A server that held so many descriptors with four children holds no more, but for those of children.
#[track_caller]
fn expect_as_many(server: &Server, descriptors: usize) {
    until("the descriptors as before", SOON, || {
        let children = server.children().len() + server.zombies().len();
        (held(server) <= descriptors + 2 * children.saturating_sub(4)).then_some(())
    });
}

/// Trials that are over have been reaped.
#[track_caller]
fn expect_no_zombie(server: &Server) {
    until("the end of all trials", SOON, || {
        server.zombies().is_empty().then_some(())
    });
}

// Scenarios.

/// Upgrades and downgrades by turns: each client is answered, the process is the same, and holds as many
/// descriptors and as much memory as before. `OTHER_BUILD` names another build of this test file, to
/// which the upgrades are.
fn i08_upgrades_and_downgrades_lose_no_client_and_no_descriptor(world: &mut World) {
    let many = std::env::var("UPGRADES").ok();
    let clients = if many.is_some() { 16 } else { 4 };
    let upgrades = many.map_or(UPGRADES, |n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + SOON * u32::try_from(upgrades).expect("a number"));
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let other = std::env::var_os("OTHER_BUILD").map(PathBuf::from);
    let own = std::env::current_exe().expect("this program");
    let versions = [(1, &own), (2, other.as_ref().unwrap_or(&own))];
    let versions = versions.map(|(version, build)| {
        let path = upgraded.path.with_file_name(format!("v{version}"));
        write_build(build, &path, version, Mode::Good);
        path
    });
    let place = |version: usize| {
        let link = upgraded.path.with_extension("new");
        fs::hard_link(&versions[version - 1], &link).expect("a link");
        fs::rename(&link, &upgraded.path).expect("its place");
        let said = server.stdout_length();
        server.signal(Signal::SIGUSR2);
        upgraded.expect_after(said, &format!("upgraded to {version}"));
    };
    let before = server.expect_children(4);
    let address = server.address();
    let (descriptors, memory_before) = (held_when_settled(server), memory(server.pid()));
    let began = Instant::now();
    let served = under_load(&address, clients, || {
        for _ in 0..upgrades {
            place(2);
            place(1);
        }
    });
    println!(
        "{upgrades} upgrades and downgrades in {:?}, {served} connections",
        began.elapsed()
    );
    upgraded.expect_version(1);
    let living = server.children();
    assert!(
        before.iter().all(|old| !living.contains(old)),
        "an old child lives"
    );
    assert_eq!(upgraded.said("event failed"), 0, "{}", server.stderr());
    expect_as_many(server, descriptors);
    let memory_after = memory(server.pid());
    println!(
        "the parent, without pipes: {} descriptors before, {} after; {} KiB before, {} after",
        descriptors - 2 * before.len(),
        held_when_settled(server) - 2 * server.children().len(),
        memory_before >> 10,
        memory_after >> 10
    );
    let grown = memory_after.saturating_sub(memory_before);
    assert!(grown < 2 << 20, "the parent has grown by {grown} bytes");
    versions::tell_times("blind", &server.stdout(), "blind for ");
    let report = upgraded.stop();
    assert!(report.contains(" 0 connections lost"), "{report}");
    assert!(
        server
            .stdout()
            .contains(&format!("{} upgrades so far", 2 * upgrades))
    );
}

/// Programs that cannot take over, each in a way of its own. Each is refused, and told of; the children
/// are the same ones. `BROKEN=9000` makes so many such upgrades, those to a program that hangs included.
fn i07_a_program_that_cannot_run_is_refused_and_the_old_one_serves_on(world: &mut World) {
    // The shell that kills one of the programs.
    world.expect_orphans();
    let many: Option<usize> = std::env::var("BROKEN")
        .ok()
        .map(|n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + SOON * u32::try_from(many.unwrap_or(0)).expect("a number"));
    // For those that hang: there are many of them.
    let flags = ["--upgrade-timeout", "2000"];
    let upgraded = Upgraded::new(world, if many.is_some() { &flags } else { &[] });
    let server = &upgraded.server;
    let before = server.expect_children(4);
    let descriptors = held_when_settled(server);
    let absent = |path: &Path| fs::remove_file(path).expect("a file");
    let not_executable = |path: &Path| {
        write_program(path, 2, Mode::Good);
        fs::set_permissions(path, Permissions::from_mode(0o644)).expect("a mode");
    };
    let foreign = |path: &Path| {
        fs::remove_file(path).ok();
        let mut bytes = fs::read("/proc/self/exe").expect("this program")[..4096].to_vec();
        // The machine: one that this is not.
        bytes[18..20].copy_from_slice(&0x2a_u16.to_le_bytes());
        fs::write(path, bytes).expect("a program");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
    };
    let of_mode = |mode| move |path: &Path| write_program(path, 2, mode);
    let hangs = "in its trial it has not answered";
    let broken: [(Make<'_>, &str); 9] = [
        (&absent, "no such file or directory"),
        (&not_executable, "permission denied"),
        (&foreign, "exec format error"),
        (&of_mode(Mode::Exits), "it has ended: exit status: 3"),
        (&of_mode(Mode::Dies), "signal: 9 (sigkill)"),
        (&of_mode(Mode::Refuses), "this is of a later version"),
        (&of_mode(Mode::Older), "format 2, a later one"),
        (
            &|path: &Path| fs::write(fresh(path), "#!/no/such/shell\n").expect("a file"),
            "exec",
        ),
        (&of_mode(Mode::Hangs), hangs),
    ];
    // That one is waited for.
    let short = broken.iter().filter(|(_, reason)| *reason != hangs).count();
    let upgrades = many.unwrap_or(short);
    let began = Instant::now();
    let served = under_load(&server.address(), 4, || {
        for (make, reason) in broken.iter().cycle().take(upgrades) {
            make(&upgraded.path);
            let said = server.stdout_length();
            server.signal(Signal::SIGUSR2);
            let told = upgraded.expect_after(said, "version 1 serves on: upgrade ");
            let told = told.to_lowercase();
            assert!(told.contains(reason), "{reason}: {told}");
        }
    });
    println!(
        "{upgrades} upgrades to broken programs in {:?}, {served} connections",
        began.elapsed()
    );
    assert!(served > 0);
    upgraded.expect_version(1);
    expect_alive(&before);
    assert_eq!(upgraded.said("event failed"), upgrades);
    expect_no_zombie(server);
    expect_as_many(server, descriptors);
    // It was no fault of the server's.
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    upgraded.expect_version(2);
    upgraded.stop();
}

/// Puts a program there.
type Make<'a> = &'a dyn Fn(&Path);

/// The path, of a file that is new and can be executed.
fn fresh(path: &Path) -> &Path {
    fs::remove_file(path).ok();
    File::create(path).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
    path
}

/// A program that does not answer in its trial is killed, and the old one serves on.
fn i07_a_program_that_hangs_is_refused_after_ten_seconds(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.server.expect_children(4);
    let served = under_load(&upgraded.server.address(), 2, || {
        upgraded.upgrade_to(2, Mode::Hangs);
        upgraded.expect(
            "version 1 serves on: upgrade the new program: in its trial it has not answered",
            1,
        );
    });
    assert!(served > 0);
    expect_alive(&before);
    upgraded.stop();
}

/// No child of the new program becomes ready: the old program comes back, and its children have never
/// stopped to serve.
fn a_program_whose_children_fail_gives_the_place_back(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let before = server.expect_children(4);
    let descriptors = held_when_settled(server);
    let served = under_load(&server.address(), 4, || {
        for times in 1..=3 {
            upgraded.upgrade_to(2, Mode::Childless);
            upgraded.expect("version 2 in", times);
            upgraded.expect("version 1 serves on: ", times);
        }
    });
    assert!(served > 0);
    let stdout = server.stdout();
    assert!(
        stdout.contains("3 children in a row have not become ready"),
        "{stdout}"
    );
    upgraded.expect_version(1);
    expect_alive(&before);
    expect_as_many(server, descriptors);
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect("upgraded to 3", 1);
    upgraded.expect_version(3);
    upgraded.stop();
}

/// Between the exec and the adoption: what the trial does not see.
fn a_program_that_fails_after_its_trial_gives_the_place_back(world: &mut World) {
    world.deadline(SOON * 6);
    world.expect_panics();
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.server.expect_children(4);
    let served = under_load(&upgraded.server.address(), 4, || {
        for (times, mode) in [Mode::Fails, Mode::Panics, Mode::Fails]
            .into_iter()
            .enumerate()
        {
            upgraded.upgrade_to(2, mode);
            upgraded.expect("version 1 serves on: ", times + 1);
        }
    });
    assert!(served > 0);
    let stdout = upgraded.server.stdout();
    for reason in ["this program does not start", "the start has panicked"] {
        assert!(stdout.contains(reason), "{stdout}");
    }
    expect_alive(&before);
    upgraded.expect_version(1);
    upgraded.stop();
}

/// The package manager has put another file there, or none.
fn the_way_back_is_there_when_the_file_is_not(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    write_program(&upgraded.path, 2, Mode::Fails);
    let other = upgraded.path.with_file_name("other");
    fs::rename(&upgraded.path, &other).expect("another name");
    // The path of version 1 leads nowhere while version 2 tries and gives up.
    fs::hard_link(&other, &upgraded.path).expect("a link");
    upgraded.server.signal(Signal::SIGUSR2);
    upgraded.expect("version 1 serves on: ", 1);
    fs::remove_file(&upgraded.path).expect("a file");
    fs::write(&upgraded.path, "no program").expect("a file");
    upgraded.expect_version(1);
    upgraded.server.signal(Signal::SIGUSR2);
    upgraded.expect("version 1 serves on: ", 2);
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect("upgraded to 3", 1);
    upgraded.expect_version(3);
    upgraded.stop();
}

fn counters_attributes_and_what_hooks_know_are_kept(world: &mut World) {
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path");
    let upgraded = Upgraded::new(world, &["--control", control]);
    let children = upgraded.server.expect_children(4);
    writeln!(
        UnixStream::connect(control).expect("a connection"),
        "max_clients 33"
    )
    .expect("room");
    processes_killed(&children[..1]);
    upgraded.expect(&format!("exited {} Killed", children[0]), 1);
    upgraded.server.expect_children(4);
    for number in 2..=4 {
        upgraded.upgrade_to(number, Mode::Good);
        upgraded.expect(&format!("upgraded to {number}"), 1);
        upgraded.expect(&format!("{} upgrades so far", number - 1), 1);
    }
    let report = upgraded.stop();
    let stdout = upgraded.server.stdout();
    assert!(stdout.contains("max_clients 33"), "{stdout}");
    assert!(report.contains(" 1 Killed"), "{report}");
    let adopted = stdout
        .lines()
        .filter(|line| line.starts_with("adopted "))
        .count();
    assert!(adopted >= 12, "{stdout}");
}

fn processes_killed(pids: &[u32]) {
    for pid in pids {
        let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
        // It may have left by now.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}

/// Each answer is counted once, whichever program's child has given it.
fn metrics_are_exact_through_upgrades(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    let address = upgraded.server.address();
    // A client that every program's children outlive.
    let mut held = connect(&address);
    held.ask("who");
    let mut served = 1;
    for number in 2..=4 {
        served += under_load(&address, 2, || {
            upgraded.upgrade_to(number, Mode::Good);
            upgraded.expect(&format!("upgraded to {number}"), 1);
        });
        held.ask("who");
        served += 1;
    }
    drop(held);
    upgraded.stop();
    let stdout = upgraded.server.stdout();
    let counted = format!("Counter({served})");
    assert!(stdout.contains(&counted), "{counted}: {stdout}");
}

fn a_connection_outlives_the_program_that_has_accepted_it(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    server.expect_children(4);
    let mut held = connect(&server.address());
    let (pid, version) = parsed(&held.ask("who"));
    assert_eq!(version, 1);
    for number in 2..=3 {
        upgraded.upgrade_to(number, Mode::Good);
        upgraded.expect(&format!("upgraded to {number}"), 1);
        assert_eq!(parsed(&held.ask("who")), (pid, 1));
    }
    upgraded.expect_version(3);
    assert_eq!(
        connect(&server.address()).ask("launch"),
        "Fresh",
        "it is asked for once"
    );
    drop(held);
    upgraded.expect(&format!("exited {pid} Reloaded"), 1);
    upgraded.stop();
}

fn a_unix_socket_keeps_its_file_and_its_clients(world: &mut World) {
    world.expect_panics();
    let path = world.tempdir().join("socket");
    let upgraded = Upgraded::new(world, &["--unix", path.to_str().expect("a path")]);
    let inode = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|file| file.ino()).ok()
    };
    upgraded.server.expect_children(4);
    let before = inode(&path);
    let served = under_load(&upgraded.server.address(), 4, || {
        upgraded.upgrade_to(2, Mode::Good);
        upgraded.expect("upgraded to 2", 1);
        upgraded.upgrade_to(3, Mode::Panics);
        upgraded.expect("version 2 serves on: ", 1);
    });
    assert!(served > 0);
    upgraded.expect_version(2);
    assert_eq!(inode(&path), before);
    upgraded.stop();
    assert!(!path.exists(), "its file is left");
}

/// LISTEN_FDS and the sockets are there for each program.
fn sockets_of_a_service_manager_are_taken_over_again(world: &mut World) {
    let path = world.tempdir().join("server");
    write_program(&path, 1, Mode::Good);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let launch = world
        .command("/bin/sh")
        .args(&["-c", script, "sh"])
        .arg(&path);
    let launch = launch.args(&["--program", "upgrading", "--listen-fds"]);
    let server = launch.stdin(std::os::fd::OwnedFd::from(listener)).spawn();
    let upgraded = Upgraded { server, path };
    upgraded.server.expect_children(4);
    let served = under_load(&upgraded.server.address(), 4, || {
        for number in 2..=3 {
            upgraded.upgrade_to(number, Mode::Good);
            upgraded.expect(&format!("upgraded to {number}"), 1);
        }
    });
    assert!(served > 0);
    upgraded.expect_version(3);
    upgraded.stop();
}

/// Children that have become other programs.
fn programs_that_children_run_are_adopted(world: &mut World) {
    let upgraded = Upgraded::with(world, "upgrading_programs", &[]);
    let server = &upgraded.server;
    let before = server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    until("the old programs to end", SOON, || {
        let living = server.children();
        before.iter().all(|old| !living.contains(old)).then_some(())
    });
    for old in before {
        upgraded.expect(&format!("exited {old} Reloaded"), 1);
    }
    upgraded.stop();
}

fn whoever_asks_is_told_the_outcome(world: &mut World) {
    world.expect_panics();
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path");
    let upgraded = Upgraded::new(world, &["--control", control]);
    upgraded.server.expect_children(4);
    let ask = |program: &Path| {
        let mut connection = UnixStream::connect(control).expect("a connection");
        let patience = Some(patient(SOON));
        connection.set_read_timeout(patience).expect("a timeout");
        writeln!(connection, "upgrade {}", program.display()).expect("room");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let other = upgraded.path.with_file_name("other");
    assert!(ask(&other).starts_with("error: upgrade "), "there is none");
    write_program(&other, 2, Mode::Panics);
    let answer = ask(&other);
    assert!(answer.contains("the start has panicked"), "{answer}");
    write_program(&other, 3, Mode::Good);
    assert_eq!(ask(&other), "ok\n");
    upgraded.expect_version(3);
    // From now on the file is that one.
    write_program(&other, 4, Mode::Good);
    upgraded.server.signal(Signal::SIGUSR2);
    upgraded.expect("upgraded to 4", 1);
    upgraded.stop();
}

/// As in a reload: with more clients than children the queue is never empty, and a child that served
/// what is queued would stay for as long as `drain_timeout`.
fn children_of_the_old_program_leave_what_is_queued_to_others(world: &mut World) {
    let upgraded = Upgraded::new(world, &["--few"]);
    let before = upgraded.server.expect_children(4);
    under_load(&upgraded.server.address(), 16, || {
        upgraded.upgrade_to(2, Mode::Good);
        upgraded.expect("upgraded to 2", 1);
        until("the old children to leave", SOON, || {
            (!before.iter().copied().any(processes::is_alive)).then_some(())
        });
    });
    upgraded.stop();
}

/// Whenever a child dies, before, during or after the exec: it is reaped, counted and replaced.
fn children_that_die_meanwhile_are_reaped_and_replaced(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let mut killed = 0;
    for number in 2..=9 {
        let children = until("children", SOON, || {
            Some(server.children()).filter(|children| children.len() >= 2)
        });
        upgraded.upgrade_to(number, Mode::Good);
        // At another moment each time: the trial takes a tenth of a second and a bit.
        let moment = Instant::now() + Duration::from_millis(u64::from(number) * 20);
        until("the moment", SOON, || {
            (moment <= Instant::now()).then_some(())
        });
        processes_killed(&children[..2]);
        killed += 2;
        upgraded.expect(&format!("upgraded to {number}"), 1);
        for pid in &children[..2] {
            upgraded.expect(&format!("exited {pid} "), 1);
        }
        upgraded.expect_version(number);
    }
    expect_no_zombie(server);
    let report = upgraded.stop();
    let stdout = server.stdout();
    let exits = stdout
        .lines()
        .filter(|line| line.starts_with("exited "))
        .count();
    let lost = stdout
        .lines()
        .filter(|line| line.ends_with(" Lost"))
        .count();
    assert!(exits >= killed && lost == 0, "{report}");
}

fn a_stop_during_an_upgrade_wins(world: &mut World) {
    world.deadline(SOON * 6);
    for milliseconds in [0, 60, 110, 125, 140, 200] {
        let upgraded = Upgraded::new(world, &[]);
        let children = upgraded.server.expect_children(4);
        upgraded.upgrade_to(2, Mode::Good);
        let moment = Instant::now() + Duration::from_millis(milliseconds);
        until("the moment", SOON, || {
            (moment <= Instant::now()).then_some(())
        });
        upgraded.server.signal(Signal::SIGTERM);
        let status = upgraded.server.wait(SOON);
        assert!(status.success(), "{milliseconds} ms: {status}");
        assert!(!children.into_iter().any(processes::is_alive));
    }
}

fn an_upgrade_during_an_upgrade_is_refused(world: &mut World) {
    let mut gate = world.gate("trial");
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Good);
    gate.reached(SOON);
    upgraded.server.signal(Signal::SIGUSR2);
    until("the refusal", SOON, || {
        let stderr = upgraded.server.stderr();
        stderr
            .contains("another upgrade is under way")
            .then_some(())
    });
    gate.open();
    upgraded.expect("upgraded to 2", 1);
    assert_eq!(upgraded.said("serves on"), 0, "the first one was refused");
    assert_eq!(upgraded.said("event failed"), 0, "the first one has failed");
    upgraded.expect_version(2);
    upgraded.stop();
}

/// Children of the old program and of the new one end with the parent.
fn the_tie_to_the_parent_survives(world: &mut World) {
    world.expect_orphans();
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    server.expect_children(4);
    let mut held = connect(&server.address());
    let (old, _) = parsed(&held.ask("who"));
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    let children = server.children();
    assert!(children.contains(&old) && children.len() > 1);
    server.kill9();
    // The old one finishes what it has in hand.
    assert_eq!(parsed(&held.ask("who")).0, old);
    drop(held);
    until("their end", SOON, || {
        (!children.iter().copied().any(processes::is_alive)).then_some(())
    });
    world.reap_orphans();
}

/// A variable that is left from somewhere else, or that somebody has made up.
fn i09_an_instruction_for_nobody_changes_nothing(world: &mut World) {
    for text in ["forth 1 5 6", "trial 1 5 6 7", "nonsense", ""] {
        let launch = world.program("upgrading").env("PREFORK_UPGRADE", text);
        let server = launch.spawn();
        server.expect_children(4);
        assert_eq!(ask(&server.address()).1, 1);
        assert!(server.stop(Signal::SIGTERM, SOON).success());
    }
    // For this process, with descriptors that are not there: there is no way back either.
    let path = world.tempdir().join("server");
    write_program(&path, 1, Mode::Good);
    let script = "PREFORK_UPGRADE=\"forth $$ 50 51\" exec \"$@\"";
    let launch = world
        .command("/bin/sh")
        .args(&["-c", script, "sh"])
        .arg(&path);
    let server = launch.args(&["--program", "upgrading"]).spawn();
    let status = server.wait(SOON);
    assert_eq!(status.code(), Some(71), "{}", server.stderr());
    let stderr = server.stderr();
    assert!(stderr.contains("cannot take over"), "{stderr}");
    holds("nothing is left", Duration::from_millis(50), || {
        server.children().is_empty()
    });
}
