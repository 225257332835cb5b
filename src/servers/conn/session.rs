//! One connection as its object sees it: the input, the output, and what is to happen next. Decides
//! for the driver; makes no system call, calls no handler, reads no clock.

mod incoming;
mod outgoing;
mod requests;

use self::{incoming::Incoming, outgoing::Outgoing};
use super::{
    filter::{Filter, LineFilter},
    peer::{Peer, PeerCredentials},
    times::Times,
};
use crate::core::{alarms::Alarms, error::Operation, time::Time};
use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

/// What has been posted and has not happened yet.
#[derive(Debug)]
pub(super) enum PostedAction {
    Start,
    Put(Vec<u8>),
    Error(Operation, io::Error),
    Flush,
    Shutdown,
    Disconnect,
    State(String),
}

/// The buffers, filter and attributes of a connection, lent to every handler.
///
/// A class of the original inherits these; here every method of a [`ConnClass`](super::ConnClass)
/// gets them, in the child. A call has no effect before the handler has returned:
/// [`put`](Self::put) goes into a buffer and everything else is queued, so no handler is ever
/// called from within another.
pub struct Session {
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) say_ack: Box<dyn Fn() -> io::Result<()>>,
    pub(super) extend: Box<dyn Fn(Duration)>,
    pub(super) now: Time,
    pub(super) events: VecDeque<PostedAction>,
    /// Posted by a state, for the next turn: so a state that posts itself starves neither input nor
    /// output.
    pub(super) later: Vec<String>,
    pub(super) in_state: bool,
    pub(super) alarms: Alarms,
    pub(super) filter: Box<dyn Filter>,
    pub(super) input: Incoming,
    pub(super) output: Outgoing,
    pub(super) connected: bool,
    pub(super) shutdown: bool,
    pub(super) shutdown_on_error: bool,
    pub(super) got_error: bool,
    pub(super) shutdown_requested: bool,
    /// Whether the object was told of the stop.
    pub(super) told_to_stop: bool,
    pub(super) times: Times,
    /// How long closing waits for the client.
    pub(super) linger: Duration,
    /// How many bytes have arrived during the shutdown.
    pub(super) dropped: u64,
    /// Whether the child is to leave after this connection.
    pub(super) leaves: bool,
}

impl Session {
    /// Default limit of a record's input, with its delimiters: 64 KiB.
    pub const INPUT_LIMIT: usize = 64 * 1024;
    /// Default limit of the output that waits for a slow client: 1 MiB.
    pub const OUTPUT_LIMIT: usize = 1024 * 1024;
    /// How many bytes of input a shutdown discards: 16 MiB.
    ///
    /// Reading them avoids a reset, which could cost the client the last answer. If the client
    /// sends more, reading stops, and the rest of the output is still written.
    pub const DROPPED: u64 = 16 * 1024 * 1024;

    pub(super) fn new(id: u64, peer: Peer) -> Self {
        Self {
            id,
            peer,
            say_ack: Box::new(|| Ok(())),
            extend: Box::new(|_| ()),
            now: Time::START,
            events: VecDeque::from([PostedAction::Start]),
            later: Vec::new(),
            in_state: false,
            alarms: Alarms::default(),
            filter: Box::new(LineFilter::lf()),
            input: Incoming::new(Self::INPUT_LIMIT),
            output: Outgoing::new(Self::OUTPUT_LIMIT),
            connected: true,
            shutdown: false,
            shutdown_on_error: true,
            got_error: false,
            shutdown_requested: false,
            told_to_stop: false,
            times: Times::default(),
            linger: Duration::ZERO,
            dropped: 0,
            leaves: false,
        }
    }
}

/// The client and its addresses.
impl Session {
    /// The number of the connection within its child, from 1.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The two ends.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the proxy that passes the connection on has said.
    ///
    /// `None` if the client has connected without one.
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxied(&self) -> Option<&crate::servers::proxy::Proxied> {
        self.peer.proxied()
    }

    /// The client's address and port when the connection was accepted.
    ///
    /// An IPv4 client has an IPv4 address, also on an IPv6 socket. `None` over a UNIX socket.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.peer.remote_address()
    }

    /// The client's address alone.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.peer.remote_ip()
    }

    /// The client's port.
    pub fn remote_port(&self) -> Option<u16> {
        self.peer.remote_port()
    }

    /// The address that the client has connected to. `None` over a UNIX socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.peer.local_address()
    }

    /// The path of the UNIX socket that the client has connected to. `None` over TCP.
    pub fn path(&self) -> Option<&Path> {
        self.peer.path()
    }

    /// The process at the other end of a UNIX socket.
    ///
    /// `None` over TCP, and where the system does not tell.
    pub fn peer_credentials(&self) -> Option<PeerCredentials> {
        self.peer.credentials()
    }
}

/// The attributes of the original.
impl Session {
    /// Whether an error shuts the connection down. Default: true.
    pub fn shutdown_on_error(&self) -> bool {
        self.shutdown_on_error
    }

