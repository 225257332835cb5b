//! How long a connection may take: clients that are silent, handlers that block, alarms.

use std::io::Write;
use std::time::Duration;

use super::{pid, stop, stop_with, told};
use crate::support::{SOON, Scenarios, World, connect, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    handler_that_blocks_is_killed,
    handler_that_blocks_and_says_so_is_not,
    handler_that_panics_hurts_nobody_else,
    d08_idle_client_is_sent_away_by_an_alarm,
    many_lines_at_once_are_no_silence,
    silent_client_is_not_killed,
    waiting_for_an_alarm_alone_costs_nothing,
];

/// How much processor time a process has used, in clock ticks (of 10 ms).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living child");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let used = fields.split_whitespace().skip(11).take(2);
    used.map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

fn silent_client_is_not_killed(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    assert!(client.is_silent(Duration::from_secs(4)));
    assert_eq!(pid(&mut client), child);
    stop_with(&server, client);
}

fn handler_that_blocks_is_killed(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut other = connect(&server.address());
    let mut client = connect(&server.address());
    let (bystander, child) = (pid(&mut other), pid(&mut client));
    client.send_line("hang");
    client.gone();
    until("the child to be replaced", SOON, || {
        let children = server.children();
        (!children.contains(&child) && children.len() > 1).then_some(())
    });
    assert_eq!(pid(&mut other), bystander);
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop_with(&server, other);
}

fn handler_that_blocks_and_says_so_is_not(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    assert_eq!(client.ask("work"), "done");
    assert_eq!(pid(&mut client), child);
    stop_with(&server, client);
}

fn many_lines_at_once_are_no_silence(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    // Three seconds' work that arrives in one piece.
    client.write_all(&b"slow\n".repeat(150)).unwrap();
    assert_eq!(pid(&mut client), child);
    stop_with(&server, client);
}

fn handler_that_panics_hurts_nobody_else(world: &mut World) {
    world.expect_panics();
    let server = world.spawn("obedient", &[]);
    let mut other = connect(&server.address());
    let mut client = connect(&server.address());
    let (bystander, child) = (pid(&mut other), pid(&mut client));
    client.send_line("panic");
    client.gone();
    until("the child to be replaced", SOON, || {
        let children = server.children();
        (!children.contains(&child) && children.len() > 1).then_some(())
    });
    assert_eq!(pid(&mut other), bystander);
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop_with(&server, other);
}

/// The object of a connection ends an idle client by an alarm.
fn d08_idle_client_is_sent_away_by_an_alarm(world: &mut World) {
    let server = world.spawn("obedient", &[]);
    let mut client = connect(&server.address());
    client.send_line("idle");
    client.eof();
    stop(&server);
}

fn waiting_for_an_alarm_alone_costs_nothing(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    client.send_line("stay");
    client.reset();
    // The system tells of a connection that is gone as often as it is asked.
    told(&server, "told of read");
    let before = ticks(child);
    told(&server, "stopped 1");
    let used = ticks(child) - before;
    assert!(used < 40, "{used} ticks");
    stop(&server);
}
