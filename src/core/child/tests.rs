//! The names of children, and the causes of their ends.

use super::*;
use crate::core::testing::{at, ended_by_signal, exit_code, ms};

fn child() -> Child {
    Child::new(ChildId::new(3, 7), 1234, at(5000), ms(0))
}

#[test]
fn a_new_child_is_starting_with_both_outputs_open() {
    let child = child();
    assert_eq!(child.state(), State::Starting);
    assert_eq!((child.last_ack(), child.start_time()), (at(5000), at(5000)));
    assert_eq!(child.flags, Flags::STDOUT_OPEN | Flags::STDERR_OPEN);
    assert_eq!((child.reason(), child.last_stderr()), (None, &b""[..]));
    assert_eq!(child.id().to_string(), "#3.7");
}

#[test]
fn the_earlier_fork_has_the_smaller_name() {
    assert!(ChildId::new(9, 1) < ChildId::new(0, 2));
    assert!(ChildId::new(0, 2) < ChildId::new(1, 2));
}

#[test]
fn of_the_last_stderr_line_the_beginning_is_kept() {
    let mut child = child();
    child.note_stderr(&[b'a'; 300]);
    assert_eq!(child.last_stderr(), [b'a'; 256]);
    child.note_stderr(b"b");
    assert_eq!(child.last_stderr(), b"b");
}

#[test]
fn the_cause_of_an_unasked_death() {
    let (ok, failed, killed) = (exit_code(0), exit_code(3), ended_by_signal(9));
    let mut served = child();
    served.flags |= Flags::WAS_BUSY;
    for (child, now, status, cause) in [
        (&child(), 5999, ok, Cause::FailedStart),
        (&child(), 5999, failed, Cause::FailedStart),
        (&child(), 5999, killed, Cause::FailedStart),
        (&child(), 5999, None, Cause::FailedStart),
        (&child(), 6000, ok, Cause::Finished),
        (&child(), 6000, failed, Cause::Failed),
        (&child(), 6000, killed, Cause::Killed),
        (&child(), 6000, None, Cause::Failed),
        (&served, 5001, ok, Cause::Finished),
        (&served, 5001, failed, Cause::Failed),
        (&served, 5001, killed, Cause::Killed),
    ] {
        assert_eq!(child.cause(status, at(now)), cause, "{now} {status:?}");
    }
}

#[test]
fn the_cause_of_a_death_that_was_asked_for_is_the_reason() {
    for (reason, told, cause) in [
        (Some(Reason::Culled), true, Cause::Culled),
        (Some(Reason::TimedOut), false, Cause::TimedOut),
        (Some(Reason::Faulty), true, Cause::Faulty),
        (Some(Reason::Shutdown), true, Cause::Shutdown),
        (Some(Reason::Asked), false, Cause::Asked),
        (Some(Reason::Closed), true, Cause::Closed),
        // Its outputs ended because it was exiting: it ended by itself.
        (Some(Reason::Closed), false, Cause::Finished),
        // A hook has only sent it a signal.
        (None, true, Cause::Asked),
    ] {
        let mut child = child();
        child.retirement = reason.map(|reason| Retirement {
            reason,
            at: at(5000),
            kill_after: Some(ms(10)),
            kill_in_start_after: Some(ms(10)),
            forks: 0,
        });
        child.flags.set(Flags::INT_SENT, told);
        child.flags.set(Flags::ASKED, reason.is_none());
        assert_eq!(
            child.cause(exit_code(0), at(9000)),
            cause,
            "{reason:?} {told}"
        );
    }
    let mut killed = child();
    killed.flags |= Flags::KILL_SENT | Flags::ASKED;
    assert_eq!(killed.cause(ended_by_signal(9), at(5001)), Cause::Asked);
}

#[test]
fn a_death_says_how_it_came() {
    let death = |status| Death {
        status,
        cause: Cause::Failed,
    };
    let exited = death(exit_code(3));
    assert_eq!((exited.code(), exited.signal()), (Some(3), None));
    assert_eq!(exited.to_string(), "exit status: 3");
    let killed = death(ended_by_signal(9));
    assert_eq!((killed.code(), killed.signal()), (None, Some(9)));
    assert!(killed.to_string().starts_with("signal: 9"));
    assert_eq!(death(None).to_string(), "unknown status");
    assert_eq!(death(None).status, None);
}
