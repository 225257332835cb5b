//! Handlers with state of their own in each child: made after the fork, ended with the child. Accepts no
//! connection.

use super::StreamServer;
use crate::{
    listeners::Listener,
    servers::{
        accept::Handler,
        conn::{Conn, ConnClass, Stream},
    },
};
use std::io;

/// A [`StreamServer`] with state per child, waiting for its handler.
///
/// See [`TcpServer::per_child`](crate::TcpServer::per_child).
#[derive(Debug)]
#[must_use = "it needs a handler: call `serve`"]
pub struct PerChild<L, I> {
    listener: L,
    init: I,
}

impl<L: Listener<Stream: Stream>, I> PerChild<L, I> {
    /// A server on `listener` whose handler has state of its own in each child.
    ///
    /// The state is made by `init` after the fork.
    pub fn on(listener: L, init: I) -> Self {
        Self { listener, init }
    }

    /// The server that hands each connection to `handler`, with the child's state.
    pub fn serve<T: 'static>(
        self,
        mut handler: impl FnMut(&mut T, Conn<L::Stream>) -> io::Result<()> + 'static,
    ) -> StreamServer<L>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        let Self { listener, init } = self;
        StreamServer::made_by(listener, move || {
            let mut state = init()?;
            let handler: Handler<L::Stream> = Box::new(move |conn| handler(&mut state, conn));
            Ok(handler)
        })
    }

    /// Like [`serve`](Self::serve), and calls `end` with the child's state at its end.
    ///
    /// Use it to commit, to flush, or to close a database session. `end` runs in the child, once,
    /// after the last connection: when the child was told to stop, has reached `max_requests`, or
    /// has lost its parent. Its output goes where the child's output goes. It does not run after a
    /// panic or when the child is killed, and its time counts as part of the time that the child
    /// has to leave. If the state only needs to be dropped, use `serve`.
    ///
    /// ```no_run
    /// # use prefork_server::TcpServer;
    /// # use std::{fs::File, io::Write};
    /// let server = TcpServer::per_child(|| File::create(format!("{}.log", std::process::id())))
    ///     .serve_then(|log, conn| writeln!(log, "{}", conn.peer_addr()?), |log| {
    ///         if let Err(error) = log.sync_all() {
    ///             eprintln!("the log may be incomplete: {error}");
    ///         }
    ///     });
    /// ```
    pub fn serve_then<T: 'static>(
        self,
        mut handler: impl FnMut(&mut T, Conn<L::Stream>) -> io::Result<()> + 'static,
        end: impl FnOnce(&mut T) + 'static,
    ) -> StreamServer<L>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        let Self { listener, init } = self;
        let init = move || {
            let state = init()?;
            let end = Some(end);
            Ok(WithEnd { state, end })
        };
        PerChild { listener, init }.serve(move |with_end, conn| handler(&mut with_end.state, conn))
    }

    /// The server that makes an object for each connection from the child's state.
    ///
    /// `factory` makes it: see [`TcpServer::conn_class`](crate::TcpServer::conn_class).
    pub fn conn_class<T: 'static, C: ConnClass>(
        self,
        mut factory: impl FnMut(&mut T) -> C + 'static,
    ) -> StreamServer<L>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        self.serve(move |state, conn| conn.run_class(factory(state)))
    }
}

/// A child's state, and what is done with it at its end.
struct WithEnd<T, E: FnOnce(&mut T)> {
    state: T,
    end: Option<E>,
}

impl<T, E: FnOnce(&mut T)> Drop for WithEnd<T, E> {
    fn drop(&mut self) {
        // After a panic the state may be inconsistent.
        let end = self.end.take().filter(|_| !std::thread::panicking());
        if let Some(end) = end {
            end(&mut self.state);
        }
    }
}
