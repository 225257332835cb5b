//! How words are put and what was said last, for all handles to the wire, in whichever thread. Decides
//! no moment; writing is its [`Sink`]'s.

use super::Interval;
use crate::core::wire::{CommWords, Word};
use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Where words are written to.
pub(crate) trait Sink: Send + Sync {
    /// Writes `message` in one piece. False if there was no room for it, and none of it was written.
    fn write(&self, message: &[u8]) -> io::Result<bool>;
    /// Notes what the child is doing where the parent can look. True if it is going to, so that it need
    /// not be told.
    fn note(&self, busy: bool) -> bool;
    /// Counts one more connection where the parent can look.
    fn count_request(&self) {}
    /// The interval of ACKs that the parent asks for, if it has asked.
    fn asked_interval(&self) -> Option<Interval> {
        None
    }
    /// Notes the interval that is kept where the parent can look.
    fn note_interval(&self, _: Interval) {}
    /// How many children of the server have a connection in hand, as far as is known here.
    fn busy_servers(&self) -> usize {
        0
    }
}

/// What all handles to the wire share, in whichever thread.
///
/// (One allocation with its sink, as is [`Shared`](super::Shared) with its link: to a new child each is
/// dear, since it is made on a page that must be copied first.)
pub(crate) struct Channel<S: ?Sized = dyn Sink> {
    words: CommWords,
    pub(crate) busy: AtomicBool,
    /// Whether it was ever said what the child is doing. Until then it may still be making itself
    /// ready, and its ACKs say no more than that it lives.
    pub(crate) stated: AtomicBool,
    pub(crate) leaving: AtomicBool,
    pub(crate) unsaid: AtomicBool,
    /// Whether a word has found nobody who reads.
    pub(crate) unheard: AtomicBool,
    /// Held by whoever changes the state, from whichever thread, until it has been noted: what is noted
    /// last and what an ACK repeats must be the same.
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
    /// Writes a word as newline, word, newline: output that was left unfinished before it loses
    /// neither. An ACK is followed by the word for the state, if one was said before, so that one
    /// lost or forged heals.
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
            return Ok(());
        }
        let is_said =
            || self.busy.load(Ordering::Relaxed) == busy && self.stated.load(Ordering::Relaxed);
        // Under load this is the way out, so it comes before anything is written.
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

    /// NOT_BUSY for a server that has said nothing when it begins to wait. It is printed and not noted: a
    /// server that prints all its words by itself has to be believed.
    pub(crate) fn say_not_busy_at_first(&self) -> io::Result<()> {
        self.stated.store(true, Ordering::Relaxed);
        self.say(Word::NotBusy)
    }

    pub(crate) fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // OK to go on after a panic: it guards nothing but the order of the steps.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says words to the parent from anywhere in the child: it can be cloned and sent to other threads.
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
