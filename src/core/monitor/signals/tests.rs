//! What the second signal to stop makes of the children.

use super::*;
use crate::core::testing::{asked, at, child, kill, sized, state};

#[test]
fn the_second_signal_kills_all_and_a_child_that_was_not_told_to_stop_retires() {
    let mut monitor = sized(1, 5, 1, 10);
    monitor.tick(at(5), Duration::ZERO);
    let free = child(&mut monitor, State::Free);
    let culled = child(&mut monitor, State::Free);
    monitor.stop(culled, Reason::Culled);
    let reaped = child(&mut monitor, State::Free);
    monitor.note_reaped(reaped);
    asked(&mut monitor);
    monitor.kill_all();
    assert_eq!(asked(&mut monitor), [kill(free), kill(culled)]);
    assert_eq!(state(&monitor, free), State::Retiring);
    assert_eq!(
        monitor.child(free).unwrap().reason(),
        Some(Reason::Shutdown)
    );
}
