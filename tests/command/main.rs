//! The command `prefork` as its users run it, with real programs and clients. Built with the feature
//! `cli` only: `cargo test --features cli --test command`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod activation;
mod control;
mod documents;
#[cfg(feature = "holder")]
mod held;
mod helpers;
mod inetd;
mod refusals;
mod reload;
mod run;
mod status;
#[path = "../scenarios/strace/mod.rs"]
mod strace;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
#[path = "../status/program.rs"]
mod told;
mod top;
mod unread;
mod watched;

use std::path::Path;
use std::process::ExitCode;

use support::{Launch, SOON, Scenarios, Server, Signal, World, scenarios_of};

/// The command.
const PREFORK: &str = env!("CARGO_BIN_EXE_prefork");

fn main() -> ExitCode {
    let modules: &[(&str, Scenarios)] = scenarios_of![
        activation,
        control,
        documents,
        helpers::applications,
        helpers::languages,
        helpers::languages::node,
        helpers::languages::perl,
        helpers::languages::php,
        helpers::languages::python,
        helpers::languages::ruby,
        helpers::languages::shell,
        inetd,
        inetd::ends,
        refusals,
        reload,
        run,
        status,
        top,
    ];
    #[cfg(feature = "holder")]
    let modules = &[modules, scenarios_of![held]].concat();
    support::main_of(told::PROGRAMS, modules)
}

/// The command with these arguments.
fn prefork<'w>(world: &'w mut World, arguments: &[&str]) -> Launch<'w> {
    world.command(PREFORK).args(arguments)
}

/// What the command prints when it ends well at once.
#[track_caller]
fn output(world: &mut World, arguments: &[&str]) -> String {
    tell(world, arguments, 0)
}

/// What the command prints on stdout, or on stderr if it fails, with the exit code that it must have.
#[track_caller]
fn tell(world: &mut World, words: &[&str], code: i32) -> String {
    let command = prefork(world, words).spawn();
    let status = command.wait(SOON);
    let (stdout, stderr) = (command.stdout(), command.stderr());
    assert_eq!(status.code(), Some(code), "{words:?}: {stdout}{stderr}");
    if code == 0 { stdout } else { stderr }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Ends a server in order, and returns its report.
#[track_caller]
fn stop(server: &Server) -> String {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
    let stdout = server.stdout();
    let report = stdout.lines().find(|line| line.contains(" forked, "));
    report.expect("a report").to_owned()
}
