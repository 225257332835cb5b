//! Limits how long a connection may take, waits for a request, and closes without losing the last
//! answer. Reads and waits; never writes to the client.

use super::{
    Conn, Stream,
    pace::{MinRate, Pace},
    waiting::{is_interruption, is_wait},
};
use crate::{
    core::time::Time,
    sys::{
        hangup::{self, Hangup},
        link::{Interest, Wake},
        sockets::Blocking,
    },
};
use std::{
    cell::Cell,
    io::{self, IoSlice},
    net::Shutdown,
    time::Duration,
};

/// How long a child that is told to stop waits for what a client has probably sent already: the
/// first request of a connection, the rest of an upload.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// How many bytes one read discards.
const CHUNK: usize = 16 * 1024;

/// The time limits of a connection, and what they depend on.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) read: Cell<Option<Duration>>,
    pub(super) write: Cell<Option<Duration>>,
    /// When the time for the whole connection is over.
    deadline: Cell<Option<Time>>,
    /// How fast the client is, if it must have a speed.
    pace: Cell<Option<Pace>>,
    /// When to look whether others wait for the child: see
    /// [`set_deadline_when_crowded`](Conn::set_deadline_when_crowded).
    pub(super) look_at: Cell<Option<Time>>,
    /// Whether the client has sent anything.
    pub(super) heard: Cell<bool>,
    /// Whether the request in hand is the last.
    last: Cell<bool>,
}

impl Bounds {
    pub(super) fn is_paced(&self) -> bool {
        self.pace.get().is_some()
    }

    /// Notes that the child has waited for `time`, and that `bytes` have moved.
    pub(super) fn note(&self, time: Duration, bytes: usize) {
        let pace = self.pace.get();
        self.pace.set(pace.map(|pace| pace.after(time, bytes)));
    }

    /// `timeout`, cut to what a slow client has left.
    fn cut_to_pace(&self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        match self.pace.get().map(Pace::left) {
            None => Ok(timeout),
            Some(left) if left.is_zero() => Err(too_slow()),
            Some(left) => Ok(Some(timeout.map_or(left, |timeout| timeout.min(left)))),
        }
    }
}

pub(super) fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
}

