//! What a posted name leads to, alarms, and the descriptors of a subclass.

use super::*;
use crate::core::testing::{PlainTask, asked, at, due_at, go_to, monitor, ms, warnings};

#[test]
fn each_documented_state_leads_to_its_event_or_needs_arguments() {
    let states = States::default();
    for state in DOCUMENTED_STATES {
        let expected = match state {
            "forkoff" => Resolved::Posted(PostedState::Forkoff),
            "server_fork" => Resolved::Posted(PostedState::ServerFork),
            "server_timeout_check" => Resolved::Posted(PostedState::ServerTimeoutCheck),
            "shutdown" => Resolved::Posted(PostedState::Shutdown),
            _ => Resolved::NeedsArguments,
        };
        assert_eq!(states.resolve(state), expected, "{state}");
    }
    assert_eq!(states.resolve("tick"), Resolved::Unknown);
    assert_eq!(states.resolve(""), Resolved::Unknown);
}

#[test]
fn a_registered_name_is_a_state_of_ones_own_but_a_documented_one_stays() {
    let mut states = States::default();
    for name in ["tick", "forkoff", "run_error"] {
        states.add(name);
        assert!(states.contains(name));
    }
    let tick = Resolved::Posted(PostedState::State("tick".to_owned()));
    assert_eq!(states.resolve("tick"), tick);
    assert_eq!(
        states.resolve("forkoff"),
        Resolved::Posted(PostedState::Forkoff)
    );
    assert_eq!(states.resolve("run_error"), Resolved::NeedsArguments);
}

#[test]
fn posting_queues_in_order_and_warns_of_what_cannot_be_posted() {
    let mut monitor = monitor();
    let text = warnings(|| {
        for state in [
            "own",
            "shutdown",
            "nobody",
            "run_error",
            "server_fork",
            "own",
        ] {
            monitor.post(state);
        }
    });
    assert_eq!(
        asked(&mut monitor),
        [
            PlainTask::State("own".to_owned()),
            PlainTask::Shutdown,
            PlainTask::ServerFork,
            PlainTask::State("own".to_owned()),
        ]
    );
    assert_eq!(
        text,
        [
            "state nobody was posted and is not registered",
            "state run_error cannot be posted: the loop calls it with arguments",
        ]
    );
}

#[test]
fn alarms_post_their_state_when_it_is_time() {
    let mut monitor = monitor();
    go_to(&mut monitor, 100);
    let late = monitor.delay_set("own", ms(300));
    monitor.delay_set("forkoff", ms(50));
    let removed = monitor.delay_set("own", ms(60));
    assert_eq!(monitor.deadline(), Some(at(150)));
    assert!(monitor.alarm_remove(removed));
    assert!(!monitor.alarm_remove(removed));
    assert_eq!(due_at(&mut monitor, 149), []);
    assert_eq!(due_at(&mut monitor, 150), [PlainTask::Forkoff]);
    assert_eq!(monitor.deadline(), Some(at(400)));
    assert_eq!(
        due_at(&mut monitor, 400),
        [PlainTask::State("own".to_owned())]
    );
    assert!(!monitor.alarm_remove(late), "it has gone off");
    monitor.delay_set("own", ms(0));
    monitor.alarm_remove_all();
    assert_eq!(
        (monitor.deadline(), due_at(&mut monitor, 9999)),
        (None, vec![])
    );
}

/// An alarm beyond the range of `Time` never goes off.
#[test]
fn h04_an_alarm_for_a_moment_that_never_comes_is_no_panic() {
    let mut monitor = monitor();
    go_to(&mut monitor, 100);
    monitor.delay_set("own", std::time::Duration::MAX);
    assert_eq!(due_at(&mut monitor, 9_000_000), []);
}
