//! The parent's poller: two mio pollers, one within the other. Waits and says what is ready; reads
//! nothing.
//!
//! The inner poller holds what must wake the parent at once: deaths, signals, the user's
//! descriptors. The outer poller holds the children's outputs and the inner poller. So the parent
//! can wait for the urgent sources only, while words pile up for some milliseconds and are then
//! read in one go.

use super::fd_registry::Registered;
use crate::core::system::{ChildPipe, ChildToken, EventSource, Ready};
use mio::{Events, Interest, Poll, Registry, Token, unix::SourceFd};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    rc::Rc,
    time::Duration,
};

/// The meaning of a token: a source that the loop knows, or the inner poller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TokenMeaning {
    Of(EventSource),
    Urgent,
}

const KINDS: u32 = 4;
/// The two halves of a token: a child's serial, and its slot with the kind of source.
const HALF: u32 = usize::BITS / 2;

impl TokenMeaning {
    fn token(self) -> Token {
        let (kind, told) = match self {
            Self::Of(EventSource::Pipe(told, pipe)) => (pipe as usize, told),
            Self::Of(EventSource::Watch(number)) => return Token((number as usize) << KINDS | 3),
            Self::Of(EventSource::Signals) => return Token(4),
            Self::Urgent => return Token(5),
            Self::Of(EventSource::Stacks) => return Token(6),
            Self::Of(EventSource::Trial) => return Token(8),
            Self::Of(EventSource::Control(client)) => {
                // Clients are numbered from 1.
                return Token((client.unwrap_or(0) as usize) << KINDS | 7);
            }
        };
        Token((told.serial as usize) << HALF | told.slot << KINDS | kind)
    }

    fn of(token: Token) -> Option<Self> {
        let told = ChildToken {
            slot: (token.0 & ((1 << HALF) - 1)) >> KINDS,
            serial: (token.0 >> HALF) as u32,
        };
        Some(match token.0 & ((1 << KINDS) - 1) {
            kind @ 0..=2 => Self::Of(EventSource::Pipe(told, ChildPipe::ALL[kind])),
            3 => Self::Of(EventSource::Watch((token.0 >> KINDS) as u64)),
            4 => Self::Of(EventSource::Signals),
            5 => Self::Urgent,
            6 => Self::Of(EventSource::Stacks),
            7 => Self::Of(EventSource::Control(match (token.0 >> KINDS) as u64 {
                0 => None,
                client => Some(client),
            })),
            8 => Self::Of(EventSource::Trial),
            _ => return None,
        })
    }
}

const BATCH: usize = 1024;

#[derive(Debug)]
pub(crate) struct Poller {
    all: Registered<Poll>,
    urgent: Registered<Poll>,
    outputs: Rc<OutputWatch>,
    events: Events,
}

/// Registers the children's outputs: a child's process deregisters its own.
#[derive(Debug)]
pub(crate) struct OutputWatch(Registered<Registry>);

impl OutputWatch {
    /// Watches a child's output.
    pub(crate) fn add(&self, fd: RawFd, source: EventSource) -> io::Result<()> {
        let token = TokenMeaning::Of(source).token();
        self.0
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Deregisters the output. Must come before the descriptor is closed.
    pub(crate) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.0.deregister(&mut SourceFd(&fd))
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let all = Registered::parents(Poll::new()?);
        let urgent = Registered::parents(Poll::new()?);
        let inner = urgent.as_raw_fd();
        all.registry().register(
            &mut SourceFd(&inner),
            TokenMeaning::Urgent.token(),
            Interest::READABLE,
        )?;
        let outputs = Registered::parents(all.registry().try_clone()?);
        Ok(Self {
            all,
            urgent,
            outputs: Rc::new(OutputWatch(outputs)),
            events: Events::with_capacity(BATCH),
        })
    }

    /// The registry for the children's outputs.
    pub(crate) fn outputs(&self) -> Rc<OutputWatch> {
        Rc::clone(&self.outputs)
    }

    pub(crate) fn add_urgent(
        &self,
        fd: RawFd,
        source: EventSource,
        interest: Interest,
    ) -> io::Result<()> {
        self.urgent.registry().register(
            &mut SourceFd(&fd),
            TokenMeaning::Of(source).token(),
            interest,
        )
    }

