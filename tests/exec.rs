//! Programs as children: what `ExecServer` hands over, the children in Perl and in Python, and
//! programs that do everything wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, kill};
use nix::unistd::Pid;
use prefork_server::servers::Listen;
use prefork_server::{
    Child, ChildId, CommChannel, CommWords, ExecServer, Monitor, PreFork, PreForkHooks, Start,
    defaults,
};

use support::{
    Args, Server, Signal, World, connect, gate, holds, pause, processes, programs, scenarios, until,
};

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(
        programs![exec, mute, show],
        scenarios![
            bad_builder_is_refused_at_the_start,
            closed_outputs_slow_the_start_down,
            i09_descriptors_and_environment_are_as_documented,
            l07_environment_can_be_cleared,
            example_runs_without_arguments,
            example_takes_a_path_and_a_program,
            exit_at_once_slows_the_start_down,
            perl_dies_with_the_parent,
            perl_finishes_what_is_in_hand,
            perl_is_killed_when_it_blocks,
            perl_leaves_after_max_requests,
            perl_leaves_at_sigint_between_connections,
            perl_serves_and_reports,
            perl_speaks_the_words_of_poe,
            program_that_cannot_be_run_is_named,
            program_that_never_reads_is_stopped,
            program_without_words_is_a_fixed_pool,
            program_without_words_falls_to_the_timeout,
            python_dies_with_the_parent,
            python_finishes_what_is_in_hand,
            python_is_killed_when_it_blocks,
            python_leaves_after_max_requests,
            python_leaves_at_sigint_between_connections,
            python_serves_and_reports,
            g03_signals_are_given_back,
            g05_stop_before_the_exec_is_not_lost,
            stuck_orphan_ends_after_its_grace,
        ],
    )
}

// Programs.

/// Passes a gate in the child before the exec, and says whose ACKs the parent has heard.
struct Hooks;

impl PreForkHooks for Hooks {
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if let Some(pid) = monitor.child(child).map(Child::pid) {
            monitor.print_stdout(format!("heard {pid}"));
        }
        defaults::server_ack(self, monitor, child);
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> std::io::Result<()> {
        gate::pass("before-exec");
        defaults::server_start(self, start)
    }
}

/// An `ExecServer` that runs what stands after `--`.
fn exec(args: Args) -> Result<(), Box<dyn Error>> {
    let env = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(env)
        .format_timestamp(None)
        .init();
    let at = args
        .iter()
        .position(|arg| arg == "--")
        .unwrap_or(args.len());
    let mut program = args[at..].iter().skip(1).cloned();
    let mut server = ExecServer::new(program.next().unwrap_or_default())
        .args(program)
        .server_starter(args.has("--server-starter"))
        .einhorn(args.has("--einhorn"));
    if args.has("--env-clear") {
        server = server.env_clear();
    }
    if let Some(name) = args.value("--env") {
        server = server.env(name, "set by the builder");
    }
    if let Some(name) = args.value("--env-remove") {
        server = server.env_remove(name);
    }
    if !args.has("--no-socket") {
        let mut tcp = Listen::tcp("127.0.0.1:0");
        if let Some(name) = args.value("--name") {
            tcp = tcp.name(name);
        }
        server = server.listen(tcp);
    }
    if let Some(path) = args.value("--path") {
        server = server.listen(Listen::unix(path).mode(0o600).name("control"));
    }
    // As a C library may do it: open across an exec.
    let leaked = fs::File::open("/dev/null")?;
    fcntl(&leaked, FcntlArg::F_SETFD(FdFlag::empty()))?;
    if args.has("--block") {
        SigSet::from_iter([Signal::SIGINT, Signal::SIGUSR1]).thread_block()?;
    }
    let milliseconds = |flag: &str| args.parsed(flag).map(Duration::from_millis);
    let start_servers = args.parsed("--start-servers").unwrap_or(1);
    let mut builder = PreFork::builder(server)
        .hooks(Hooks)
        .start_servers(start_servers)
        .max_spare_servers(args.parsed("--max-spare-servers").unwrap_or(10))
        .cull_after(Duration::from_millis(100))
        .kill_timeout(milliseconds("--kill-timeout").unwrap_or(Duration::from_secs(10)));
    if let Some(timeout) = milliseconds("--timeout") {
        builder = builder.timeout(timeout);
    }
    if args.has("--private") {
        builder = builder.comm_channel(CommChannel::Private);
    }
    if args.value("--words") == Some("poe") {
        builder = builder.comm_words(CommWords::POE);
    }
    let mut prefork = builder.start()?;
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    if let Some(path) = args.value("--path") {
        println!("listening on {path}");
    }
    println!("{}", prefork.run()?);
    Ok(())
}

