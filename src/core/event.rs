//! What observers are told, and the queue of what has happened in the books and was not told yet. Tells
//! nobody.

use super::{
    child::{Child, ChildId, Death, Reason, Signal},
    error::Error,
};
use std::{collections::VecDeque, io, time::Duration};

/// Something that has happened to a server, as its [`Observer`](crate::Observer)s are told.
///
/// All events happen in the parent; in a child nothing is told. They come in the order in which they
/// happened. Whatever a hook does is told when that hook has returned, and an event that has a hook of
/// its own is told after it, and before what that hook did.
///
/// The life of a child is [`Forked`](Self::Forked), [`Ready`](Self::Ready), any number of
/// [`Busy`](Self::Busy) and [`Free`](Self::Free) by turns, [`ToldToStop`](Self::ToldToStop),
/// [`Signalled`](Self::Signalled), [`Exited`](Self::Exited); each but the first may be missing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server starts: the first event, before the hook `handler_start`.
    Starting,
    /// The server object listens on a socket: one event for each that
    /// [`ChildServer::listeners`](crate::ChildServer::listeners) names. After `handler_start`, whose default
    /// has the object open them.
    #[non_exhaustive]
    ListenerOpened {
        /// What people call it: `127.0.0.1:80`, `/run/x.sock`.
        name: &'a str,
    },
    /// The server has started, and nothing is forked yet. Right after the sockets.
    Started,
    /// A child was forked. After the hook `server_forked`.
    #[non_exhaustive]
    Forked {
        /// The new child.
        child: ChildId,
    },
    /// A child can take connections: its first BUSY or NOT_BUSY has come, and it had not been told to
    /// stop. After the hook for the word.
    #[non_exhaustive]
    Ready {
        /// Who said it.
        child: ChildId,
    },
    /// A free child has a connection in hand now. After the hook `server_busy`, whose default notes it. A
    /// child that goes from one connection straight to the next tells of the first alone.
    #[non_exhaustive]
    Busy {
        /// Who said it.
        child: ChildId,
    },
    /// A busy child waits for a connection again. After the hook `server_not_busy`, whose default notes it.
    #[non_exhaustive]
    Free {
        /// Who said it.
        child: ChildId,
    },
    /// A child was told to stop, or is about to be: the signal is sent next. After the hook that
    /// asked for it; no hook is called for it. A child can be told again, for a reason that gives it less
    /// time.
    #[non_exhaustive]
    ToldToStop {
        /// Who was told.
        child: ChildId,
        /// Why.
        reason: Reason,
    },
    /// A signal was sent to a child, or could not be. No hook is called for it.
    #[non_exhaustive]
    Signalled {
        /// Whom it was for.
        child: ChildId,
        /// Which signal.
        signal: Signal,
        /// Why it could not be sent.
        error: Option<&'a io::Error>,
    },
    /// A child has ended, was reaped, and all that it wrote has been read. After the hook `server_exited`.
    #[non_exhaustive]
    Exited {
        /// Its record; the monitor has it no more.
        child: &'a Child,
        /// How it ended, and why.
        death: &'a Death,
    },
    /// A fork has failed, and is tried again if the server goes on. After the hook `fork_failed`, or
    /// `handler_run_error` where trying again cannot help.
    #[non_exhaustive]
    ForkFailed {
        /// What failed, and why.
        error: &'a Error,
        /// How long no fork is tried.
        retry_in: Duration,
    },
    /// There are `max_clients` children, none is free and some are busy: the next client has to wait. Looked
    /// at once at the end of each turn, before [`Turn`](Self::Turn); no hook is called for it.
    Saturated,
    /// The number of clients that wait to be accepted has changed. Looked at after
    /// [`Saturated`](Self::Saturated), once a second at the most, until [`Relieved`](Self::Relieved), after
    /// which none is taken to wait. Never told where the system does not know the number, as for UNIX sockets.
    #[non_exhaustive]
    Waiting {
        /// How many, at all sockets of the server.
        clients: u32,
    },
    /// That is over, or the shutdown has begun. Looked at likewise.
    Relieved,
    /// The shutdown begins. After the hook `handler_shutdown`, whose default begins it.
    ShuttingDown,
    /// A socket that was told of is closed, and all children have ended. After the hook `handler_stop`.
    #[non_exhaustive]
    ListenerClosed {
        /// What it was called when it was opened.
        name: &'a str,
    },
    /// The server has ended: the last event. A server that is merely dropped does without this one and
    /// [`ListenerClosed`](Self::ListenerClosed).
    Ended,
    /// A turn of the loop has come to its end, and all that happened in it has been told. No hook is
    /// called for it.
    #[non_exhaustive]
    Turn {
        /// When the next is due if nothing happens before: zero while work is left, `None` for never. What
        /// observers ask for by [`wake_at`](crate::Observer::wake_at) is not in it.
        next_in: Option<Duration>,
    },
}

/// What has happened in the books and was not told yet, first in, first out. It costs nothing while
/// nobody observes.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    observed: bool,
    events: VecDeque<Event<'static>>,
}

impl Untold {
    /// From now on somebody is told.
    pub(crate) fn observe(&mut self) {
        self.observed = true;
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.observed
    }

    pub(crate) fn push(&mut self, event: Event<'static>) {
        if self.observed {
            self.events.push_back(event);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event<'static>> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_observer_nothing_is_queued_nor_allocated() {
        let mut untold = Untold::default();
        untold.push(Event::Starting);
        assert_eq!(untold.events.capacity(), 0);
        assert!(untold.pop().is_none());
    }

    #[test]
    fn what_happened_first_is_told_first() {
        let mut untold = Untold::default();
        untold.observe();
        untold.push(Event::Starting);
        untold.push(Event::Started);
        assert!(matches!(untold.pop(), Some(Event::Starting)));
        assert!(matches!(untold.pop(), Some(Event::Started)));
        assert!(untold.pop().is_none());
    }
}
