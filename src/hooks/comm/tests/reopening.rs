//! A child is told to reopen its logs.

use super::*;

/// It may wait, as a callback that logs to a socket does.
#[test]
fn a_child_reopens_its_logs_once_for_each_order_and_not_within_itself() {
    let world = ChildWorld::new();
    let comm = world.comm(CommWords::CONTROL);
    let (again, count) = (comm.share(), Rc::new(Cell::new(0)));
    let counted = Rc::clone(&count);
    world.reopen.set(true);
    comm.when_told_to_reopen(move || {
        counted.set(counted.get() + 1);
        again.shutdown_requested();
    });
    assert!(world.wakes_to_reopen.get());
    for expected in [1, 1] {
        assert!(!comm.shutdown_requested());
        assert_eq!(count.get(), expected);
    }
    world.reopen.set(true);
    comm.pause(Duration::from_secs(1)).unwrap();
    assert_eq!(count.get(), 2);
}

/// The order is kept for a callback that is set later.
#[test]
fn without_a_callback_an_order_to_reopen_logs_waits() {
    let world = ChildWorld::new();
    let comm = world.comm(CommWords::CONTROL);
    world.reopen.set(true);
    assert!(!comm.shutdown_requested());
    assert!(world.reopen.get());
}
