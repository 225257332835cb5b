//! What a child says, on its pipes and in its entry of the board, as one source. Cuts bytes into
//! words and lines and compares entries; reads no pipe and no board itself.

use super::{
    child::{ChildId, Collected, Usage, WaitStatus},
    config::CommChannel,
    state::{ChildState, EndState, PipeState, SeenState, UsageState},
    system::{ChildPipe, Process},
    wire::{BoardEntry, CommWords, Framer, Output, PartialLine, Word},
};

/// One pipe: its framer, with the line that is not complete yet, and what the poller has reported.
#[derive(Debug)]
struct PipeInbox {
    framer: Framer,
    /// The poller has reported its end, and will not report it again.
    hung_up: bool,
    /// There is something to read: the poller is edge-triggered and does not report it again.
    unread: bool,
}

impl PipeInbox {
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
struct KnownEntry {
    /// The entry at the last look.
    entry: BoardEntry,
    /// How many words for the child's state have come through its pipes since then.
    printed: u32,
}

/// What one child says.
#[derive(Debug)]
pub(crate) struct Inbox {
    serial: u32,
    streams: [Option<PipeInbox>; 3],
    /// `None` if the child prints all of its words.
    seen: Option<KnownEntry>,
}

impl Inbox {
    /// The inbox of a new child with these `words` on this `channel`, and with an entry on the board if
    /// `on_board`.
    pub(crate) fn new(id: ChildId, words: CommWords, channel: CommChannel, on_board: bool) -> Self {
        let (on_stdout, private) = match channel {
            CommChannel::Stdout => (Some(words), None),
            CommChannel::Private => (None, Some(words)),
        };
        Self {
            serial: id.serial(),
            streams: [
                Some(PipeInbox::new(on_stdout)),
                Some(PipeInbox::new(None)),
                private.map(|words| PipeInbox::new(Some(words))),
            ],
            seen: on_board.then(|| KnownEntry {
                entry: BoardEntry::of(id.serial()),
                printed: 0,
            }),
        }
    }

    /// The inbox of a child that an earlier program of this process has forked. Its pipes are to be
    /// read from: nothing is known of what they hold.
    pub(crate) fn restored(state: &ChildState, words: CommWords) -> Self {
        let private = state.pipe(ChildPipe::Comm as usize).fd.is_some();
        let of = |pipe: ChildPipe| match (pipe, private) {
            (ChildPipe::Stdout, false) | (ChildPipe::Comm, true) => Some(words),
            _ => None,
        };
        let stream = |pipe: ChildPipe| {
            let saved = state.pipe(pipe as usize);
            let begun = PartialLine {
                bytes: saved.unfinished,
                is_piece: saved.is_piece,
                empty_held: saved.empty_held,
            };
            saved.fd.map(|_| PipeInbox {
                framer: Framer::restored(of(pipe), &begun),
                hung_up: false,
                unread: false,
            })
        };
        Self {
            serial: state.serial,
            streams: ChildPipe::ALL.map(stream),
            seen: state.seen.as_ref().map(|seen| KnownEntry {
                entry: BoardEntry::from_bits(seen.entry),
                printed: seen.printed,
            }),
        }
    }

    /// What another program needs to go on reading: the pipes, and what was seen of the board.
    pub(crate) fn save(&self) -> (Vec<PipeState>, Option<SeenState>) {
        let pipe = |stream: &Option<PipeInbox>| match stream {
            Some(stream) => {
                let begun = stream.framer.begun();
                PipeState {
                    unfinished: begun.bytes,
                    is_piece: begun.is_piece,
                    empty_held: begun.empty_held,
                    ..PipeState::default()
                }
            }
            None => PipeState::default(),
        };
        let seen = self.seen.map(|seen| SeenState {
            entry: seen.entry.bits(),
            printed: seen.printed,
        });
        (self.streams.iter().map(pipe).collect(), seen)
    }

    /// Whether it belongs to child `id`, and not to an earlier child in the same slot.
    #[cfg(test)]
    pub(crate) fn is_of(&self, id: ChildId) -> bool {
        self.serial == id.serial()
    }

    fn stream(&mut self, pipe: ChildPipe) -> Option<&mut PipeInbox> {
        self.streams[pipe as usize].as_mut()
    }

    /// Notes that a pipe has become readable. True if that was not known.
    pub(crate) fn set_unread(&mut self, pipe: ChildPipe, hung_up: bool) -> bool {
        self.stream(pipe).is_some_and(|stream| {
            stream.hung_up |= hung_up;
            !std::mem::replace(&mut stream.unread, true)
        })
    }

    /// Clears the readable mark of a pipe before it is read.
    ///
    /// Returns whether its end has been reported; `None` if the pipe is closed.
    pub(crate) fn take_unread(&mut self, pipe: ChildPipe) -> Option<bool> {
        let stream = self.stream(pipe)?;
        stream.unread = false;
        Some(stream.hung_up)
    }

