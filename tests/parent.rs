//! The parent itself: how it starts, or fails to, and how signals end it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::{Monitor, PreFork, PreForkHooks, States, TcpServer, defaults};
use subject::{
    Held, SOON, announce, builder, deaths, ended, ends_well, expect_entry, expect_exit, expect_up,
    log_warnings, pids, report, send, serve, signal_set, stop,
};
use support::{
    Address, Args, Server, Signal, World, holds, port_is_free, processes, programs, scenarios,
    until,
};

fn main() -> ExitCode {
    support::main(
        programs![
            serve,
            dispositions,
            restless,
            start_in_vain,
            serve_without_streams
        ],
        scenarios![
            sigterm_ends_after_the_connection_in_hand,
            sigint_ends_after_the_connection_in_hand,
            i02_a_second_sigint_kills_what_is_left,
            i02_a_sigint_after_sigterm_kills_what_is_left,
            i02_a_sigint_in_one_turn_with_sigterm_kills_what_is_left,
            i02_a_second_sigterm_changes_nothing,
            a_state_that_posts_itself_does_not_keep_the_server,
            dispositions_are_restored_after_the_run,
            g04_ignored_signals_are_handled_and_ignored_again,
            signals_that_are_not_handled_are_left_alone,
            g02_an_inherited_ignored_sigchld_loses_no_status,
            g03_an_inherited_blocked_sigchld_loses_no_death,
            f03_a_second_thread_refuses_the_start,
            b09_standard_streams_may_be_closed,
            j01_a_busy_port_refuses_the_start_and_nothing_is_left,
            a_thread_that_comes_later_shuts_down,
            b08_a_thread_that_comes_between_two_forks_shuts_down,
        ],
    )
}

// Programs.

/// Prints what the kernel knows of this process that a server might change.
fn print_state(when: &str) {
    let own = std::process::id();
    let signals = ["SigBlk", "SigIgn", "SigCgt"].map(|name| signal_set(own, name));
    // The directory that is being read is one of them, each time.
    let descriptors = processes::descriptors(own).len();
    println!("{when}: {signals:x?} {descriptors} descriptors");
}

/// Runs a server, and prints its own state before, during and after.
fn dispositions(args: Args) -> ExitCode {
    print_state("before");
    let result = builder(&args).start().and_then(|mut prefork| {
        print_state("during");
        announce(&prefork);
        prefork.run().map(drop)
    });
    print_state("after");
    ended(result)
}

/// Fails to start a server, and goes on.
fn start_in_vain(args: Args) -> ExitCode {
    log_warnings();
    print_state("before");
    let result = builder(&args).start().map(drop);
    print_state("after");
    ended(result)
}

/// What a program has printed of its state at that time.
fn state(server: &Server, when: &str) -> String {
    let text = server.stdout();
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    let (_, state) = lines.find(|(key, _)| *key == when).expect(when);
    state.to_owned()
}

// Scenarios: the end.

fn sigterm_ends_after_the_connection_in_hand(world: &mut World) {
    ends_after_the_connection_in_hand(world, Signal::SIGTERM);
}

fn sigint_ends_after_the_connection_in_hand(world: &mut World) {
    ends_after_the_connection_in_hand(world, Signal::SIGINT);
}

fn ends_after_the_connection_in_hand(world: &mut World, signal: Signal) {
    let server = world.spawn("serve", &["--start", "4"]);
    let mut held = Held::new(&server.address());
    expect_up(&server, 4);
    server.signal(signal);
    assert_eq!(server.expect_children(1), [held.pid]);
    held.is_served();
    holds("it is waited for", Duration::from_millis(300), || {
        server.try_wait().is_none()
    });
    held.is_served();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(deaths(&server, "Shutdown"), 4);
    assert!(!server.stdout().contains("SIGKILL"));
}

/// A second SIGINT is in a hurry: it kills what is left.
fn i02_a_second_sigint_kills_what_is_left(world: &mut World) {
    kills_what_is_left(world, Signal::SIGINT);
}

/// So is a SIGINT in a shutdown that SIGTERM has begun.
fn i02_a_sigint_after_sigterm_kills_what_is_left(world: &mut World) {
    kills_what_is_left(world, Signal::SIGTERM);
}

