//! The open sockets of one server: their origin, their state, and their end. Knows no kind of
//! socket itself; accepts nothing.

use super::{
    Listener, ListenerStatus,
    inherited::{self, ListenFdsError, WantedSockets},
};
use crate::{
    core::error::{Error, Operation},
    sys::{fd_registry::Registered, handed_over::HandedOverFd, sockets, upgrade},
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

/// Where a server's sockets come from.
#[derive(Debug)]
pub(crate) enum SocketOrigin {
    /// The server opens them itself.
    Itself,
    /// The process that started the program has opened them.
    Inherited(WantedSockets),
    /// The program has opened them.
    Program(Vec<OwnedFd>),
}

/// The sockets of a server.
#[derive(Debug)]
pub(crate) struct OpenSockets {
    pub(crate) origin: SocketOrigin,
    sockets: Vec<Registered<OwnedFd>>,
    /// The originals of the inherited sockets.
    given: Vec<Registered<HandedOverFd>>,
    /// Whether `clean_up` has been called.
    cleaned_up: bool,
}

impl OpenSockets {
    pub(crate) fn new() -> Self {
        Self {
            origin: SocketOrigin::Itself,
            sockets: Vec::new(),
            given: Vec::new(),
            cleaned_up: false,
        }
    }

    /// Opens the sockets, or takes them over, in non-blocking mode.
    pub(crate) fn open<L: Listener>(&mut self, kind: &mut L, backlog: i32) -> io::Result<()> {
        self.cleaned_up = false;
        match &mut self.origin {
            SocketOrigin::Itself => self.sockets = owned(handed_on_or_new(kind, backlog)?),
            SocketOrigin::Inherited(wanted) => {
                let taken = inherited::take(wanted, &|socket| kind.fits(socket))?;
                for socket in taken {
                    kind.adopt(socket.socket.as_fd())?;
                    self.sockets.push(Registered::servers(socket.socket));
                    self.given.push(socket.given);
                }
            }
            SocketOrigin::Program(sockets) => {
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

    /// Whether the server has opened them. Then their options are the server's, too.
    pub(crate) fn are_its_own(&self) -> bool {
        matches!(self.origin, SocketOrigin::Itself)
    }

    pub(crate) fn are_inherited(&self) -> bool {
        matches!(self.origin, SocketOrigin::Inherited(_))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter().map(|socket| &**socket)
    }

    pub(crate) fn status<L: Listener>(&self, kind: &L) -> Vec<ListenerStatus> {
        self.iter()
            .map(|socket| ListenerStatus::of(kind, socket.as_fd()))
            .collect()
    }

    /// The error if a child has shut one of them down, which affects all processes.
    pub(crate) fn lost<L: Listener>(&self, kind: &L) -> Option<Error> {
        let lost = self.iter().find(|socket| !sockets::is_listening(*socket))?;
        Some(shut_down(kind.name(lost.as_fd())))
    }

    /// In a child: hands the sockets to the code that accepts.
    pub(crate) fn take(&mut self) -> Vec<Registered<OwnedFd>> {
        std::mem::take(&mut self.sockets)
    }

    /// Refuses new clients at sockets that the server has opened. Queued clients stay.
    pub(crate) fn refuse<L: Listener>(&mut self, kind: &mut L) {
        if self.are_its_own() {
            self.clean_up(kind);
            self.iter().for_each(|socket| kind.refuse(socket.as_fd()));
        }
    }

    /// Whether a client is queued at one of them.
    pub(crate) fn is_queued(&self) -> bool {
        // A socket whose state cannot be read has no client that could be served.
        self.iter()
            .any(|socket| sockets::is_queued(socket).unwrap_or(false))
    }

    /// Closes the sockets in all processes, if the server has opened them.
    pub(crate) fn close_for_all<L: Listener>(&mut self, kind: &mut L) {
        if self.are_its_own() {
            self.iter().for_each(sockets::shut_down);
        }
        self.close(kind);
    }

    /// Closes the sockets. The kind first removes what they have left in the file system: a client
    /// that finds it later could still try to connect.
    pub(crate) fn close<L: Listener>(&mut self, kind: &mut L) {
        self.clean_up(kind);
        self.sockets.clear();
        self.given.clear();
    }

    fn clean_up<L: Listener>(&mut self, kind: &mut L) {
        if !std::mem::replace(&mut self.cleaned_up, true) {
            kind.clean_up();
        }
    }
}

/// The error of accepting on a socket of this name that a child has shut down.
pub(crate) fn shut_down(name: String) -> Error {
    let reason = io::Error::other("the listening socket has been shut down");
    Error::new(Operation::Accept, name, reason)
}

/// The sockets of the program before an upgrade, or else new ones.
fn handed_on_or_new<L: Listener>(kind: &mut L, backlog: i32) -> io::Result<Vec<OwnedFd>> {
    let handed_on = upgrade::sockets(&|socket| kind.takes_over(socket))?;
    if handed_on.is_empty() {
        return kind.open(backlog);
    }
    for socket in &handed_on {
        kind.adopt(socket.as_fd())?;
    }
    Ok(handed_on)
}

fn owned(sockets: Vec<OwnedFd>) -> Vec<Registered<OwnedFd>> {
    sockets.into_iter().map(Registered::servers).collect()
}

/// Checks that a socket of the program's own is one that this kind of server can accept on.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::tcp::Tcp;
    use std::{
        io::ErrorKind,
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    fn opened(origin: SocketOrigin) -> (OpenSockets, Tcp, TcpListener) {
        let mut kind = Tcp::local();
        let mut sockets = OpenSockets {
            origin,
            ..OpenSockets::new()
        };
        sockets.open(&mut kind, 8).expect("a socket");
        let copy = sockets.iter().next().expect("one socket").try_clone();
        (sockets, kind, copy.expect("a copy").into())
    }

    fn connects(copy: &TcpListener) -> io::Result<TcpStream> {
        let address = copy.local_addr().expect("an address");
        TcpStream::connect_timeout(&address, Duration::from_millis(300))
    }

    /// It is closed in all processes that have a copy, such as a child, or a program started by a
    /// handler.
    #[test]
    fn its_own_are_closed_for_everybody() {
        let (mut sockets, mut kind, copy) = opened(SocketOrigin::Itself);
        assert!(connects(&copy).is_ok());
        assert!(sockets.is_queued());
        sockets.close_for_all(&mut kind);
        assert!(!sockets.is_queued());
        let error = connects(&copy).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn one_that_was_shut_down_is_named() {
        let theirs = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a socket"));
        let names = theirs
            .each_ref()
            .map(|one| one.local_addr().expect("an address"));
        let origin = SocketOrigin::Program(theirs.map(OwnedFd::from).into());
        let (sockets, kind, _) = opened(origin);
        assert!(sockets.lost(&kind).is_none());
        sockets::shut_down(sockets.iter().nth(1).expect("another"));
        let error = sockets.lost(&kind).expect("an error");
        assert_eq!(error.operation(), Operation::Accept);
        assert_eq!(error.object(), names[1].to_string());
    }

    #[test]
    fn those_of_somebody_else_go_on() {
        let theirs = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let (mut sockets, mut kind, copy) = opened(SocketOrigin::Program(vec![theirs.into()]));
        sockets.refuse(&mut kind);
        assert!(connects(&copy).is_ok());
        sockets.close_for_all(&mut kind);
        assert!(connects(&copy).is_ok());
        assert_eq!(sockets.iter().count(), 0);
    }

    /// The client's system tries again after a second.
    #[cfg(target_os = "linux")]
    #[test]
    fn who_is_queued_stays_when_further_clients_are_refused() {
        let (mut sockets, mut kind, copy) = opened(SocketOrigin::Itself);
        let queued = connects(&copy).expect("a connection");
        sockets.refuse(&mut kind);
        let error = connects(&copy).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        copy.set_nonblocking(false).expect("it blocks");
        let (accepted, from) = copy.accept().expect("the one that was queued");
        assert_eq!(queued.local_addr().expect("an address"), from);
        drop(accepted);
        assert!(!sockets.is_queued());
    }
}
