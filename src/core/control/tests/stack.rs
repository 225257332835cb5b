//! What is answered to who wants to see the stack of a child, and when.

use super::*;
use crate::core::{
    child::Stuck,
    monitor::looks::{NoStack, WITHIN},
    stack::Frame,
};

fn collecting() -> (Talk, ChildId) {
    let mut talk = Talk::new(monitor());
    talk.monitor.collects_stacks = true;
    let id = child(&mut talk.monitor, State::Busy);
    (talk, id)
}

fn frames() -> Vec<Frame> {
    ["read", "app::search"]
        .map(|name| Frame {
            function: Some(name.to_owned()),
            ..Frame::default()
        })
        .to_vec()
}

fn place() -> Option<Stuck> {
    let stat = Some("42 (x) S 1");
    Some(Stuck::parse(stat, Some("pipe_read"), None, |_| None))
}

#[test]
fn a_child_is_shown_when_it_has_answered() {
    let (mut talk, id) = collecting();
    assert_eq!(talk.ask("stack 1001"), "");
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Look(id)]);
    talk.monitor.looks.note_place(id, place());
    talk.expect_nothing(1);
    talk.monitor.note_stack(id, frames());
    talk.turn();
    let expected = concat!(
        r##"{"ok":true,"pid":1001,"id":"#0.0","in":"app::search","##,
        r#""kernel":"in no system call (pipe_read), state S","#,
        r#""stack":["read","app::search"],"no_stack":null}"#,
    );
    assert_eq!(talk.read(1), expected.replace("#0.0", &id.to_string()));
    assert_eq!(
        talk.monitor.child(id).map(Child::state),
        Some(State::Busy),
        "it serves on"
    );
}

#[test]
fn whoever_asks_meanwhile_gets_the_same_and_the_child_is_asked_once() {
    let (mut talk, id) = collecting();
    talk.client_table.add(2, Time::START);
    assert_eq!(talk.ask("stack 1001"), "");
    talk.send(2, "stack 1001\n");
    talk.turn();
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Look(id)]);
    talk.monitor.note_stack(id, frames());
    talk.turn();
    let first = talk.read(1);
    assert!(first.starts_with("{\"ok\":true"), "{first}");
    assert_eq!(talk.read(2), first);
    // The next look is one of its own.
    talk.monitor.forget_looks();
    assert_eq!(talk.ask("stack 1001"), "");
    assert_eq!(asked(&mut talk.monitor), [PlainTask::Look(id)]);
}

#[test]
fn a_child_that_does_not_answer_is_shown_as_the_kernel_sees_it() {
    let (mut talk, id) = collecting();
    assert_eq!(talk.ask("stack 1001"), "");
    talk.monitor.looks.note_place(id, place());
    talk.monitor.note_stack(id, Vec::new());
    talk.turn();
    let answer = talk.read(1);
    assert!(answer.contains(r#""in":null,"kernel":"in no"#), "{answer}");
    assert!(answer.contains(r#""stack":[],"no_stack":"the child has not answered"#));
}

#[test]
fn where_nothing_is_known_the_reason_is_told() {
    let reasons = [
        NoStack::NotCollected,
        NoStack::OtherProgram,
        NoStack::NotAsked,
        NoStack::NoAnswer,
        NoStack::Late,
    ];
    for why in reasons {
        let (mut talk, id) = collecting();
        assert_eq!(talk.ask("stack 1001"), "");
        talk.monitor.looks.end(id, || Err(why));
        talk.turn();
        let answer = talk.read(1);
        assert_eq!(code(&answer), "failed");
        assert!(
            answer.contains(&why.to_string().replace('"', "\\\"")),
            "{answer}"
        );
    }
}

#[test]
fn a_child_that_ends_meanwhile_and_one_that_is_none_are_told() {
    let (mut talk, id) = collecting();
    assert_eq!(code(&talk.ask("stack 7")), "unknown");
    assert_eq!(talk.ask("stack 1001"), "");
    talk.monitor.note_reaped(id);
    talk.monitor.forget_looks();
    talk.turn();
    let answer = talk.read(1);
    assert_eq!(code(&answer), "failed");
    assert!(
        answer.contains("child 1001 has ended meanwhile"),
        "{answer}"
    );
    assert_eq!(code(&talk.ask("stack 1001")), "unknown");
}

/// Also one that is told to stop can be looked at, and one whose stop is under way.
#[test]
fn a_look_needs_no_running_server() {
    let (mut talk, id) = collecting();
    talk.monitor.shutdown();
    talk.monitor.kill(id, Signal::Interrupt);
    assert_eq!(talk.ask("stack 1001"), "");
    go_to(&mut talk.monitor, 1000);
    talk.monitor.note_stack(id, frames());
    talk.turn();
    assert!(talk.read(1).starts_with("{\"ok\":true"));
    talk.monitor.forget_looks();
    assert_eq!(talk.ask("stack 1001"), "");
    talk.event(&Event::Ended);
    assert_eq!(code(&talk.read(1)), "stopping");
}

#[test]
fn the_time_of_a_look_is_bounded() {
    let (mut talk, id) = collecting();
    assert_eq!(talk.ask("stack 1001"), "");
    let late = at(0) + WITHIN;
    assert_eq!(talk.monitor.looks.overdue(late), [id]);
}
