//! Which words a child says, and when.

mod reopening;
mod waits;

use super::*;
use crate::core::testing::{at, ms};
use crate::hooks::testing::{ChildWorld, WaitStep};
use crate::sys::link::{Interest, Wake};
use std::{cell::Cell, fs::File, time::Duration};

const ACK: &[u8] = b"\n\x06\n";
const ACK_FREE: &[u8] = b"\n\x06\n\x11\n";
const ACK_BUSY: &[u8] = b"\n\x06\n\x13\n";
const BUSY: &[u8] = b"\n\x13\n";
const NOT_BUSY: &[u8] = b"\n\x11\n";

fn end() -> (Rc<ChildWorld>, Comm) {
    let world = ChildWorld::new();
    let comm = world.comm(CommWords::CONTROL);
    (world, comm)
}

fn wait(takes: u64, wake: Wake) -> WaitStep {
    WaitStep {
        takes: ms(takes),
        wake,
        stop: false,
        orphaned: false,
    }
}

#[test]
fn each_message_is_one_write_and_an_ack_repeats_the_state() {
    let (world, comm) = end();
    comm.busy().unwrap();
    comm.ack().unwrap();
    comm.not_busy().unwrap();
    comm.ack().unwrap();
    assert_eq!(world.said(), [BUSY, ACK_BUSY, NOT_BUSY, ACK_FREE]);
}

/// The child's own preparations may fail after its first ACK, and to the parent a word for the
/// state proves that they have succeeded.
#[test]
fn an_ack_says_no_state_before_one_was_said() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(400)));
    comm.ack().unwrap();
    comm.pause(ms(500)).unwrap();
    comm.acker().ack().unwrap();
    assert_eq!(world.said(), [ACK, ACK, ACK]);
    comm.not_busy().unwrap();
    comm.ack().unwrap();
    assert_eq!(world.said(), [NOT_BUSY, ACK_FREE]);
}

#[test]
fn whoever_waits_for_the_first_time_has_said_that_it_can_take_a_connection() {
    for (say, said) in [
        (Comm::ack as fn(&Comm) -> _, &[ACK, NOT_BUSY][..]),
        (Comm::not_busy, &[NOT_BUSY]),
        (Comm::busy, &[BUSY]),
    ] {
        let (world, comm) = end();
        say(&comm).unwrap();
        for _ in 0..2 {
            world.steps.borrow_mut().push_back(wait(0, Wake::Ready));
            assert_eq!(comm.wait(&[]).unwrap(), Wake::Ready);
        }
        assert_eq!(world.said(), said);
    }
}

/// The word comes before the first wait.
#[test]
fn whoever_is_told_to_stop_in_its_start_does_not_say_that_it_has_held() {
    let (world, comm) = end();
    comm.ack().unwrap();
    world.stop.set(true);
    comm.not_busy().unwrap();
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Stop);
    comm.ack().unwrap();
    assert_eq!(world.said(), [ACK, ACK]);
}

#[test]
fn words_are_those_that_were_agreed_on() {
    let world = ChildWorld::new();
    let comm = world.comm(CommWords::POE);
    comm.busy().unwrap();
    comm.ack().unwrap();
    assert_eq!(world.said(), [b"\n2\n".as_slice(), b"\n1\n2\n"]);
}

#[test]
fn busy_and_not_busy_are_said_when_they_are_new() {
    let (world, comm) = end();
    comm.not_busy().unwrap();
    comm.not_busy().unwrap();
    assert_eq!(world.said(), [NOT_BUSY], "so that its start has held");
    comm.busy().unwrap();
    comm.busy().unwrap();
    assert!(comm.is_busy());
    comm.not_busy().unwrap();
    comm.not_busy().unwrap();
    assert!(!comm.is_busy());
    assert_eq!(world.said(), [BUSY, NOT_BUSY]);
}

