//! The control socket and the connections of its clients, non-blocking, in the parent alone. Moves
//! bytes; understands none of them, and decides nothing about a client.

use super::{
    credentials,
    fd_registry::Registered,
    poller::Poller,
    sockets::{self, Blocking},
    waiter::{THE_END, poll_any},
};
use crate::core::system::{ClientRead, EventSource, NewClient};
use mio::Interest;
use nix::{
    errno::Errno,
    sys::socket::{Shutdown, shutdown},
};
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    time::Duration,
};

/// A listening socket, and the connections that were accepted on it. Children close all of them.
#[derive(Debug, Default)]
pub(crate) struct ControlSocket {
    /// `None` if there are only clients left, of the program that was here before.
    listener: Option<Registered<OwnedFd>>,
    clients: BTreeMap<u64, Registered<OwnedFd>>,
    /// The number of the last client.
    last: u64,
}

impl ControlSocket {
    /// Watches a socket that listens and is in non-blocking mode.
    pub(crate) fn new(listener: OwnedFd, poller: &Poller) -> io::Result<Self> {
        let listener = Registered::parents(listener);
        poller.add_urgent(
            listener.as_raw_fd(),
            EventSource::Control(None),
            Interest::READABLE,
        )?;
        Ok(Self {
            listener: Some(listener),
            ..Self::default()
        })
    }

    pub(super) fn listener(&self) -> Option<RawFd> {
        self.listener.as_ref().map(|listener| listener.as_raw_fd())
    }

    /// The connection of a client.
    pub(super) fn client(&self, client: u64) -> Option<RawFd> {
        let stream = self.clients.get(&client)?;
        Some(stream.as_raw_fd())
    }

    /// Has another poller report it, and its clients.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        if let Some(listener) = self.listener() {
            poller.add_urgent(listener, EventSource::Control(None), Interest::READABLE)?;
        }
        for (client, stream) in &self.clients {
            watch_client(*client, stream.as_raw_fd(), poller)?;
        }
        Ok(())
    }

    /// Closes the connections: another process goes on with them.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(super) fn leave_clients(&mut self) {
        self.clients.clear();
    }

    pub(super) fn accept(&mut self, poller: &Poller) -> io::Result<Option<NewClient>> {
        let Some(listener) = self.listener() else {
            return Ok(None);
        };
        match sockets::try_accept(listener, Blocking::Never) {
            Ok(newcomer) => self.add(newcomer.stream, poller).map(Some),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn add(&mut self, stream: OwnedFd, poller: &Poller) -> io::Result<NewClient> {
        let (pid, user, _) = credentials::of_peer(&stream.as_fd())?;
        let client = self.adopt(stream, poller)?;
        Ok(NewClient {
            client,
            pid,
            user,
            own_user: nix::unistd::geteuid().as_raw(),
        })
    }

    /// Watches the connection of a client, and returns its number.
    pub(super) fn adopt(&mut self, stream: OwnedFd, poller: &Poller) -> io::Result<u64> {
        let stream = Registered::parents(stream);
        let client = self.last + 1;
        watch_client(client, stream.as_raw_fd(), poller)?;
        self.last = client;
        self.clients.insert(client, stream);
        Ok(client)
    }

    pub(super) fn read(&self, client: u64, buffer: &mut [u8]) -> ClientRead {
        let Some(stream) = self.clients.get(&client) else {
            return ClientRead::Gone;
        };
        match sockets::receive(&**stream, buffer, Blocking::Never) {
            Ok(0) if has_hung_up(&**stream) => ClientRead::Gone,
            Ok(0) => ClientRead::End,
            Ok(count) => ClientRead::Bytes(count),
            Err(error) if is_passing(&error) => ClientRead::Nothing,
            Err(_) => ClientRead::Gone,
        }
    }

    pub(super) fn write(&self, client: u64, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.clients.get(&client);
        let stream = stream.ok_or(io::ErrorKind::NotConnected)?;
        match sockets::send(&**stream, &[IoSlice::new(bytes)], Blocking::Never) {
            Err(error) if is_passing(&error) => Ok(0),
            result => result,
        }
    }

    pub(super) fn close_client(&mut self, client: u64, poller: &Poller) {
        if let Some(stream) = self.clients.remove(&client) {
            forget(stream.as_raw_fd(), poller);
            // The trial of an upgrade may have a copy. OK to ignore: the client has gone then.
            let _ = shutdown(stream.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Closes all connections and the socket. Its file is the caller's.
    pub(super) fn close(self, poller: &Poller) {
        for stream in self.clients.values() {
            forget(stream.as_raw_fd(), poller);
        }
        if let Some(listener) = self.listener() {
            forget(listener, poller);
        }
    }
}

fn watch_client(client: u64, stream: RawFd, poller: &Poller) -> io::Result<()> {
    let both = Interest::READABLE | Interest::WRITABLE;
    poller.add_urgent(stream, EventSource::Control(Some(client)), both)
}

/// Whether the other end has closed the connection, and not only its sending half.
fn has_hung_up(stream: &impl AsFd) -> bool {
    let ended = poll_any([(stream.as_fd(), THE_END)], Some(Duration::ZERO));
    ended.is_ok_and(|[ended]| ended)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Deregisters a descriptor before it is closed.
fn forget(fd: RawFd, poller: &Poller) {
    if let Err(error) = poller.remove_urgent(fd) {
        log::debug!("deregistering a descriptor of the control socket: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::Shutdown,
        os::unix::net::{UnixListener, UnixStream},
    };

    /// A socket, the poller that watches it, and where it is.
    fn socket() -> (ControlSocket, Poller, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let poller = Poller::new().unwrap();
        let socket = ControlSocket::new(listener.into(), &poller).unwrap();
        (socket, poller, directory)
    }

    #[test]
    fn a_client_is_known_read_and_written() {
        let (mut socket, poller, directory) = socket();
        assert_eq!(socket.accept(&poller).unwrap(), None);
        let mut client = UnixStream::connect(directory.path().join("s")).unwrap();
        let caller = socket.accept(&poller).unwrap().unwrap();
        assert_eq!(caller.pid, std::process::id());
        assert_eq!(caller.user, caller.own_user);
        let mut buffer = [0; 8];
        assert_eq!(socket.read(caller.client, &mut buffer), ClientRead::Nothing);
        client.write_all(b"show\n").unwrap();
        assert_eq!(
            socket.read(caller.client, &mut buffer),
            ClientRead::Bytes(5)
        );
        assert_eq!(socket.write(caller.client, b"yes").unwrap(), 3);
        client.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(&buffer[..3], b"yes");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(caller.client, &mut buffer), ClientRead::End);
        drop(client);
        assert_eq!(socket.read(caller.client, &mut buffer), ClientRead::Gone);
        assert!(socket.write(caller.client, b"yes").is_err());
        socket.close_client(caller.client, &poller);
        assert_eq!(socket.read(caller.client, &mut buffer), ClientRead::Gone);
        socket.close(&poller);
    }

    /// A client that does not read blocks no other.
    #[test]
    fn a_client_that_does_not_read_takes_what_the_kernel_takes() {
        let (mut socket, poller, directory) = socket();
        let _client = UnixStream::connect(directory.path().join("s")).unwrap();
        let caller = socket.accept(&poller).unwrap().unwrap();
        let bytes = [b'x'; 65536];
        let mut writes = 0;
        while socket.write(caller.client, &bytes).unwrap() > 0 {
            writes += 1;
            assert!(writes < 1000, "the kernel takes it all");
        }
    }
}