/// Says that it runs, and what it was given that cannot be seen from outside.
fn show(_: Args) -> std::io::Result<()> {
    println!("pdeathsig {:?}", nix::sys::prctl::get_pdeathsig()?);
    println!("ready");
    loop {
        pause(Duration::from_secs(1));
    }
}

/// Closes its outputs and lives on, and does not care for SIGINT either.
fn mute(_: Args) -> nix::Result<()> {
    SigSet::from(Signal::SIGINT).thread_block()?;
    nix::unistd::close(1)?;
    nix::unistd::close(2)?;
    loop {
        pause(Duration::from_secs(1));
    }
}

// Help.

/// The command line of this test's program `show`.
fn show_command() -> [String; 3] {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap().to_owned();
    [own, "--program".to_owned(), "show".to_owned()]
}

/// Starts `exec` with `flags` and `program`.
fn spawn(world: &mut World, flags: &[&str], program: &[impl AsRef<str>]) -> Server {
    let program: Vec<&str> = program.iter().map(AsRef::as_ref).collect();
    let launch = world.program("exec").args(flags).arg("--");
    launch.args(&program).spawn()
}

/// Ends a server in order, and returns what it reported.
#[track_caller]
fn stop(server: &Server) -> Report {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
    Report::of(server)
}

/// The numbers of a report, by the words before or after them.
#[derive(Debug)]
struct Report(String);

impl Report {
    #[track_caller]
    fn of(server: &Server) -> Self {
        let stdout = server.stdout();
        let report = stdout.lines().find(|line| line.contains(" forked, "));
        Self(report.expect("a report").to_owned())
    }

