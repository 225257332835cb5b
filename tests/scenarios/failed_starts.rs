//! Children that fail to start: replaced ever more slowly, and fast again once one of them serves.

use std::fs;
use std::time::Duration;

use crate::subject::{Held, Strace, deaths, ends_well, expect_exit, expect_up, pids, send};
use crate::support::{SOON, Scenarios, Signal, World, holds, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    e05_a_program_that_dies_at_once_is_slowed_down_and_recovers: long,
    e05_a_factory_that_fails_is_slowed_down_though_its_child_has_said_ack,
    a12_children_that_die_before_a_word_are_replaced_ever_more_slowly,
    e04_a_child_that_cannot_be_watched_is_killed_and_replaced,
    e04_children_that_can_never_be_watched_are_forked_ever_more_slowly,
    e05_every_way_to_die_at_the_start_is_slowed_down,
    e06_no_exit_code_stops_the_server,
];

/// Each wave of failed starts waits longer than the one before, from 0 to 30 s, with one log line a
/// wave; a start that succeeds resets the delay.
///
/// Without `Backoff::refuses`: more than 24 forks within 60 ms, and hundreds soon after.
fn e05_a_program_that_dies_at_once_is_slowed_down_and_recovers(world: &mut World) {
    let broken = world.tempdir().join("broken");
    fs::write(&broken, "").unwrap();
    let flags = ["--start", "3", "--fail-while", broken.to_str().unwrap()];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let text = server.expect_stderr("a long delay", |text| text.contains("next fork in 400ms"));
    let warning = "failed to start: exit status: 102, last lines \
                   \"server_start failed: no database today\"; next fork in 0ns";
    assert!(text.contains(warning), "{text}");
    // No fork bomb: at the most one wave of three in each delay.
    holds("few are forked", Duration::from_secs(2), || {
        pids(&server, "forked").len() <= 8 * 3
    });
    // Between two waves: a wave of which some fail and some start does not clean the slate.
    let before = pids(&server, "forked").len();
    until("the next wave to be over", SOON, || {
        let forked = pids(&server, "forked").len();
        (forked > before && pids(&server, "exited").len() == forked).then_some(())
    });
    fs::remove_file(&broken).unwrap();
    let mut held = Held::new(&address);
    held.is_served();
    // A child of this wave that is slow to start must not find the file that is made next.
    expect_up(&server, 3);
    // The slate is clean: the next failure begins with no delay again.
    fs::write(&broken, "").unwrap();
    send(held.pid, Signal::SIGKILL);
    server.expect_stderr("another beginning", |text| {
        text.matches("next fork in 0ns").count() == 2
    });
    ends_well(&server);
    // Four waves and the one after the recovery, at the least.
    assert!(deaths(&server, "FailedStart") >= 5);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// The first ACK is said before `resume_accept`, in which a child sets up its state. So it does not
/// prove a start: the first NOT_BUSY or BUSY does.
///
/// When an ACK that brings NOT_BUSY is said there: forked as fast as the machine can.
fn e05_a_factory_that_fails_is_slowed_down_though_its_child_has_said_ack(world: &mut World) {
    let broken = world.tempdir().join("broken");
    fs::write(&broken, "").unwrap();
    let flags = [
        "--start",
        "3",
        "--factory-fails-while",
        broken.to_str().unwrap(),
    ];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let text = server.expect_stderr("a long delay", |text| text.contains("next fork in 400ms"));
    let warning = "failed to start: exit status: 103, last lines \
                   \"resume_accept failed: no database today\"; next fork in 0ns";
    assert!(text.contains(warning), "{text}");
    assert!(!pids(&server, "up").is_empty());
    assert_eq!(pids(&server, "ready"), []);
    holds("few are forked", Duration::from_secs(1), || {
        pids(&server, "forked").len() <= 8 * 3
    });
    fs::remove_file(&broken).unwrap();
    Held::new(&address).is_served();
    ends_well(&server);
}

/// A child that dies young and before its first BUSY or NOT_BUSY has failed to start, for whatever
/// reason, and each further failure makes the delay longer.
fn a12_children_that_die_before_a_word_are_replaced_ever_more_slowly(world: &mut World) {
    let mut start = world.gate("start");
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    for delay in ["0ns", "100ms", "200ms", "400ms"] {
        let pid = start.reached(SOON);
        send(pid, Signal::SIGKILL);
        expect_exit(&server, pid, "FailedStart signal: 9 (SIGKILL)");
        let warning = format!("child {pid} failed to start: signal: 9 (SIGKILL)");
        let text = server.expect_stderr("the warning", |text| text.contains(&warning));
        let line = text.lines().find(|line| line.contains(&warning)).unwrap();
        assert!(line.ends_with(&format!("next fork in {delay}")), "{line}");
    }
    start.open();
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "FailedStart"), 4);
}

