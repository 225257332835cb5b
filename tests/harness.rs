//! The harness tested by itself: each kind of fault must make a scenario fail, and say which.
//!
//! The scenarios named `inner_` are run by the others, in a runner of their own, so that their
//! failure is a success. No scenario here touches the library.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use support::{
    Address, Args, Signal, World, connect, gate, holds, pause, port_is_free, processes, programs,
    scenarios, try_connect, until,
};

/// The variable that turns this test into the one with the inner scenarios.
const INNER: &str = "HARNESS_INNER";

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let programs = programs![
        echo, parent, sleeper, panicker, gated, announcer, grumbler, hoarder
    ];
    if std::env::var_os(INNER).is_some() {
        return support::main(
            programs,
            scenarios![
                inner_abort,
                inner_abort_bare,
                inner_bare_daemon,
                inner_busy_port,
                inner_daemon,
                inner_early_exit,
                inner_expected,
                inner_fork_bomb,
                inner_good,
                inner_hang,
                inner_held_pipe,
                inner_killed_parent,
                inner_leak,
                inner_never_listens,
                inner_not_waited_for,
                inner_panic,
                inner_still_running,
                inner_thread_panic,
                inner_tidy_parent,
                inner_unix_path_left,
                inner_unreaped,
                inner_vain_wait,
            ],
        );
    }
    support::main(
        programs,
        scenarios![
            address_in_time_wait_is_free,
            client_sees_lines_silence_and_the_end,
            descriptors_settle_and_compare,
            example_that_is_not_built_is_explained,
            expected_faults_are_allowed,
            failed_scenarios_are_told_by_their_fault,
            failing_run_is_reported_as_such,
            gate_stops_and_lets_go,
            good_scenario_passes,
            listing_is_what_test_tools_expect,
            orphans_come_to_the_scenario,
            outputs_can_be_the_scenarios_own,
            runner_killed_takes_all_with_it,
            scenarios_are_repeated,
            selection_is_by_name,
            unknown_option_is_refused,
            zombies_are_not_children,
        ],
    )
}

// Programs.

/// Listens, echoes lines, and exits at the line `quit`.
fn echo(args: Args) -> io::Result<()> {
    if let Some(path) = args.value("--unix") {
        let listener = UnixListener::bind(path)?;
        println!("listening on {path}");
        while serve(listener.accept()?.0)? {}
        if !args.has("--leave-path") {
            std::fs::remove_file(path)?;
        }
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    while serve(listener.accept()?.0)? {}
    Ok(())
}

/// Echoes on one connection; false once it has said `quit`.
fn serve<S>(stream: S) -> io::Result<bool>
where
    for<'a> &'a S: io::Read + Write,
{
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        if line == "quit" {
            return Ok(false);
        }
        writeln!(&stream, "{line}")?;
    }
    Ok(true)
}

/// Starts children of several kinds, says so, passes a gate and exits without reaping any.
#[expect(clippy::zombie_processes, reason = "to be found by the scenario")]
fn parent(args: Args) {
    let count = args.parsed("--count").unwrap_or(1);
    for _ in 0..count {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--program", "sleeper"]);
        if args.has("--bare") {
            command.env_clear();
        }
        for flag in ["--brief", "--own-session"] {
            if args.has(flag) {
                command.arg(flag);
            }
        }
        // Their outputs would otherwise be those of the parent, which the scenario reads.
        command.stdout(Stdio::null()).spawn().unwrap();
    }
    println!("started");
    gate::pass("exit");
    if args.has("--stay") {
        sleeper(args);
    }
}

/// Does nothing, for ever unless it is to be brief.
fn sleeper(args: Args) {
    if args.has("--own-session") {
        nix::unistd::setsid().unwrap();
    }
    while !args.has("--brief") {
        pause(Duration::from_secs(1));
    }
}

/// Panics in a thread and exits with success.
fn panicker(_: Args) {
    let thread = std::thread::spawn(|| panic!("on purpose"));
    assert!(thread.join().is_err());
}

/// Stops at a gate.
fn gated(_: Args) {
    gate::pass("nobody-made-this-one");
    gate::pass("point");
    println!("passed");
}

/// Claims an address that is somebody else's.
fn announcer(args: Args) {
    println!("listening on {}", args.value("--address").unwrap());
}

