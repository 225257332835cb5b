//! Each of the eleven handlers replaced without its default: the behaviour changes. The same
//! situation is shown to the default and to a replacement that does nothing.

use super::*;
use crate::core::{
    child::State,
    testing::{PlainTask, asked, child, children, go_to, int, monitor, ms, sized, state},
    wire::Word,
};
use crate::hooks::testing::RecordingServer;

/// Replaces handlers by nothing.
macro_rules! replacement {
    ($type:ident: fn $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty = $value:expr)?) => {
        struct $type;
        impl PreForkHooks for $type {
            fn $name(&mut self, $($arg: $kind),*) $(-> $result)? {
                $($value)?
            }
        }
    };
}

#[test]
fn start() {
    replacement!(Replaced: fn handler_start(_m: &mut Monitor, _s: &mut dyn ChildServer)
        -> io::Result<()> = Ok(()));
    let start = |hooks: &mut dyn PreForkHooks| {
        let (mut monitor, mut server) = (Monitor::default(), RecordingServer::default());
        hooks.handler_start(&mut monitor, &mut server).unwrap();
        (asked(&mut monitor), server.calls.take())
    };
    let (tasks, calls) = start(&mut DefaultHooks);
    assert_eq!(
        (tasks, &*calls),
        (vec![PlainTask::Forkoff], &["start".to_owned()][..])
    );
    let (tasks, calls) = start(&mut Replaced);
    assert_eq!(
        (tasks, &*calls),
        (vec![], &[][..]),
        "no socket, no children"
    );
}

#[test]
fn child_ended() {
    replacement!(Replaced: fn handler_child(_m: &mut Monitor, _e: &io::Error));
    let lost = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        hooks.handler_child(&mut monitor, &io::Error::other("lost"));
        asked(&mut monitor)
    };
    assert_eq!(lost(&mut DefaultHooks), [PlainTask::Shutdown]);
    assert_eq!(lost(&mut Replaced), [], "it goes on without the socket");
}

#[test]
fn stop() {
    replacement!(Replaced: fn handler_stop(_m: &mut Monitor, _s: &mut dyn ChildServer));
    let stop = |hooks: &mut dyn PreForkHooks| {
        let (mut monitor, mut server) = (monitor(), RecordingServer::default());
        monitor.post("own");
        hooks.handler_stop(&mut monitor, &mut server);
        (asked(&mut monitor).len(), server.calls.take().len())
    };
    assert_eq!(stop(&mut DefaultHooks), (0, 1));
    assert_eq!(stop(&mut Replaced), (1, 0), "the server is not stopped");
}

#[test]
fn run_error() {
    replacement!(Replaced: fn handler_run_error(
        _m: &mut Monitor, _o: Operation, _e: &io::Error, _c: Option<ChildId>));
    let failed = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        let error = io::Error::other("failed");
        hooks.handler_run_error(&mut monitor, Operation::Read, &error, None);
        asked(&mut monitor)
    };
    assert_eq!(failed(&mut DefaultHooks), [PlainTask::Shutdown]);
    assert_eq!(failed(&mut Replaced), [], "the error is swallowed");
}

#[test]
fn shutdown() {
    replacement!(Replaced: fn handler_shutdown(_m: &mut Monitor));
    let shutdown = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        let child = child(&mut monitor, State::Free);
        hooks.handler_shutdown(&mut monitor);
        let told = asked(&mut monitor) == [int(child)];
        (told, monitor.is_shutdown(), state(&monitor, child))
    };
    assert_eq!(shutdown(&mut DefaultHooks), (true, true, State::Retiring));
    let replaced = shutdown(&mut Replaced);
    assert_eq!(replaced, (false, false, State::Free), "it serves on");
}

#[test]
fn server_closed() {
    replacement!(Replaced: fn handler_server_closed(_m: &mut Monitor, _c: ChildId));
    let closed = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        let child = child(&mut monitor, State::Free);
        hooks.handler_server_closed(&mut monitor, child);
        asked(&mut monitor)
    };
    assert_eq!(closed(&mut DefaultHooks), [PlainTask::Forkoff]);
    assert_eq!(closed(&mut Replaced), [], "nobody looks for a replacement");
}

#[test]
fn server_stderr() {
    replacement!(Replaced: fn handler_server_stderr(_m: &mut Monitor, _c: ChildId, _l: &Line));
    let print = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        let child = child(&mut monitor, State::Free);
        hooks.handler_server_stderr(&mut monitor, child, &Line::whole("x"));
        asked(&mut monitor)
    };
    let printed = PlainTask::Stderr("1001 STDERR: x\n".to_owned());
    assert_eq!(print(&mut DefaultHooks), [printed]);
    assert_eq!(print(&mut Replaced), [], "stderr is silent");
}

#[test]
fn server_ack() {
    replacement!(Replaced: fn handler_server_ack(_m: &mut Monitor, _c: ChildId, _o: Output<'_>));
    let busy = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        let child = child(&mut monitor, State::Free);
        hooks.handler_server_ack(&mut monitor, child, Output::Word(Word::Busy));
        (state(&monitor, child), asked(&mut monitor))
    };
    assert_eq!(
        busy(&mut DefaultHooks),
        (State::Busy, vec![PlainTask::Forkoff])
    );
    assert_eq!(
        busy(&mut Replaced),
        (State::Free, vec![]),
        "it is not heard"
    );
}

#[test]
fn server_timeout_check() {
    replacement!(Replaced: fn handler_server_timeout_check(_m: &mut Monitor));
    let check = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        monitor.set_timeout(ms(1000));
        let child = child(&mut monitor, State::Busy);
        go_to(&mut monitor, 5000);
        hooks.handler_server_timeout_check(&mut monitor);
        (
            asked(&mut monitor).len(),
            state(&monitor, child),
            monitor.deadline().is_some(),
        )
    };
    assert_eq!(check(&mut DefaultHooks), (2, State::Retiring, true));
    let replaced = check(&mut Replaced);
    assert_eq!(replaced, (0, State::Busy, false), "nobody times out, ever");
}

#[test]
fn forkoff() {
    replacement!(Replaced: fn handler_forkoff(_m: &mut Monitor));
    let decide = |hooks: &mut dyn PreForkHooks| {
        let mut empty = sized(1, 2, 3, 9);
        hooks.handler_forkoff(&mut empty);
        let mut crowded = sized(1, 2, 3, 9);
        crowded.set_cull_after(Duration::ZERO);
        children(&mut crowded, [State::Free; 4]);
        hooks.handler_forkoff(&mut crowded);
        (asked(&mut empty).len(), asked(&mut crowded).len())
    };
    assert_eq!(decide(&mut DefaultHooks), (3, 2));
    assert_eq!(decide(&mut Replaced), (0, 0), "no fork and no cull");
}

#[test]
fn server_fork() {
    replacement!(Replaced: fn handler_server_fork(_m: &mut Monitor));
    let fork = |hooks: &mut dyn PreForkHooks| {
        let mut monitor = monitor();
        hooks.handler_server_fork(&mut monitor);
        asked(&mut monitor)
    };
    assert_eq!(fork(&mut DefaultHooks), [PlainTask::Fork]);
    assert_eq!(fork(&mut Replaced), [], "nothing is forked");
}
