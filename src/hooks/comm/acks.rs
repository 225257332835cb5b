//! The ACKs of a child: when the next is due, who sends it, and how long a wait may last before that.
//! Waits for nothing itself.

use super::{Comm, CommShared};
use crate::core::{comm::Interval, time::Time, wire::Word};
use std::{
    cell::{Cell, RefCell},
    io,
    sync::atomic::Ordering,
    time::Duration,
};

/// How long a child waits before it repeats a word for which the pipe had no room.
const SAY_AGAIN: Duration = Duration::from_millis(100);

/// An ACK counts as fresh for this fraction (1/n) of the interval of ACKs.
const FRESH: u32 = 16;

type SendAck = Box<dyn FnMut(&Comm) -> io::Result<()>>;

/// The clock of ACKs.
#[derive(Default)]
pub(super) struct Acks {
    interval: Cell<Option<Duration>>,
    /// Whether the interval follows what the parent asks for.
    follows: Cell<bool>,
    next: Cell<Option<Time>>,
    /// The callback that sends an ACK that is due; empty by default and while the callback runs.
    send: RefCell<Option<SendAck>>,
}

impl Comm {
    /// Sends an ACK now: the child is alive.
    ///
    /// The next automatic ACK is due after an interval.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached, which mostly means that it is gone. A full pipe is not an
    /// error: the word is repeated later.
    pub fn ack(&self) -> io::Result<()> {
        let shared = &self.shared;
        shared.acks.next.set(
            shared
                .acks
                .interval
                .get()
                .map(|interval| shared.link.now() + interval),
        );
        shared.channel.say(Word::Ack)
    }

    /// Calls `send_ack` whenever an ACK is due, in place of the default, [`Comm::ack`].
    ///
    /// It is the original's `handler_send_ack`. Use it to check whether an interpreter, or a
    /// database connection, still works, and call [`Comm::ack`] only if so: without ACKs the parent
    /// takes the child for stuck and replaces it.
    ///
    /// Call it where [`when_told_to_stop`](Self::when_told_to_stop) is called.
    ///
    /// ```
    /// # use prefork_server::Comm;
    /// # fn healthy() -> bool { true }
    /// # fn with(comm: &Comm) {
    /// comm.when_ack_due(|comm| if healthy() { comm.ack() } else { Ok(()) });
    /// # }
    /// ```
    pub fn when_ack_due(&self, send_ack: impl FnMut(&Self) -> io::Result<()> + 'static) {
        *self.shared.acks.send.borrow_mut() = Some(Box::new(send_ack));
    }

    /// Sends an ACK if one is due, for a server that is too busy to wait.
    ///
    /// The waits send ACKs by themselves. This call may be some milliseconds late, because it reads
    /// the kernel's coarse clock: it is cheap enough for each operation on a connection.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn attend(&self) -> io::Result<()> {
        self.say_what_is_due(|| self.shared.link.now_or_so())
    }

    /// As [`attend`](Self::attend), for a caller that has just read the clock.
    pub(crate) fn attend_at(&self, now: Option<Time>) -> io::Result<()> {
        self.say_what_is_due(|| now.unwrap_or_else(|| self.now()))
    }

    /// Notes that work begins that may take long, and sends an ACK unless the last one is fresh.
    ///
    /// The parent counts silence from the ACK, so work that takes less than `timeout` does not
    /// count as a hang, whenever it begins.
    ///
    /// This sends at most 32 ACKs in a `timeout`. `now` is for a caller that has just read the
    /// clock; without it the kernel's coarse clock is read.
    pub(crate) fn begin(&self, now: Option<Time>) -> io::Result<()> {
        let shared = &self.shared;
        self.follow()?;
        let (Some(due), Some(interval)) = (shared.acks.next.get(), shared.acks.interval.get())
        else {
            return self.say_what_is_due(|| Time::START);
        };
        let now = now.unwrap_or_else(|| shared.link.now_or_so());
        if due.since(now) < interval - interval / FRESH {
            shared.acks.next.set(Some(now + interval));
            return self.send_ack();
        }
        self.say_what_is_due(|| now)
    }

    /// Sends the ACK or the word that is due.
    ///
    /// Before a wait, `now` must be exact: with a coarse clock that is late, the child would wait
    /// for zero time again and again.
    pub(super) fn say_what_is_due(&self, now: impl FnOnce() -> Time) -> io::Result<()> {
        let shared = &self.shared;
        self.follow()?;
        // A child that sends no ACKs reads no clock: in a new child the first reading is costly.
        if let Some(due) = shared.acks.next.get() {
            let now = now();
            if due <= now {
                let interval = shared.acks.interval.get();
                shared
                    .acks
                    .next
                    .set(interval.map(|interval| now + interval));
                return self.send_ack();
            }
        }
        if shared.channel.unsaid.load(Ordering::Relaxed) {
            return shared.channel.say(Word::Ack);
        }
        Ok(())
    }

    /// Takes over the interval of ACKs that the parent asks for now.
    ///
    /// An ACK is sent first, so that the parent does not judge the time before by the new interval.
    pub(super) fn follow(&self) -> io::Result<()> {
        let shared = &self.shared;
        if !shared.acks.follows.get() {
            return Ok(());
        }
        let sink = shared.channel.sink();
        match sink.asked_interval() {
            Some(asked) if asked.0 != shared.acks.interval.get() => {
                self.keep(asked.0);
                let sent = self.send_ack();
                sink.note_interval(asked);
                sent
            }
            _ => Ok(()),
        }
    }

    fn keep(&self, interval: Option<Duration>) {
        self.shared.acks.interval.set(interval);
        self.shared.acks.next.set(self.deadline(interval));
    }

    fn send_ack(&self) -> io::Result<()> {
        // The callback is taken out while it runs, because it may wait and so come here again.
        let Some(mut send_ack) = self.shared.acks.send.take() else {
            return self.shared.channel.say(Word::Ack);
        };
        let sent = send_ack(self);
        self.shared.acks.send.borrow_mut().get_or_insert(send_ack);
        sent
    }

    /// Sets the interval of automatic ACKs; `None` sends none.
    ///
    /// The interval then stays, even if the `timeout` of the server is changed.
    pub fn set_send_ack(&self, interval: Option<Duration>) {
        self.shared.acks.follows.set(false);
        self.keep(interval);
        self.shared.channel.sink().note_interval(Interval(interval));
    }

    /// As [`set_send_ack`](Self::set_send_ack), until the parent asks for another one.
    pub(crate) fn set_send_ack_for_now(&self, interval: Option<Duration>) {
        self.set_send_ack(interval);
        self.shared.acks.follows.set(true);
    }
}

impl CommShared {
    /// How long the child may wait before something is due.
    pub(super) fn longest_wait(&self, deadline: Option<Time>) -> Option<Duration> {
        let again = self.channel.unsaid.load(Ordering::Relaxed);
        let again = again.then_some(SAY_AGAIN);
        let Some(due) = [self.acks.next.get(), deadline].into_iter().flatten().min() else {
            return again;
        };
        let due = due.since(self.link.now());
        Some(again.map_or(due, |again| again.min(due)))
    }
}