/// Says where it listens, then starts a child whose output it reads, and keeps the pipe of another one
/// that is gone, unless it is to be tidy.
fn hoarder(args: Args) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    gate::pass("go");
    let start = |flags: &[&str]| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--program", "sleeper"]).args(flags);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let mut gone = start(&["--brief"])?;
    gone.wait()?;
    if args.has("--tidy") {
        drop(gone);
    } else {
        std::mem::forget(gone);
    }
    let _living = start(&[])?;
    println!("done");
    loop {
        pause(Duration::from_secs(1));
    }
}

/// Says why it ends before it listens.
fn grumbler(_: Args) -> io::Result<()> {
    Err(io::Error::other("no address to be had"))
}

// Scenarios that fail, and a few that pass.

fn inner_abort(world: &mut World) {
    world.spawn("sleeper", &[]);
    std::process::abort();
}

fn inner_abort_bare(world: &mut World) {
    let server = world.spawn("parent", &["--bare", "--own-session"]);
    server.expect_stdout("the start of the child", |text| text.contains("started"));
    server.wait(SOON);
    std::process::abort();
}

fn inner_bare_daemon(world: &mut World) {
    let server = world.spawn("parent", &["--bare", "--own-session"]);
    server.wait(SOON);
}

fn inner_busy_port(world: &mut World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = world.spawn("announcer", &["--address", &address]);
    server.address();
    server.wait(SOON);
    std::mem::forget(listener);
}

fn inner_daemon(world: &mut World) {
    let server = world.spawn("parent", &["--own-session", "--stay"]);
    server.expect_stdout("the start of the child", |text| text.contains("started"));
    server.kill9();
}

fn inner_early_exit(_: &mut World) {
    std::process::exit(0);
}

fn inner_expected(world: &mut World) {
    world.expect_panics();
    world.expect_orphans();
    world.spawn("panicker", &[]).wait(SOON);
    world.spawn("parent", &["--brief"]).wait(SOON);
}

fn inner_fork_bomb(world: &mut World) {
    world.process_limit(10);
    world
        .spawn("parent", &["--count", "30", "--stay"])
        .wait(SOON * 2);
}

fn inner_good(world: &mut World) {
    let server = world.spawn("echo", &[]);
    connect(&server.address()).send_line("quit");
    assert!(server.wait(SOON).success());
}

fn inner_hang(world: &mut World) {
    world.deadline(Duration::from_millis(1500));
    world.spawn("sleeper", &[]).wait(SOON * 10);
}

fn inner_killed_parent(world: &mut World) {
    let path = world.tempdir().join("left");
    let server = world.spawn("echo", &["--unix", path.to_str().unwrap()]);
    server.address();
    assert_eq!(server.kill9().signal(), Some(Signal::SIGKILL as i32));
}

fn hoard(world: &mut World, flags: &[&str]) {
    let mut go = world.gate("go");
    let server = world.spawn("hoarder", flags);
    // Looked at when it has nothing yet, as the scenario of a server does.
    server.address();
    go.reached(SOON);
    go.open();
    server.expect_stdout("both children", |text| text.contains("done"));
    let child = server.expect_children(1)[0];
    server.stop(Signal::SIGTERM, SOON);
    let child = nix::unistd::Pid::from_raw(child as i32);
    nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
}

fn inner_held_pipe(world: &mut World) {
    hoard(world, &[]);
}

/// It holds two descriptors more, and they are those of a child.
fn inner_tidy_parent(world: &mut World) {
    hoard(world, &["--tidy"]);
}

fn inner_leak(world: &mut World) {
    assert!(world.spawn("parent", &[]).wait(SOON).success());
}

fn inner_never_listens(world: &mut World) {
    world.spawn("grumbler", &[]).address();
}

fn inner_not_waited_for(world: &mut World) {
    let server = world.spawn("parent", &["--count", "0"]);
    until("its end", SOON, || {
        (!processes::is_alive(server.pid())).then_some(())
    });
}

fn inner_panic(world: &mut World) {
    assert!(world.spawn("panicker", &[]).wait(SOON).success());
}

fn inner_still_running(world: &mut World) {
    world.spawn("sleeper", &[]);
}