impl<S: Stream> Conn<S> {
    /// How long a read waits for the client before it fails with `TimedOut`.
    ///
    /// Default: `None`, no limit.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.bounds.read.set(timeout);
    }

    /// How long a write waits for the client before it fails with `TimedOut`.
    ///
    /// Default: `None`, no limit.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.bounds.write.set(timeout);
    }

    /// Limits the whole connection to `time` from now.
    ///
    /// Then everything that waits for the client fails.
    ///
    /// Reads and writes then fail with `TimedOut`, [`wait_for_request`](Self::wait_for_request)
    /// returns false and [`linger`](Self::linger) ends. A timeout of each read does not help
    /// against a client that sends one byte a second; this limit does. Set it at the start of the
    /// handler, or again for each request of a connection that is kept open. Default: `None`, no
    /// limit.
    ///
    /// It does not interrupt the handler's own code, and does not apply to the stream that
    /// [`into_parts`](Self::into_parts) returns.
    pub fn set_deadline(&self, time: Option<Duration>) {
        self.bounds.deadline.set(self.comm.deadline(time));
    }

    /// Limits how slow the client may be, from now on.
    ///
    /// The child waits for the client for some time in all, and longer for each byte that moves:
    /// reads and writes then fail with `TimedOut`. Unlike a [deadline](Self::set_deadline) it lets
    /// a large upload take its time; unlike a timeout of each read, a client that sends a byte now
    /// and then does not hold the child for long. The time in which the handler works does not
    /// count, and neither does that of [`wait_for_request`](Self::wait_for_request) and
    /// [`linger`](Self::linger), which have limits of their own. Default: `None`, no limit.
    ///
    /// Set it again for each request of a connection that is kept open. It does not apply to the
    /// stream that [`into_parts`](Self::into_parts) returns, nor to objects of a
    /// [`ConnClass`](super::ConnClass).
    ///
    /// ```
    /// # use prefork_server::{TcpServer, servers::conn::MinRate};
    /// # use std::time::Duration;
    /// let server = TcpServer::new(|conn| {
    ///     let rate = MinRate::new(500).after(Duration::from_secs(20));
    ///     conn.set_min_rate(Some(rate));
    ///     std::io::copy(&mut &conn, &mut std::io::sink()).map(drop)
    /// });
    /// # let _ = server;
    /// ```
    pub fn set_min_rate(&self, rate: Option<MinRate>) {
        self.bounds.pace.set(rate.map(Pace::new));
    }

    /// `timeout`, cut to what the deadline and a slow client have left.
    pub(super) fn cut_paced(&self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        self.cut(self.bounds.cut_to_pace(timeout)?)
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

    /// Waits for the next request. False when the handler should end the connection.
    ///
    /// True means that a read returns at once: with bytes, or with the end of input. False means
    /// that the child was told to stop or has lost its parent
    /// ([`shutdown_requested`](Self::shutdown_requested) is true, and the handler can send a
    /// goodbye), that the client was idle for longer than `idle` (`None`: no limit), or that the
    /// [deadline](Self::set_deadline) has passed.
    ///
    /// A request that has arrived when the child is told to stop is served: the call returns true
    /// for it and false after that, so a client that keeps sending requests does not delay the
    /// stop. A client that has sent nothing yet gets 50 ms, since its request may be under way.
    ///
    /// Call it between requests, not within one, and only when your own buffer is empty:
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
    /// When the operating system refuses to wait. Nothing that the client does is an error.
    pub fn wait_for_request(&self, idle: Option<Duration>) -> io::Result<bool> {
        if self.bounds.last.get() {
            return Ok(false);
        }
        let Ok(idle) = self.cut(idle) else {
            return Ok(false);
        };
        let deadline = self.comm.deadline(idle);
        let arrived = match self.await_request(deadline)? {
            Wake::Ready => true,
            Wake::Stop => !self.bounds.heard.get() && self.arrives_within(UNDER_WAY)?,
            Wake::Timer => false,
        };
        self.bounds.last.set(self.comm.shutdown_requested());
        Ok(arrived)
    }

    /// Like [`wait_request`](Self::wait_request), and ends as by a timer when others wait for this
    /// child and the client has had its time.
    fn await_request(&self, deadline: Option<Time>) -> io::Result<Wake> {
        loop {
            let Ok(look_at) = self.look_around() else {
                return Ok(Wake::Timer);
            };
            let until = [deadline, look_at].into_iter().flatten().min();
            match self.wait_request(until)? {
                Wake::Timer if until != deadline => {}
                wake => return Ok(wake),
            }
        }
    }

    fn wait_request(&self, deadline: Option<Time>) -> io::Result<Wake> {
        let stream = self.stream.as_fd();
        self.comm.wait_request(stream, Interest::Read, deadline)
    }

    fn arrives_within(&self, time: Duration) -> io::Result<bool> {
        let stream = self.stream.as_fd();
        self.comm.wait_stream(stream, Interest::Read, Some(time))
    }

    /// Ends the writing side and discards input until the client closes too.
    ///
    /// True if it has closed.
    ///
    /// The kernel resets a connection that is closed while input is unread or still arriving, and a
    /// reset overtakes the last answer: a client that is refused during its upload would not learn
    /// why. Call this last in a handler that may not have read everything.
    ///
    /// It waits for at most `longest` and discards at most `most` bytes; 2 s and 16 MiB are usual.
    /// Once the child is told to stop, a silent client gets 50 ms. Nothing that the client does is
    /// an error.
    pub fn linger(&self, longest: Duration, most: u64) -> bool {
        if self.shutdown(Shutdown::Write).is_err() {
            return true;
        }
        let Ok(Some(longest)) = self.cut(Some(longest)) else {
            return false;
        };
        self.read_away(self.comm.now() + longest, most)
    }

    /// Whether the client has gone.
    ///
    /// It has reset the connection, or closed it over a UNIX socket. For a handler with long work
    /// that no client would wait for.
    ///
    /// It reads nothing and costs one system call, so call it now and then. Over TCP a client that
    /// closes looks the same as one that has sent everything and waits for the answer: see
    /// [`peer_has_finished`](Self::peer_has_finished).
    pub fn peer_is_gone(&self) -> bool {
        hangup::look(&self.stream) == Hangup::Whole
    }

    /// Whether the client sends nothing more: it has gone, or closed its writing side.
    ///
    /// What has arrived before may still be unread.
    ///
    /// Some clients close their writing side and wait for the answer (`nc -N`). Where no client
    /// does that, as with most HTTP clients, true means that the client has given up. It reads
    /// nothing, like [`peer_is_gone`](Self::peer_is_gone); on systems other than Linux and FreeBSD
    /// it returns the same.
    pub fn peer_has_finished(&self) -> bool {
        hangup::look(&self.stream) >= Hangup::Half
    }
}

/// What takes no time of the client's.
impl<S: Stream> Conn<S> {
    /// Writes what fits into the socket's buffer now.
    pub(in crate::servers) fn write_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(&[IoSlice::new(bytes)], Blocking::Never).map(drop)
    }

    /// Discards what has arrived, at most `most` bytes of it.
    pub(in crate::servers) fn read_away_at_once(&self, most: u64) {
        let mut chunk = [0; CHUNK];
        let mut left = most;
        while left > 0 {
            match self.receive(&mut chunk, Blocking::Never) {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count as u64),
            }
        }
    }
}

impl<S: Stream> Conn<S> {
    /// Reads until the client closes, until `end`, or until it has sent `most` bytes. True if it has closed.
    fn read_away(&self, end: Time, most: u64) -> bool {
        let mut chunk = [0; CHUNK];
        let mut left = most;
        while left > 0 && self.comm.now() < end {
            match self.receive(&mut chunk, Blocking::Never) {
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

    /// Waits for more input until `end`; once the child is told to stop, only for what is under
    /// way.
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