    /// Makes the poller report `fd` again if it is still ready: the user's descriptors are
    /// level-triggered.
    pub(crate) fn renew_urgent(
        &self,
        fd: RawFd,
        source: EventSource,
        interest: Interest,
    ) -> io::Result<()> {
        self.urgent.registry().reregister(
            &mut SourceFd(&fd),
            TokenMeaning::Of(source).token(),
            interest,
        )
    }

    pub(crate) fn remove_urgent(&self, fd: RawFd) -> io::Result<()> {
        self.urgent.registry().deregister(&mut SourceFd(&fd))
    }

    /// Waits for at most `timeout` and adds what is ready. An interruption ends the wait.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        let Self {
            all,
            urgent,
            events,
            ..
        } = self;
        if collect(all, events, timeout, ready)? {
            collect(urgent, events, Some(Duration::ZERO), ready)?;
        }
        Ok(())
    }

    /// Waits for at most `timeout` for urgent sources, and adds those that are ready.
    pub(crate) fn wait_urgent(
        &mut self,
        timeout: Duration,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        collect(&mut self.urgent, &mut self.events, Some(timeout), ready).map(drop)
    }
}

impl Poller {
    /// Whether this process has the poller open. A child holds only a copy of the value.
    pub(crate) fn is_open(&self) -> bool {
        self.all.is_open()
    }
}

/// The poller's descriptor. A child has closed it and its number may be in use again, so there this
/// is stdin, which is /dev/null.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.is_open() {
            self.all.registry().as_fd()
        } else {
            stdin()
        }
    }
}

#[allow(unsafe_code)]
fn stdin() -> BorrowedFd<'static> {
    // SAFETY: std itself assumes at all times that the standard streams are open, and hands them
    // out.
    unsafe { BorrowedFd::borrow_raw(nix::libc::STDIN_FILENO) }
}

/// Collects events until fewer arrive than fit: an event left behind would not wake an outer poller
/// again. True if the inner poller has events.
fn collect(
    poll: &mut Poll,
    events: &mut Events,
    timeout: Option<Duration>,
    ready: &mut Vec<Ready>,
) -> io::Result<bool> {
    let (mut timeout, mut urgent) = (timeout, false);
    loop {
        match poll.poll(events, timeout) {
            Ok(()) => {}
            // The interruption may be a signal, or SIGSTOP and SIGCONT. Words may have piled up
            // meanwhile, and are read before any child is judged by the clock.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                timeout = Some(Duration::ZERO);
                continue;
            }
            Err(error) => return Err(error),
        }
        for event in events.iter() {
            match TokenMeaning::of(event.token()) {
                Some(TokenMeaning::Of(source)) => ready.push(Ready {
                    source,
                    hung_up: event.is_read_closed() || event.is_error(),
                }),
                Some(TokenMeaning::Urgent) => urgent = true,
                None => {}
            }
        }
        if events.iter().count() < BATCH {
            return Ok(urgent);
        }
        timeout = Some(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The serial in an event's token is the child's, up to the highest serial.
    #[test]
    fn m03_a_token_leads_back_to_its_source() {
        let told = |slot, serial| ChildToken { slot, serial };
        for sign in [
            TokenMeaning::Of(EventSource::Pipe(told(0, 1), ChildPipe::Stdout)),
            TokenMeaning::Of(EventSource::Pipe(told(4999, u32::MAX), ChildPipe::Stderr)),
            TokenMeaning::Of(EventSource::Pipe(told(7, 3), ChildPipe::Comm)),
            TokenMeaning::Of(EventSource::Watch(77)),
            TokenMeaning::Of(EventSource::Signals),
            TokenMeaning::Of(EventSource::Stacks),
            TokenMeaning::Of(EventSource::Control(None)),
            TokenMeaning::Of(EventSource::Control(Some(77))),
            TokenMeaning::Of(EventSource::Trial),
            TokenMeaning::Urgent,
        ] {
            assert_eq!(TokenMeaning::of(sign.token()), Some(sign));
        }
    }
}