fn inner_thread_panic(_: &mut World) {
    let _ = std::thread::spawn(|| panic!("unseen")).join();
}

fn inner_unix_path_left(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = world.spawn("echo", &["--unix", path.to_str().unwrap(), "--leave-path"]);
    connect(&server.address()).send_line("quit");
    server.wait(SOON);
}

fn inner_unreaped(world: &mut World) {
    let exit = world.gate("exit");
    let server = world.spawn("parent", &["--brief"]);
    until("a zombie", SOON, || {
        (server.zombies().len() == 1).then_some(())
    });
    exit.open();
    assert!(server.wait(SOON).success());
}

fn inner_vain_wait(world: &mut World) {
    let server = world.spawn("echo", &[]);
    server.address();
    until(
        "the moon to be made of cheese",
        Duration::ZERO,
        || None::<()>,
    );
}

// Scenarios about those.

/// How an inner run ended, and what it wrote.
struct Ended {
    status: ExitStatus,
    text: String,
}

/// Runs this test with the inner scenarios.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(arguments)
        .env(INNER, "1")
        .env("SCENARIO_PATIENCE", "1")
        .envs(variables.iter().copied());
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the inner run");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ended {
        status: output.status,
        text: text.into_owned(),
    }
}

/// Runs one inner scenario.
fn run_one(name: &str) -> Ended {
    run(&["--exact", name], &[])
}

fn failed_scenarios_are_told_by_their_fault(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let cases: [(&str, &[&str]); 19] = [
        (
            "inner_abort",
            &["the scenario left behind", "--program sleeper"],
        ),
        ("inner_abort_bare", &["the scenario ended with signal: 6"]),
        (
            "inner_bare_daemon",
            &["without reaping", "still alive", "--program sleeper"],
        ),
        ("inner_busy_port", &["is not free: somebody listens on it"]),
        (
            "inner_daemon",
            &["still alive after 5s", "--program sleeper --own-session"],
        ),
        ("inner_early_exit", &["exited before its standing check"]),
        ("inner_fork_bomb", &["fork bomb: ", "10 are allowed"]),
        (
            "inner_hang",
            &["the scenario hangs", "1.5s", "fds: 0=/dev/null"],
        ),
        (
            "inner_hang",
            &[
                "still waiting for the server \"sleeper\"",
                "wchan",
                "SigBlk",
            ],
        ),
        (
            "inner_held_pipe",
            &[
                "in vain for the server \"hoarder\"",
                "descriptors of its own",
            ],
        ),
        (
            "inner_leak",
            &["a server exited without reaping", "still alive after 5s"],
        ),
        (
            "inner_never_listens",
            &["`listening on`", "exit status: 1", "no address to be had"],
        ),
        (
            "inner_not_waited_for",
            &["exit status: 0, and nobody waited for it"],
        ),
        (
            "inner_panic",
            &["tells of a panic", "000-panicker.stderr", "on purpose"],
        ),
        (
            "inner_still_running",
            &["the server \"sleeper\" (pid", "is still running"],
        ),
        ("inner_thread_panic", &["a thread of the scenario panicked"]),
        (
            "inner_unix_path_left",
            &["is not free: the path is still there"],
        ),
        (
            "inner_unreaped",
            &["a server exited without reaping", "state Z"],
        ),
        (
            "inner_vain_wait",
            &["waited 2s in vain for the moon", "---- 000-echo.stdout"],
        ),
    ];
    let runs: Vec<_> = cases
        .iter()
        .map(|(name, wanted)| (name, wanted, std::thread::spawn(|| run_one(name))))
        .collect();
    for (name, wanted, run) in runs {
        let Ended { status, text } = run.join().unwrap();
        assert_eq!(status.code(), Some(101), "{name} should fail:\n{text}");
        for part in *wanted {
            assert!(text.contains(part), "{name} should say {part:?}:\n{text}");
        }
    }
    // The markers of inner runs extend the one of this run, so this looks for theirs as well.
    let left = world.processes();
    assert!(left.is_empty(), "the inner runs left {left:?}");
}

