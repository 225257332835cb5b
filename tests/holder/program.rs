//! The program: a server with a holder, which tells its parents, its children and what is restored.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::FromRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;
use prefork_server::servers::TcpConn;
use prefork_server::{
    Child, ChildServer, Config, Confinement, Death, Error, Event, ExecServer, InetdServer, Launch,
    Monitor, Observer, PreFork, PreForkHooks, Report, Start, States, TcpServer, ThreadCheck,
    defaults, metrics,
};

use crate::support::{Args, Programs, gate, programs};
use crate::versions::{self, Mode};

pub const PROGRAMS: Programs = programs![held, held_programs, held_inetd, serving];

/// Serves under a holder.
fn held(args: Args) -> ExitCode {
    let (version, mode) = versions::own();
    versions::misbehave(mode);
    match Launch::of_this_process() {
        Launch::Trial => gate::pass("trial"),
        _ => println!("version {version} in {}", std::process::id()),
    }
    let served = metrics::counter("served");
    let server = TcpServer::new(move |conn: TcpConn| {
        served.add(1);
        converse(&conn, version)
    });
    let mut server = server.port(0).max_requests(0);
    if args.has("--shedder") {
        server = server.max_queue_age(Duration::from_secs(10));
    }
    ended(&args, |hooks| {
        let builder = sized(&args, server, hooks);
        #[cfg(feature = "status")]
        let builder = match args.value("--status") {
            Some(address) => builder.status(address.parse().expect("an address")),
            None => builder,
        };
        let builder = match args.value("--control") {
            Some(path) => builder.control(path),
            None => builder,
        };
        let mut prefork = builder.start()?;
        println!("listening on {}", prefork.server().local_addrs()[0]);
        if args.has("--goes-on-in-a-fork") {
            go_on_in_a_fork();
        }
        if mode == Mode::Threads {
            std::thread::spawn(|| versions::hang());
        }
        #[cfg(feature = "status")]
        for address in prefork.status_addresses() {
            println!("status at {address}");
        }
        let report = prefork.run()?;
        println!("counted {:?}", prefork.monitor().metrics());
        println!("max_clients {}", prefork.monitor().max_clients());
        Ok(report)
    })
}

/// As a program that becomes a daemon, but that the process which was started waits for the other, and ends
/// as it does.
#[allow(unsafe_code)]
fn go_on_in_a_fork() {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child != 0 {
        let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
        let code = match status {
            Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => code,
            _ => 99,
        };
        std::process::exit(code);
    }
}

/// Children that are other programs: what stands after `--`, or `serving`.
fn held_programs(args: Args) -> ExitCode {
    let own = std::env::current_exe().expect("this program");
    let own = [own.to_str().expect("a path"), "--program", "serving"];
    let given = args.iter().position(|arg| arg == "--");
    let given = given.map(|at| args[at + 1..].to_vec());
    let command = given.unwrap_or_else(|| own.map(String::from).to_vec());
    let mut server = ExecServer::new(&command[0])
        .args(&command[1..])
        .listen("127.0.0.1:0");
    if args.value("--stop-signal") == Some("TERM") {
        server = server.stop_signal(prefork_server::Signal::Terminate);
    }
    if let Some(folder) = args.value("--folder") {
        std::env::set_current_dir(folder).expect("the folder");
    }
    ended(&args, |hooks| {
        let builder = sized(&args, server, hooks);
        let mut prefork = builder
            .start_timeout(milliseconds(&args, "--start-timeout"))
            .start()?;
        println!("listening on {}", prefork.server().local_addrs()[0]);
        prefork.run()
    })
}

/// Children that run a program for each connection.
fn held_inetd(args: Args) -> ExitCode {
    let server = InetdServer::new("cat").listen("127.0.0.1:0");
    ended(&args, |hooks| {
        let mut prefork = sized(&args, server, hooks).start()?;
        let listening = prefork.server_mut().listeners();
        println!("listening on {}", listening[0].name);
        prefork.run()
    })
}

