//! What the original's own test, t/01_prefork.t, asserted, one by one, in its order.
//!
//! What cannot carry over, and why:
//!
//! - that `server` defaults to undefined: a `PreFork` cannot be made without one, `builder` takes it;
//! - that the object is a POE::Class: nothing is inherited here, what a subclass got from it are methods
//!   of `Monitor`;
//! - that `busy_servers`, `free_servers` and `wheel_id_to_pid` are hashes: they are iterators, empty here;
//! - that `is_child` and `server_check_ack` are undefined: the one is false, the other `None`;
//! - that `max_spare_servers` is 10: the document says 2, and the document holds;
//! - that `send_ack` of the server is called twice: it has two methods here, each called once;
//! - `new` and `DESTROY`: `PreFork::builder` and dropping.
//!
//! Nothing is forked: every `forkoff` and `server_fork` ends in a hook of the test.

use prefork_server::{
    Builder, COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, ChildServer, Comm, DefaultHooks, Monitor, PreFork,
    PreForkHooks, States, ThreadCheck, Word, defaults,
};
use std::{cell::RefCell, io, rc::Rc, time::Duration};

type Calls = Rc<RefCell<Vec<String>>>;

/// The original's My::PreFork::Thingy: a server that notes what it is asked.
#[derive(Default)]
struct Thingy {
    calls: Calls,
    send_ack: Option<Duration>,
}

impl ChildServer for Thingy {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        self.calls.borrow_mut().push("start".into());
        Ok(())
    }
    fn stop(&mut self) {
        self.calls.borrow_mut().push("stop".into());
    }
    fn send_ack(&mut self) -> Option<Duration> {
        self.calls.borrow_mut().push("send_ack".into());
        self.send_ack
    }
    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.calls
            .borrow_mut()
            .push(format!("set_send_ack {interval:?}"));
        self.send_ack = interval;
    }
    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        unreachable!("nothing is forked")
    }
}

/// The original's My::PreFork: notes, and calls SUPER.
struct Subclass {
    calls: Calls,
    /// What `handler_start` had set when SUPER returned.
    seen: Option<(Duration, Option<Duration>)>,
    forkoffs: usize,
    forks: usize,
}

impl Subclass {
    fn new(calls: &Calls) -> Self {
        Self {
            calls: Rc::clone(calls),
            seen: None,
            forkoffs: 0,
            forks: 0,
        }
    }
}

impl PreForkHooks for Subclass {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.add("check_start_yield");
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_start(self, monitor, server)?;
        self.seen = Some((monitor.timeout(), monitor.server_check_ack()));
        monitor.post("check_start_yield");
        Ok(())
    }

    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        defaults::handler_forkoff(self, monitor);
        self.forkoffs += 1;
        self.calls.borrow_mut().push("forkoff".into());
    }

    /// Without SUPER: nothing is forked.
    fn handler_server_fork(&mut self, _: &mut Monitor) {
        self.forks += 1;
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        assert_eq!(state, "check_start_yield");
        assert_eq!(self.forkoffs, 1, "handler_start() yielded forkoff");
        self.calls.borrow_mut().push(state.into());
        monitor.post("shutdown");
    }
}

/// A server that this test may start: its process has threads, and signals of its own.
fn builder(calls: &Calls) -> Builder<DefaultHooks, Thingy> {
    let server = Thingy {
        calls: Rc::clone(calls),
        send_ack: None,
    };
    PreFork::builder(server)
        .thread_check(ThreadCheck::Warn)
        .handle_signals(false)
}

#[test]
fn the_constants_are_exported() {
    assert_eq!(
        [COMM_ACK, COMM_BUSY, COMM_NOT_BUSY],
        [Word::Ack, Word::Busy, Word::NotBusy]
    );
}

#[test]
fn every_accessor_is_there_and_can_be_set() {
    let mut monitor = Monitor::default();
    monitor.set_shutdown_on_error(false);
    monitor.set_max_clients(15);
    monitor.set_max_spare_servers(10);
    monitor.set_min_spare_servers(3);
    monitor.set_start_servers(4);
    monitor.set_timeout(Duration::from_secs(10));
    monitor.set_server_check_ack(Some(Duration::from_secs(7)));
    assert!(!monitor.shutdown_on_error());
    assert_eq!((monitor.max_clients(), monitor.start_servers()), (15, 4));
    assert_eq!(
        (monitor.min_spare_servers(), monitor.max_spare_servers()),
        (3, 10)
    );
    assert_eq!(monitor.timeout(), Duration::from_secs(10));
    assert_eq!(monitor.server_check_ack(), Some(Duration::from_secs(7)));
}

