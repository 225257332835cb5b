//! The open sockets of one server: where they come from, what is known of them, and their end. Knows
//! no kind of socket itself; accepts nothing.

use super::{
    Listener, ListenerStatus,
    inherited::{self, ListenFdsError, Wanted},
};
use crate::{
    core::error::{Error, Operation},
    sys::{fd_registry::Ours, handed_over::Given, sockets},
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

/// Where a server's sockets come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// It opens them itself.
    Itself,
    /// Whoever has started the program has opened them.
    Inherited(Wanted),
    /// The program has opened them.
    Program(Vec<OwnedFd>),
}

/// The sockets of a server.
#[derive(Debug)]
pub(crate) struct OpenSockets {
    pub(crate) source: Source,
    sockets: Vec<Ours<OwnedFd>>,
    /// What the inherited ones are duplicates of.
    given: Vec<Ours<Given>>,
}

impl OpenSockets {
    pub(crate) fn new() -> Self {
        Self {
            source: Source::Itself,
            sockets: Vec::new(),
            given: Vec::new(),
        }
    }

    /// Opens or takes over what is listened on, in non-blocking mode.
    pub(crate) fn open<L: Listener>(&mut self, kind: &mut L, backlog: i32) -> io::Result<()> {
        match &mut self.source {
            Source::Itself => self.sockets = owned(kind.open(backlog)?),
            Source::Inherited(wanted) => {
                let taken = inherited::take(wanted, &|socket| kind.fits(socket))?;
                for socket in taken {
                    kind.adopt(socket.socket.as_fd())?;
                    self.sockets.push(Ours::servers(socket.socket));
                    self.given.push(socket.given);
                }
            }
            Source::Program(sockets) => {
                for socket in sockets.iter() {
                    check(kind, socket)?;
                    kind.adopt(socket.as_fd())?;
                }
                self.sockets = owned(std::mem::take(sockets));
            }
        }
        self.sockets
            .iter()
            .try_for_each(|socket| sockets::unblock(&**socket))
    }

    /// Whether they were opened by the server, so that their options are its own as well.
    pub(crate) fn are_its_own(&self) -> bool {
        matches!(self.source, Source::Itself)
    }

    pub(crate) fn are_inherited(&self) -> bool {
        matches!(self.source, Source::Inherited(_))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter().map(|socket| &**socket)
    }

    pub(crate) fn status<L: Listener>(&self, kind: &L) -> Vec<ListenerStatus> {
        self.iter()
            .map(|socket| ListenerStatus::of(kind, socket.as_fd()))
            .collect()
    }

    /// An error if a child has shut one of them down, which it does for everybody.
    pub(crate) fn lost(&self) -> Option<io::Error> {
        let is_lost = self.iter().any(|socket| !sockets::is_listening(socket));
        is_lost.then(|| io::Error::other("a listening socket has been shut down"))
    }

    /// In a child: hands them to whoever accepts.
    pub(crate) fn take(&mut self) -> Vec<Ours<OwnedFd>> {
        std::mem::take(&mut self.sockets)
    }

    /// Closes them, after the kind has removed what they have left in the file system: until then a
    /// client that finds it can connect.
    pub(crate) fn close<L: Listener>(&mut self, kind: &mut L) {
        kind.clean_up();
        self.sockets.clear();
        self.given.clear();
    }
}

fn owned(sockets: Vec<OwnedFd>) -> Vec<Ours<OwnedFd>> {
    sockets.into_iter().map(Ours::servers).collect()
}

/// A socket of the program's own must be one that this kind of server can accept on.
fn check<L: Listener>(kind: &L, socket: &OwnedFd) -> Result<(), Error> {
    let fd = socket.as_raw_fd();
    let error = if !kind.fits(socket.as_fd()) {
        ListenFdsError::WrongKind(fd)
    } else if !sockets::is_listening(socket) {
        ListenFdsError::NotListening(fd)
    } else {
        return Ok(());
    };
    Err(Error::new(
        Operation::TakeOver,
        format!("descriptor {fd}"),
        error.into(),
    ))
}
