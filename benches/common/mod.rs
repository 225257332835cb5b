//! What the benchmarks share: roles of processes, servers, the load, peers, the kernel's
//! accounting, figures and tables. Measures nothing by itself.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

pub(crate) mod actor;
pub(crate) mod entries;
pub(crate) mod load;
pub(crate) mod peers;
pub(crate) mod proc;
pub(crate) mod run;
pub(crate) mod servers;
pub(crate) mod stats;
pub(crate) mod verdict;
pub(crate) mod wire;

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{ForkResult, Pid, fork, getppid},
};
use std::{
    env, io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, Command},
    str::FromStr,
};

/// Whether to run quickly instead of precisely.
pub(crate) fn quick() -> bool {
    env::var_os("BENCH_QUICK").is_some_and(|value| value != "0")
}

/// `full`, or `short` in a quick run.
pub(crate) fn pick<T>(full: T, short: T) -> T {
    if quick() { short } else { full }
}

/// The number in the environment variable, or the default.
pub(crate) fn from_env(name: &str, otherwise: u64) -> u64 {
    match env::var(name) {
        Ok(value) => value.parse().expect("a number in the environment"),
        Err(_) => otherwise,
    }
}

/// The words in the environment variable, separated by commas, or the default.
pub(crate) fn list_from_env<T: FromStr + Clone>(name: &str, otherwise: &[T]) -> Vec<T> {
    match env::var(name) {
        Ok(value) => {
            let words = value.split(',').map(str::trim);
            words
                .filter(|word| !word.is_empty())
                .map(|word| {
                    word.parse()
                        .unwrap_or_else(|_| panic!("{name}: what is {word}?"))
                })
                .collect()
        }
        Err(_) => otherwise.to_vec(),
    }
}

/// The same benchmark of other builds, to be run beside this one: compares before and after a
/// change in one run.
pub(crate) fn beside() -> Vec<PathBuf> {
    list_from_env("BENCH_BESIDE", &[])
}

/// Runs `main` for the benchmark itself and `play` for the processes that it starts from its own
/// executable.
pub(crate) fn start(main: fn(), play: fn(&[&str])) {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.split_first() {
        Some((&"--role", ["exec", program, args @ ..])) => exec(program, args),
        Some((&"--role", role)) => {
            die_with(Signal::SIGKILL, getppid());
            play(role);
        }
        _ if args.contains(&"--bench") => main(),
        _ => println!("this is a benchmark: run it with `cargo bench -p benchmarks`"),
    }
}

/// Execs a program that gets a signal when the benchmark ends.
fn exec(program: &str, args: &[&str]) {
    die_with(Signal::SIGTERM, getppid());
    let error = Command::new(program).args(args).exec();
    eprintln!("{program}: {error}");
    process::exit(127);
}

/// Lets the kernel end this process when its parent ends.
pub(crate) fn die_with(signal: Signal, parent: Pid) {
    prctl::set_pdeathsig(signal).expect("prctl");
    if getppid() != parent {
        process::exit(1);
    }
}

/// Forks a bare child that does `life` and ends with its parent.
pub(crate) fn bare_fork(life: impl FnOnce()) -> Pid {
    let parent = Pid::this();
    // SAFETY: the processes that play a role have one thread, so the child may do anything.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            die_with(Signal::SIGKILL, parent);
            life();
            process::exit(0);
        }
    }
}

/// Waits until stdin ends: the benchmark no longer needs this process.
pub(crate) fn until_stdin_ends() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a pid"))
}

pub(crate) fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect()
}