fn failing_run_is_reported_as_such(_: &mut World) {
    let Ended { status, text } = run(&["inner_good", "inner_early", "--test-threads=1"], &[]);
    assert_eq!(status.code(), Some(101));
    let at = |part: &str| {
        text.find(part)
            .unwrap_or_else(|| panic!("{part:?} in:\n{text}"))
    };
    assert!(at("running 2 tests") < at("test inner_early_exit ... FAILED"));
    assert!(at("test inner_good ... ok") < at("---- inner_early_exit output ----"));
    assert!(at("failures:") < at("test result: FAILED. 1 passed; 1 failed; 0 ignored; "));
    at("0 measured; 20 filtered out; finished in ");
}

fn good_scenario_passes(_: &mut World) {
    let Ended { status, text } = run_one("inner_good");
    assert!(status.success(), "{text}");
    assert!(text.contains("running 1 test\n"), "{text}");
    assert!(text.contains("test inner_good ... ok"), "{text}");
    assert!(
        text.contains("test result: ok. 1 passed; 0 failed; "),
        "{text}"
    );
}

fn expected_faults_are_allowed(_: &mut World) {
    for name in ["inner_expected", "inner_tidy_parent", "inner_killed_parent"] {
        let Ended { status, text } = run_one(name);
        assert!(status.success(), "{text}");
    }
}

fn scenarios_are_repeated(_: &mut World) {
    let Ended { status, text } = run(&["inner_good"], &[("SCENARIO_REPEAT", "5")]);
    assert!(status.success(), "{text}");
    let Ended { status, text } = run(&["early_exit"], &[("SCENARIO_REPEAT", "5")]);
    assert_eq!(status.code(), Some(101), "{text}");
    assert!(text.contains("FAILED (after 0 of 5 had passed)"), "{text}");
}

fn listing_is_what_test_tools_expect(_: &mut World) {
    let terse = run(&["--list", "--format", "terse", "--skip", "daemon"], &[]).text;
    assert_eq!(terse.lines().count(), 20, "{terse}");
    assert!(
        terse.lines().all(|line| line.ends_with(": test")),
        "{terse}"
    );
    let ignored = run(&["--list", "--format=terse", "--ignored"], &[]).text;
    assert_eq!(ignored, "");
    let verbose = run(&["--list", "inner_good"], &[]).text;
    assert_eq!(verbose, "inner_good: test\n\n1 tests, 0 benchmarks\n");
}

fn selection_is_by_name(_: &mut World) {
    let selected = |arguments: &[&str]| {
        let mut all = vec!["--list", "--format", "terse"];
        all.extend(arguments);
        run(&all, &[]).text.replace(": test\n", " ")
    };
    assert_eq!(
        selected(&["unix_path", "good"]),
        "inner_good inner_unix_path_left "
    );
    assert_eq!(selected(&["--exact", "good"]), "");
    assert_eq!(selected(&["daemon", "--skip", "bare"]), "inner_daemon ");
}

fn unknown_option_is_refused(_: &mut World) {
    let Ended { status, text } = run(&["--no-such-option"], &[]);
    assert_eq!(status.code(), Some(101));
    assert!(
        text.contains("Unrecognized option: --no-such-option"),
        "{text}"
    );
}

fn runner_killed_takes_all_with_it(world: &mut World) {
    let own = std::env::current_exe().unwrap();
    let launch = world.command(own).args(&["--exact", "inner_hang"]);
    let runner = launch.env(INNER, "1").spawn();
    // The runner, the scenario and its server.
    let count = |world: &World| world.processes().len();
    until("the server of the inner scenario", SOON, || {
        (count(world) == 3).then_some(())
    });
    runner.kill9();
    until("the end of the inner scenario", SOON, || {
        (count(world) == 0).then_some(())
    });
}