/// A program that serves: says its words, and answers lines as the children of `held` do.
fn serving(_: Args) -> io::Result<()> {
    // SAFETY: it is the socket that the server has passed, and nothing else in this program owns it.
    #[allow(unsafe_code)]
    let listener = unsafe { std::net::TcpListener::from_raw_fd(3) };
    println!("\x06");
    loop {
        println!("\x11");
        let (stream, _) = listener.accept()?;
        println!("\x13");
        for line in BufReader::new(&stream).lines() {
            // A client that has gone is no failure.
            let Ok(line) = line else { break };
            if let Some(code) = line.strip_prefix("exit ") {
                std::process::exit(code.parse().map_err(io::Error::other)?);
            }
            if writeln!(&stream, "{}", std::process::id()).is_err() {
                break;
            }
        }
    }
}

fn ended(args: &Args, run: impl FnOnce(Hooks) -> Result<Report, Error>) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format_timestamp(None)
        .init();
    let (version, mode) = versions::own();
    let hooks = Hooks {
        version,
        mode,
        saves: args.has("--saves"),
        saves_bytes: args.parsed("--saves-bytes").unwrap_or(0),
        has_bad_settings: args.has("--bad-settings"),
        settings: args.value("--settings").map(PathBuf::from),
        before: None,
        saves_once: args.has("--saves-once"),
        saved: false,
        restored: 0,
        reloads: 0,
        dies_at_fork: args.has("--dies-at-fork"),
        starts_a_thread: args.has("--starts-a-thread"),
        checks_state: args.has("--checks-state"),
        fails_at_fork: args.parsed("--fails-at-fork"),
    };
    match run(hooks) {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(args.parsed("--code").unwrap_or(0))
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sized<S: ChildServer>(
    args: &Args,
    server: S,
    hooks: Hooks,
) -> prefork_server::Builder<Hooks, S> {
    let (version, mode) = (hooks.version, hooks.mode);
    let confinement = match args.has("--group") {
        true => Confinement::new().process_group(),
        false => Confinement::new(),
    };
    let builder = PreFork::builder(server)
        .config(config(args))
        .confinement(confinement)
        .hooks(hooks)
        .start_servers(args.parsed("--children").unwrap_or(4))
        .min_spare_servers(1)
        .max_spare_servers(1000)
        .max_clients(args.parsed("--max").unwrap_or(40))
        .resize_signals(true)
        .thread_check(match args.has("--starts-a-thread") {
            true => ThreadCheck::Warn,
            false => ThreadCheck::Refuse,
        })
        .pre_stop_delay(milliseconds(args, "--pre-stop-delay"))
        .observe(Teller {
            dies: args.has("--dies-at-takeover"),
            dies_until: args.value("--dies-until").map(PathBuf::from),
            dies_on_the_way_back: args.value("--dies-on-the-way-back").map(PathBuf::from),
            told: false,
            max_clients: None,
            version,
            tells_words: args.has("--tells-words"),
        });
    match mode == Mode::Plain || args.has("--plain") && version == 1 {
        true => builder,
        false => builder.holder(),
    }
}

fn milliseconds(args: &Args, flag: &str) -> Duration {
    Duration::from_millis(args.parsed(flag).unwrap_or(0))
}

/// The attributes: each `--set NAME=VALUE`.
fn config(args: &Args) -> Config {
    let mut config = Config::default().kill_timeout(Duration::from_secs(2));
    let set = args.iter().zip(args.iter().skip(1));
    for (_, text) in set.filter(|(option, _)| *option == "--set") {
        let (name, value) = text.split_once('=').expect("NAME=VALUE");
        let mut all = Config::attributes().iter();
        let attribute = all.find(|it| it.name == name).expect("an attribute");
        attribute.set(&mut config, value).expect("a value");
    }
    config
}

/// Answers each line with the pid of the child, or with the version of the program.
fn converse(conn: &TcpConn, version: u32) -> io::Result<()> {
    for line in BufReader::new(conn).lines() {
        match line?.as_str() {
            "die" => std::process::abort(),
            "version" => writeln!(&*conn, "{version}")?,
            "hang" => versions::hang(),
            "grandchild" => {
                let sleep = std::process::Command::new("sleep").arg("1000").spawn()?;
                writeln!(&*conn, "{}", sleep.id())?;
            }
            line => {
                match line {
                    "who" => {}
                    "replace" => conn.ask_for_replacement()?,
                    line => println!("served {line}"),
                }
                writeln!(&*conn, "{}", std::process::id())?;
            }
        }
    }
    Ok(())
}

struct Hooks {
    version: u32,
    mode: Mode,
    saves: bool,
    saves_bytes: usize,
    /// Whether children with the settings of a reload fail.
    has_bad_settings: bool,
    /// A file with `max_clients`, and then `bad` if children fail with it.
    settings: Option<PathBuf>,
    /// What was in force before the last reload.
    before: Option<Config>,
    /// It panics when it is to save again, or to restore what a parent after the first has saved.
    saves_once: bool,
    saved: bool,
    restored: u32,
    reloads: u32,
    dies_at_fork: bool,
    starts_a_thread: bool,
    checks_state: bool,
    /// How many forks there are before one that is refused, for good.
    fails_at_fork: Option<u32>,
}

impl PreForkHooks for Hooks {
    fn save(&mut self, _: &mut Monitor) -> Vec<u8> {
        if std::mem::replace(&mut self.saved, true) && self.saves_once {
            println!("cannot save in {}", std::process::id());
            panic!("it is not saved again");
        }
        match self.saves {
            true => (self.restored + 1).to_string().into_bytes(),
            false => vec![b'1'; self.saves_bytes],
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if self.has_bad_settings && self.reloads > 0 {
            return Err(io::Error::other("bad settings"));
        }
        if self.mode == Mode::Childless {
            return Err(io::Error::other("these children cannot be used"));
        }
        if self.mode == Mode::Stuck {
            versions::hang();
        }
        if self.checks_state {
            println!("state {:?}", state_of_the_c_library());
        }
        defaults::server_start(self, start)
    }

    fn reload_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        println!("reload failed: {error}");
        if let Some(before) = self.before.take() {
            monitor.set_config(before);
        }
    }

    fn create_states(&mut self, states: &mut States) {
        states.add("wait");
    }

    fn handler_state(&mut self, _: &mut Monitor, state: &str) {
        gate::pass(state);
    }

    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        if self.mode == Mode::Refuses {
            return Err(io::Error::other("this is of a later version"));
        }
        let text = std::str::from_utf8(saved).map_err(io::Error::other)?;
        self.restored = text.parse().map_err(io::Error::other)?;
        if self.saves_once && self.restored > 1 {
            panic!("it is not restored again");
        }
        println!("restored {}", self.restored);
        Ok(())
    }

    fn handler_reload(&mut self, monitor: &mut Monitor, _: &mut dyn ChildServer) -> io::Result<()> {
        self.reloads += 1;
        if let Some(path) = &self.settings {
            let text = std::fs::read_to_string(path)?;
            let (clients, how) = text.split_once(' ').unwrap_or((&text, ""));
            self.before = Some(monitor.config().clone());
            self.has_bad_settings = how == "bad";
            monitor.set_max_clients(clients.parse().map_err(io::Error::other)?);
        }
        println!("settings read {}", self.reloads);
        Ok(())
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        if self.mode == Mode::Fails {
            return Err(io::Error::other("this program does not start"));
        }
        defaults::handler_start(self, monitor, server)
    }

    fn before_fork(&mut self, _: &mut Monitor) {
        if self.dies_at_fork {
            std::process::abort();
        }
        if std::mem::take(&mut self.starts_a_thread) {
            std::thread::spawn(std::thread::park);
        }
        self.fails_at_fork = self.fails_at_fork.map(|left| left.saturating_sub(1));
        if self.fails_at_fork == Some(0) {
            // A parent that has another thread does not fork.
            std::thread::spawn(std::thread::park);
        }
        gate::pass("fork");
    }

    fn server_exited(&mut self, _: &mut Monitor, child: &Child, death: &Death) {
        println!("exited {} {:?} {}", child.pid(), death.cause(), death);
        let is_used = death.usage().is_some_and(|usage| usage.max_resident > 0);
        println!("used: {}", if is_used { "yes" } else { "no" });
        if death.stack().is_some() {
            println!("with its stack: {}", child.pid());
        }
    }

    fn server_stdout(
        &mut self,
        monitor: &mut Monitor,
        child: prefork_server::ChildId,
        line: &prefork_server::Line,
    ) {
        match line.bytes() {
            b"signal me" => monitor.kill(child, prefork_server::Signal::User1),
            b"served reload and wait" => {
                monitor.reload();
                monitor.post("wait");
            }
            // A turn performs 32 forks.
            b"served reload behind 33 forks" => {
                (0..33).for_each(|_| _ = monitor.fork());
                monitor.reload();
            }
            _ => {}
        }
        println!("said {}", String::from_utf8_lossy(line.bytes()));
    }

    fn upgrade_failed(&mut self, _: &mut Monitor, error: &Error) {
        println!("upgrade failed: {error}");
    }
}

