//! What handlers post for later: states, alarms, output.

use super::rig::Rig;
use crate::core::time::Time;
use std::{cell::RefCell, rc::Rc, time::Duration};

#[test]
fn what_was_posted_comes_in_order_and_before_more_input() {
    let mut rig = Rig::new().on("input a", |session| {
        session.post("one");
        session.post_put("two");
        session.post("three");
    });
    rig.receive(b"a\nb\n").expect(&[
        "start",
        "input a",
        "state one",
        "put two",
        "state three",
        "input b",
    ]);
    rig.write(99);
    assert_eq!(rig.wire(), "two\\n");
}

#[test]
fn a_state_that_posts_itself_starves_nobody() {
    let mut rig =
        Rig::new()
            .on("start", |session| session.post("again"))
            .on("state again", |session| {
                session.post("again");
                session.delay_set("at once", Duration::ZERO);
            });
    rig.turn().expect(&["start", "state again"]);
    assert!(rig.session.has_more());
    rig.receive(b"a\n")
        .expect(&["state again", "state at once", "input a"]);
}

#[test]
fn alarms_go_off_in_time_and_can_be_removed() {
    let removed = Rc::new(RefCell::new(None));
    let shared = Rc::clone(&removed);
    let mut rig = Rig::new().on("start", move |session| {
        session.delay_set("idle", Duration::from_secs(5));
        *shared.borrow_mut() = Some(session.delay_set("never", Duration::from_secs(1)));
    });
    rig.turn().expect(&["start"]);
    let id = removed.take().expect("set");
    assert!(rig.session.alarm_remove(id) && !rig.session.alarm_remove(id));
    assert_eq!(
        rig.session.next_alarm(),
        Some(Time::at(Duration::from_secs(5)))
    );
    rig.now = Duration::from_secs(5);
    rig.turn().expect(&["state idle"]);
    rig.session.delay_set("never", Duration::ZERO);
    rig.session.alarm_remove_all();
    rig.turn().expect(&[]);
}

#[test]
fn a_posted_put_goes_through_its_handler() {
    let mut rig = Rig::new()
        .without_super("put")
        .on("put", |session| session.put("changed"));
    rig.session.post_put("original");
    assert_eq!(rig.session.pending_output(), 8, "it counts as output");
    rig.turn().expect(&["start", "put original"]);
    rig.write(99).expect(&["flush"]);
    assert_eq!(rig.wire(), "changed\\n");
}
