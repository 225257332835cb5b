//! How often the parent says the same. The time is the tests'.

use super::*;
use crate::{
    core::{
        child::State,
        testing::{child, exit_code, go_to, monitor, sized, warnings},
    },
    hooks::DefaultHooks,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What `act` has the monitor say when it is done each half second of nine and a half, and what it
/// says when ten seconds are over.
fn repeated(monitor: &mut Monitor, mut act: impl FnMut(&mut Monitor, u64)) -> [Vec<String>; 2] {
    let began = monitor.now().since_start().as_millis() as u64;
    let at_once = warnings(|| {
        for time in 0..20 {
            go_to(monitor, began + 500 * time);
            act(monitor, time);
            monitor.fire_due();
        }
        go_to(monitor, began + 9_999);
        monitor.fire_due();
    });
    let later = warnings(|| {
        go_to(monitor, began + 10_000);
        monitor.fire_due();
    });
    [at_once, later]
}

#[test]
fn a_fork_that_fails_again_and_again_is_two_lines_whatever_its_delay() {
    let error = io::Error::from_raw_os_error(11);
    let said = repeated(&mut monitor(), |monitor, time| {
        fork_failed(&mut DefaultHooks, monitor, &error, ms(100 + time));
    });
    let line = |delay| format!("fork failed: {error}; next attempt in {delay}ms");
    assert_eq!(said, [[line(100)], [line(119) + " (19 times more)"]]);
}

#[test]
fn errors_of_many_children_are_two_lines_and_another_error_is_a_line_of_its_own() {
    let mut monitor = sized(1, 2, 1, 50);
    monitor.set_shutdown_on_error(false);
    let children: Vec<_> = (0..20).map(|_| child(&mut monitor, State::Free)).collect();
    let said = repeated(&mut monitor, |monitor, time| {
        let number = if time == 7 { 5 } else { 13 };
        let error = io::Error::from_raw_os_error(number);
        let child = Some(children[time as usize]);
        handler_run_error(&mut DefaultHooks, monitor, Operation::Read, &error, child);
    });
    let denied = |pid: u32| format!("{pid} got read error 13 (Permission denied)");
    let other = "1008 got read error 5 (Input/output error)".to_owned();
    let sum = denied(1020) + " (18 times more)";
    assert_eq!(said, [vec![denied(1001), other], vec![sum]]);
}

#[test]
fn states_and_values_that_are_wrong_are_two_lines_each() {
    let [at_once, later] = repeated(&mut monitor(), |monitor, time| {
        monitor.post("nobody");
        monitor.set_max_spare_servers(time as usize % 2);
    });
    let line = "state nobody was posted and is not registered";
    let wrong = "max_spare_servers 0 makes no sense, using 2";
    assert_eq!(at_once, [line, wrong]);
    assert_eq!(later.len(), 2, "{later:?}");
    assert!(later.contains(&format!("{line} (19 times more)")));
}

/// Children that die with their first client: the delay between them grows to a second only.
#[test]
fn children_that_fail_at_their_first_connection_are_a_line_for_each_delay() {
    let mut monitor = sized(1, 2, 1, 50);
    let die = |monitor: &mut Monitor, _| {
        let id = child(monitor, State::Starting);
        monitor.set_busy(id);
        monitor.exited(id, exit_code(101));
    };
    // The first eight delay nothing, and are not worth a line.
    (0..8).for_each(|time| die(&mut monitor, time));
    let [at_once, later] = repeated(&mut monitor, die);
    let delay = |line: &String| line.rsplit_once(" in ").expect("a delay").1.to_owned();
    let delays: Vec<_> = at_once.iter().map(delay).collect();
    assert_eq!(delays, ["100ms", "200ms", "400ms", "800ms", "1s"]);
    assert!(at_once[0].contains("failed at its first connection: exit status: 101"));
    assert_eq!(later.len(), 0, "the last delay came later: {later:?}");
}

/// The delays grow again and again, as when every fifth start holds.
#[test]
fn a_failed_start_is_a_line_for_each_delay() {
    let mut monitor = sized(1, 2, 1, 50);
    let [at_once, later] = repeated(&mut monitor, |monitor, time| {
        let id = child(monitor, State::Starting);
        monitor.exited(id, exit_code(102));
        if time % 5 == 4 {
            let now = monitor.now();
            monitor.backoff.proved(now);
        }
    });
    let delay = |line: &String| line.rsplit_once(" in ").expect("a delay").1.to_owned();
    let delays: Vec<_> = at_once.iter().map(delay).collect();
    assert_eq!(delays, ["0ns", "100ms", "200ms", "400ms", "800ms"]);
    assert_eq!(later.len(), 1, "the others are due later: {later:?}");
    assert!(
        later[0].ends_with("next fork in 0ns (3 times more)"),
        "{later:?}"
    );
}

/// What was left out is told at the end of the server.
#[test]
fn the_end_of_the_server_tells_what_was_left_out() {
    let mut monitor = monitor();
    let lines = warnings(|| {
        (0..3).for_each(|_| monitor.post("nobody"));
        monitor.end_notices();
    });
    let line = "state nobody was posted and is not registered";
    assert_eq!(lines, [line.to_owned(), format!("{line} (2 times more)")]);
}

/// It has no later turn in which it would tell how many it has left out.
#[test]
fn a_child_says_all() {
    let mut monitor = monitor();
    monitor.post("nobody");
    monitor.become_child();
    let lines = warnings(|| (0..3).for_each(|_| monitor.post("nobody")));
    assert_eq!(lines.len(), 3);
}