/// What the C library and the kernel know of this process, each as it should be.
#[derive(Debug)]
#[allow(dead_code, reason = "it is printed")]
struct CLibrary {
    pid: bool,
    tid: bool,
    robust_mutexes: bool,
    threads: bool,
}

/// A child may ask for this before it becomes another program.
#[allow(unsafe_code)]
fn state_of_the_c_library() -> CLibrary {
    let pid = std::fs::read_link("/proc/self").expect("our process");
    let tid = nix::unistd::gettid().as_raw();
    let (mut clock, mut head, mut length) = (0, 0_usize, 0_usize);
    // SAFETY: the clock of this thread, and the list that the kernel has of it; both are only written to
    // the variables.
    unsafe {
        libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock);
        libc::syscall(
            libc::SYS_get_robust_list,
            0_usize,
            &raw mut head,
            &raw mut length,
        );
    }
    CLibrary {
        pid: pid.as_os_str() == std::process::id().to_string().as_str(),
        // The kernel's number for the clock of a thread is made of its id.
        tid: clock == (!tid << 3) | 6,
        robust_mutexes: head != 0 && length > 0,
        threads: std::thread::spawn(|| 7).join().is_ok_and(|n| n == 7),
    }
}

/// Tells who the parent is, at the end of its first turn, and which children it knows.
struct Teller {
    version: u32,
    dies: bool,
    /// Each parent ends at the end of its first turn until there is such a file.
    dies_until: Option<PathBuf>,
    /// The parent that is about to execute the program before ends, unless there is such a file, which
    /// it makes.
    dies_on_the_way_back: Option<PathBuf>,
    told: bool,
    /// What it was at the end of the last turn.
    max_clients: Option<usize>,
    tells_words: bool,
}