fn kills_what_is_left(world: &mut World, first: Signal) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    server.signal(first);
    assert_eq!(server.expect_children(1), [held.pid]);
    held.is_served();
    server.signal(Signal::SIGINT);
    held.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}

/// Also if the parent finds both at once, as after a moment in which it did not run.
fn i02_a_sigint_in_one_turn_with_sigterm_kills_what_is_left(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    stop(server.pid());
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGINT);
    server.signal(Signal::SIGCONT);
    held.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}

/// A second SIGTERM changes nothing: service managers repeat themselves.
fn i02_a_second_sigterm_changes_nothing(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.expect_children(1), [held.pid]);
    server.signal(Signal::SIGTERM);
    holds("it is waited for", Duration::from_millis(500), || {
        held.is_served();
        server.try_wait().is_none()
    });
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(pids(&server, "shutdown").len(), 1);
}

// Scenarios: dispositions.

/// Fails without the `Drop` of `Subscription`.
fn dispositions_are_restored_after_the_run(world: &mut World) {
    let server = world.spawn("dispositions", &[]);
    Held::new(&server.address()).is_served();
    ends_well(&server);
    assert_ne!(state(&server, "before"), state(&server, "during"));
    assert_eq!(state(&server, "before"), state(&server, "after"));
}

/// The parent always installs its handlers, and puts back what was there before, as after `nohup` and
/// shells that start something in the background.
///
/// Without the `Drop` of `Subscription` they stay handled.
fn g04_ignored_signals_are_handled_and_ignored_again(world: &mut World) {
    let server = spawn_ignoring(world, "INT,TERM", "dispositions");
    Held::new(&server.address()).is_served();
    ends_well(&server);
    assert_ne!(state(&server, "before"), state(&server, "during"));
    assert_eq!(state(&server, "before"), state(&server, "after"));
}

/// Starts a program with signals ignored; nothing resets that in an exec.
fn spawn_ignoring(world: &mut World, signals: &str, program: &str) -> Server {
    let ignore = format!("--ignore-signal={signals}");
    let own = std::env::current_exe().unwrap();
    let env = world.command("env").arg(ignore).arg(own);
    env.args(&["--program", program]).spawn()
}

fn signals_that_are_not_handled_are_left_alone(world: &mut World) {
    let server = world.spawn("dispositions", &["--no-signals"]);
    let address = server.address();
    expect_up(&server, 2);
    let signals = |when| {
        let state = state(&server, when);
        state.split_once(']').expect("signal sets").0.to_owned()
    };
    assert_eq!(signals("before"), signals("during"));
    let status = server.stop(Signal::SIGTERM, SOON);
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    until("the port to be free", SOON, || {
        port_is_free(&address).then_some(())
    });
}

/// SIGCHLD is set to its default for as long as a server lives, so that no status is lost.
///
/// Without `Statuses::keep` the kernel reaps the child and nobody learns how it ended.
fn g02_an_inherited_ignored_sigchld_loses_no_status(world: &mut World) {
    let server = spawn_ignoring(world, "CHLD", "serve");
    let address = server.address();
    let mut held = Held::new(&address);
    send(held.pid, Signal::SIGKILL);
    held.client.gone();
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    ends_well(&server);
}

/// Hooks with a state that posts itself without end.
struct Restless;

impl PreForkHooks for Restless {
    fn create_states(&mut self, states: &mut States) {
        states.add("again");
    }

    fn handler_server_fork(&mut self, monitor: &mut Monitor) {
        defaults::handler_server_fork(self, monitor);
        monitor.post("again");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        monitor.post(state);
    }
}

fn restless(_: Args) -> ExitCode {
    let server = TcpServer::new(|_| Ok(()));
    let started = PreFork::builder(server)
        .hooks(Restless)
        .start_servers(1)
        .start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    }))
}

/// Fails if the end waits until nothing is queued.
fn a_state_that_posts_itself_does_not_keep_the_server(world: &mut World) {
    let server = world.spawn("restless", &[]);
    server.address();
    server.expect_children(1);
    ends_well(&server);
}

/// Runs a server without standard streams.
fn serve_without_streams(args: Args) -> ExitCode {
    let file = File::create(args.value("--address-to").unwrap()).unwrap();
    for stream in 0..3 {
        nix::unistd::close(stream).unwrap();
    }
    let Ok(mut prefork) = builder(&args).start() else {
        return ExitCode::FAILURE;
    };
    let address = prefork.server().local_addrs()[0];
    writeln!(&file, "{address}").unwrap();
    ended(prefork.run().map(drop))
}