/// The list of `can_ok`: it need not run, it must compile.
#[expect(dead_code, reason = "a list of names")]
fn every_handler_and_method_is_there<H: PreForkHooks>() {
    let _ = (H::handler_start, H::handler_child, H::handler_run_error);
    let _ = (
        H::handler_shutdown,
        H::handler_server_closed,
        H::handler_server_stderr,
    );
    let _ = (H::handler_server_ack, H::handler_server_timeout_check);
    let _ = (H::handler_forkoff, H::handler_server_fork, H::create_states);
    let _ = (
        H::server_timeout,
        H::server_timeout_busy,
        H::server_timeout_free,
    );
    let _ = (
        H::server_start,
        H::server_ack,
        H::server_not_busy,
        H::server_busy,
    );
    let _ = (H::server_stdout, H::server_stderr);
}

#[test]
fn the_tables_are_empty_before_anything_is_forked() {
    let monitor = Monitor::default();
    assert_eq!(monitor.busy_servers().count(), 0);
    assert_eq!(monitor.free_servers().count(), 0);
    assert_eq!(monitor.wheel_id_to_pid().count(), 0);
}

#[test]
fn the_attributes_have_the_documented_defaults() {
    let monitor = Monitor::default();
    assert!(monitor.shutdown_on_error());
    assert_eq!(monitor.min_spare_servers(), 1);
    assert_eq!(
        monitor.max_spare_servers(),
        2,
        "the document's; the source has 10"
    );
    assert_eq!(monitor.start_servers(), 5);
    assert_eq!(monitor.max_clients(), 50);
    assert_eq!(monitor.timeout(), Duration::ZERO);
    assert_eq!(monitor.server_check_ack(), None);
    assert!(!monitor.is_child());
}

#[test]
fn handler_start_does_what_the_original_asserted() {
    let calls = Calls::default();
    let mut prefork = builder(&calls)
        .timeout(Duration::from_secs(10))
        .hooks(Subclass::new(&calls))
        .start()
        .unwrap();
    assert_eq!(
        *calls.borrow(),
        ["send_ack", "set_send_ack Some(5s)", "start"],
        "the interval is set before the server is started, and it is started once"
    );
    assert_eq!(
        prefork.server_mut().send_ack(),
        Some(Duration::from_secs(5))
    );
    assert_eq!(
        prefork.hooks().seen,
        Some((Duration::from_secs(10), Some(Duration::from_secs(15)))),
    );
    assert_eq!(prefork.hooks().forkoffs, 0, "it is posted, not called");
    calls.borrow_mut().clear();
    // What was posted: forkoff, once, before the subclass's own state, which shuts down.
    prefork.run().unwrap();
    assert_eq!(*calls.borrow(), ["forkoff", "check_start_yield", "stop"]);
}

#[test]
fn super_reaches_the_default() {
    let calls = Calls::default();
    let prefork = builder(&calls).hooks(Subclass::new(&calls));
    let mut prefork = prefork.start_servers(3).start().unwrap();
    prefork.run().unwrap();
    assert_eq!(
        prefork.hooks().forks,
        3,
        "the default of handler_forkoff has posted a server_fork for each missing child"
    );
    assert_eq!(prefork.monitor().report().forks, 0);
}

#[test]
fn without_a_timeout_no_interval_is_set() {
    let calls = Calls::default();
    let prefork = builder(&calls)
        .hooks(Subclass::new(&calls))
        .start()
        .unwrap();
    assert_eq!(*calls.borrow(), ["start"]);
    assert_eq!(prefork.hooks().seen, Some((Duration::ZERO, None)));
}

#[test]
fn intervals_that_were_set_are_left_alone() {
    let calls = Calls::default();
    let server = Thingy {
        calls: Rc::clone(&calls),
        send_ack: Some(Duration::from_secs(1)),
    };
    let prefork = PreFork::builder(server)
        .thread_check(ThreadCheck::Warn)
        .handle_signals(false)
        .timeout(Duration::from_secs(10))
        .server_check_ack(Some(Duration::from_secs(3)))
        .hooks(Subclass::new(&calls))
        .start()
        .unwrap();
    assert_eq!(*calls.borrow(), ["send_ack", "start"]);
    let seen = prefork.hooks().seen;
    assert_eq!(
        seen,
        Some((Duration::from_secs(10), Some(Duration::from_secs(3))))
    );
}
