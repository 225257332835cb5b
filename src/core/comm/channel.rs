//! How words are encoded and which word was sent last, shared by all handles to the wire in all
//! threads. Does not decide when a word is due; a [`Sink`] does the writing.

use super::Interval;
use crate::core::{
    endpoint_load::Count,
    time::Time,
    wire::{CommWords, Word},
};
use std::{
    fmt, io,
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Where words are written.
pub(crate) trait Sink: Send + Sync {
    /// Writes `message` in one piece. False if there was no room for it and nothing was written.
    fn write(&self, message: &[u8]) -> io::Result<bool>;
    /// Notes in shared memory whether the child is busy.
    ///
    /// True if the parent will look there by itself, so that no word need be sent.
    fn note(&self, busy: bool) -> bool;
    /// Notes in shared memory one more connection, in hand since this time.
    fn begin(&self, _: Time, _: Option<SocketAddr>) {}
    /// Tells tracers of a connection that is not served: the number of the reason, and its time in the
    /// queue.
    fn refused(&self, _reason: u32, _queued: Duration) {}
    /// Notes in shared memory that no connection is in hand any more.
    fn end(&self) {}
    /// Notes in shared memory that the connection in hand is one of this client, and counts those of
    /// all children.
    fn claim(&self, _: NonZeroU64) -> usize {
        1
    }
    /// Notes in shared memory that the connection in hand may take this time from now.
    fn extend(&self, _: Duration) {}
    /// Notes in shared memory how long the connection in hand was queued.
    fn note_queued(&self, _: Duration) {}
    /// Counts in shared memory how long a connection of a listener was queued.
    fn count_queued(&self, _listener: usize, _: Duration) {}
    /// Notes in shared memory that the child is to be replaced.
    fn note_due(&self) {}
    /// Notes in shared memory what the handler says about the connection in hand.
    fn note_text(&self, _: &str) {}
    /// The interval of ACKs that the parent asks for, if any.
    fn asked_interval(&self) -> Option<Interval> {
        None
    }
    /// Notes in shared memory the interval that the child keeps.
    fn note_interval(&self, _: Interval) {}
    /// How many connections the child of each slot has taken.
    fn counts(&self) -> Vec<Count> {
        Vec::new()
    }
    /// How many children of the server have a connection in hand, as far as the sink knows.
    fn busy_servers(&self) -> usize {
        0
    }
}

/// What all handles to the wire share, in all threads.
///
/// The sink is in the same allocation. Each allocation is costly in a new child, because the page
/// that it writes to must be copied first.
pub(crate) struct Channel<S: ?Sized = dyn Sink> {
    words: CommWords,
    pub(crate) busy: AtomicBool,
    /// Whether the child has ever said BUSY or NOT_BUSY. Until then it may still be starting, and
    /// its ACKs say only that it is alive.
    pub(crate) stated: AtomicBool,
    pub(crate) leaving: AtomicBool,
    pub(crate) unsaid: AtomicBool,
    /// Whether a word failed because the pipe has no reader.
    pub(crate) unheard: AtomicBool,
    /// Held by the thread that changes the state until it has noted the change: the state that is
    /// noted last and the state that an ACK repeats must be the same.
    turn: Mutex<()>,
    sink: S,
}

impl<S: Sink> Channel<S> {
    pub(crate) fn new(sink: S, words: CommWords) -> Self {
        Self {
            words,
            busy: AtomicBool::new(false),
            stated: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            unsaid: AtomicBool::new(false),
            unheard: AtomicBool::new(false),
            turn: Mutex::new(()),
            sink,
        }
    }
}

impl Channel {
    /// Writes a word as newline, word, newline.
    ///
    /// The first newline ends output that was left unfinished, so that neither it nor the word is
    /// lost. An ACK is followed by the word for the state, if the child has said one before: this
    /// corrects a word that was lost or forged.
    pub(crate) fn say(&self, word: Word) -> io::Result<()> {
        let busy = self.busy.load(Ordering::Relaxed);
        let state = if busy { Word::Busy } else { Word::NotBusy };
        let [word_byte, state_byte] = [word, state].map(|word| self.words.byte(word));
        let message = [b'\n', word_byte, b'\n', state_byte, b'\n'];
        let stated = self.stated.load(Ordering::Relaxed);
        let repeats =
            word == Word::Ack && stated && (busy || !self.leaving.load(Ordering::Relaxed));
        let written = self
            .sink
            .write(if repeats { &message } else { &message[..3] })
            .inspect_err(|error| {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    self.unheard.store(true, Ordering::Relaxed);
                }
            })?;
        self.unsaid.store(!written, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn set_busy(&self, busy: bool) -> io::Result<()> {
        if !busy && self.leaving.load(Ordering::Relaxed) {
            self.sink.end();
            return Ok(());
        }
        let is_said =
            || self.busy.load(Ordering::Relaxed) == busy && self.stated.load(Ordering::Relaxed);
        // Under load this is the usual case, so it is checked before the lock is taken.
        if is_said() {
            return Ok(());
        }
        let turn = self.lock();
        if is_said() {
            return Ok(());
        }
        self.busy.store(busy, Ordering::Relaxed);
        self.stated.store(true, Ordering::Relaxed);
        let will_be_found = self.sink.note(busy);
        drop(turn);
        if will_be_found {
            return Ok(());
        }
        self.say(if busy { Word::Busy } else { Word::NotBusy })
    }

    /// Says NOT_BUSY for a server that has said nothing when it begins to wait.
    ///
    /// The word is printed and not noted: the server may print all its words itself, and then its
    /// notes must not contradict them.
    pub(crate) fn say_not_busy_at_first(&self) -> io::Result<()> {
        self.stated.store(true, Ordering::Relaxed);
        self.sink.end();
        self.say(Word::NotBusy)
    }

    pub(crate) fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // OK to go on after a panic: the lock protects only the order of the steps.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says words to the parent from any thread of the child. It can be cloned.
#[derive(Clone)]
pub struct Acker {
    pub(crate) channel: Arc<Channel>,
}

impl Acker {
    /// Says that the child is alive.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached.
    pub fn ack(&self) -> io::Result<()> {
        self.channel.say(Word::Ack)
    }

    /// Asks for more time for the connection in hand: see [`Comm::extend`](crate::Comm::extend).
    pub fn extend(&self, time: Duration) {
        self.channel.sink().extend(time);
    }

    /// Says that the child is busy, unless that was the last word.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached.
    pub fn busy(&self) -> io::Result<()> {
        self.channel.set_busy(true)
    }

    /// Says that the child is not busy, unless that was the last word.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached.
    pub fn not_busy(&self) -> io::Result<()> {
        self.channel.set_busy(false)
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acker").finish_non_exhaustive()
    }
}
