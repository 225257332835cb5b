//! What a child says: its pipes and its entry of the board, one source. Cuts bytes into words and
//! lines and compares entries; reads nothing itself.

use super::{
    child::{ChildId, WaitStatus},
    system::{Pipe, Process},
    wire::{CommWords, Entry, Framer, Output, Word},
};

/// One pipe: what has been found of the line that it is in the midst of, and what is known of the rest.
#[derive(Debug)]
struct PipeState {
    framer: Framer,
    /// The poller has told of its end, and will not again.
    hung_up: bool,
    /// There is something to read: the poller is edge-triggered and will not say so again.
    unread: bool,
}

impl PipeState {
    fn new(words: Option<CommWords>) -> Self {
        Self {
            framer: Framer::new(words),
            hung_up: false,
            unread: false,
        }
    }
}

/// What the parent knows of a child's entry.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// As it was when last looked at.
    entry: Entry,
    /// How many words for the child's state have come through its pipes since.
    printed: u32,
}

/// What one child says.
#[derive(Debug)]
pub(crate) struct Inbox {
    serial: u32,
    streams: [Option<PipeState>; 3],
    /// `None` if the child is to print all of its words.
    seen: Option<Seen>,
}

impl Inbox {
    /// The inbox of a new child, whose words are `words`, on its stdout or a private pipe, and on the
    /// board or not.
    pub(crate) fn new(id: ChildId, words: CommWords, private: bool, on_board: bool) -> Self {
        let on_stdout = (!private).then_some(words);
        Self {
            serial: id.serial(),
            streams: [
                Some(PipeState::new(on_stdout)),
                Some(PipeState::new(None)),
                private.then(|| PipeState::new(Some(words))),
            ],
            seen: on_board.then(|| Seen {
                entry: Entry::of(id.serial()),
                printed: 0,
            }),
        }
    }

    /// Whether it is that child's, and not of another that had the slot.
    #[cfg(test)]
    pub(crate) fn is_of(&self, id: ChildId) -> bool {
        self.serial == id.serial()
    }

    fn stream(&mut self, pipe: Pipe) -> Option<&mut PipeState> {
        self.streams[pipe as usize].as_mut()
    }

    /// Notes that a pipe has become readable. True if that is news.
    pub(crate) fn set_unread(&mut self, pipe: Pipe, hung_up: bool) -> bool {
        self.stream(pipe).is_some_and(|stream| {
            stream.hung_up |= hung_up;
            !std::mem::replace(&mut stream.unread, true)
        })
    }

    /// Its turn has come: whether there is such a pipe, and whether its end has been told of.
    pub(crate) fn take_unread(&mut self, pipe: Pipe) -> Option<bool> {
        let stream = self.stream(pipe)?;
        stream.unread = false;
        Some(stream.hung_up)
    }

    /// Takes what was read.
    pub(crate) fn feed(&mut self, pipe: Pipe, bytes: &[u8], mut found: impl FnMut(Output<'_>)) {
        let Self { streams, seen, .. } = self;
        if let Some(stream) = &mut streams[pipe as usize] {
            stream.framer.feed(bytes, |output| {
                if let (Some(seen), Output::Word(Word::Busy | Word::NotBusy)) = (&mut *seen, output)
                {
                    seen.printed = seen.printed.saturating_add(1);
                }
                found(output);
            });
        }
    }

    /// Hands on a line that was left unfinished: its pipe has ended, or a word was noted after it.
    pub(crate) fn end_line(&mut self, pipe: Pipe, found: impl FnMut(Output<'_>)) {
        if let Some(stream) = self.stream(pipe) {
            stream.framer.finish(found);
        }
    }

    /// A pipe is read no more.
    pub(crate) fn close(&mut self, pipe: Pipe) {
        self.streams[pipe as usize] = None;
    }

    /// Whether a pipe that carries words has been read to its end, and that was in the midst of a line.
    pub(crate) fn is_unfinished(&mut self, pipe: Pipe) -> bool {
        self.stream(pipe)
            .is_some_and(|stream| !stream.unread && stream.framer.is_unfinished())
    }

    /// Whether `entry` has something to say. What was printed is compared with it even if it is as it
    /// was: it may have been read late, after newer words that were seen on the board.
    pub(crate) fn is_to_be_compared(&self, entry: Entry) -> bool {
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| entry != seen.entry || seen.printed > 0)
    }

    /// The words to be heard for what the child has noted since last asked, if it is `believed` to be
    /// busy, or not; see [`Entry::changes`].
    pub(crate) fn compare(&mut self, entry: Entry, believed: bool) -> &'static [Word] {
        if !entry.is_of(self.serial) || !self.is_to_be_compared(entry) {
            return &[];
        }
        let Some(earlier) = self.seen.replace(Seen { entry, printed: 0 }) else {
            return &[];
        };
        entry.changes(earlier.entry, earlier.printed, believed)
    }
}

/// A child that was reaped.
#[derive(Clone, Copy, Debug)]
struct End {
    status: Option<WaitStatus>,
    /// How much of what stood in each pipe when it was reaped is still to be read.
    left: [usize; 3],
}

/// How the parent reaches one child. The process is last and unsized, so that both are one allocation.
#[derive(Debug)]
pub(crate) struct Contact<P: ?Sized = dyn Process> {
    pub(crate) inbox: Inbox,
    end: Option<End>,
    pub(crate) process: P,
}

impl<P> Contact<P> {
    pub(crate) fn new(inbox: Inbox, process: P) -> Self {
        Self {
            inbox,
            end: None,
            process,
        }
    }
}

impl Contact {
    /// It has been reaped. A grandchild may hold its pipes and write for ever: no more is read than
    /// stands in them now.
    pub(crate) fn note_end(&mut self, status: Option<WaitStatus>) {
        let left = Pipe::ALL.map(|pipe| self.process.pending(pipe).unwrap_or(0));
        self.end = Some(End { status, left });
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.end.is_some()
    }

    /// Of a child that was reaped: its status.
    pub(crate) fn status(&self) -> Option<Option<WaitStatus>> {
        self.end.map(|end| end.status)
    }

    /// How much of a pipe may be read.
    pub(crate) fn allowance(&self, pipe: Pipe) -> usize {
        self.end.map_or(usize::MAX, |end| end.left[pipe as usize])
    }

    /// So much has been read.
    pub(crate) fn spend(&mut self, pipe: Pipe, count: usize) {
        if let Some(end) = &mut self.end {
            end.left[pipe as usize] = end.left[pipe as usize].saturating_sub(count);
        }
    }

    /// A pipe has ended.
    pub(crate) fn close(&mut self, pipe: Pipe) {
        self.inbox.close(pipe);
        self.process.close(pipe);
    }

    /// Of a dead child, once all its pipes have ended: its status.
    pub(crate) fn read_to_its_end(&self) -> Option<Option<WaitStatus>> {
        let read = self.inbox.streams.iter().all(Option::is_none);
        self.status().filter(|_| read)
    }
}