fn orphans_come_to_the_scenario(world: &mut World) {
    let server = world.spawn("parent", &["--count", "3", "--stay"]);
    let children = server.expect_children(3);
    assert!(world.orphans().is_empty());
    server.kill9();
    let orphans = until("the orphans", SOON, || {
        Some(world.orphans()).filter(|all| all.len() == 3)
    });
    assert_eq!(orphans, children);
    for pid in orphans {
        assert!(processes::is_alive(pid));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    }
    until("their end", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

fn zombies_are_not_children(world: &mut World) {
    let _closed = world.gate("exit");
    let server = world.spawn("parent", &["--brief", "--stay"]);
    let zombies = until("a zombie", SOON, || {
        Some(server.zombies()).filter(|all| all.len() == 1)
    });
    assert_eq!(server.children(), []);
    assert_eq!(processes::state(zombies[0]), Some('Z'));
    assert!(!processes::is_alive(zombies[0]));
    server.kill9();
}

fn gate_stops_and_lets_go(world: &mut World) {
    let mut point = world.gate("point");
    let servers = [(); 3].map(|()| world.spawn("gated", &[]));
    let mut reached: Vec<u32> = servers.iter().map(|_| point.reached(SOON)).collect();
    reached.sort_unstable();
    let mut pids = servers.each_ref().map(support::Server::pid);
    pids.sort_unstable();
    assert_eq!(reached, pids);
    holds("nobody passes", Duration::from_millis(50), || {
        servers.iter().all(|server| server.stdout().is_empty())
    });
    point.release(servers[1].pid());
    servers[1].expect_stdout("the passage", |text| text == "passed\n");
    assert_eq!(point.waiting().len(), 2);
    assert_eq!(servers[0].stdout(), "");
    point.open();
    let late = world.spawn("gated", &[]);
    for server in servers.iter().chain([&late]) {
        assert!(server.wait(SOON).success());
    }
}

fn client_sees_lines_silence_and_the_end(world: &mut World) {
    let path = world.tempdir().join("socket");
    for arguments in [vec![], vec!["--unix", path.to_str().unwrap()]] {
        let server = world.spawn("echo", &arguments);
        let address = server.address();
        assert!(!port_is_free(&address));
        let mut client = connect(&address);
        assert_eq!(client.ask("hello"), "hello");
        assert!(client.is_silent(Duration::from_millis(20)));
        client.send_line("a\nb");
        assert_eq!(client.read_line(), "a");
        assert!(!client.is_silent(Duration::from_millis(20)));
        assert_eq!(client.read_line(), "b");
        client.close_write();
        client.eof();
        connect(&address).send_line("quit");
        assert!(server.wait(SOON).success());
        assert!(port_is_free(&address));
        assert!(try_connect(&address).is_err());
    }
}

fn address_in_time_wait_is_free(world: &mut World) {
    let server = world.spawn("echo", &[]);
    let address = server.address();
    let mut client = connect(&address);
    client.send_line("quit");
    // The server's end closes first, so that its port is the one in TIME_WAIT.
    client.eof();
    server.wait(SOON);
    drop(client);
    assert!(port_is_free(&address));
    // A port that only a client has is not listened on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(&Address::from(listener.local_addr().unwrap()));
    let (peer, client_address) = listener.accept().unwrap();
    assert!(port_is_free(&Address::from(client_address)));
    drop((client, peer));
}

fn descriptors_settle_and_compare(world: &mut World) {
    let server = world.spawn("echo", &[]);
    let address = server.address();
    let before = server.descriptors_settled();
    assert_eq!(before[0], (0, "/dev/null".to_owned()));
    assert_eq!(server.threads(), 1);
    let mut client = connect(&address);
    client.ask("hello");
    assert_eq!(server.descriptors_settled().len(), before.len() + 1);
    drop(client);
    until("the connection to be closed", SOON, || {
        (server.descriptors_settled() == before).then_some(())
    });
    connect(&address).send_line("quit");
    server.wait(SOON);
}

fn outputs_can_be_the_scenarios_own(world: &mut World) {
    let launch = world.program("announcer").args(&["--address", "here"]);
    let server = launch
        .stdout(Stdio::piped())
        .env("RUST_BACKTRACE", "0")
        .spawn();
    let mut line = String::new();
    BufReader::new(server.take_stdout().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "listening on here\n");
    assert_eq!(server.stderr(), "");
    assert!(server.wait(SOON).success());
    assert_eq!(server.try_wait().and_then(|status| status.code()), Some(0));
}

fn example_that_is_not_built_is_explained(world: &mut World) {
    let attempt = std::panic::AssertUnwindSafe(|| world.run_example("no-such-example", &[]));
    let panic = std::panic::catch_unwind(attempt).expect_err("a panic");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("cargo build"), "{text}");
    assert!(text.contains("--example no-such-example"), "{text}");
}
