//! When a child waits, for whom, and what ends the wait.

use super::*;

#[test]
fn told_to_stop_a_child_waits_for_no_connection() {
    let (world, comm) = end();
    let told = WaitStep {
        stop: true,
        ..wait(10, Wake::Ready)
    };
    world.steps.borrow_mut().push_back(told);
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Stop, "told while it waited");
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Stop, "told before");
    assert_eq!(world.waits().len(), 1);
}

#[test]
fn a_connection_is_waited_for_although_the_child_was_told_to_stop() {
    let (world, comm) = end();
    let client = File::open("/dev/null").unwrap();
    comm.set_send_ack(Some(ms(100)));
    world.stop.set(true);
    let mut steps = world.steps.borrow_mut();
    steps.extend([
        wait(100, Wake::Timer),
        wait(100, Wake::Timer),
        wait(5, Wake::Ready),
    ]);
    drop(steps);
    comm.busy().unwrap();
    assert!(
        comm.wait_stream(client.as_fd(), Interest::Read, None)
            .unwrap()
    );
    assert_eq!(
        world.said(),
        [BUSY, ACK_BUSY, ACK_BUSY],
        "it goes on reporting"
    );
    assert_eq!(world.now.get(), at(205));
}

#[test]
fn a_connection_is_waited_for_until_its_deadline() {
    let (world, comm) = end();
    let client = File::open("/dev/null").unwrap();
    comm.set_send_ack(Some(ms(400)));
    let deadline = comm.deadline(Some(ms(1000)));
    assert_eq!(deadline, Some(at(1000)));
    assert_eq!(comm.deadline(None), None);
    comm.busy().unwrap();
    let ready = comm.wait_until(client.as_fd(), Interest::Write, deadline);
    assert!(!ready.unwrap());
    assert_eq!(world.waits(), [400, 400, 200].map(|wait| Some(ms(wait))));
    assert_eq!(world.said(), [BUSY, ACK_BUSY, ACK_BUSY]);
}

/// With a slow client, the child leaves the wake-ups to free children; a quick client causes no
/// such call.
#[test]
fn a_child_with_a_slow_client_gets_out_of_the_way() {
    let (world, comm) = end();
    let client = File::open("/dev/null").unwrap();
    let read = |deadline| {
        world.asked.set(true);
        let ready = comm.wait_until(client.as_fd(), Interest::Read, deadline);
        (ready.unwrap(), world.asked.get())
    };
    world.steps.borrow_mut().push_back(wait(19, Wake::Ready));
    assert_eq!(read(None), (true, true));
    let mut steps = world.steps.borrow_mut();
    steps.extend([wait(20, Wake::Timer), wait(5000, Wake::Ready)]);
    drop(steps);
    assert_eq!(read(None), (true, false));
    assert_eq!(world.waits(), [Some(ms(20)), Some(ms(20)), None]);
    let deadline = comm.deadline(Some(ms(30)));
    assert_eq!(read(deadline), (false, false));
    assert_eq!(world.waits(), [20, 10].map(|wait| Some(ms(wait))));
}

#[test]
fn a_client_in_hand_is_served_without_the_parent() {
    let (world, comm) = end();
    let client = File::open("/dev/null").unwrap();
    let closed = Rc::new(Cell::new(0));
    let count = Rc::clone(&closed);
    comm.when_orphaned(move || count.set(count.get() + 1));
    comm.set_send_ack(Some(ms(100)));
    world.pipe.broken.store(true, Ordering::Relaxed);
    let gone = WaitStep {
        orphaned: true,
        ..wait(100, Wake::Stop)
    };
    let mut steps = world.steps.borrow_mut();
    steps.extend([gone, wait(50, Wake::Timer), wait(5, Wake::Ready)]);
    drop(steps);
    assert!(
        comm.wait_stream(client.as_fd(), Interest::Read, None)
            .unwrap()
    );
    assert_eq!(closed.get(), 1, "the listeners are closed at once");
}

/// One wait reports the client and the parent's end: the child must not keep the port for as long
/// as the client stays.
#[test]
fn the_parents_end_is_noticed_beside_a_client_that_is_ready() {
    let (world, comm) = end();
    let client = File::open("/dev/null").unwrap();
    let closed = Rc::new(Cell::new(0));
    let count = Rc::clone(&closed);
    comm.when_orphaned(move || count.set(count.get() + 1));
    world.steps.borrow_mut().push_back(WaitStep {
        orphaned: true,
        ..wait(100, Wake::Ready)
    });
    let ready = comm.wait_stream(client.as_fd(), Interest::Read, None);
    assert!(ready.unwrap());
    assert_eq!((closed.get(), world.ends_armed.get()), (1, 1));
}

#[test]
fn what_is_to_happen_without_the_parent_happens_once() {
    let (world, comm) = end();
    let closed = Rc::new(RefCell::new(Vec::new()));
    for name in ["first", "second"] {
        let closed = Rc::clone(&closed);
        comm.when_orphaned(move || closed.borrow_mut().push(name));
    }
    assert!(!comm.is_orphaned() && !comm.shutdown_requested());
    assert_eq!(*closed.borrow(), [""; 0]);
    world.orphaned.set(true);
    assert!(comm.shutdown_requested() && comm.is_orphaned());
    assert!(comm.share().is_orphaned());
    assert_eq!(comm.wait(&[]).unwrap(), Wake::Stop);
    assert_eq!(*closed.borrow(), ["first", "second"]);
    assert_eq!(world.ends_armed.get(), 1, "the grace runs once");
    // A callback that is added late is run, too.
    let late = Rc::clone(&closed);
    comm.when_orphaned(move || late.borrow_mut().push("late"));
    assert_eq!(*closed.borrow(), ["first", "second", "late"]);
}

#[test]
fn a_pause_sends_acks_and_ends_when_the_child_should_leave() {
    let (world, comm) = end();
    comm.set_send_ack(Some(ms(400)));
    comm.pause(ms(1000)).unwrap();
    assert_eq!(world.now.get(), at(1000));
    assert_eq!(world.said(), [ACK, ACK], "it can take none yet");
    let told = WaitStep {
        stop: true,
        ..wait(10, Wake::Stop)
    };
    world.steps.borrow_mut().push_back(told);
    comm.pause(ms(1000)).unwrap();
    assert_eq!(world.now.get(), at(1010));
}
