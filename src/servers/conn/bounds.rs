//! How long a connection may take, in all, and what a handler does at its two ends: waiting for a request and
//! letting go of the client. Waits; says nothing to the client.

use super::{Conn, Stream, is_interruption, is_wait};
use crate::{
    core::time::Time,
    sys::{
        hangup::{self, Hangup},
        link::{Interest, Wake},
        sockets::{self, Blocking},
    },
};
use std::{cell::Cell, io, net::Shutdown, time::Duration};

/// For how long a child that is told to stop waits for what a client has probably sent already: the first
/// request of a connection, the rest of an upload.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// How much is read away at once.
const CHUNK: usize = 16 * 1024;

/// What a connection remembers about its time.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) read: Cell<Option<Duration>>,
    pub(super) write: Cell<Option<Duration>>,
    /// When the connection as a whole is too late.
    deadline: Cell<Option<Time>>,
    /// Whether the client has said anything.
    pub(super) heard: Cell<bool>,
    /// Whether the request in hand is the last.
    last: Cell<bool>,
}

pub(super) fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
}

impl<S: Stream> Conn<S> {
    /// For how long a read waits for the client before it fails with `TimedOut`. Default: `None`,
    /// for ever.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.bounds.read.set(timeout);
    }

    /// For how long a write waits for the client before it fails with `TimedOut`. Default: `None`,
    /// for ever.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.bounds.write.set(timeout);
    }

    /// Bounds the connection as a whole: `time` from now, whatever waits for the client has had its time.
    ///
    /// Reads and writes then fail with `TimedOut`, [`wait_for_request`](Self::wait_for_request) returns
    /// false and [`linger`](Self::linger) ends. A timeout of each read does not help against a client that
    /// sends one byte a second; this does, so that nobody holds a child for longer. Set it at the start of
    /// the handler, or anew for each request of a connection that is kept open. Default: `None`, no bound.
    ///
    /// It does not interrupt the handler's own code, and is not heard of by whoever owns the stream after
    /// [`into_parts`](Self::into_parts).
    pub fn set_deadline(&self, time: Option<Duration>) {
        self.bounds.deadline.set(self.comm.deadline(time));
    }

    /// `timeout`, cut to what the deadline has left.
    pub(super) fn cut(&self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.bounds.deadline.get() else {
            return Ok(timeout);
        };
        let left = deadline.since(self.comm.now());
        if left.is_zero() {
            return Err(too_slow());
        }
        Ok(Some(timeout.map_or(left, |timeout| timeout.min(left))))
    }

    /// Waits for the next request, at the place where a client may be idle. False when there is none to wait
    /// for any more: then the handler comes to its end.
    ///
    /// True means that something can be read, be it the end of input. False means that the child was told
    /// to stop or has lost its parent ([`shutdown_requested`](Self::shutdown_requested) is true, and the
    /// handler can say goodbye), that the client was idle for longer than `idle` (`None`: it may be for
    /// ever), or that the [deadline](Self::set_deadline) has passed.
    ///
    /// What has arrived when the child is told to stop is served: the call returns true for it, and false
    /// after that, so a client that goes on asking does not hold the stop. A client that has said nothing
    /// yet is given 50 ms, since its request may be under way.
    ///
    /// Call it between requests, not within one, and only when nothing is left in a buffer of one's own:
    ///
    /// ```no_run
    /// use prefork_server::TcpServer;
    /// use std::{io::{BufRead, BufReader, Write}, time::Duration};
    ///
    /// let server = TcpServer::new(|conn| {
    ///     let mut reader = BufReader::new(&conn);
    ///     let mut line = String::new();
    ///     while !reader.buffer().is_empty()
    ///         || conn.wait_for_request(Some(Duration::from_secs(60)))?
    ///     {
    ///         line.clear();
    ///         if reader.read_line(&mut line)? == 0 {
    ///             break;
    ///         }
    ///         (&conn).write_all(line.as_bytes())?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    ///
    /// It costs one system call.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to wait. What the client does is none.
    pub fn wait_for_request(&self, idle: Option<Duration>) -> io::Result<bool> {
        if self.bounds.last.get() {
            return Ok(false);
        }
        let Ok(idle) = self.cut(idle) else {
            return Ok(false);
        };
        let deadline = self.comm.deadline(idle);
        let arrived = match self.wait_request(deadline)? {
            Wake::Ready => true,
            Wake::Stop => !self.bounds.heard.get() && self.arrives_within(UNDER_WAY)?,
            Wake::Timer => false,
        };
        self.bounds.last.set(self.comm.shutdown_requested());
        Ok(arrived)
    }

    fn wait_request(&self, deadline: Option<Time>) -> io::Result<Wake> {
        let stream = self.stream.as_fd();
        self.comm.wait_request(stream, Interest::Read, deadline)
    }

    fn arrives_within(&self, time: Duration) -> io::Result<bool> {
        let stream = self.stream.as_fd();
        self.comm.wait_stream(stream, Interest::Read, Some(time))
    }

    /// Ends the writing side and reads away what the client still sends, until it closes too: so that it
    /// gets the last answer. True if it has closed.
    ///
    /// A connection that is closed while input is unread, or on the way, is reset, and a reset overtakes the
    /// answer: a client that was refused in the midst of its upload would not learn why. Call this last in a
    /// handler that may not have read everything.
    ///
    /// It waits for `longest` at most, and reads away `most` bytes at most; 2 s and 16 MiB are usual. Once
    /// the child is told to stop, a client that is silent has 50 ms. What the client does is no error.
    pub fn linger(&self, longest: Duration, most: u64) -> bool {
        if self.shutdown(Shutdown::Write).is_err() {
            return true;
        }
        let Ok(Some(longest)) = self.cut(Some(longest)) else {
            return false;
        };
        self.read_away(self.comm.now() + longest, most)
    }

    /// Whether the client has gone: it has reset the connection, or closed it over a UNIX socket. For a
    /// handler with long work, which may then be in vain.
    ///
    /// A look and no read; it costs one system call, so it is for now and then. Over TCP a client that just
    /// closes does not look different from one that has sent all and waits for the answer: see
    /// [`peer_has_finished`](Self::peer_has_finished).
    pub fn peer_is_gone(&self) -> bool {
        hangup::look(&self.stream) == Hangup::Whole
    }

    /// Whether the client sends nothing more: it has gone, or closed its writing side. What has arrived
    /// before may still be unread.
    ///
    /// Some clients close their writing side and wait for the answer (`nc -N`). Where no client does, as
    /// with most that speak HTTP, this tells of one that has given up. A look and no read, as
    /// [`peer_is_gone`](Self::peer_is_gone); on Linux and FreeBSD, elsewhere it tells no more than that.
    pub fn peer_has_finished(&self) -> bool {
        hangup::look(&self.stream) >= Hangup::Half
    }
}

impl<S: Stream> Conn<S> {
    /// Reads until the client closes, until `end`, or until it has sent `most` bytes. True if it has closed.
    fn read_away(&self, end: Time, most: u64) -> bool {
        let mut chunk = [0; CHUNK];
        let mut left = most;
        while left > 0 && self.comm.now() < end {
            match sockets::receive(&self.stream, &mut chunk, Blocking::Never) {
                Ok(0) => return true,
                Ok(count) => left = left.saturating_sub(count as u64),
                Err(error) if is_interruption(&error) => {}
                Err(error) if !is_wait(&error) => return true,
                Err(_) if self.more_arrives(end) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Waits for more, until `end`; once the child is told to stop no longer than for what is under way.
    fn more_arrives(&self, end: Time) -> bool {
        match self.wait_request(Some(end)) {
            Ok(Wake::Ready) => true,
            Ok(Wake::Stop) => {
                let left = end.since(self.comm.now());
                self.arrives_within(left.min(UNDER_WAY)).unwrap_or(false)
            }
            Ok(Wake::Timer) | Err(_) => false,
        }
    }
}
