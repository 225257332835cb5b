//! Clients of the servers under test: blocking, with a deadline on everything.
//!
//! It never waits forever, never retries, and never closes a connection before the client is
//! dropped.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::address::Address;
use super::patience::patient;

/// How long a client waits for the server unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    address: Address,
    /// Read, but not asked for yet.
    pending: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects, or panics naming the address.
#[track_caller]
pub fn connect(address: &Address) -> Client {
    try_connect(address).unwrap_or_else(|error| panic!("a connection to {address}: {error}"))
}

/// Connects, for servers that may refuse.
pub fn try_connect(address: &Address) -> io::Result<Client> {
    let stream = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, patient(TIMEOUT))?;
            stream.set_nodelay(true)?;
            Stream::Tcp(stream)
        }
        Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
    };
    Client::new(stream, address)
}

/// As [`connect`], from another loopback address each time.
///
/// After 14,000 connections within a minute one address has used half of its ports, and from then on
/// the kernel looks through all of them for each connection: that takes longer than the rest of a test.
#[track_caller]
pub fn connect_as_another(address: &Address) -> Client {
    let Address::Tcp(SocketAddr::V4(to)) = address else {
        return connect(address);
    };
    let client = from(another(), *to)
        .map_err(io::Error::from)
        .and_then(|stream| Client::new(Stream::Tcp(stream), address));
    client.unwrap_or_else(|error| panic!("a connection to {address}: {error}"))
}

fn another() -> SocketAddrV4 {
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), 0)
}

fn from(address: SocketAddrV4, to: SocketAddrV4) -> nix::Result<TcpStream> {
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The port is chosen when it is known for whom.
    setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    let patience = TimeVal::seconds(i64::try_from(patient(TIMEOUT).as_secs()).unwrap_or(i64::MAX));
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
    socket::connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(fd))
}

impl Client {
    fn new(stream: Stream, address: &Address) -> io::Result<Self> {
        let client = Self {
            stream,
            address: address.clone(),
            pending: Vec::new(),
        };
        client.timeout(patient(TIMEOUT))?;
        Ok(client)
    }

    /// Sends `line` and a newline.
    #[track_caller]
    pub fn send_line(&mut self, line: &str) {
        if let Err(error) = self.try_send_line(line) {
            panic!("{} to take the line {line:?}: {error}", self.address);
        }
    }

    /// Sends `line` and a newline, to a server that may be gone.
    pub fn try_send_line(&mut self, line: &str) -> io::Result<()> {
        self.write_all(format!("{line}\n").as_bytes())
    }

    /// The next line, without its end; the end of the stream is a panic.
    #[track_caller]
    pub fn read_line(&mut self) -> String {
        match self.try_read_line() {
            Ok(Some(line)) => line,
            Ok(None) => panic!("a line from {}: the connection ended", self.address),
            Err(error) => panic!("a line from {}: {error}", self.address),
        }
    }

    /// The next line, without its end; what an unfinished one holds stands before the end of the
    /// stream, which is `None`.
    pub fn try_read_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(Some(text(&line[..end])));
            }
            if !self.fill()? {
                let rest = std::mem::take(&mut self.pending);
                return Ok((!rest.is_empty()).then(|| text(&rest)));
            }
        }
    }

    /// Sends a line and returns the line that answers it.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.send_line(line);
        self.read_line()
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub fn read_rest(&mut self) -> String {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return text(&std::mem::take(&mut self.pending)),
                Err(error) => panic!("{} to end the connection: {error}", self.address),
            }
        }
    }

    /// Waits until the server ends the connection; anything it sends before is a panic.
    #[track_caller]
    pub fn eof(&mut self) {
        let rest = self.read_rest();
        assert!(
            rest.is_empty(),
            "{} to end the connection: it sent {rest:?}",
            self.address
        );
    }

    /// Waits until the connection is over, be it by an end or by a reset.
    #[track_caller]
    pub fn gone(&mut self) {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{} to be gone: {error}", self.address),
            }
        }
    }

    /// Whether nothing arrives for as long as `period`, not even an end.
    pub fn is_silent(&mut self, period: Duration) -> bool {
        let expect = "a timeout to be taken";
        self.timeout(period).expect(expect);
        let late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        let silent = self.fill().is_err_and(|error| late.contains(&error.kind()));
        self.timeout(patient(TIMEOUT)).expect(expect);
        silent && self.pending.is_empty()
    }

    /// Says that nothing more will be sent; reading goes on.
    pub fn close_write(&self) {
        let closed = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        closed.expect("the sending side to close");
    }

    /// Ends the connection by a reset, as a client does that crashes with data unread.
    pub fn reset(self) {
        use nix::libc::linger;
        use nix::sys::socket::{setsockopt, sockopt::Linger};
        let at_once = linger {
            l_onoff: 1,
            l_linger: 0,
        };
        if let Stream::Tcp(stream) = &self.stream {
            setsockopt(stream, Linger, &at_once).expect("SO_LINGER to be taken");
        }
    }

    /// The address that it has connected from; panics for a UNIX socket.
    pub fn local_address(&self) -> SocketAddr {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().expect("an address"),
            Stream::Unix(_) => panic!("{} has none", self.address),
        }
    }

    /// Sets how long a read or a write may wait.
    pub fn timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout);
        match &self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }

    /// Reads once into `pending`; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut bytes),
                Stream::Unix(stream) => stream.read(&mut bytes),
            };
            match read {
                Ok(count) => {
                    self.pending.extend_from_slice(&bytes[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Client {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.pending.is_empty() {
            self.fill()?;
        }
        let count = into.len().min(self.pending.len());
        into[..count].copy_from_slice(&self.pending[..count]);
        self.pending.drain(..count);
        Ok(count)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
