//! The names of children, and the causes of their ends.

use super::*;
use crate::core::{
    testing::{at, ended_by_signal, exit_code, ms},
    time_limits::Work,
};

fn child() -> Child {
    Child::new(ChildId::new(3, 7), 1234, at(5000), ms(0))
}

#[test]
fn a_new_child_is_starting_with_both_outputs_open() {
    let child = child();
    assert_eq!(child.state(), State::Starting);
    assert_eq!((child.last_ack(), child.start_time()), (at(5000), at(5000)));
    assert_eq!(
        child.flags,
        ChildFlags::STDOUT_OPEN | ChildFlags::STDERR_OPEN
    );
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
    served.flags |= ChildFlags::WAS_BUSY;
    for (child, now, status, cause) in [
        (&child(), 5999, ok, Cause::FailedStart),
        (&child(), 5999, failed, Cause::FailedStart),
        (&child(), 5999, killed, Cause::FailedStart),
        (&child(), 5999, None, Cause::FailedStart),
        (&child(), 6000, ok, Cause::Finished),
        (&child(), 6000, failed, Cause::Failed),
        (&child(), 6000, killed, Cause::Killed),
        (&child(), 6000, None, Cause::Lost),
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
        (Some(Reason::Overtime), true, Cause::Overtime),
        (Some(Reason::StartTimeout), true, Cause::StartTimeout),
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
        child.flags.set(ChildFlags::INT_SENT, told);
        child.flags.set(ChildFlags::ASKED, reason.is_none());
        assert_eq!(
            child.cause(exit_code(0), at(9000)),
            cause,
            "{reason:?} {told}"
        );
    }
    let mut killed = child();
    killed.flags |= ChildFlags::KILL_SENT | ChildFlags::ASKED;
    assert_eq!(killed.cause(ended_by_signal(9), at(5001)), Cause::Asked);
}

/// A hook may send any signal, and the child may end by another one, long after.
#[test]
fn a_child_is_ended_by_a_hook_if_the_signal_is_the_one_that_the_hook_sent() {
    let mut child = child();
    let ends = [
        (Signal::Alarm, 14),
        (Signal::Hangup, 1),
        (Signal::FileSize, 25),
    ];
    for (signal, number) in ends {
        let end = ended_by_signal(number);
        assert_eq!(child.cause(end, at(5001)), Cause::FailedStart, "{signal:?}");
        assert_eq!(child.cause(end, at(9000)), Cause::Killed, "{signal:?}");
        child.sent_by_hooks.insert(signal);
        assert_eq!(child.cause(end, at(5001)), Cause::Asked, "{signal:?}");
        assert_eq!(child.cause(end, at(9000)), Cause::Asked, "{signal:?}");
    }
    for (end, cause) in [
        (ended_by_signal(11), Cause::Killed),
        (exit_code(0), Cause::Finished),
        (exit_code(3), Cause::Failed),
        (None, Cause::Lost),
    ] {
        assert_eq!(child.cause(end, at(9000)), cause, "{end:?}");
    }
}

#[test]
fn an_abort_that_a_hook_asked_for_is_no_crash() {
    let mut child = child();
    child.retirement = Some(Retirement {
        reason: Reason::Culled,
        at: at(5000),
        kill_after: Some(ms(10)),
        kill_in_start_after: Some(ms(10)),
        forks: 0,
    });
    let aborted = ended_by_signal(6);
    assert_eq!(child.cause(aborted, at(5001)), Cause::Killed);
    child.sent_by_hooks.insert(Signal::Abort);
    assert_eq!(child.cause(aborted, at(5001)), Cause::Culled);
}

/// A child that is told to stop still has a client to serve, which may end it.
#[test]
fn a_crash_is_told_whatever_the_child_was_told() {
    for reason in [
        Reason::Culled,
        Reason::Recycled,
        Reason::Reloaded,
        Reason::Shutdown,
        Reason::Asked,
        Reason::Overtime,
    ] {
        let mut child = child();
        child.retirement = Some(Retirement {
            reason,
            at: at(5000),
            kill_after: Some(ms(10)),
            kill_in_start_after: Some(ms(10)),
            forks: 0,
        });
        for (signal, crash) in [(11, true), (6, true), (4, true), (2, false), (9, false)] {
            let is_told = child.cause(ended_by_signal(signal), at(5001)) == Cause::Killed;
            assert_eq!(is_told, crash && child.may_finish(), "{reason:?} {signal}");
        }
    }
}

#[test]
fn a_death_says_how_it_came() {
    let death = |status: Option<WaitStatus>| Death::of(&child(), &status.into(), at(9000));
    let exited = death(exit_code(3));
    assert_eq!((exited.code(), exited.signal()), (Some(3), None));
    assert_eq!(exited.to_string(), "exit status: 3");
    let killed = death(ended_by_signal(9));
    assert_eq!((killed.code(), killed.signal()), (None, Some(9)));
    assert!(killed.to_string().starts_with("signal: 9"));
    assert_eq!(death(None).to_string(), "unknown status");
    assert_eq!(death(None).status, None);
}