    /// The number before `word`; 0 if it does not occur.
    fn count(&self, word: &str) -> u64 {
        let words: Vec<&str> = self.0.split([' ', ',', ';', ':']).collect();
        let at = words.iter().position(|candidate| *candidate == word);
        at.and_then(|at| words[at.checked_sub(1)?].parse().ok())
            .unwrap_or(0)
    }
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[track_caller]
fn until_gone(pid: u32) {
    until(&format!("process {pid} to be gone"), SOON, || {
        (!processes::is_alive(pid)).then_some(())
    });
}

/// The child that is not `old`.
#[track_caller]
fn until_replaced(server: &Server, old: u32) -> u32 {
    until(&format!("a child in the place of {old}"), SOON, || {
        let children = server.children();
        let new = children.iter().copied().find(|child| *child != old);
        new.filter(|_| !children.contains(&old))
    })
}

/// The children, `count` of them, once each has said ACK: before, a program may not be ready for a
/// signal.
#[track_caller]
fn ready_children(server: &Server, count: usize) -> Vec<u32> {
    let what = format!("{count} children that said ACK");
    until(&what, SOON, || {
        ready(server).filter(|children| children.len() == count)
    })
}

/// All children, if each has said ACK.
fn ready(server: &Server) -> Option<Vec<u32>> {
    let stdout = server.stdout();
    let heard = |pid: &u32| stdout.lines().any(|line| line == format!("heard {pid}"));
    let children = server.children();
    children.iter().all(heard).then_some(children)
}

/// Ends a server in order once every child is ready for it: an interpreter that is still starting may
/// swallow the signal, and is killed only after `shutdown_timeout`.
#[track_caller]
fn stop_ready(server: &Server) -> Report {
    until("every child to have said ACK", SOON, || {
        ready(server).filter(|children| !children.is_empty())
    });
    stop(server)
}

fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let entries = text.split('\0').filter_map(|entry| entry.split_once('='));
    entries
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

// What is handed over.

const STALE: [(&str, &str); 9] = [
    ("LISTEN_FDS", "7"),
    ("LISTEN_PID", "1"),
    ("LISTEN_FDNAMES", "old"),
    ("LISTEN_PIDFDID", "3"),
    ("SERVER_STARTER_PORT", "80=9"),
    ("SERVER_STARTER_GENERATION", "4"),
    ("EINHORN_FD_COUNT", "1"),
    ("EINHORN_FD_0", "9"),
    ("EINHORN_SOCK_PATH", "/old"),
];

/// What another starter has put into our environment (LISTEN_FDS and its kin) describes descriptors
/// that a program does not get: it is removed, and our own is set, with the pid of the child.
fn i09_descriptors_and_environment_are_as_documented(world: &mut World) {
    let path = world.tempdir().join("socket").display().to_string();
    let mut launch = world.program("exec");
    for (name, value) in STALE {
        launch = launch.env(name, value);
    }
    let flags = [
        "--name",
        "http",
        "--path",
        &path,
        "--server-starter",
        "--einhorn",
        "--env",
        "OWN",
        "--env-remove",
        "DOOMED",
        "--timeout",
        "60000",
        "--",
    ];
    let show = show_command();
    let show: Vec<&str> = show.iter().map(String::as_str).collect();
    let launch = launch.env("DOOMED", "1").env("OWN", "overridden");
    let server = launch.args(&flags).args(&show).spawn();
    let addresses = server.addresses(2);
    let said = server.expect_stdout("the program", |text| text.contains("STDOUT: ready"));
    assert!(said.contains("pdeathsig Some(SIGINT)"), "{said}");
    let child = server.expect_children(1)[0];

    let descriptors = processes::descriptors(child);
    let kinds: Vec<(i32, &str)> = descriptors
        .iter()
        .map(|(number, target)| (*number, target.split('[').next().unwrap()))
        .collect();
    let expected = [
        (0, "/dev/null"),
        (1, "pipe:"),
        (2, "pipe:"),
        (3, "socket:"),
        (4, "socket:"),
    ];
    assert_eq!(kinds, expected, "{descriptors:?}");

    for number in [3, 4] {
        let info = fs::read_to_string(format!("/proc/{child}/fdinfo/{number}")).unwrap();
        let (_, flags) = info.split_once("flags:").unwrap();
        let flags = flags.split_whitespace().next().unwrap();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        assert_eq!(flags & nix::libc::O_NONBLOCK, 0, "{info}");
    }

    let mut expected = environment(server.pid());
    for (name, _) in STALE {
        expected.remove(name);
    }
    expected.remove("DOOMED");
    let tcp = &addresses[0];
    for (name, value) in [
        ("OWN", "set by the builder"),
        ("LISTEN_FDS", "2"),
        ("LISTEN_PID", &child.to_string()),
        ("LISTEN_FDNAMES", "http:control"),
        ("SERVER_STARTER_PORT", &format!("{tcp}=3;{path}=4")),
        ("EINHORN_FD_COUNT", "2"),
        ("EINHORN_FD_0", "3"),
        ("EINHORN_FD_1", "4"),
        ("PREFORK_SEND_ACK", "30"),
    ] {
        expected.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(environment(child), expected);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stop(&server);
}

/// A program gets what is in the parent's environment, or with `env_clear` nothing but what the builder
/// sets. Nothing that a client has sent is ever put into an environment.
fn l07_environment_can_be_cleared(world: &mut World) {
    let flags = ["--env-clear", "--env", "ONLY", "--no-socket"];
    let server = spawn(world, &flags, &show_command());
    server.expect_stdout("the program", |text| text.contains("STDOUT: ready"));
    let child = server.expect_children(1)[0];
    let only = ("ONLY".to_owned(), "set by the builder".to_owned());
    assert_eq!(environment(child), BTreeMap::from([only]));
    assert_eq!(processes::descriptors(child).len(), 3);
    stop(&server);
}

/// A line of /proc/PID/status as a set of signals.
#[track_caller]
fn signals_in(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.split_once(field));
    let (_, set) = line.unwrap_or_else(|| panic!("{field} in {status}"));
    u64::from_str_radix(set.trim_start_matches("\\t").trim(), 16).unwrap()
}

/// A program gets the mask that was in force before the fork, without SIGINT, SIGTERM and SIGALRM,
/// and the default for the signals by which it is told to stop.
fn g03_signals_are_given_back(world: &mut World) {
    let bit = |signal: Signal| 1u64 << (signal as i32 - 1);
    // With SIGINT ignored, as a shell starts what is put in the background.
    let script = r#"trap "" INT HUP; exec "$0" --program exec --block -- cat /proc/self/status"#;
    let own_path = std::env::current_exe().unwrap();
    let launch = world.command("/bin/sh").args(&["-c", script]);
    let server = launch.arg(own_path).spawn();
    let status = server.expect_stdout("the status", |text| text.contains("SigCgt:"));
    let parents = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let ignored = signals_in(&parents, "SigIgn:");
    assert_ne!(ignored & bit(Signal::SIGHUP), 0);
    // The parent alone ignores these two.
    let parents_own = bit(Signal::SIGPIPE) | bit(Signal::SIGXFSZ);
    assert_eq!(ignored & parents_own, parents_own);
    assert_eq!(signals_in(&status, "SigIgn:"), ignored & !parents_own);
    assert_eq!(signals_in(&status, "SigBlk:"), bit(Signal::SIGUSR1));
    assert_eq!(signals_in(&status, "SigCgt:"), 0);
    stop(&server);
}

/// A child that is told to stop before it has become a program does not become one.
fn g05_stop_before_the_exec_is_not_lost(world: &mut World) {
    let mut gate = world.gate("before-exec");
    let server = spawn(world, &[], &show_command());
    let child = gate.reached(SOON);
    signal(child, Signal::SIGINT);
    gate.release(child);
    until_gone(child);
    gate.open();
    let said = server.expect_stdout("the program", |text| text.contains("STDOUT: ready"));
    assert!(!said.contains(&format!("{child} STDOUT")), "{said}");
    stop(&server);
}

// Perl and Python.

#[derive(Clone, Copy, Debug)]
enum Language {
    Perl,
    Python,
}

impl Language {
    /// The child in this language, with `options`. `None`, and a message, if it is not there.
    fn child(self, options: &[&str]) -> Option<Vec<String>> {
        // The interpreter itself, past whatever chooses one.
        let (name, question, script) = match self {
            Self::Perl => ("perl", ["-e", "print $^X"], "perl/echo.pl"),
            Self::Python => (
                "python3",
                ["-c", "import sys; sys.stdout.write(sys.executable)"],
                "python/echo.py",
            ),
        };
        let answer = Command::new(name)
            .args(question)
            .stdin(Stdio::null())
            .output();
        let Ok(answer) = answer else {
            println!("skipped: there is no {name}");
            return None;
        };
        let interpreter = String::from_utf8(answer.stdout).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(script);
        let mut command = vec![interpreter, script.display().to_string()];
        command.extend(options.iter().map(|option| (*option).to_owned()));
        Some(command)
    }
}

fn serves_and_reports(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(
        world,
        &["--start-servers", "3", "--timeout", "4000"],
        &child,
    );
    let address = server.address();
    for round in 0..5 {
        let mut client = connect(&address);
        assert_eq!(client.ask("hello"), "hello");
        assert_eq!(client.ask(&round.to_string()), round.to_string());
        client.close_write();
        client.eof();
    }
    ready_children(&server, 3);
    let report = stop(&server);
    assert_eq!(report.count("BUSY"), 5, "{report:?}");
    assert!(report.count("NOT_BUSY") >= 5, "{report:?}");
    assert!(report.count("ACK") >= 1, "{report:?}");
    assert_eq!(report.count("Shutdown"), 3, "{report:?}");
    assert_eq!(server.stderr(), "");
}

fn is_killed_when_it_blocks(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let flags = ["--timeout", "1500", "--kill-timeout", "300"];
    let server = spawn(world, &flags, &child);
    let address = server.address();
    let first = server.expect_children(1)[0];
    let mut stuck = connect(&address);
    assert_eq!(stuck.ask("hello"), "hello");
    stuck.send_line("spin");
    // Somebody else has taken its place long before it is found out.
    assert_eq!(connect(&address).ask("other"), "other");
    stuck.gone();
    until_gone(first);
    assert_eq!(connect(&address).ask("after"), "after");
    let report = stop_ready(&server);
    assert_eq!(report.count("TimedOut"), 1, "{report:?}");
}

fn leaves_after_max_requests(world: &mut World, language: Language) {
    let Some(child) = language.child(&["--max-requests", "2"]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "2"], &child);
    let address = server.address();
    let first = server.expect_children(2);
    // Newcomers take their share, so how many connections it takes is the kernel's choice.
    until("both of the first to be gone", SOON, || {
        let mut client = connect(&address);
        assert_eq!(client.ask("hello"), "hello");
        client.close_write();
        client.eof();
        let children = server.children();
        first
            .iter()
            .all(|old| !children.contains(old))
            .then_some(())
    });
    assert_eq!(connect(&address).ask("after"), "after");
    let report = stop_ready(&server);
    assert!(report.count("Finished") >= 1, "{report:?}");
    assert_eq!(report.count("FailedStart"), 0, "{report:?}");
    // Nobody served more than two.
    assert!(
        report.count("BUSY") <= 2 * report.count("forked"),
        "{report:?}"
    );
}

