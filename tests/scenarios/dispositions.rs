//! Dispositions and masks of signals: what a server inherits, sets and leaves behind.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use crate::subject::{
    Held, announce, builder, ended, ends_well, expect_entry, expect_exit, expect_up, log_warnings,
    pids, send, signal_set,
};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, port_is_free, processes, programs,
    scenarios, until,
};

pub const PROGRAMS: Programs = programs![dispositions, start_in_vain];

pub const SCENARIOS: Scenarios = scenarios![
    dispositions_are_restored_after_the_run,
    g04_ignored_signals_are_handled_and_ignored_again,
    signals_that_are_not_handled_are_left_alone,
    g02_an_inherited_ignored_sigchld_loses_no_status,
    g03_an_inherited_blocked_sigchld_loses_no_death,
    j01_a_busy_port_refuses_the_start_and_nothing_is_left,
];

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

/// Starts a program with signals ignored, which an exec does not reset.
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
    // But SIGCHLD, by which the parent learns of deaths.
    let (before, during) = (signals("before"), signals("during"));
    assert_eq!(during.replace(" 10440", " 440"), before);
    let status = server.stop(Signal::SIGTERM, SOON);
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    until("the port to be free", SOON, || {
        port_is_free(&address).then_some(())
    });
}

/// SIGCHLD has its default action for as long as a server lives, so that no status is lost.
///
/// Without `InParent::NotIgnored` in its row the kernel reaps the child, and its status is lost.
fn g02_an_inherited_ignored_sigchld_loses_no_status(world: &mut World) {
    let server = spawn_ignoring(world, "CHLD", "serve");
    let address = server.address();
    let mut held = Held::new(&address);
    send(held.pid, Signal::SIGKILL);
    held.client.gone();
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    ends_well(&server);
}

/// The signals that the parent waits for are unblocked, whatever mask it was started with. For
/// children beyond the first 32 only SIGCHLD reports their end.
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
