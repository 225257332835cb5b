//! When a child that is retired is answered for.

use super::*;

/// Its pid may be another process's by now.
#[test]
fn a_child_that_was_reaped_is_no_child_any_more() {
    let mut talk = Talk::new(monitor());
    let id = child(&mut talk.monitor, State::Free);
    let reaped = talk.monitor.pool.get_mut(id).expect("a child");
    reaped.flags.insert(ChildFlags::REAPED);
    assert_eq!(code(&talk.ask("retire 1001")), "unknown");
}

#[test]
fn a_child_is_retired_when_it_has_gone_and_its_successor_is_ready() {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let [old, _] = ready(&mut talk.monitor);
    assert_eq!(talk.ask("retire 1001"), "");
    let [new] = talk.replace()[..] else {
        panic!("no successor")
    };
    talk.expect_nothing(1);
    talk.monitor.set_not_busy(new);
    assert_eq!(talk.replace(), []);
    assert_eq!(
        talk.monitor.child(old).map(Child::state),
        Some(State::Retiring)
    );
    talk.expect_nothing(1);
    talk.end(old, 0);
    talk.turn();
    let expected = r#"{"ok":true,"pid":1001,"successor":1003,"cause":"Recycled"}"#;
    assert_eq!(talk.read(1), expected);
}

/// Where there is no room for a successor the child goes first, and the answer waits for the
/// successor.
#[test]
fn a_child_that_goes_first_is_retired_when_its_successor_is_ready() {
    let mut talk = Talk::new(sized(1, 10, 1, 1));
    let [old] = ready(&mut talk.monitor);
    assert_eq!(talk.ask("retire 1001"), "");
    assert_eq!(talk.replace(), []);
    assert_eq!(
        talk.monitor.child(old).map(Child::state),
        Some(State::Retiring)
    );
    talk.end(old, 0);
    talk.expect_nothing(1);
    let [new] = talk.replace()[..] else {
        panic!("no successor")
    };
    talk.expect_nothing(1);
    talk.monitor.set_not_busy(new);
    talk.expect_nothing(1);
    talk.replace();
    talk.turn();
    let expected = r#"{"ok":true,"pid":1001,"successor":1002,"cause":"Recycled"}"#;
    assert_eq!(talk.read(1), expected);
}

#[test]
fn a_child_that_ends_by_itself_is_retired_too() {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let [old, _] = children(&mut talk.monitor, [State::Busy, State::Free]);
    go_to(&mut talk.monitor, 5000);
    assert_eq!(talk.ask("retire 1001"), "");
    talk.end(old, 3);
    talk.turn();
    let expected = r#"{"ok":true,"pid":1001,"successor":null,"cause":"Failed"}"#;
    assert_eq!(talk.read(1), expected);
    let unknown = talk.ask("retire 1001");
    assert_eq!(code(&unknown), "unknown", "{unknown}");
}

#[test]
fn a_child_whose_successors_fail_serves_on() {
    let mut talk = Talk::new(sized(1, 10, 2, 50));
    let [old, _] = ready(&mut talk.monitor);
    assert_eq!(talk.ask("retire 1001"), "");
    for number in 1..=3 {
        go_to(&mut talk.monitor, number * 100_000);
        talk.monitor.fire_due();
        let newcomers = talk.replace();
        let [new] = newcomers[..] else {
            panic!("no successor: {newcomers:?}")
        };
        talk.expect_nothing(1);
        talk.end(new, 7);
    }
    let answer = talk.read(1);
    assert_eq!(code(&answer), "failed");
    assert!(answer.contains("3 successors in a row"), "{answer}");
    assert!(answer.contains("child 1001 serves on"), "{answer}");
    assert_eq!(talk.monitor.child(old).map(Child::state), Some(State::Free));
}

#[test]
fn a_shutdown_answers_for_a_child_that_was_to_be_replaced() {
    let mut talk = Talk::new(sized(1, 10, 1, 50));
    child(&mut talk.monitor, State::Free);
    assert_eq!(talk.ask("retire 1001"), "");
    talk.event(&Event::ShuttingDown);
    assert_eq!(code(&talk.read(1)), "stopping");
}
