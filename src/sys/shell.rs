//! Everything of the operating system that one server holds in the parent, together: the poller,
//! the children's wires, the signals, the outputs, the death watch. Acts when told to.

use super::{
    atfork,
    clock::Clock,
    fd_registry::{Ours, PreForkId},
    limits::Threads,
    null,
    output::Outputs,
    pidfd::Reaped,
    pipes,
    poller::{Output, Poller, Ready, Source},
    scoreboard::Scoreboard,
    signals::{Subscription, stranger},
    stop_board::StopBoard,
    waiter::poll_any,
    wires::Wires,
};
use crate::core::{
    child::{AFTER_KILL, ChildId, Signal},
    error::{Error, Operation},
    signal_policy::Arrived,
    states::{Readiness, Watch, WatchId},
    time::Time,
};
use mio::Interest;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

/// A descriptor of the subclass's own: our duplicate of it.
#[derive(Debug)]
struct Watched {
    id: WatchId,
    fd: Ours<OwnedFd>,
    interest: Interest,
    state: String,
}

#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) clock: Clock,
    pub(crate) poller: Poller,
    pub(crate) wires: Wires,
    pub(crate) outputs: Outputs,
    pub(crate) scoreboard: Scoreboard,
    pub(crate) stops: StopBoard,
    pub(crate) null: Ours<OwnedFd>,
    pub(crate) threads: Threads,
    /// The end that children watch; taken by a child.
    pub(crate) death_read: Option<Ours<OwnedFd>>,
    /// Nothing is written to it. It is open for as long as this process lives, and nowhere else.
    death_write: Option<Ours<OwnedFd>>,
    signals: Option<Subscription>,
    watches: Vec<Watched>,
    /// How long children get when the server is dropped while they live.
    pub(crate) grace: Duration,
    owner: u32,
    is_settled: bool,
}

impl Shell {
    /// The shell of a server that has so many children at the most, for now.
    pub(crate) fn new(
        id: PreForkId,
        handle_signals: bool,
        grace: Duration,
        children: usize,
    ) -> Result<Self, Error> {
        let pipe = |error| Error::new(Operation::Pipe, "for the death watch", error);
        let null = null::open()?;
        // Made now, its buffer is made once, and not in each child.
        let _ = io::stdout();
        let (death_read, death_write) = pipes::pipe().map_err(pipe)?;
        let death_read = Ours::childrens(death_read, id);
        let death_write = Ours::parents(death_write);
        let poller = Poller::new().map_err(|error| Error::new(Operation::Poll, "set-up", error))?;
        let signal = |error| Error::new(Operation::Signal, "set-up", error);
        let signals = Subscription::new(handle_signals).map_err(signal)?;
        poller
            .add_urgent(
                signals.as_fd().as_raw_fd(),
                Source::Signals,
                Interest::READABLE,
            )
            .map_err(|error| Error::new(Operation::Register, "signal pipe", error))?;
        Ok(Self {
            clock: Clock::new(),
            poller,
            wires: Wires::default(),
            outputs: Outputs::new(),
            scoreboard: Scoreboard::new(children)
                .map_err(|error| Error::new(Operation::Map, "the scoreboard", error))?,
            stops: StopBoard::new(children)
                .map_err(|error| Error::new(Operation::Map, "the board of stops", error))?,
            null: Ours::childrens(null, id),
            threads: Threads::open(),
            death_read: Some(death_read),
            death_write: Some(death_write),
            signals: Some(signals),
            watches: Vec::new(),
            grace,
            owner: std::process::id(),
            is_settled: false,
        })
    }

    /// This process is the one that the server lives in, from its first turn on: between its start and
    /// that the program may have become a daemon. True the first time.
    pub(crate) fn settle(&mut self) -> bool {
        if self.is_settled {
            return false;
        }
        self.is_settled = true;
        let started_in = std::mem::replace(&mut self.owner, std::process::id());
        if started_in != self.owner {
            self.threads = Threads::open();
        }
        self.stops.hide_from_children();
        stranger::note_home(started_in);
        atfork::watch();
        true
    }

