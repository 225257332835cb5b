//! Which child is asked for its stack, and when; what is kept of the answer.

use super::*;
use crate::core::{
    stack::{Frame, READ_WITHIN},
    testing::{PlainTask, asked, at, child, due_at, exit_code, go_to, int, kill, monitor},
};

fn collecting() -> Monitor {
    let mut monitor = monitor();
    monitor.collects_stacks = true;
    monitor
}

fn frames() -> Vec<Frame> {
    let function = Some("app::wait".to_owned());
    vec![Frame {
        function,
        ..Frame::default()
    }]
}

/// A free child that is told to stop at 1000 ms. SIGKILL is due at 11,000 ms.
fn told(monitor: &mut Monitor, reason: Reason) -> ChildId {
    let id = child(monitor, State::Free);
    go_to(monitor, 1000);
    monitor.stop(id, reason);
    id
}

#[test]
fn a_child_over_its_time_is_asked_before_it_is_told() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::TimedOut);
    assert_eq!(asked(&mut monitor), [PlainTask::Stack(id), int(id)]);
    assert_eq!(monitor.deadline(), Some(at(10_750)));
}

/// A hook may do in two calls what `stop` does in one.
#[test]
fn a_child_that_a_hook_retires_is_asked_once() {
    let mut monitor = collecting();
    let id = child(&mut monitor, State::Free);
    monitor.kill(id, Signal::Interrupt);
    monitor.retire(id, Reason::TimedOut);
    monitor.retire(id, Reason::TimedOut);
    assert_eq!(asked(&mut monitor), [int(id), PlainTask::Stack(id)]);
}

#[test]
fn who_has_not_answered_is_asked_again_before_sigkill() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::TimedOut);
    monitor.note_stack(id, Vec::new());
    asked(&mut monitor);
    assert_eq!(due_at(&mut monitor, 10_749), []);
    assert_eq!(due_at(&mut monitor, 10_750), [PlainTask::Stack(id)]);
    assert_eq!(monitor.deadline(), Some(at(11_000)));
    assert_eq!(due_at(&mut monitor, 11_000), [kill(id)]);
    assert_eq!(due_at(&mut monitor, 100_000), []);
}

#[test]
fn who_has_answered_is_not_asked_again() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::TimedOut);
    monitor.note_stack(id, frames());
    asked(&mut monitor);
    assert_eq!(monitor.deadline(), Some(at(11_000)));
    assert_eq!(due_at(&mut monitor, 11_000), [kill(id)]);
    let (_, death) = monitor.exited(id, None).unwrap();
    assert_eq!(death.stack(), Some(&*frames()));
    assert_eq!(
        death.stuck_in().and_then(Frame::function),
        Some("app::wait")
    );
    assert_eq!(death.to_string(), "unknown status, stuck in app::wait");
}

/// Of those that are told for another reason only those are asked that do not leave.
#[test]
fn who_is_told_for_another_reason_is_asked_shortly_before_sigkill() {
    for reason in [Reason::Culled, Reason::Asked, Reason::Shutdown] {
        let mut monitor = collecting();
        let id = told(&mut monitor, reason);
        assert_eq!(asked(&mut monitor), [int(id)]);
        let kill_at = if reason == Reason::Shutdown {
            31_000
        } else {
            11_000
        };
        assert_eq!(due_at(&mut monitor, kill_at - 250), [PlainTask::Stack(id)]);
    }
}

#[test]
fn who_leaves_in_time_was_not_stuck() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::Asked);
    due_at(&mut monitor, 10_750);
    assert!(!monitor.awaits_stack(id));
    monitor.note_stack(id, frames());
    let (_, death) = monitor.exited(id, exit_code(0)).unwrap();
    assert_eq!(
        (death.stack(), death.to_string().as_str()),
        (None, "exit status: 0")
    );
}

#[test]
fn who_is_killed_at_once_is_not_asked() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::Faulty);
    assert_eq!(asked(&mut monitor), [kill(id)]);
    assert_eq!(due_at(&mut monitor, 100_000), []);
}

#[test]
fn nobody_is_asked_where_stacks_are_not_collected_and_no_program() {
    for programs in [false, true] {
        let mut monitor = monitor();
        (monitor.programs, monitor.collects_stacks) = (programs, programs);
        let id = told(&mut monitor, Reason::TimedOut);
        assert_eq!(asked(&mut monitor), [int(id)]);
        assert_eq!(monitor.deadline(), Some(at(11_000)));
        assert_eq!(due_at(&mut monitor, 11_000), [kill(id)]);
    }
}

/// What a look has shown is not told as the place where the child was stuck later.
#[test]
fn what_a_look_shows_is_not_kept_for_the_death() {
    let mut monitor = collecting();
    let id = child(&mut monitor, State::Free);
    monitor.look_at_stack(id);
    monitor.note_stack(id, frames());
    assert_eq!(asked(&mut monitor), [PlainTask::Look(id)]);
    assert!(!monitor.is_asked_for_its_death(id));
    go_to(&mut monitor, 1000);
    monitor.stop(id, Reason::TimedOut);
    assert_eq!(asked(&mut monitor), [PlainTask::Stack(id), int(id)]);
    assert!(monitor.is_asked_for_its_death(id));
    monitor.note_stack(id, Vec::new());
    let (_, death) = monitor.exited(id, None).unwrap();
    assert_eq!(death.stack(), None);
}

/// It is looked at while it is over its time: one answer is enough.
#[test]
fn an_answer_serves_the_look_and_the_death() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::TimedOut);
    monitor.look_at_stack(id);
    monitor.note_stack(id, frames());
    let shown = monitor.looks.of(id).and_then(|look| look.stack.clone());
    assert_eq!(shown, Some(Ok(frames())));
    let (_, death) = monitor.exited(id, None).unwrap();
    assert_eq!(death.stack(), Some(&*frames()));
}

#[test]
fn a_look_has_a_deadline() {
    let mut monitor = collecting();
    let id = child(&mut monitor, State::Free);
    let before = monitor.deadline();
    monitor.look_at_stack(id);
    let until = at(0) + looks::WITHIN;
    assert_eq!(monitor.deadline(), before.into_iter().chain([until]).min());
    assert_eq!(monitor.stack_deadlines().min(), Some(until));
}

/// For as long as an answer may come, and no longer.
#[test]
fn a_dead_child_is_kept_while_its_stack_is_read() {
    let mut monitor = collecting();
    let id = told(&mut monitor, Reason::TimedOut);
    asked(&mut monitor);
    monitor.note_reaped(id);
    let until = at(1000) + READ_WITHIN;
    assert!(monitor.awaits_stack(id));
    assert_eq!(monitor.deadline(), Some(until));
    assert_eq!(monitor.stacks_overdue(), []);
    go_to(&mut monitor, 4000);
    assert!(!monitor.awaits_stack(id));
    assert_eq!(monitor.stacks_overdue(), [id]);
    monitor.note_stack(id, Vec::new());
    assert_eq!(
        (monitor.stacks_overdue(), monitor.deadline()),
        (vec![], None)
    );
}