    /// Sets [`shutdown_on_error`](Self::shutdown_on_error).
    pub fn set_shutdown_on_error(&mut self, on: bool) {
        self.shutdown_on_error = on;
    }

    /// Whether an error has shut the connection down. The end of input does not count.
    pub fn got_error(&self) -> bool {
        self.got_error
    }

    /// Sets [`got_error`](Self::got_error): a shutdown then disconnects at once.
    pub fn set_got_error(&mut self, got: bool) {
        self.got_error = got;
    }

    /// Whether the connection is being shut down.
    ///
    /// No more input is delivered, and the connection is disconnected when the output has been
    /// written.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown
    }

    /// Sets [`is_shutdown`](Self::is_shutdown).
    ///
    /// The default of [`handler_shutdown`](super::ConnClass::handler_shutdown) calls this. Handlers
    /// normally call [`shutdown`](Self::shutdown) instead.
    pub fn set_shutdown(&mut self, shutdown: bool) {
        self.shutdown = shutdown;
    }

    /// Whether the connection is open.
    ///
    /// It is false once [`disconnect`](Self::disconnect) was called, and in `handler_stop`.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether the child was told to stop, or has lost its parent.
    ///
    /// An object that keeps a client for long should then end the connection; see
    /// [`handler_stopping`](super::ConnClass::handler_stopping).
    pub fn shutdown_requested(&self) -> bool {
        self.shutdown_requested
    }
}

/// Time limits.
impl Session {
    /// How long the client may be idle: it sends nothing and takes no output.
    ///
    /// Default: `None`, no limit.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.times.idle
    }

    /// Sets [`idle_timeout`](Self::idle_timeout). The time runs from the last byte in either direction.
    ///
    /// When it has passed, [`handler_error`](super::ConnClass::handler_error) is called with
    /// [`Limit::Idle`](super::Limit::Idle), once for each idle period. Its default disconnects; to
    /// inform the client, put a last line and call [`shutdown`](Self::shutdown).
    pub fn set_idle_timeout(&mut self, time: Option<Duration>) {
        self.times.set_idle(time);
    }

    /// Limits the whole connection: `time` from now. Default: `None`, no limit.
    ///
    /// When it has passed, [`handler_error`](super::ConnClass::handler_error) is called with
    /// [`Limit::Total`](super::Limit::Total). Its output is written as far as the client takes it
    /// at once, and then the connection is disconnected, whatever the handler does.
    pub fn set_deadline(&mut self, time: Option<Duration>) {
        self.times.set_total(time, self.now);
    }

    /// How long a disconnected connection waits for the end of the client's input.
    ///
    /// It keeps a reset from destroying the last answer. Default: zero.
    pub fn linger(&self) -> Duration {
        self.linger
    }

    /// Sets [`linger`](Self::linger): see [`Conn::linger`](super::Conn::linger). At most
    /// [`DROPPED`](Self::DROPPED) bytes are discarded.
    pub fn set_linger(&mut self, longest: Duration) {
        self.linger = longest;
    }
}

/// The filter and the limits.
impl Session {
    /// What cuts the input into records and encodes the output.
    ///
    /// Default: [`LineFilter::lf`].
    pub fn filter(&self) -> &dyn Filter {
        &*self.filter
    }

    /// Sets the filter, at any time: the new one gets the input that was not taken yet.
    ///
    /// Output that was put stays as it was encoded.
    pub fn set_filter(&mut self, filter: impl Filter + 'static) {
        self.filter = Box::new(filter);
        self.input.look_again();
    }

    /// How many bytes of input a record may take, its delimiters included.
    ///
    /// Default: [`INPUT_LIMIT`](Self::INPUT_LIMIT). A longer record is a read error.
    pub fn input_limit(&self) -> usize {
        self.input.limit
    }

    /// Sets [`input_limit`](Self::input_limit).
    pub fn set_input_limit(&mut self, bytes: usize) {
        self.input.limit = bytes;
        self.input.look_again();
    }

    /// How many bytes of output, encoded, may wait for the client.
    ///
    /// Default: [`OUTPUT_LIMIT`](Self::OUTPUT_LIMIT). A put that exceeds it is a write error, and
    /// the connection is disconnected.
    pub fn output_limit(&self) -> usize {
        self.output.limit
    }

    /// Sets [`output_limit`](Self::output_limit).
    pub fn set_output_limit(&mut self, bytes: usize) {
        self.output.limit = bytes;
    }

    /// The input that was not taken for a record: after the end of input, half a line.
    pub fn pending_input(&self) -> &[u8] {
        self.input.pending()
    }

    /// Removes that input and returns it.
    ///
    /// Use it for a protocol that skips what it cannot parse.
    pub fn take_input(&mut self) -> Vec<u8> {
        self.input.take_all()
    }

    /// How many bytes of output wait for the client, posted ones included.
    ///
    /// The original's `get_driver_out_octets`.
    pub fn pending_output(&self) -> usize {
        self.output.pending()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("pending_input", &self.pending_input().len())
            .field("pending_output", &self.pending_output())
            .field("connected", &self.connected)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}