    /// Waits for at most `timeout`, and collects what is ready.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<Ready>,
    ) -> Result<(), Error> {
        self.poller
            .wait(timeout, ready)
            .map_err(|error| Error::new(Operation::Poll, "for events", error))
    }

    /// Lets words pile up for at most `timeout`, or until something urgent has come; then collects what
    /// is ready. What children have noted meanwhile is to be looked at when their pipes have been read.
    pub(crate) fn wait_for_words(
        &mut self,
        timeout: Duration,
        ready: &mut Vec<Ready>,
    ) -> Result<(), Error> {
        self.scoreboard.promise_to_look();
        let piled = self.poller.wait_urgent(timeout, ready);
        self.scoreboard.keep_promise();
        piled
            .and_then(|()| self.poller.wait_more(Some(Duration::ZERO), ready))
            .map_err(|error| Error::new(Operation::Poll, "for events", error))
    }

    /// Which signals have come; `woken` if their pipe is readable.
    pub(crate) fn arrived(&mut self, woken: bool) -> Arrived {
        self.signals
            .as_mut()
            .map(|signals| signals.arrived(woken))
            .unwrap_or_default()
    }

    /// Has SIGCHLD wake the parent too: some child has no pidfd. True if it did not before.
    pub(crate) fn watch_deaths(&mut self) -> bool {
        let result = self
            .signals
            .as_mut()
            .map_or(Ok(false), |signals| signals.handle(Signal::Child));
        result.unwrap_or_else(|error| {
            log::error!("cannot watch for SIGCHLD: {error}");
            false
        })
    }

    /// Has `signal` handled: it leads to a state.
    pub(crate) fn lead(&mut self, signal: Signal) -> Result<(), Error> {
        let handle = |signals: &mut Subscription| signals.handle(signal).map(drop);
        let handled = self.signals.as_mut().map_or(Ok(()), handle);
        handled.map_err(|error| Error::new(Operation::Signal, format!("{signal:?}"), error))
    }

    /// Adds a descriptor of the subclass's own.
    pub(crate) fn watch(&mut self, watch: Watch) -> io::Result<()> {
        let Watch {
            id,
            fd,
            readiness,
            state,
        } = watch;
        let interest = match readiness {
            Readiness::Read => Interest::READABLE,
            Readiness::Write => Interest::WRITABLE,
        };
        let watch = Watched {
            id,
            fd: Ours::parents(fd),
            interest,
            state,
        };
        self.poller
            .add_urgent(watch.fd.as_raw_fd(), watch.source(), watch.interest)?;
        self.watches.push(watch);
        Ok(())
    }

    /// Removes one; an unknown one is ignored.
    pub(crate) fn unwatch(&mut self, id: WatchId) {
        if let Some(at) = self.watches.iter().position(|watch| watch.id == id) {
            let watch = self.watches.swap_remove(at);
            if let Err(error) = self.poller.remove_urgent(watch.fd.as_raw_fd()) {
                log::debug!(
                    "deregistering the descriptor of state {}: {error}",
                    watch.state
                );
            }
        }
    }

    /// The state of a watched descriptor that is ready. It is reported again while it stays so.
    pub(crate) fn watched_state(&self, number: u64) -> Option<&str> {
        let watch = self
            .watches
            .iter()
            .find(|watch| watch.id.number() == number)?;
        let renewed =
            self.poller
                .renew_urgent(watch.fd.as_raw_fd(), watch.source(), watch.interest);
        if let Err(error) = renewed {
            log::warn!("watching the descriptor of state {}: {error}", watch.state);
        }
        Some(&watch.state)
    }

    /// Lets go of the process-wide things, the signals among them: the end of the server.
    pub(crate) fn close(&mut self) {
        self.death_write = None;
        while let Some(watch) = self.watches.first() {
            self.unwatch(watch.id);
        }
        if let Some(signals) = self.signals.take() {
            let _ = self.poller.remove_urgent(signals.as_fd().as_raw_fd());
        }
    }

    /// Ends the children, outside of the loop. Those that live are told, given the grace, killed.
    pub(crate) fn end_children(&mut self) {
        self.death_write = None;
        let children = self.wires.ids();
        if !children.is_empty() {
            self.kill_all(&children, Signal::Interrupt);
            let left = self.await_deaths(children, self.clock.now() + self.grace);
            self.kill_all(&left, Signal::Kill);
            let left = self.await_deaths(left, self.clock.now() + AFTER_KILL);
            for id in left {
                log::error!("child {id} cannot be killed");
            }
        }
    }

    /// Reaps whoever has ended of `children`, and says who is left.
    fn reap_all(&self, children: Vec<ChildId>) -> Vec<ChildId> {
        children
            .into_iter()
            .filter(|&id| matches!(self.wires.reap(id), Ok(Reaped::Not)))
            .collect()
    }

    /// Sends a signal to a child. One that tells it to stop is seen even if it ignores it now.
    pub(crate) fn kill(&self, child: ChildId, signal: Signal) -> io::Result<()> {
        if matches!(signal, Signal::Interrupt | Signal::Terminate) {
            self.stops.tell(child);
        }
        self.wires.kill(child, signal)
    }

    fn kill_all(&self, children: &[ChildId], signal: Signal) {
        for &id in children {
            if let Err(error) = self.kill(id, signal) {
                log::debug!("{signal:?} to {id}: {error}");
            }
        }
    }

    /// Reads what children have written, and forgets it: one that cannot write cannot finish.
    fn empty_outputs(&mut self, children: &[ChildId]) {
        for &id in children {
            for output in Output::ALL {
                // OK to ignore: what has failed has nothing more to read.
                let _ = self.wires.read(id, output, |_| {});
            }
        }
    }

    /// Waits, outside of the loop, until all `children` have been reaped or `until` has come.
    fn await_deaths(&mut self, mut children: Vec<ChildId>, until: Time) -> Vec<ChildId> {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        loop {
            self.empty_outputs(&children);
            children = self.reap_all(children);
            if children.is_empty() || until <= self.clock.now() {
                return children;
            }
            // OK to ignore: what matters is found by looking.
            let _ = poll_any([], Some(LOOK_EVERY));
        }
    }
}

/// A server that is dropped while children live, as in a panic of the program around it.
impl Drop for Shell {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            self.end_children();
            self.close();
        }
    }
}

impl Watched {
    fn source(&self) -> Source {
        Source::Watch(self.id.number())
    }
}
