//! Hooks as a program outside of the crate writes them: overriding, calling the default, handing
//! them on boxed. Children cannot be made from outside, so what takes one is tested in the crate.

use prefork_server::{
    ChildServer, Comm, DefaultHooks, Monitor, Operation, PreForkHooks, States, defaults,
};
use std::{io, time::Duration};

#[derive(Default)]
struct Recorder {
    calls: Vec<&'static str>,
}

/// Overrides that note their name and go on to the default.
macro_rules! noting {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        impl PreForkHooks for Recorder {
            $(
                fn $name(&mut self, $($arg: $type),*) $(-> $result)? {
                    self.calls.push(stringify!($name));
                    defaults::$name(self, $($arg),*)
                }
            )*
        }
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

noting! {
    fn create_states(states: &mut States);
    fn handler_child(monitor: &mut Monitor, error: &io::Error);
    fn handler_run_error(
        monitor: &mut Monitor,
        operation: Operation,
        error: &io::Error,
        child: Option<prefork_server::ChildId>
    );
    fn handler_shutdown(monitor: &mut Monitor);
    fn handler_server_timeout_check(monitor: &mut Monitor);
    fn handler_forkoff(monitor: &mut Monitor);
    fn handler_server_fork(monitor: &mut Monitor);
    fn handler_state(monitor: &mut Monitor, state: &str);
    fn before_fork(monitor: &mut Monitor);
    fn fork_failed(monitor: &mut Monitor, error: &io::Error, retry_in: Duration);
    fn handler_start(monitor: &mut Monitor, server: &mut dyn ChildServer) -> io::Result<()>;
    fn handler_stop(monitor: &mut Monitor, server: &mut dyn ChildServer);
}

#[derive(Default)]
struct Server {
    started: bool,
    stopped: bool,
    send_ack: Option<Duration>,
}

impl ChildServer for Server {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        self.started = true;
        Ok(())
    }
    fn stop(&mut self) {
        self.stopped = true;
    }
    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }
    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }
    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        Ok(())
    }
}

/// Calls the hooks in the order of the list, and sees that the defaults were reached.
fn call_all(mut hooks: impl PreForkHooks) {
    let error = io::Error::other("x");
    let (mut monitor, mut server) = (Monitor::default(), Server::default());
    let mut states = States::default();
    hooks.create_states(&mut states);
    assert!(states.contains("forkoff"));
    hooks.handler_child(&mut monitor, &error);
    hooks.handler_run_error(&mut monitor, Operation::Read, &error, None);
    hooks.handler_shutdown(&mut monitor);
    assert!(monitor.is_shutdown());
    hooks.handler_server_timeout_check(&mut monitor);
    hooks.handler_forkoff(&mut monitor);
    hooks.handler_server_fork(&mut monitor);
    hooks.handler_state(&mut monitor, "own");
    hooks.before_fork(&mut monitor);
    hooks.fork_failed(&mut monitor, &error, Duration::ZERO);
    let mut monitor = Monitor::default();
    monitor.set_timeout(Duration::from_secs(10));
    hooks.handler_start(&mut monitor, &mut server).unwrap();
    assert!(server.started);
    assert_eq!(server.send_ack, Some(Duration::from_secs(5)));
    assert_eq!(monitor.server_check_ack(), Some(Duration::from_secs(15)));
    hooks.handler_stop(&mut monitor, &mut server);
    assert!(server.stopped);
}

/// The calls that `call_all` makes; the default of `handler_start` makes one more.
fn expected() -> Vec<&'static str> {
    let mut names = NAMES.to_vec();
    names.insert(names.len() - 1, "create_states");
    names
}

#[test]
fn overrides_and_their_defaults_are_reached_by_reference() {
    let mut recorder = Recorder::default();
    call_all(&mut recorder);
    assert_eq!(recorder.calls, expected());
}

#[test]
fn overrides_and_their_defaults_are_reached_in_boxes() {
    let mut boxed = Box::new(Recorder::default());
    call_all(&mut boxed);
    assert_eq!(boxed.calls, expected());
    let mut recorder = Recorder::default();
    let dynamic: Box<dyn PreForkHooks + '_> = Box::new(&mut recorder);
    call_all(dynamic);
    assert_eq!(recorder.calls, expected());
}

#[test]
fn the_default_hooks_are_the_defaults() {
    call_all(DefaultHooks);
}
