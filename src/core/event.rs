//! The events that observers get, and the queue of events that have not been delivered yet. Calls
//! no observer.

use super::{
    accept::refusal::Refusal,
    child::{Child, ChildId, Death, Reason, Signal},
    error::Error,
};
use std::{collections::VecDeque, io, time::Duration};

/// Something that has happened to a server, for its [`Observer`](crate::Observer)s.
///
/// Observers get events in the parent only, in the order in which they happened. What a hook does
/// is delivered when the hook has returned. An event that has a hook of its own is delivered after
/// that hook, and before the events that the hook caused.
///
/// The life of a child is [`Forked`](Self::Forked), [`Ready`](Self::Ready), any number of
/// [`Busy`](Self::Busy) and [`Free`](Self::Free) by turns, [`ToldToStop`](Self::ToldToStop),
/// [`Signalled`](Self::Signalled), [`Exited`](Self::Exited); each but the first may be missing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The server starts: the first event, before the hook `handler_start`.
    Starting,
    /// The server object listens on a socket.
    ///
    /// There is one event for each socket that
    /// [`ChildServer::listeners`](crate::ChildServer::listeners) returns, after `handler_start`,
    /// whose default opens them.
    #[non_exhaustive]
    ListenerOpened {
        /// The name of the socket: `127.0.0.1:80`, `/run/x.sock`.
        name: &'a str,
    },
    /// The server has started and has forked no child yet.
    ///
    /// Right after the sockets' events.
    Started,
    /// A child was forked. After the hook `server_forked`.
    #[non_exhaustive]
    Forked {
        /// The new child.
        child: ChildId,
    },
    /// A child can take connections: its first BUSY or NOT_BUSY has come.
    ///
    /// It comes after the hook for the word, and not for a child that was told to stop before.
    #[non_exhaustive]
    Ready {
        /// The child that said the word.
        child: ChildId,
    },
    /// A free child has taken a connection.
    ///
    /// After the hook `server_busy`, whose default changes the state. A child that goes from one
    /// connection straight to the next may report only the first.
    #[non_exhaustive]
    Busy {
        /// The child that said the word.
        child: ChildId,
    },
    /// A busy child waits for a connection again. After the hook `server_not_busy`.
    #[non_exhaustive]
    Free {
        /// The child that said the word.
        child: ChildId,
    },
    /// A child is told to stop: the signal is sent next.
    ///
    /// It comes after the hook that asked for it and has no hook of its own. A child can be told
    /// again, for a reason that gives it less time.
    #[non_exhaustive]
    ToldToStop {
        /// The child that is told.
        child: ChildId,
        /// Why.
        reason: Reason,
    },
    /// A signal was sent to a child, or could not be sent. No hook is called for it.
    #[non_exhaustive]
    Signalled {
        /// The child that it was for.
        child: ChildId,
        /// Which signal.
        signal: Signal,
        /// Why it could not be sent, if so.
        error: Option<&'a io::Error>,
    },
    /// A child was reaped, and its output has been read.
    ///
    /// After the hook `server_exited`.
    #[non_exhaustive]
    Exited {
        /// Its record, which the monitor no longer has.
        child: &'a Child,
        /// How it ended, and why.
        death: &'a Death,
    },
    /// A reload has begun: every child is to be replaced.
    ///
    /// The hook `handler_reload` has succeeded.
    #[non_exhaustive]
    ReloadBegan {
        /// The epoch of the children that are forked from now on.
        epoch: u32,
    },
    /// A child has been replaced.
    ///
    /// It was told to stop because its successor is ready, or had to go before its successor was
    /// forked, which is ready now. After the hook `server_replaced`.
    #[non_exhaustive]
    Replaced {
        /// The child that goes or has gone.
        old: ChildId,
        /// Its successor.
        new: ChildId,
    },
    /// A reload is complete: no child of an older epoch takes further connections.
    #[non_exhaustive]
    Reloaded {
        /// The epoch of the children.
        epoch: u32,
        /// How many children were replaced.
        replaced: u64,
        /// The time since the reload began.
        took: Duration,
    },
    /// A reload has failed, and the old children stay. After the hook `reload_failed`.
    #[non_exhaustive]
    ReloadFailed {
        /// What failed, and why.
        error: &'a Error,
    },
    /// An upgrade has begun: the new program is tried. No hook is called for it.
    UpgradeBegan,
    /// In a new program or parent: a child of the one before was adopted.
    ///
    /// It comes in the place of [`Forked`](Self::Forked).
    ///
    /// After [`Started`](Self::Started), and before the first turn. No hook is called for it.
    #[non_exhaustive]
    Adopted {
        /// The child, whose record is as it was.
        child: ChildId,
    },
    /// In the new program: the upgrade is complete.
    ///
    /// Its own children have replaced all others.
    ///
    /// No hook is called for it.
    #[non_exhaustive]
    Upgraded {
        /// The time since the upgrade was asked for.
        took: Duration,
        /// For how long no process watched the children.
        ///
        /// It is the time from the last turn of the old program until the new one had taken over.
        blind: Duration,
    },
    /// An upgrade has failed, and the program is the one that it was.
    ///
    /// After the hook `upgrade_failed`.
    #[non_exhaustive]
    UpgradeFailed {
        /// What failed, and why.
        error: &'a Error,
    },
    /// A parent is gone, and this one has taken over its children.
    ///
    /// Its holder has started this one. Each child was [`Adopted`](Self::Adopted).
    ///
    /// Before the first turn of this parent. No hook is called for it.
    #[cfg(feature = "holder")]
    #[cfg_attr(docsrs, doc(cfg(feature = "holder")))]
    #[non_exhaustive]
    TookOver {
        /// How many parents there were before this one.
        earlier: u32,
        /// The exit code of the last of them, if it exited.
        code: Option<i32>,
        /// The number of the signal that ended it, if one did.
        signal: Option<i32>,
        /// How many children it has taken over, those included that had ended.
        children: usize,
        /// The time since this parent was forked.
        took: Duration,
    },
    /// A fork has failed; it is tried again if the server goes on.
    ///
    /// After the hook `fork_failed`, or after `handler_run_error` if trying again cannot help.
    #[non_exhaustive]
    ForkFailed {
        /// What failed, and why.
        error: &'a Error,
        /// The time until the next attempt.
        retry_in: Duration,
    },
    /// The server is saturated, so that each new client has to wait.
    ///
    /// All `max_clients` children were busy, and none has been free for a second since.
    ///
    /// Children that start do not count as free: under load, each takes the place of one that has
    /// taken as many connections as it may.
    ///
    /// The loop checks this at the end of each turn. After the hook `saturated`.
    #[non_exhaustive]
    Saturated {
        /// How many clients wait to be accepted; `None` if the system does not tell.
        waiting: Option<u32>,
        /// For how long the first of them has waited at least, if that is known.
        oldest: Option<Duration>,
    },
    /// The number of clients that wait to be accepted has changed.
    ///
    /// The loop checks this after [`Saturated`](Self::Saturated), once a second at most, until
    /// [`Relieved`](Self::Relieved), after which no client is taken to wait. Never sent where the
    /// system does not know the number.
    #[non_exhaustive]
    Waiting {
        /// The number at all sockets of the server.
        clients: u32,
        /// For how long the first of them has waited at least, if that is known.
        oldest: Option<Duration>,
    },
    /// Connections were not served.
    ///
    /// The loop checks this once a second at most, and at the end of the server. No hook is called
    /// for it.
    #[non_exhaustive]
    Refused {
        /// Why.
        reason: Refusal,
        /// How many, since the last event for this reason.
        connections: u64,
    },
    /// The saturation is over.
    ///
    /// For a second not all children have been busy, or the shutdown has begun.
    ///
    /// Checked at the end of each turn, too. No hook is called for it.
    #[non_exhaustive]
    Relieved {
        /// How long it has lasted, without that second.
        after: Duration,
    },
    /// A signal has asked for a stop, which begins after `pre_stop_delay`.
    ///
    /// The server goes on until then.
    ///
    /// No hook is called for it. Use it to take the server out of a load balancer.
    #[non_exhaustive]
    StopAnnounced {
        /// The time until the stop begins, unless another signal ends it.
        begins_in: Duration,
    },
    /// The shutdown begins. After the hook `handler_shutdown`, whose default begins it.
    ShuttingDown,
    /// A socket of `ListenerOpened` is closed, and all children have ended.
    ///
    /// After the hook `handler_stop`.
    #[non_exhaustive]
    ListenerClosed {
        /// The name of the socket in `ListenerOpened`.
        name: &'a str,
    },
    /// The server has ended: the last event.
    ///
    /// A server that is dropped, or ended by [`PreFork::stop`](crate::PreFork::stop), sends it too,
    /// after the events of its children's ends and a [`ListenerClosed`](Self::ListenerClosed) for each
    /// socket; no hook is called for any of them.
    Ended,
    /// A turn of the loop has ended, and all its events were delivered.
    ///
    /// No hook is called for it.
    #[non_exhaustive]
    Turn {
        /// The time until the next turn if nothing happens before.
        ///
        /// It is zero while work is left, and `None` for never. The times of
        /// [`wake_at`](crate::Observer::wake_at) are not in it.
        next_in: Option<Duration>,
    },
}