/// A word is printed unless the parent will look at the notes by itself; each word is noted, so
/// that the parent finds the last one.
#[test]
fn what_the_parent_will_look_for_is_not_printed() {
    let (world, comm) = end();
    comm.not_busy().unwrap();
    comm.busy().unwrap();
    assert_eq!(world.said(), [NOT_BUSY, BUSY]);
    world.pipe.looks.store(true, Ordering::Relaxed);
    comm.not_busy().unwrap();
    comm.acker().busy().unwrap();
    comm.busy().unwrap();
    assert_eq!(world.said(), [[0; 0]; 0]);
    comm.ack().unwrap();
    assert_eq!(world.said(), [ACK_BUSY], "an ACK is always printed");
    assert_eq!(world.pipe.noted(), [false, true, false, true]);
    world.stop.set(true);
    comm.not_busy().unwrap();
    assert_eq!(world.pipe.noted(), [false; 0], "it is leaving");
}

#[test]
fn a_child_that_leaves_says_no_not_busy_with_its_acks() {
    let (world, comm) = end();
    comm.not_busy().unwrap();
    world.stop.set(true);
    comm.ack().unwrap();
    assert_eq!(world.said(), [NOT_BUSY, ACK_FREE], "it has not looked yet");
    assert!(comm.shutdown_requested());
    comm.ack().unwrap();
    comm.busy().unwrap();
    comm.ack().unwrap();
    assert_eq!(world.said(), [ACK, BUSY, ACK_BUSY]);
}

#[test]
fn a_wait_ends_when_an_ack_is_due_and_the_next_begins_with_it() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(500)));
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Timer);
    assert_eq!(world.waits(), [Some(ms(500))]);
    assert_eq!(world.said(), [NOT_BUSY], "no ACK before it waits again");
    world.steps.borrow_mut().push_back(wait(200, Wake::Ready));
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Ready);
    assert_eq!(world.said(), [ACK_FREE]);
    // The rest of the interval, and no ACK before it has passed.
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Timer);
    assert_eq!(world.waits(), [Some(ms(500)), Some(ms(300))]);
    assert_eq!(world.said(), [[0; 0]; 0]);
    assert_eq!(world.now.get(), at(1000));
}

#[test]
fn an_ack_of_ones_own_puts_the_next_off() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(500)));
    world.pass(ms(400));
    comm.ack().unwrap();
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Timer);
    assert_eq!(world.waits(), [Some(ms(500))]);
    assert_eq!(world.said(), [ACK, NOT_BUSY]);
}

#[test]
fn without_an_interval_nothing_is_ever_due() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(500)));
    comm.set_send_ack(None);
    world.steps.borrow_mut().push_back(wait(9000, Wake::Ready));
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Ready);
    world.steps.borrow_mut().push_back(wait(9000, Wake::Ready));
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Ready);
    assert_eq!(world.waits(), [None, None]);
    assert_eq!(world.said(), [NOT_BUSY]);
}

/// A child does not wait when the pipe has no room for a word: it goes on serving and repeats the
/// word later.
#[test]
fn c09_what_a_full_pipe_had_no_room_for_is_said_again() {
    let (world, comm) = end();
    world.pipe.full.store(true, Ordering::Relaxed);
    comm.busy().unwrap();
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Timer);
    assert_eq!(world.waits(), [Some(ms(100))], "it does not wait for ever");
    assert_eq!(world.said(), [[0; 0]; 0]);
    world.pipe.full.store(false, Ordering::Relaxed);
    world.steps.borrow_mut().push_back(wait(0, Wake::Ready));
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Ready);
    assert_eq!(world.said(), [ACK_BUSY], "the word for the state heals it");
    // And then not again.
    world.steps.borrow_mut().push_back(wait(0, Wake::Ready));
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Ready);
    assert_eq!(world.said(), [[0; 0]; 0]);
    assert_eq!(world.waits(), [None, None]);
}

