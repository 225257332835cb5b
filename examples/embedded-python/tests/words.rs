//! The interpreter in each child, driven from outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use support::{Server, Signal, World, connect, programs, scenarios};

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(
        programs![],
        scenarios![child_that_hangs_in_python_is_replaced, words_are_counted],
    )
}

fn start(world: &mut World, flags: &[&str]) -> Server {
    world
        .command(env!("CARGO_BIN_EXE_embedded-python"))
        .args(&["--port", "0"])
        .args(flags)
        .spawn()
}

/// Ends the server in order, and returns its report.
#[track_caller]
fn stop(server: &Server) -> String {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
    server.stdout()
}

fn words_are_counted(world: &mut World) {
    // A third one may be there before one of these has started.
    let flags = ["--start-servers", "2", "--max-clients", "2"];
    let server = start(world, &flags);
    let children = server.expect_children(2);
    let address = server.address();
    let mut first = connect(&address);
    let mut second = connect(&address);
    assert_eq!(
        first.ask("to be or not to be"),
        "be: 2, not: 1, or: 1, to: 2"
    );
    assert_eq!(second.ask(""), "ValueError: no words");
    let pids = [first.ask("pid"), second.ask("pid")].map(|pid| pid.parse().unwrap());
    assert_ne!(pids[0], pids[1]);
    assert!(
        pids.iter().all(|pid| children.contains(pid)),
        "{pids:?} {children:?}"
    );
    drop((first, second));
    stop(&server);
}

fn child_that_hangs_in_python_is_replaced(world: &mut World) {
    let server = start(world, &["--start-servers", "1", "--timeout", "1"]);
    let address = server.address();
    let mut stuck = connect(&address);
    stuck.send_line("spin");
    assert_eq!(connect(&address).ask("a b a"), "a: 2, b: 1");
    stuck.gone();
    let report = stop(&server);
    assert!(report.contains("1 TimedOut"), "{report}");
}