fn leaves_at_sigint_between_connections(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "2"], &child);
    let address = server.address();
    assert_eq!(connect(&address).ask("hello"), "hello");
    let first = ready_children(&server, 2);
    for child in first {
        signal(child, Signal::SIGINT);
        until_gone(child);
    }
    assert_eq!(connect(&address).ask("again"), "again");
    let report = stop_ready(&server);
    assert!(report.count("Finished") >= 1, "{report:?}");
    // Nobody was ended by the signal itself.
    assert_eq!(report.count("Killed"), 0, "{report:?}");
    assert!(!server.stderr().contains("SIGINT"), "{}", server.stderr());
}

fn finishes_what_is_in_hand(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "3"], &child);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    ready_children(&server, 3);
    server.signal(Signal::SIGTERM);
    // The others are gone, so this one was told as well.
    server.expect_children(1);
    assert_eq!(client.ask("still there"), "still there");
    client.close_write();
    client.eof();
    assert!(server.wait(SOON).success());
}

fn dies_with_the_parent(world: &mut World, language: Language) {
    let Some(child) = language.child(&[]) else {
        return;
    };
    let server = spawn(world, &["--start-servers", "4"], &child);
    let address = server.address();
    let mut client = connect(&address);
    assert_eq!(client.ask("hello"), "hello");
    server.kill9();
    until("all children but the busy one to be gone", SOON, || {
        (world.orphans().len() == 1).then_some(())
    });
    assert_eq!(client.ask("still there"), "still there");
    client.close_write();
    client.eof();
    until("the last child to be gone", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

macro_rules! in_both_languages {
    ($($test:ident: $perl:ident, $python:ident;)*) => {$(
        fn $perl(world: &mut World) {
            $test(world, Language::Perl);
        }

        fn $python(world: &mut World) {
            $test(world, Language::Python);
        }
    )*};
}
in_both_languages! {
    dies_with_the_parent: perl_dies_with_the_parent, python_dies_with_the_parent;
    finishes_what_is_in_hand: perl_finishes_what_is_in_hand, python_finishes_what_is_in_hand;
    is_killed_when_it_blocks: perl_is_killed_when_it_blocks, python_is_killed_when_it_blocks;
    leaves_after_max_requests: perl_leaves_after_max_requests, python_leaves_after_max_requests;
    leaves_at_sigint_between_connections:
        perl_leaves_at_sigint_between_connections, python_leaves_at_sigint_between_connections;
    serves_and_reports: perl_serves_and_reports, python_serves_and_reports;
}

fn perl_speaks_the_words_of_poe(world: &mut World) {
    let Some(child) = Language::Perl.child(&["--words", "poe"]) else {
        return;
    };
    let server = spawn(world, &["--words", "poe"], &child);
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    let report = stop(&server);
    assert_eq!(report.count("BUSY"), 1, "{report:?}");
    // Nothing but words was printed: no line has come through.
    assert!(!server.stdout().contains("STDOUT"), "{}", server.stdout());
}

fn stuck_orphan_ends_after_its_grace(world: &mut World) {
    for language in [Language::Perl, Language::Python] {
        let Some(child) = language.child(&["--grace", "0.3"]) else {
            continue;
        };
        let server = spawn(world, &[], &child);
        let mut client = connect(&server.address());
        assert_eq!(client.ask("hello"), "hello");
        client.send_line("spin");
        server.kill9();
        client.gone();
        until("the stuck child to be gone", SOON, || {
            world.orphans().is_empty().then_some(())
        });
    }
}

// Programs that do everything wrong.

/// Neither a fork bomb, nor deaf to being stopped.
#[track_caller]
fn slowed_down(server: &Server) -> Report {
    server.expect_stderr("three warnings", |text| {
        text.matches("failed to start").count() >= 4
    });
    let report = stop(server);
    // 0 + 0.1 + 0.2 s, and whatever the machine adds: far from one a millisecond.
    assert!(report.count("forked") <= 30, "{report:?}");
    report
}

fn program_that_cannot_be_run_is_named(world: &mut World) {
    let directory = world.tempdir();
    let write = |name: &str, text: &str, mode: u32| -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let cases = [
        (
            directory.join("missing"),
            "no such file or directory (os error 2)",
        ),
        (directory.clone(), "permission denied (os error 13)"),
        (
            write("plain", "#!/bin/sh\n", 0o644),
            "permission denied (os error 13)",
        ),
        (
            write("orphan", "#!/no/such/interpreter\n", 0o755),
            "its interpreter is missing: No such file or directory (os error 2)",
        ),
        (
            write("junk", "junk\n", 0o755),
            "exec format error (os error 8)",
        ),
        (
            PathBuf::from("no-such-program"),
            "no such file or directory (os error 2)",
        ),
    ];
    for (program, reason) in cases {
        let server = spawn(world, &[], &[program.to_str().unwrap()]);
        let line = format!("exec {}: {reason}", program.display());
        let address = server.address();
        server.expect_stderr(&line, |text| {
            let warned = text
                .lines()
                .any(|warning| warning.contains("failed to start") && warning.contains(&line));
            text.contains(&format!("STDERR: resume_accept failed: {line}")) && warned
        });
        // The socket is there all the time.
        connect(&address);
        let report = stop(&server);
        assert!(report.count("forked") <= 30, "{report:?}");
    }
}

fn exit_at_once_slows_the_start_down(world: &mut World) {
    let server = spawn(world, &[], &["sh", "-c", "echo why >&2; exit 7"]);
    let report = slowed_down(&server);
    assert!(report.count("FailedStart") >= 4, "{report:?}");
    let stderr = server.stderr();
    assert!(
        stderr.contains("exit status: 7") && stderr.contains("\"why\""),
        "{stderr}"
    );
}

fn closed_outputs_slow_the_start_down(world: &mut World) {
    let [own, program, _] = show_command();
    let mute = [own, program, "mute".to_owned()];
    let server = spawn(world, &["--kill-timeout", "200"], &mute);
    let report = slowed_down(&server);
    assert!(report.count("Closed") >= 4, "{report:?}");
}

fn program_that_never_reads_is_stopped(world: &mut World) {
    let server = spawn(world, &["--start-servers", "2"], &["sleep", "1000"]);
    let mut client = connect(&server.address());
    client.send_line("is anybody there");
    assert!(client.is_silent(Duration::from_millis(300)));
    let report = stop(&server);
    assert_eq!((report.count("forked"), report.count("Shutdown")), (2, 2));
}

fn program_without_words_is_a_fixed_pool(world: &mut World) {
    let flags = ["--start-servers", "4", "--max-spare-servers", "2"];
    let server = spawn(world, &flags, &["sleep", "1000"]);
    let children = server.expect_children(4);
    // Ten times as long as a surplus must last to be culled.
    holds(
        "the children are those of the start",
        Duration::from_secs(1),
        || server.children() == children,
    );
    // An old one that dies is replaced at once, and only it.
    signal(children[0], Signal::SIGKILL);
    until_gone(children[0]);
    let after = server.expect_children(4);
    assert_eq!(after[..3], children[1..]);
    let report = stop(&server);
    assert_eq!(report.count("forked"), 5, "{report:?}");
    assert_eq!(report.count("Killed"), 1, "{report:?}");
}

fn program_without_words_falls_to_the_timeout(world: &mut World) {
    let server = spawn(world, &["--timeout", "200"], &["sleep", "1000"]);
    let first = server.expect_children(1)[0];
    until_replaced(&server, first);
    let report = stop(&server);
    assert!(report.count("TimedOut") >= 1, "{report:?}");
}

fn bad_builder_is_refused_at_the_start(world: &mut World) {
    let odd = world.tempdir().join("a;b").display().to_string();
    let cases: [(&[&str], &str); 4] = [
        (&["--private"], "comm_channel Private"),
        (&["--name", "a:b"], "cannot stand in LISTEN_FDNAMES"),
        (
            &["--path", &odd, "--server-starter"],
            "cannot stand in SERVER_STARTER_PORT",
        ),
        (&["--env", "A=B"], "cannot be the name of a variable"),
    ];
    for (flags, reason) in cases {
        let server = spawn(world, flags, &["sleep", "1000"]);
        let status = server.wait(SOON);
        assert_eq!(status.code(), Some(1));
        let stderr = server.stderr();
        assert!(stderr.contains(reason), "{flags:?}: {stderr}");
    }
    assert!(!Path::new(&odd).exists());
}

// The example.

fn example_runs_without_arguments(world: &mut World) {
    if Language::Perl.child(&[]).is_none() {
        return;
    }
    let server = world.run_example("exec", &["--port", "0"]);
    let said = server.expect_stdout("the hint", |text| text.contains("try: nc 127.0.0.1 "));
    assert!(said.contains("say spin"), "{said}");
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn example_takes_a_path_and_a_program(world: &mut World) {
    let Some(child) = Language::Python.child(&["--words", "poe"]) else {
        return;
    };
    let path = world.tempdir().join("socket").display().to_string();
    let mut arguments = vec![
        "--words",
        "poe",
        "--path",
        &path,
        "--start-servers",
        "2",
        "--",
    ];
    arguments.extend(child.iter().map(String::as_str));
    let server = world.run_example("exec", &arguments);
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let report = Report::of(&server);
    assert_eq!(report.count("BUSY"), 1, "{report:?}");
}