/// The numbers are filled with /dev/null before anything else is opened, so that neither the socket
/// nor a pipe can get one of them.
fn b09_standard_streams_may_be_closed(world: &mut World) {
    let path = world.tempdir().join("address");
    let arguments = ["--address-to", path.to_str().unwrap()];
    let server = world.spawn("serve_without_streams", &arguments);
    let address = until("its address", SOON, || {
        let text = fs::read_to_string(&path).ok()?;
        text.strip_suffix('\n').map(Address::parse)
    });
    let mut held = Held::new(&address);
    let streams = |pid| -> Vec<String> {
        let descriptors = processes::descriptors(pid).into_iter();
        let streams = descriptors.filter(|(fd, _)| *fd < 3);
        streams.map(|(_, target)| target).collect()
    };
    assert_eq!(streams(server.pid()), ["/dev/null"; 3]);
    let [stdin, stdout, stderr] = &streams(held.pid)[..] else {
        panic!("{:?}", streams(held.pid));
    };
    assert_eq!(stdin, "/dev/null");
    assert!(stdout.starts_with("pipe:") && stderr.starts_with("pipe:"));
    held.is_served();
    drop(held);
    ends_well(&server);
}

/// The signals that the parent waits for are unblocked, whatever mask it was started with. Beyond the
/// first 32 a child's end is told by SIGCHLD alone.
fn g03_an_inherited_blocked_sigchld_loses_no_death(world: &mut World) {
    let own = std::env::current_exe().unwrap();
    let env = world.command("env").arg("--block-signal=CHLD").arg(own);
    let flags = [
        "--program",
        "serve",
        "--start",
        "140",
        "--max-spare",
        "150",
        "--max-clients",
        "150",
    ];
    let server = env.args(&flags).spawn();
    server.address();
    let children = server.expect_children(140);
    for &child in &children[135..] {
        send(child, Signal::SIGKILL);
        expect_entry(&server, "exited", child);
    }
    ends_well(&server);
}

// Scenarios: the start.

/// PDEATHSIG fires when the thread that forked ends. The parent forks only while it has one thread,
/// which is then its life.
///
/// Without the count of threads in `Builder::start` the server starts.
fn f03_a_second_thread_refuses_the_start(world: &mut World) {
    let server = world.spawn("serve", &["--thread-before-start"]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    assert!(
        text.starts_with("error: threads of the parent: 2 threads ("),
        "{text}"
    );
    assert!(text.contains("pesky"), "{text}");
    assert_eq!(server.stdout(), "");
}

/// The sockets are opened before the first fork; a failure leaves no child, no handler and no
/// descriptor.
fn j01_a_busy_port_refuses_the_start_and_nothing_is_left(world: &mut World) {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap();
    let port = address.port().to_string();
    let server = world.spawn("start_in_vain", &["--port", &port]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    let error = format!("error: bind {address}: address already in use (os error 98)");
    assert!(text.lines().any(|line| line == error), "{text}");
    assert_eq!(state(&server, "before"), state(&server, "after"));
    assert_eq!(pids(&server, "forked"), []);
}

fn a_thread_that_comes_later_shuts_down(world: &mut World) {
    let server = world.spawn("serve", &["--thread-after-start"]);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_entry(&server, "error", 0);
    assert_eq!(pids(&server, "forked"), []);
    assert!(server.stderr().contains("pesky"));
}

/// One fork at a time, from the only thread: the threads are counted before each fork, and a second
/// one is an error. What is opened closes on exec.
fn b08_a_thread_that_comes_between_two_forks_shuts_down(world: &mut World) {
    let server = world.spawn("serve", &["--start", "5", "--thread-at-fork", "3"]);
    assert_eq!(server.wait(SOON).code(), Some(0));
    let error = expect_entry(&server, "error", 0);
    assert_eq!(error.rest, "threads");
    assert_eq!(pids(&server, "forked").len(), 2);
    assert_eq!(deaths(&server, "Shutdown"), 2);
    assert!(report(&server).starts_with("2 forked, "));
    assert!(server.stderr().contains("pesky"));
}