#[test]
fn an_ack_that_is_due_says_what_was_unsaid() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(50)));
    world.pipe.full.store(true, Ordering::Relaxed);
    comm.busy().unwrap();
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Timer);
    assert_eq!(world.waits(), [Some(ms(50))], "whichever is sooner");
    world.pipe.full.store(false, Ordering::Relaxed);
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Timer);
    assert_eq!(world.said(), [ACK_BUSY]);
}

#[test]
fn a_pipe_without_a_reader_is_an_error() {
    let (world, comm) = end();
    world.pipe.broken.store(true, Ordering::Relaxed);
    for result in [comm.ack(), comm.busy()] {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

/// As in a copy that a child has made of itself: the parent lives and does not know the copy.
#[test]
fn who_is_not_read_is_an_orphan() {
    let (world, comm) = end();
    comm.busy().unwrap();
    assert!(!comm.is_orphaned());
    world.pipe.broken.store(true, Ordering::Relaxed);
    comm.not_busy().unwrap_err();
    assert!(comm.is_orphaned() && comm.shutdown_requested());
    assert_eq!(world.ends_armed.get(), 1);
}

#[test]
fn an_acker_speaks_for_the_same_child() {
    fn sendable(_: &(impl Send + Sync + Clone)) {}
    let (world, comm) = end();
    let acker = comm.acker();
    sendable(&acker);
    acker.busy().unwrap();
    comm.busy().unwrap();
    acker.ack().unwrap();
    comm.not_busy().unwrap();
    acker.not_busy().unwrap();
    assert_eq!(world.said(), [BUSY, ACK_BUSY, NOT_BUSY]);
}

/// A handler has the whole timeout, however old the last ACK was at its start: of a thousand
/// handlers that take less, none counts as stuck. Silence counts from the last ACK.
#[test]
fn silence_counts_from_the_start_of_a_connection() {
    let timeout = ms(2000);
    for phase in 0..1000 {
        let (world, comm) = end();
        comm.set_send_ack(Some(timeout / 2));
        world.pass(ms(phase));
        comm.begin(Some(comm.now())).unwrap();
        let acked = !world.said().is_empty();
        let silent_before = if acked { 0 } else { phase };
        assert!(silent_before <= 63, "{silent_before} ms");
        // The next automatic ACK is due an interval after it.
        world.pass(ms(999 - silent_before));
        comm.attend().unwrap();
        assert!(world.said().is_empty(), "at {phase}");
        world.pass(ms(1));
        comm.attend().unwrap();
        assert_eq!(world.said().len(), 1, "at {phase}");
    }
}

/// Connections in quick succession do not cause an ACK each.
#[test]
fn short_connections_share_an_ack() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(1000)));
    for _ in 0..4000 {
        world.pass(ms(1));
        comm.begin(Some(comm.now())).unwrap();
    }
    let acks = world.said().len();
    assert!((15..=64).contains(&acks), "{acks} in two timeouts");
    comm.set_send_ack(None);
    world.pass(ms(100_000));
    comm.begin(Some(comm.now())).unwrap();
    assert!(world.said().is_empty(), "no timeout, no ACK");
}

/// A child that has waited within accept(2) took its connection later than its clock says.
#[test]
fn a_connection_begins_when_it_was_taken() {
    let (world, comm) = end();
    world.now.set(at(100));
    comm.busy().unwrap();
    comm.busy_after(Some(at(100)), None).unwrap();
    comm.busy_after(Some(at(80)), None).unwrap();
    comm.busy_after(None, None).unwrap();
    // The cheap clock lags behind the exact one.
    comm.busy_after(Some(at(103)), None).unwrap();
    comm.end_connection();
    let begun = world.pipe.connections();
    let expected = [100, 100, 100, 100, 103].map(|ms| Some(at(ms)));
    assert_eq!(begun[..5], expected);
    assert_eq!(begun[5..], [None], "it has ended");
}
