//! What the parent waits on: two pollers, one within the other. Waits and says what is ready; reads
//! nothing.
//!
//! The inner one holds what must wake the parent at once: deaths, signals, the user's descriptors.
//! The outer one holds the children's outputs and the inner one. So a wait can be made that only
//! the urgent things end, while words pile up for some milliseconds and are read in one go.

use super::fd_registry::Ours;
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

/// One of a child's outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
    Comm,
}

impl Output {
    pub(crate) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Comm];
}

/// What a token stands for. A child's are told apart by slot and generation, so that an event for a
/// child that is gone cannot be taken for one of its successor in the slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    Output {
        slot: usize,
        generation: u32,
        output: Output,
    },
    Death {
        slot: usize,
        generation: u32,
    },
    Watch(u64),
    Signals,
    Urgent,
}

const KINDS: u32 = 3;

impl Source {
    fn token(self) -> Token {
        let (kind, slot, generation) = match self {
            Self::Output {
                slot,
                generation,
                output: Output::Stdout,
            } => (0, slot, generation),
            Self::Output {
                slot,
                generation,
                output: Output::Stderr,
            } => (1, slot, generation),
            Self::Output {
                slot,
                generation,
                output: Output::Comm,
            } => (2, slot, generation),
            Self::Death { slot, generation } => (3, slot, generation),
            Self::Watch(number) => return Token((number as usize) << KINDS | 4),
            Self::Signals => (5, 0, 0),
            Self::Urgent => (6, 0, 0),
        };
        // On 32 bits the upper half of the generation is lost: see `same_generation`.
        Token((generation as usize) << (usize::BITS / 2) | slot << KINDS | kind)
    }

    fn of(token: Token) -> Option<Self> {
        let kind = token.0 & ((1 << KINDS) - 1);
        let generation = (token.0 >> (usize::BITS / 2)) as u32;
        let slot = (token.0 & ((1 << (usize::BITS / 2)) - 1)) >> KINDS;
        Some(match kind {
            0 => Self::Output {
                slot,
                generation,
                output: Output::Stdout,
            },
            1 => Self::Output {
                slot,
                generation,
                output: Output::Stderr,
            },
            2 => Self::Output {
                slot,
                generation,
                output: Output::Comm,
            },
            3 => Self::Death { slot, generation },
            4 => Self::Watch((token.0 >> KINDS) as u64),
            5 => Self::Signals,
            6 => Self::Urgent,
            _ => return None,
        })
    }
}

/// Whether the generation that a token had room for is that of `id`.
pub(crate) fn same_generation(told: u32, of: u32) -> bool {
    let room = usize::MAX >> (usize::BITS / 2);
    told as usize == of as usize & room
}

/// A source that is ready, and whether the other side has hung up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    pub(crate) hung_up: bool,
}

const BATCH: usize = 1024;

#[derive(Debug)]
pub(crate) struct Poller {
    all: Ours<Poll>,
    urgent: Ours<Poll>,
    events: Events,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let all = Ours::parents(Poll::new()?);
        let urgent = Ours::parents(Poll::new()?);
        let inner = urgent.as_raw_fd();
        all.registry().register(
            &mut SourceFd(&inner),
            Source::Urgent.token(),
            Interest::READABLE,
        )?;
        Ok(Self {
            all,
            urgent,
            events: Events::with_capacity(BATCH),
        })
    }

    /// Watches a child's output.
    pub(crate) fn add_output(&self, fd: RawFd, source: Source) -> io::Result<()> {
        self.all
            .registry()
            .register(&mut SourceFd(&fd), source.token(), Interest::READABLE)
    }

    /// Ends that. Must come before the descriptor is closed: a sibling that was forked meanwhile may
    /// hold a copy, and the kernel would go on reporting events for it. (Not for one that has come to
    /// another number: the kernel knows it by the first. What it may report is for a child that is gone.)
    pub(crate) fn remove_output(&self, fd: RawFd) -> io::Result<()> {
        self.all.registry().deregister(&mut SourceFd(&fd))
    }

    pub(crate) fn add_urgent(
        &self,
        fd: RawFd,
        source: Source,
        interest: Interest,
    ) -> io::Result<()> {
        self.urgent
            .registry()
            .register(&mut SourceFd(&fd), source.token(), interest)
    }

    /// Reports `fd` again if it is still ready: to the user it is level-triggered.
    pub(crate) fn renew_urgent(
        &self,
        fd: RawFd,
        source: Source,
        interest: Interest,
    ) -> io::Result<()> {
        self.urgent
            .registry()
            .reregister(&mut SourceFd(&fd), source.token(), interest)
    }

    pub(crate) fn remove_urgent(&self, fd: RawFd) -> io::Result<()> {
        self.urgent.registry().deregister(&mut SourceFd(&fd))
    }

    /// Waits for at most `timeout` and collects what is ready; an interruption ends the wait.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        ready.clear();
        self.wait_more(timeout, ready)
    }

    /// Waits for at most `timeout` for what is urgent, and collects that.
    pub(crate) fn wait_urgent(
        &mut self,
        timeout: Duration,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        ready.clear();
        collect(&mut self.urgent, &mut self.events, Some(timeout), ready)
    }

    /// As [`wait`](Self::wait), but keeps what was collected before.
    pub(crate) fn wait_more(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        let before = ready.len();
        collect(&mut self.all, &mut self.events, timeout, ready)?;
        let urgent = ready[before..]
            .iter()
            .position(|event| event.source == Source::Urgent);
        if let Some(at) = urgent {
            ready.swap_remove(before + at);
            collect(
                &mut self.urgent,
                &mut self.events,
                Some(Duration::ZERO),
                ready,
            )?;
        }
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all.registry().as_fd()
    }
}

/// Takes events until fewer come than fit: what is left behind would not wake an outer poller again.
fn collect(
    poll: &mut Poll,
    events: &mut Events,
    timeout: Option<Duration>,
    ready: &mut Vec<Ready>,
) -> io::Result<()> {
    let mut timeout = timeout;
    loop {
        match poll.poll(events, timeout) {
            Ok(()) => {}
            // By a signal, or by SIGSTOP and SIGCONT: words may have piled up meanwhile, and are to
            // be read before anybody is judged by the clock.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                timeout = Some(Duration::ZERO);
                continue;
            }
            Err(error) => return Err(error),
        }
        let found = events.iter().filter_map(|event| {
            let source = Source::of(event.token())?;
            Some(Ready {
                source,
                hung_up: event.is_read_closed() || event.is_error(),
            })
        });
        let before = ready.len();
        ready.extend(found);
        if ready.len() - before < BATCH {
            return Ok(());
        }
        timeout = Some(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generation in an event's token is that of the child, up to the last one there is.
    #[test]
    fn m03_a_token_leads_back_to_its_source() {
        for source in [
            Source::Output {
                slot: 0,
                generation: 1,
                output: Output::Stdout,
            },
            Source::Output {
                slot: 4999,
                generation: u32::MAX,
                output: Output::Stderr,
            },
            Source::Output {
                slot: 7,
                generation: 3,
                output: Output::Comm,
            },
            Source::Death {
                slot: 1 << 20,
                generation: 9,
            },
            Source::Watch(77),
            Source::Signals,
            Source::Urgent,
        ] {
            assert_eq!(Source::of(source.token()), Some(source));
        }
    }
}
