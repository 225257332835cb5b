//! Tells hooks and the access log how each connection of a child has ended. Serves no client, and costs
//! nothing where there is no hook to tell.

use super::{
    access_log::{AccessLog, OpenLog},
    conn::{Conn, Meter, Stream},
    stream::StreamServer,
};
use crate::{
    core::{
        conn_end::{ConnEnd, Outcome},
        time::Time,
    },
    hooks::comm::Comm,
    listeners::Listener,
    sys::{accept::Newcomer, credentials, date},
};
use std::{
    cell::RefCell,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

type EndHook = Box<dyn FnMut(&ConnEnd)>;

/// The attributes of a server that say which hooks and logs are told.
#[derive(Default)]
pub(super) struct EndRules {
    hooks: Vec<EndHook>,
    log: Option<AccessLog>,
    open: Option<OpenLog>,
}

impl EndRules {
    /// Opens the log, in the parent.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.open = self.log.as_ref().map(AccessLog::open).transpose()?;
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.open = None;
    }

    /// Opens the log again, in the parent.
    pub(super) fn reopen(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), OpenLog::reopen)
    }

    /// For a child; `None` if no hook and no log is set.
    pub(super) fn for_child(&mut self, comm: &Comm) -> Option<Rc<Ends>> {
        let mut hooks = std::mem::take(&mut self.hooks);
        if let Some(log) = self.open.take() {
            log.follow(comm);
            hooks.push(Box::new(move |end| log.write(end)));
        }
        if hooks.is_empty() {
            return None;
        }
        Some(Rc::new(Ends {
            hooks: RefCell::new(hooks),
            comm: comm.share(),
        }))
    }
}

impl fmt::Debug for EndRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndRules")
            .field("hooks", &self.hooks.len())
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// The hooks and the log of a child.
pub(super) struct Ends {
    hooks: RefCell<Vec<EndHook>>,
    comm: Comm,
}

impl Ends {
    /// A connection was taken. `number` is its number in this child, 0 if it does not count.
    pub(super) fn begin(self: &Rc<Self>, connection: &Newcomer, number: u64) -> WatchedConn {
        let user = match connection.remote {
            Some(_) => None,
            None => credentials::of_peer(&connection.stream)
                .ok()
                .map(|ids| ids.1),
        };
        WatchedConn {
            ends: Rc::clone(self),
            meter: Rc::default(),
            start: self.comm.now(),
            end: Some(ConnEnd {
                began: date::wall_clock(),
                peer: connection.remote,
                user,
                queued: connection.queued,
                pid: std::process::id(),
                number,
                ..ConnEnd::default()
            }),
        }
    }

    fn report(&self, end: &ConnEnd) {
        self.hooks
            .borrow_mut()
            .iter_mut()
            .for_each(|hook| hook(end));
    }
}

/// A connection whose end is told: at the latest when this is dropped, as in a panic.
pub(super) struct WatchedConn {
    ends: Rc<Ends>,
    meter: Rc<Meter>,
    start: Time,
    /// `None` once it was told.
    end: Option<ConnEnd>,
}

impl WatchedConn {
    /// The counts of the connection, which it is to keep.
    pub(super) fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    /// Notes who the client is, once a proxy has told it.
    pub(super) fn note_client<S: Stream>(&mut self, conn: &Conn<S>) {
        if let Some(end) = &mut self.end {
            end.peer = conn.client();
        }
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        let Some(end) = self.end.take() else {
            return;
        };
        self.ends.report(&ConnEnd {
            took: self.ends.comm.now().since(self.start),
            received: self.meter.received(),
            sent: self.meter.sent(),
            text: self.meter.take_text(),
            outcome,
            ..end
        });
    }
}

impl Drop for WatchedConn {
    fn drop(&mut self) {
        // A hook that panics as well must not end the process in the middle of a panic.
        let _ = catch_unwind(AssertUnwindSafe(|| self.report(Outcome::Panicked)));
    }
}

/// The hooks that are told how each connection has ended.
impl<L: Listener<Stream: Stream>> StreamServer<L> {
    /// Calls `hook` with each connection that has ended. Default: no hook.
    ///
    /// It runs in the child that has had the connection, when the handler has returned and the
    /// connection is closed; also when the handler has panicked, and for connections that were
    /// accepted and not served. While it runs the child serves no client. A panic in it ends the
    /// child. No hook is told of a connection whose child was killed, has called `exit`, or was
    /// aborted: the parent learns of that by the child's [`Death`](crate::Death). Several hooks are
    /// called in the order in which they were added, each with its own state in each child.
    ///
    /// Bytes are counted where they are read and written through the [`Conn`]: also by a
    /// [`ConnClass`](crate::servers::conn::ConnClass), a canned
    /// [`Reply`](crate::servers::Reply) and [`linger`](Conn::linger). They are `None` after
    /// [`Conn::into_parts`] and for a program that [`InetdServer`](crate::servers::InetdServer)
    /// runs; what is read or written by the descriptor alone is not counted.
    ///
    /// ```
    /// # use prefork_server::TcpServer;
    /// let server = TcpServer::new(|conn| Ok(())).connection_ended(|end| {
    ///     if end.took.as_secs() > 1 {
    ///         eprintln!("slow: {}", end.common_line());
    ///     }
    /// });
    /// # let _ = server;
    /// ```
    #[must_use]
    pub fn connection_ended(mut self, hook: impl FnMut(&ConnEnd) + 'static) -> Self {
        self.ends.hooks.push(Box::new(hook));
        self
    }

    /// Writes a line for each connection. Default: none is written.
    ///
    /// It is what [`connection_ended`](Self::connection_ended) tells, after all hooks. With
    /// [`queue_time`](Self::queue_time) the line also says how long the connection was queued.
    ///
    /// A start fails if the file cannot be opened.
    #[must_use]
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.ends.log = Some(log);
        self
    }
}
