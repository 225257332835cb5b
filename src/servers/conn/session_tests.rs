//! The rules of a session one by one, without a connection: attributes and calls of the object here, the
//! rest by its subject below.

mod ends;
mod filters;
mod limits;
mod posted;
mod rig;
mod times;

use self::rig::{NotingClass, Rig};
use super::{ConnClass, Peer, PeerCredentials, Session};
use crate::core::error::Operation;
use std::{cell::RefCell, io, rc::Rc, time::Duration};

#[test]
fn an_ack_is_said_at_once() {
    let said = Rc::new(RefCell::new(0));
    let mut rig = Rig::new().on("input", |session| session.ack().expect("said"));
    let counter = Rc::clone(&said);
    rig.session.say_ack = Box::new(move || {
        *counter.borrow_mut() += 1;
        Ok(())
    });
    rig.receive(b"a\nb\n");
    assert_eq!(*said.borrow(), 2);
}

#[test]
fn more_time_is_asked_for_at_once() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let mut rig = Rig::new().on("input", |session| session.extend(Duration::from_secs(7)));
    let times = Rc::clone(&asked);
    rig.session.extend = Box::new(move |time| times.borrow_mut().push(time));
    rig.receive(b"a\n");
    assert_eq!(*asked.borrow(), [Duration::from_secs(7)]);
}

#[test]
fn the_attributes_have_their_defaults_and_the_ends_their_names() {
    let session = Session::new(7, Peer::default());
    assert_eq!(session.id(), 7);
    assert!(session.shutdown_on_error() && session.is_connected());
    assert!(!session.got_error() && !session.is_shutdown() && !session.shutdown_requested());
    assert_eq!(session.input_limit(), 65536);
    assert_eq!(session.output_limit(), 1024 * 1024);
    assert_eq!((session.remote_address(), session.path()), (None, None));
    let (remote, local) = ("192.0.2.1:70".parse().ok(), "192.0.2.2:80".parse().ok());
    let tcp = Session::new(1, Peer::tcp(remote, local));
    assert_eq!(tcp.remote_address(), remote);
    assert_eq!(tcp.remote_ip(), "192.0.2.1".parse().ok());
    assert_eq!((tcp.remote_port(), tcp.local_address()), (Some(70), local));
    let credentials = PeerCredentials::new(Some(1), 2, 3);
    let unix = Session::new(1, Peer::unix(Some("/run/x".into()), Some(credentials)));
    assert_eq!(unix.path(), Some("/run/x".as_ref()));
    assert_eq!(unix.peer_credentials(), Some(credentials));
}

#[test]
fn every_handler_is_forwarded_by_references_and_boxes() {
    fn call_all(class: &mut impl ConnClass) {
        let session = &mut Session::new(1, Peer::default());
        class.handler_start(session);
        class.handler_input(session, b"x");
        class.handler_put(session, b"y");
        class.handler_error(session, Operation::Write, &io::Error::from_raw_os_error(5));
        class.handler_flush(session);
        class.handler_shutdown(session);
        class.handler_state(session, "z");
        class.handler_stopping(session);
        class.handler_stop(session);
    }
    let all = [
        "start",
        "input x",
        "put y",
        "error write 5",
        "flush",
        "shutdown",
        "state z",
        "stopping",
        "stop",
    ];
    let mut class = NotingClass::default();
    call_all(&mut &mut class);
    assert_eq!(std::mem::take(&mut class.calls), all);
    let mut boxed = Box::new(class);
    call_all(&mut boxed);
    assert_eq!(std::mem::take(&mut boxed.calls), all);
    call_all(&mut (&mut *boxed as &mut dyn ConnClass));
    assert_eq!(boxed.calls, all);
}