/// A forked child that cannot be watched is killed, reaped and counted as one whose output could
/// not be read; the server continues.
fn e04_a_child_that_cannot_be_watched_is_killed_and_replaced(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    let Some(strace) = Strace::attach(world, server.pid(), "epoll_ctl:error=ENOSPC:when=1") else {
        return ends_well(&server);
    };
    let mut held = Held::new(&address);
    let unwatched = until("a second child", SOON, || {
        pids(&server, "forked").get(1).copied()
    });
    expect_exit(&server, unwatched, "Faulty signal: 9 (SIGKILL)");
    let other = Held::new(&address).pid;
    assert!(![held.pid, unwatched].contains(&other));
    held.is_served();
    drop(held);
    strace.detach();
    ends_well(&server);
    let error = format!("cannot watch child {unwatched}");
    assert!(server.stderr().contains(&error));
    assert_eq!(deaths(&server, "Faulty"), 1);
}

/// A child that cannot be watched counts as a failed start, so repeated failures are no fork bomb.
///
/// Without `note_failing_start` for it: forked and killed as fast as the machine can.
fn e04_children_that_can_never_be_watched_are_forked_ever_more_slowly(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    // Every call that adds: those that remove come in between, and fail as well.
    let Some(strace) = Strace::attach(world, server.pid(), "epoll_ctl:error=ENOSPC") else {
        return ends_well(&server);
    };
    let mut held = Held::new(&address);
    server.expect_stderr("a long delay", |text| text.contains("next fork in 400ms"));
    assert!(pids(&server, "forked").len() <= 1 + 6);
    held.is_served();
    strace.detach();
    Held::new(&address).is_served();
    drop(held);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// Exits with any code and crashes count alike.
///
/// Without `Backoff::refuses`: more than 16 forks within the second.
fn e05_every_way_to_die_at_the_start_is_slowed_down(world: &mut World) {
    for misdeed in ["exit-at-once 0", "exit 1", "segv", "close-outputs"] {
        let broken = world.tempdir().join("broken");
        fs::write(&broken, "").unwrap();
        let path = broken.to_str().unwrap();
        let flags = ["--start", "2", "--misdeed-while", path];
        let kill = ["--kill-timeout", "100", "--misdeed", misdeed];
        let server = world.spawn("serve", &[flags, kill].concat());
        let address = server.address();
        server.expect_stderr(&format!("a long delay after {misdeed:?}"), |text| {
            text.contains("next fork in 200ms")
        });
        // Two in each wave, of which there are some six in the first two seconds.
        holds(
            &format!("{misdeed:?} is slow"),
            Duration::from_secs(1),
            || pids(&server, "forked").len() <= 2 * 8,
        );
        fs::remove_file(&broken).unwrap();
        Held::new(&address).is_served();
        ends_well(&server);
    }
}

/// No exit code means anything but a death. After 103, with which a child of the crate leaves when
/// it cannot accept, the parent checks the socket itself.
fn e06_no_exit_code_stops_the_server(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let address = server.address();
    for code in [1, 2, 3, 4, 78, 101, 102, 103, 255] {
        let mut held = Held::new(&address);
        held.client.send_line(&format!("exit-at-once {code}"));
        held.client.gone();
        expect_exit(&server, held.pid, &format!("Failed exit status: {code}"));
    }
    Held::new(&address).is_served();
    assert_eq!(pids(&server, "shutdown"), []);
    ends_well(&server);
    assert_eq!(deaths(&server, "Failed"), 9);
}