impl Teller {
    fn tell_change(&mut self, monitor: &Monitor) {
        let now = monitor.max_clients();
        let before = self.max_clients.replace(now);
        if before.is_some_and(|before| before != now) {
            println!("max_clients is now {now}");
        }
    }

    fn dies_on_the_way_back(&self, monitor: &Monitor) -> bool {
        let is_on_it = self.version > 1 && monitor.is_upgrading() && !monitor.is_reloading();
        let path = self.dies_on_the_way_back.as_ref();
        let path = path.filter(|path| is_on_it && !path.exists());
        path.is_some_and(|path| std::fs::write(path, "").is_ok())
    }
}

impl Observer for Teller {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if let Event::Turn { .. } = event {
            self.tell_change(monitor);
        }
        let pid = |child| monitor.child(child).map_or(0, Child::pid);
        match event {
            Event::Turn { .. } if self.told && self.dies_on_the_way_back(monitor) => {
                std::process::abort()
            }
            Event::Turn { .. } if !std::mem::replace(&mut self.told, true) => {
                println!("parent {}", std::process::id());
                if self.dies_until.as_ref().is_some_and(|path| !path.exists()) {
                    std::process::abort();
                }
            }
            Event::TookOver {
                children,
                took,
                code,
                signal,
                ..
            } => {
                if self.dies {
                    std::process::abort();
                }
                println!("the one before: {code:?} {signal:?}");
                println!("took over {children} children in {} us", took.as_micros());
            }
            Event::Forked { child, .. } => println!("forked {}", pid(*child)),
            Event::Adopted { child, .. } => {
                let state = monitor.child(*child).map(Child::state);
                println!("adopted {} {state:?}", pid(*child));
            }
            Event::Busy { child, .. } if self.tells_words => println!("busy {}", pid(*child)),
            Event::Ready { child, .. } => println!("ready {}", pid(*child)),
            Event::ToldToStop { child, reason, .. } => println!("told {} {reason:?}", pid(*child)),
            Event::Reloaded { .. } => println!("reloaded"),
            Event::UpgradeBegan => println!("upgrade began"),
            Event::Upgraded { blind, .. } => {
                println!(
                    "upgraded to {}, blind for {} us",
                    self.version,
                    blind.as_micros()
                );
            }
            Event::ShuttingDown => println!("shutting down"),
            _ => {}
        }
    }
}
