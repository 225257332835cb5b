//! The harness of the process tests: a test file hands its programs and its scenarios to [`main`], or
//! to [`main_of`].
//!
//! One executable plays three parts, told apart by its first argument. The *runner* answers the
//! test tools and watches; a *scenario* is one test, in a process and a session of its own; a
//! *program* is what runs in a server process. A new part always begins with an exec, so a program
//! has one thread and nothing of the test in its memory.
//!
//! It never forks without an exec, never calls the library under test, and never finds a process
//! by its name: what belongs to a scenario is told by a marker in the environment.
//!
//! A test file that uses it begins with a `//!` line, the inner attribute that allows `unwrap_used`
//! and `expect_used` (the attribute below covers this module only), and `mod support;`.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses a part"
)]
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what the test files use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod address;
mod arguments;
mod check;
mod client;
mod dump;
pub mod gate;
mod launch;
pub mod leak;
pub mod load;
mod marker;
pub mod patience;
pub mod processes;
mod runner;
mod server;
pub mod versions;
mod wait;
mod watch;
mod world;

use std::process::ExitCode;

pub use address::{Address, port_is_free};
pub use arguments::Args;
pub use client::{Client, connect, connect_as_another, try_connect};
pub use gate::Gate;
pub use launch::Launch;
pub use nix::sys::signal::Signal;
pub use patience::patient;
pub use server::{SLOW, Server};
pub use wait::{SOON, holds, pause, until};
pub use world::World;

/// What runs in a server process; [`programs!`] makes one of any function that takes [`Args`].
pub type Program = fn(Args) -> ExitCode;

/// One test; it fails by a panic.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    run: fn(&mut World),
    /// Whether it begins before others, so that the rest do not wait for it at the end.
    is_long: bool,
}

impl Scenario {
    pub const fn new(run: fn(&mut World)) -> Self {
        let is_long = false;
        Self { run, is_long }
    }

    /// One that takes many times as long as most others do, for which it has to wait.
    pub const fn long(self) -> Self {
        let is_long = true;
        Self { is_long, ..self }
    }
}

/// Programs by their names, as [`programs!`] lists them.
pub type Programs = &'static [(&'static str, Program)];

/// Scenarios by their names, as [`scenarios!`] lists them.
pub type Scenarios = &'static [(&'static str, Scenario)];

/// The list of programs, by the names of the functions.
///
/// A program may return whatever `main` may return.
macro_rules! programs {
    ($($program:ident),* $(,)?) => {
        &[$((
            stringify!($program),
            (|args| std::process::Termination::report($program(args))) as $crate::support::Program,
        )),*]
    };
}

/// The list of scenarios, by the names of the functions. `name: long` marks one as
/// [`Scenario::long`].
macro_rules! scenarios {
    ($($scenario:ident $(: $length:ident)?),* $(,)?) => {
        &[$((
            stringify!($scenario),
            $crate::support::Scenario::new($scenario)$(.$length())?,
        )),*]
    };
}

/// The scenarios of modules, each list with the path of its module, for [`main_of`].
macro_rules! scenarios_of {
    ($($module:ident $(:: $inner:ident)*),* $(,)?) => {
        &[$((
            concat!(stringify!($module), "::", $(stringify!($inner), "::",)*),
            $module $(:: $inner)* ::SCENARIOS,
        )),*]
    };
}

pub(crate) use {programs, scenarios, scenarios_of};

/// The `main` of a test file with modules: the name of a scenario has its module before it.
pub fn main_of(programs: &[(&str, Program)], modules: &[(&str, Scenarios)]) -> ExitCode {
    let named = modules.iter().flat_map(|(module, scenarios)| {
        let scenarios = scenarios.iter();
        scenarios.map(move |(name, scenario)| (format!("{module}{name}"), *scenario))
    });
    let named: Vec<(String, Scenario)> = named.collect();
    let scenarios = named.iter().map(|(name, scenario)| (&**name, *scenario));
    main(programs, &scenarios.collect::<Vec<_>>())
}

/// The `main` of a benchmark that is made of scenarios: `cargo bench` runs them one after the other,
/// with what they print.
pub fn main_of_bench(programs: &[(&str, Program)], scenarios: &[(&str, Scenario)]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let first = arguments.first().map_or("", String::as_str);
    if arguments.iter().any(|argument| argument == "--bench") {
        run_in_turn(&arguments)
    } else if ["--program", "--scenario", "--nocapture"].contains(&first) {
        main(programs, scenarios)
    } else {
        println!("this is a benchmark: run it with `cargo bench -p benchmarks`");
        ExitCode::SUCCESS
    }
}

fn run_in_turn(arguments: &[String]) -> ExitCode {
    let own = std::env::current_exe().expect("our own path");
    let names = arguments.iter().filter(|argument| *argument != "--bench");
    let mut command = std::process::Command::new(own);
    command.args(["--nocapture", "--test-threads=1"]);
    let status = command.args(names).status().expect("the benchmark again");
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The `main` of a test file: plays the part that the first argument names.
pub fn main(programs: &[(&str, Program)], scenarios: &[(&str, Scenario)]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--program") => match find(programs, &arguments) {
            Ok((_, program)) => program(Args::new(arguments[2..].to_vec())),
            Err(refusal) => refusal,
        },
        Some("--scenario") => match find(scenarios, &arguments) {
            Ok((name, scenario)) => world::play(name, scenario),
            Err(refusal) => refusal,
        },
        _ => runner::run(&arguments, scenarios),
    }
}

/// The entry that the second argument names.
fn find<'a, F: Copy>(
    entries: &[(&'a str, F)],
    arguments: &[String],
) -> Result<(&'a str, F), ExitCode> {
    let wanted = arguments.get(1).map_or("", String::as_str);
    let found = entries.iter().find(|(name, _)| *name == wanted);
    found.copied().ok_or_else(|| {
        eprintln!("this test has no {} called {wanted:?}", &arguments[0][2..]);
        ExitCode::from(2)
    })
}