    /// Takes bytes that were read, and passes words and lines to `found`.
    pub(crate) fn feed(
        &mut self,
        pipe: ChildPipe,
        bytes: &[u8],
        mut found: impl FnMut(Output<'_>),
    ) {
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

    /// Passes on an unfinished line, because its pipe has ended or a word was noted after it.
    pub(crate) fn end_line(&mut self, pipe: ChildPipe, found: impl FnMut(Output<'_>)) {
        if let Some(stream) = self.stream(pipe) {
            stream.framer.finish(found);
        }
    }

    /// Drops a pipe, which is not read any more.
    pub(crate) fn close(&mut self, pipe: ChildPipe) {
        self.streams[pipe as usize] = None;
    }

    /// Whether a pipe was read until it was empty, in the middle of a line.
    pub(crate) fn is_unfinished(&mut self, pipe: ChildPipe) -> bool {
        self.stream(pipe)
            .is_some_and(|stream| !stream.unread && stream.framer.is_unfinished())
    }

    /// Whether `entry` has to be compared with the words that have come.
    ///
    /// This is so even for an unchanged entry if words were printed: they may have been read late,
    /// after newer words on the board.
    pub(crate) fn is_to_be_compared(&self, entry: BoardEntry) -> bool {
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| entry != seen.entry || seen.printed > 0)
    }

    /// The words that follow from what the child has noted since the last call.
    ///
    /// `believed` says whether the child counts as busy; see [`BoardEntry::changes`].
    pub(crate) fn compare(&mut self, entry: BoardEntry, believed: bool) -> &'static [Word] {
        if !entry.is_of(self.serial) || !self.is_to_be_compared(entry) {
            return &[];
        }
        let Some(earlier) = self.seen.replace(KnownEntry { entry, printed: 0 }) else {
            return &[];
        };
        entry.changes(earlier.entry, earlier.printed, believed)
    }
}

/// A child that was reaped.
#[derive(Clone, Copy, Debug)]
struct ReapedChild {
    collected: Collected,
    /// How many of the bytes that each pipe had at the reaping are still to be read.
    left: [usize; 3],
}

/// How the parent reaches one child: its inbox and its process.
///
/// The process is the last field and unsized, so that both are one allocation.
#[derive(Debug)]
pub(crate) struct Contact<P: ?Sized = dyn Process> {
    pub(crate) inbox: Inbox,
    end: Option<ReapedChild>,
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
    /// Notes that the child was reaped.
    ///
    /// A grandchild may hold its pipes and write forever, so only the bytes that are in them now
    /// will be read.
    pub(crate) fn note_end(&mut self, collected: Collected) {
        let left = ChildPipe::ALL.map(|pipe| self.process.pending(pipe).unwrap_or(0));
        self.end = Some(ReapedChild { collected, left });
    }

    /// What was collected, and how much of each pipe is still to be read, of a child that was reaped.
    pub(crate) fn save_end(&self) -> Option<(EndState, [usize; 3])> {
        self.end.map(|end| (save_end(&end.collected), end.left))
    }

    /// The same in another program.
    pub(crate) fn restore_end(&mut self, state: &ChildState) {
        let left = |pipe: ChildPipe| usize::try_from(state.pipe(pipe as usize).left).unwrap_or(0);
        self.end = state.end.as_ref().map(|end| ReapedChild {
            collected: restored_end(end),
            left: ChildPipe::ALL.map(left),
        });
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.end.is_some()
    }

    /// What was collected from a child that was reaped.
    pub(crate) fn collected(&self) -> Option<Collected> {
        self.end.map(|end| end.collected)
    }

    /// How many bytes may still be read from a pipe.
    pub(crate) fn allowance(&self, pipe: ChildPipe) -> usize {
        self.end.map_or(usize::MAX, |end| end.left[pipe as usize])
    }

    /// Notes that `count` bytes were read from a pipe.
    pub(crate) fn spend(&mut self, pipe: ChildPipe, count: usize) {
        if let Some(end) = &mut self.end {
            end.left[pipe as usize] = end.left[pipe as usize].saturating_sub(count);
        }
    }

    /// Closes a pipe that has ended.
    pub(crate) fn close(&mut self, pipe: ChildPipe) {
        self.inbox.close(pipe);
        self.process.close(pipe);
    }

    /// What was collected from a reaped child, once all its pipes have ended.
    pub(crate) fn read_to_its_end(&self) -> Option<Collected> {
        let read = self.inbox.streams.iter().all(Option::is_none);
        self.collected().filter(|_| read)
    }
}

/// What was collected from a child, for another program.
pub(crate) fn save_end(collected: &Collected) -> EndState {
    EndState {
        status: collected.status.map(WaitStatus::raw),
        out_of_memory: collected.out_of_memory,
        usage: collected.usage.map(|usage| UsageState {
            user_time: usage.user_time,
            system_time: usage.system_time,
            max_resident: usage.max_resident,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
        }),
    }
}

/// What another program has collected from a child.
pub(crate) fn restored_end(end: &EndState) -> Collected {
    Collected {
        status: end.status.map(WaitStatus::from_raw),
        out_of_memory: end.out_of_memory,
        usage: end.usage.as_ref().map(|usage| Usage {
            user_time: usage.user_time,
            system_time: usage.system_time,
            max_resident: usage.max_resident,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
        }),
    }
}