/// What the kernel tells counts for a child that was not told to stop, at any age.
#[test]
fn an_end_for_lack_of_memory_is_told_from_other_kills() {
    let end = Collected {
        status: ended_by_signal(9),
        out_of_memory: true,
        usage: None,
    };
    assert_eq!(child().cause(end, at(5001)), Cause::OutOfMemory);
    assert_eq!(child().cause(end, at(9000)), Cause::OutOfMemory);
    let mut asked = child();
    asked.flags |= ChildFlags::ASKED;
    assert_eq!(asked.cause(end, at(9000)), Cause::Asked);
}

/// The notes in shared memory count before the words, and only a child without notes is judged by
/// its words.
#[test]
fn the_work_of_a_child_is_known_by_its_notes_or_by_its_words() {
    let noted = |since| InHand {
        since,
        extended_until: Some(at(9000)),
    };
    let mut child = child();
    assert_eq!(child.work(), Some(Work::Start { since: at(5000) }));
    child.flags |= ChildFlags::WAITED;
    assert_eq!(child.work(), None, "it waits");
    child.state = State::Busy;
    child.note_busy(at(6000));
    let by_words = Work::Connection {
        since: at(6000),
        extended_until: None,
    };
    assert_eq!(child.work(), Some(by_words));
    child.noted_requests = 1;
    assert_eq!(child.work(), None, "between two connections");
    child.note_in_hand(noted(Some(at(5500))));
    let by_notes = Work::Connection {
        since: at(5500),
        extended_until: Some(at(9000)),
    };
    assert_eq!(child.work(), Some(by_notes));
    assert_eq!(child.in_hand_for(at(7000)), Some(ms(1500)));
    // A clock that lags may tell a new child a time before its fork.
    child.note_in_hand(noted(Some(at(4990))));
    assert_eq!(child.in_hand.since, Some(at(5000)));
    assert_eq!(child.in_hand_for(at(4000)), Some(ms(0)), "it began later");
}

#[test]
fn a_child_that_will_be_killed_anyway_does_no_bounded_work() {
    for (reason, bounded) in [
        (Reason::Culled, true),
        (Reason::Recycled, true),
        (Reason::Reloaded, true),
        (Reason::Shutdown, true),
        (Reason::Asked, false),
        (Reason::TimedOut, false),
        (Reason::Overtime, false),
    ] {
        let mut child = child();
        child.note_busy(at(6000));
        child.flags |= ChildFlags::WAS_BUSY | ChildFlags::BUSY_WHEN_TOLD;
        child.state = State::Retiring;
        child.retirement = Some(Retirement {
            reason,
            at: at(6000),
            kill_after: Some(ms(10)),
            kill_in_start_after: Some(ms(10)),
            forks: 0,
        });
        assert_eq!(child.work().is_some(), bounded, "{reason:?}");
        child.flags |= ChildFlags::KILL_SENT;
        assert_eq!(child.work(), None);
    }
}

#[test]
fn a_death_has_the_life_of_its_child() {
    let mut child = child();
    child.state = State::Busy;
    child.note_busy(at(6000));
    child.noted_requests = 7;
    child.note_in_hand(InHand {
        since: Some(at(8000)),
        extended_until: None,
    });
    child.note_stderr(b"one");
    child.note_stderr(b"two");
    let usage = Usage {
        user_time: ms(20),
        max_resident: 3 << 20,
        ..Usage::default()
    };
    let end = Collected {
        status: ended_by_signal(9),
        usage: Some(usage),
        out_of_memory: false,
    };
    let death = Death::of(&child, &end, at(9000));
    assert_eq!((death.age(), death.connections()), (ms(4000), 7));
    assert_eq!(death.in_hand_for(), Some(ms(1000)));
    assert_eq!(death.usage(), Some(&usage));
    assert_eq!(death.stuck(), None);
    assert_eq!(death.last_lines().collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(
        death.details().to_string(),
        "after 4.000 s and 7 connections, the last in hand for 1.000 s, 0.020 s of CPU, 3.0 MiB, \
         last lines \"one\\ntwo\""
    );
}

/// It has written over its notes.
#[test]
fn a_death_tells_no_number_that_cannot_be_true() {
    let mut child = child();
    child.note_busy(at(6000));
    child.noted_requests = u64::MAX / 3;
    let death = Death::of(&child, &Collected::default(), at(9000));
    assert_eq!(death.connections(), 1, "its word");
    assert!(death.details().to_string().contains(" and 1 connections"));
}

#[test]
fn a_number_that_no_child_can_reach_is_not_believed() {
    assert_eq!(believable(1_000_000, at(0), at(100)), 1_000_000);
    assert_eq!(believable(1_000_001, at(0), at(100)), 0);
    assert_eq!(believable(u64::MAX, at(0), at(86_400_000)), 0);
    // A child that is forked in the future of a look.
    assert_eq!(believable(5, at(9), at(0)), 5);
}
