//! A fake operating system for tests of the child's end: a clock that tests set, waits that are
//! recorded, words that are collected. Never waits.

use crate::{
    core::{comm::Sink, time::Time, wire::CommWords},
    hooks::{ChildServer, comm::Comm},
    sys::link::{Interest, Link, Wake},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// One wait: how long it takes, why it ends, what has happened by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitStep {
    pub(crate) takes: Duration,
    pub(crate) wake: Wake,
    pub(crate) stop: bool,
    pub(crate) orphaned: bool,
}

/// The state that a test sets and checks.
#[derive(Debug)]
pub(crate) struct ChildWorld {
    pub(crate) now: Cell<Time>,
    pub(crate) stop: Cell<bool>,
    pub(crate) orphaned: Cell<bool>,
    /// Whether an order to reopen logs has come, and whether it would end a wait.
    pub(crate) reopen: Cell<bool>,
    pub(crate) wakes_to_reopen: Cell<bool>,
    pub(crate) ends_armed: Cell<usize>,
    /// Whether connections are offered to the child, also while it is busy.
    pub(crate) asked: Cell<bool>,
    /// The next waits; after the last one, each wait lasts until its timeout.
    pub(crate) steps: RefCell<VecDeque<WaitStep>>,
    /// The timeouts of all waits so far.
    pub(crate) waits: RefCell<Vec<Option<Duration>>>,
    pub(crate) pipe: Arc<ParentPipe>,
    null: File,
}

impl ChildWorld {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Cell::default(),
            stop: Cell::default(),
            orphaned: Cell::default(),
            reopen: Cell::default(),
            wakes_to_reopen: Cell::default(),
            ends_armed: Cell::default(),
            asked: Cell::default(),
            steps: RefCell::default(),
            waits: RefCell::default(),
            pipe: Arc::default(),
            null: File::open("/dev/null").unwrap(),
        })
    }

    pub(crate) fn comm(self: &Rc<Self>, words: CommWords) -> Comm {
        Comm::new(Rc::clone(self), Arc::clone(&self.pipe), words, true)
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    /// The messages that were written since the last call.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.pipe.messages.lock().unwrap())
    }

    pub(crate) fn waits(&self) -> Vec<Option<Duration>> {
        self.waits.take()
    }

    fn wait(&self, timeout: Option<Duration>) -> Wake {
        self.waits.borrow_mut().push(timeout);
        let step = self.steps.borrow_mut().pop_front();
        let Some(step) = step else {
            self.pass(timeout.expect("a wait without end and nothing to end it"));
            return Wake::Timer;
        };
        self.pass(step.takes);
        self.stop.set(self.stop.get() | step.stop);
        self.orphaned.set(self.orphaned.get() | step.orphaned);
        step.wake
    }
}

impl Link for Rc<ChildWorld> {
    fn now(&self) -> Time {
        self.now.get()
    }

    fn now_or_so(&self) -> Time {
        self.now.get()
    }

    fn wait_listeners(&self, _: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Wake> {
        Ok(self.wait(timeout))
    }

    fn may_be_woken(&self) -> bool {
        self.asked.get()
    }

    fn leave_wakeups(&self) {
        self.asked.set(false);
    }

    fn wait_stream(
        &self,
        _: BorrowedFd<'_>,
        _: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake> {
        Ok(self.wait(timeout))
    }

    fn wait_request(
        &self,
        _: BorrowedFd<'_>,
        _: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake> {
        Ok(self.wait(timeout))
    }

    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.wait(timeout);
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        self.stop.get()
    }

    fn leaves_queue(&self) -> bool {
        false
    }

    fn wake_to_reopen(&self) {
        self.wakes_to_reopen.set(true);
    }

    fn take_reopen(&self) -> bool {
        self.reopen.take()
    }

    fn orphaned(&self) -> bool {
        self.orphaned.get()
    }

    fn look_for_parent(&self) {}

    fn become_orphan(&self) {
        self.ends_armed.set(self.ends_armed.get() + 1);
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.null.as_fd()
    }
}

/// The pipe to the parent.
#[derive(Debug, Default)]
pub(crate) struct ParentPipe {
    messages: Mutex<Vec<Vec<u8>>>,
    pub(crate) full: AtomicBool,
    pub(crate) broken: AtomicBool,
    /// Whether the parent will look at the notes by itself.
    pub(crate) looks: AtomicBool,
    notes: Mutex<Vec<bool>>,
    connections: Mutex<Vec<Option<Time>>>,
}

impl ParentPipe {
    /// The notes since the last call; true for BUSY.
    pub(crate) fn noted(&self) -> Vec<bool> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }

    /// When connections have begun, and `None` where one has ended.
    pub(crate) fn connections(&self) -> Vec<Option<Time>> {
        std::mem::take(&mut self.connections.lock().unwrap())
    }
}

impl Sink for Arc<ParentPipe> {
    fn write(&self, message: &[u8]) -> io::Result<bool> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = !self.full.load(Ordering::Relaxed);
        if room {
            self.messages.lock().unwrap().push(message.to_vec());
        }
        Ok(room)
    }

    fn note(&self, busy: bool) -> bool {
        self.notes.lock().unwrap().push(busy);
        self.looks.load(Ordering::Relaxed)
    }

    fn begin(&self, now: Time, _: Option<std::net::SocketAddr>) {
        self.connections.lock().unwrap().push(Some(now));
    }

    fn end(&self) {
        self.connections.lock().unwrap().push(None);
    }
}

/// A list of calls that several recorders share, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Rc<RefCell<Vec<String>>>);

impl Calls {
    pub(crate) fn note(&self, call: impl Into<String>) {
        self.0.borrow_mut().push(call.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// A server that only records its calls.
#[derive(Debug, Default)]
pub(crate) struct RecordingServer {
    pub(crate) calls: Calls,
    pub(crate) send_ack: Option<Duration>,
    /// `start` fails.
    pub(crate) broken: bool,
}

impl ChildServer for RecordingServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        self.calls.note("start");
        if self.broken {
            return Err(io::Error::other("broken"));
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.calls.note("stop");
    }

    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }

    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.calls.note(format!("set_send_ack {interval:?}"));
        self.send_ack = interval;
    }

    fn resume_accept(&mut self, _: &mut Comm) -> io::Result<()> {
        self.calls.note("resume_accept");
        Ok(())
    }
}