/// The events that have not been delivered yet, first in, first out. Without an observer only the rare
/// ones, which the log may tell.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    observed: bool,
    events: VecDeque<Event<'static>>,
}

impl EventQueue {
    /// Turns the queue on: there is an observer.
    pub(crate) fn observe(&mut self) {
        self.observed = true;
    }

    pub(crate) fn push(&mut self, event: Event<'static>) {
        // The log, which looks on in any case, needs nothing that happens at every connection.
        let is_rare = !matches!(event, Event::Busy { .. } | Event::Free { .. });
        if self.observed || is_rare {
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
    fn without_an_observer_what_happens_at_every_connection_is_not_queued() {
        let mut queue = EventQueue::default();
        let child = ChildId::new(1, 1);
        queue.push(Event::Busy { child });
        queue.push(Event::Free { child });
        assert_eq!(queue.events.capacity(), 0);
        queue.push(Event::Starting);
        assert!(queue.pop().is_some() && queue.pop().is_none());
    }

    #[test]
    fn what_happened_first_is_told_first() {
        let mut queue = EventQueue::default();
        queue.observe();
        queue.push(Event::Starting);
        queue.push(Event::Started);
        assert!(matches!(queue.pop(), Some(Event::Starting)));
        assert!(matches!(queue.pop(), Some(Event::Started)));
        assert!(queue.pop().is_none());
    }
}
