//! Every test that starts processes: which module has which scenarios is said here, and nothing else.
//!
//! A scenario runs in a process of its own. Its name has its module before it, and any part of that
//! chooses it: `cargo test --test scenarios -- signals::` runs a module, `-- a01` a fault.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod accepting;
mod access_log;
mod activation;
mod board;
mod brake;
mod by_hand;
mod chaos;
mod chatter;
mod clients;
mod clocks;
mod confinement;
mod conn;
mod containers;
mod control;
mod crashes;
mod deaths;
mod deploy;
mod dispositions;
mod draining;
#[path = "../example/mod.rs"]
mod example;
mod examples;
mod exec;
mod failed_starts;
mod field;
mod harness;
mod hostile;
mod injection;
mod last_child;
mod life;
mod limits;
mod listeners;
mod listening;
mod log_lines;
mod metrics;
mod observers;
mod orphans;
mod output;
mod overload;
mod overtime;
mod parents_hooks;
mod peers;
mod pipes;
mod ported;
mod races;
mod reload;
mod replaced;
mod reserve;
mod saturated;
mod servers;
mod showcase;
mod signal_fuzz;
mod signal_table;
mod signals;
mod silence;
mod slow_clients;
mod sockets;
mod starts;
mod stop_figures;
mod stops;
mod strace;
mod stranded;
mod strangers;
mod subject;
#[path = "../support/mod.rs"]
mod support;
mod titles;
mod tracing;
mod turns;
mod two_servers;
mod upgrade;
mod walk;
mod walked;
mod walking;
mod wire;

use std::env;
use std::process::ExitCode;

use support::{Programs, Scenarios, scenarios_of};

const PROGRAMS: &[Programs] = &[
    accepting::PROGRAMS,
    access_log::PROGRAMS,
    activation::PROGRAMS,
    board::PROGRAMS,
    brake::PROGRAMS,
    by_hand::PROGRAMS,
    chaos::PROGRAMS,
    chatter::PROGRAMS,
    clients::PROGRAMS,
    clocks::PROGRAMS,
    confinement::PROGRAMS,
    conn::PROGRAMS,
    control::PROGRAMS,
    dispositions::PROGRAMS,
    draining::PROGRAMS,
    exec::PROGRAMS,
    field::PROGRAMS,
    harness::PROGRAMS,
    hostile::PROGRAMS,
    last_child::PROGRAMS,
    listeners::PROGRAMS,
    listening::PROGRAMS,
    log_lines::PROGRAMS,
    metrics::PROGRAMS,
    observers::PROGRAMS,
    observers::order::PROGRAMS,
    orphans::PROGRAMS,
    overtime::PROGRAMS,
    output::PROGRAMS,
    overload::PROGRAMS,
    parents_hooks::PROGRAMS,
    peers::PROGRAMS,
    ported::PROGRAMS,
    reload::PROGRAMS,
    replaced::PROGRAMS,
    reserve::PROGRAMS,
    saturated::PROGRAMS,
    servers::PROGRAMS,
    signal_fuzz::PROGRAMS,
    signal_table::PROGRAMS,
    slow_clients::PROGRAMS,
    sockets::PROGRAMS,
    starts::PROGRAMS,
    stranded::PROGRAMS,
    strangers::PROGRAMS,
    subject::PROGRAMS,
    titles::PROGRAMS,
    turns::PROGRAMS,
    two_servers::PROGRAMS,
    upgrade::PROGRAMS,
    walked::PROGRAMS,
    wire::PROGRAMS,
];

const SCENARIOS: &[(&str, Scenarios)] = scenarios_of![
    accepting::clients,
    accepting::errors,
    access_log,
    activation,
    board,
    brake,
    by_hand,
    chaos,
    chatter,
    chatter::floods,
    clients,
    clients::stops,
    clocks,
    confinement,
    confinement::namespaces,
    conn,
    conn::blocking,
    conn::records,
    containers,
    control,
    control::clients,
    crashes,
    deaths,
    deploy,
    dispositions,
    draining,
    examples,
    examples::hello,
    examples::lines,
    exec::applications,
    exec::example,
    exec::handover,
    exec::languages,
    exec::languages::node,
    exec::languages::perl,
    exec::languages::php,
    exec::languages::python,
    exec::languages::ruby,
    exec::languages::shell,
    exec::misfits,
    exec::wrappers,
    failed_starts,
    field,
    field::timeouts,
    harness::runner,
    harness::world,
    hostile,
    last_child,
    life,
    limits,
    listeners,
    log_lines,
    metrics,
    observers,
    observers::order,
    orphans,
    output,
    overtime,
    overtime::lateness,
    overtime::report,
    overload,
    parents_hooks,
    peers,
    pipes,
    ported,
    races,
    reload,
    reload::steps,
    replaced,
    reserve,
    saturated,
    servers::addresses,
    servers::connections,
    servers::socket_files,
    showcase,
    signal_fuzz,
    signal_table,
    signals,
    silence,
    slow_clients,
    sockets,
    starts,
    stop_figures,
    stops,
    stranded,
    strangers,
    strangers::ended,
    strangers::helpers,
    strangers::odd,
    titles,
    turns::order,
    turns::waiting,
    two_servers,
    upgrade,
    upgrade::kept,
    upgrade::refused,
    upgrade::back,
    walk,
    wire::lines,
    wire::words,
];

fn main() -> ExitCode {
    let programs = PROGRAMS.concat();
    if env::var_os(harness::INNER).is_some() {
        return support::main(&programs, harness::inner::SCENARIOS);
    }
    support::main_of(&programs, SCENARIOS)
}
