//! The trait of a connection's object: its handlers and when they are called. Calls no handler.

use super::{defaults, session::Session};
use crate::core::error::Operation;
use std::io;

/// The handlers of one connection, implemented by an object that is made for it.
///
/// **Where.** In the child, one object for each connection, made by the factory of
/// [`TcpServer::conn_class`](crate::TcpServer::conn_class) or
/// [`UnixServer::conn_class`](crate::UnixServer::conn_class).
///
/// **In which order.** `handler_start` first and `handler_stop` last, each once. In between, what a
/// handler has posted comes before more input, and every complete record before the end of input.
///
/// **The default from an override.** `$self->SUPER::handler_error(@_[1 .. $#_])` is written
/// `defaults::handler_error(self, session, operation, error)`.
///
/// **Blocking.** Between the calls the child waits for the client and goes on sending ACKs. A
/// handler that does not return within `timeout` counts as stuck: its child is told to stop, then
/// killed; see [`Session::ack`]. **A panic** ends the child, which is replaced; no other client
/// notices.
///
/// ```no_run
/// use prefork_server::{PreFork, TcpServer, servers::conn::{ConnClass, Session}};
///
/// struct Echo;
///
/// impl ConnClass for Echo {
///     fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
///         session.put(input);
///     }
/// }
///
/// let server = TcpServer::conn_class(|| Echo).port(7777).max_requests(10);
/// PreFork::builder(server).run()?;
/// # Ok::<(), prefork_server::Error>(())
/// ```
pub trait ConnClass {
    /// `_start`: the client has connected, nothing has been read.
    ///
    /// Set filter and limits here, and greet.
    ///
    /// Default: [`defaults::handler_start`] does nothing.
    fn handler_start(&mut self, session: &mut Session) {
        defaults::handler_start(self, session);
    }

    /// `input`: a record that the filter has found.
    ///
    /// Not called once the connection is being shut down.
    ///
    /// The one handler without a default.
    fn handler_input(&mut self, session: &mut Session, input: &[u8]);

    /// `put`: a record was posted by [`Session::post_put`].
    ///
    /// Default: [`defaults::handler_put`] sends it.
    fn handler_put(&mut self, session: &mut Session, output: &[u8]) {
        defaults::handler_put(self, session, output);
    }

    /// `error`: something went wrong with the connection.
    ///
    /// - The end of input: [`Operation::Read`] and an error with the number 0 (`raw_os_error`),
    ///   after the last record; half a line is in [`Session::pending_input`]. It is no fault.
    /// - [`Operation::Read`]: reading failed; the input exceeds the input limit; or the filter
    ///   refuses it. Also, with [`Limit::Idle`](super::Limit::Idle) or
    ///   [`Limit::Total`](super::Limit::Total) in the error: the client was idle for too long, or
    ///   the time of the whole connection is over.
    /// - [`Operation::Write`]: writing failed; the output exceeds the output limit (the connection is
    ///   disconnected after this call, whatever it does); or the filter refuses a record.
    ///
    /// If an override neither calls the default nor ends the connection, nothing more is read; the
    /// connection ends when the output is written and no alarm is set.
    ///
    /// Default: [`defaults::handler_error`] warns, and shuts down if `shutdown_on_error`.
    fn handler_error(&mut self, session: &mut Session, operation: Operation, error: &io::Error) {
        defaults::handler_error(self, session, operation, error);
    }

    /// `flush`: the operating system has taken all output.
    ///
    /// Default: [`defaults::handler_flush`] disconnects if the connection is being shut down.
    fn handler_flush(&mut self, session: &mut Session) {
        defaults::handler_flush(self, session);
    }

    /// `shutdown`: posted by [`Session::shutdown`].
    ///
    /// Default: [`defaults::handler_shutdown`] notes it, and disconnects after an error or when
    /// nothing is left to write.
    fn handler_shutdown(&mut self, session: &mut Session) {
        defaults::handler_shutdown(self, session);
    }

    /// The child should leave, and only this connection keeps it.
    ///
    /// It was told to stop or has lost its parent. Here an object can send an idle client a
    /// goodbye: `session.put("421 closing"); session.shutdown()`. Not in the original.
    ///
    /// Called once, when all that has arrived has been delivered; a client that has sent nothing
    /// yet gets 50 ms first, since its request may be under way. Not called in a shutdown.
    ///
    /// Default: [`defaults::handler_stopping`] does nothing, so the connection goes on for as long as its
    /// client wants, or until the child is killed.
    fn handler_stopping(&mut self, session: &mut Session) {
        defaults::handler_stopping(self, session);
    }

    /// `_stop`: the last call; the connection is closed when it returns.
    ///
    /// Not after a panic, nor when the child is killed.
    ///
    /// Default: [`defaults::handler_stop`] does nothing.
    fn handler_stop(&mut self, session: &mut Session) {
        defaults::handler_stop(self, session);
    }

    /// A state of the object, posted by [`Session::post`] or set by [`Session::delay_set`].
    ///
    /// Default: [`defaults::handler_state`] does nothing but log.
    fn handler_state(&mut self, session: &mut Session, state: &str) {
        defaults::handler_state(self, session, state);
    }
}

/// Forwards every method; a test runs all of them through each of these types.
macro_rules! forward_class {
    ($($type:ty),*) => {$(
        impl<C: ConnClass + ?Sized> ConnClass for $type {
            fn handler_start(&mut self, session: &mut Session) {
                (**self).handler_start(session);
            }
            fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
                (**self).handler_input(session, input);
            }
            fn handler_put(&mut self, session: &mut Session, output: &[u8]) {
                (**self).handler_put(session, output);
            }
            fn handler_error(
                &mut self,
                session: &mut Session,
                operation: Operation,
                error: &io::Error,
            ) {
                (**self).handler_error(session, operation, error);
            }
            fn handler_flush(&mut self, session: &mut Session) {
                (**self).handler_flush(session);
            }
            fn handler_shutdown(&mut self, session: &mut Session) {
                (**self).handler_shutdown(session);
            }
            fn handler_stopping(&mut self, session: &mut Session) {
                (**self).handler_stopping(session);
            }
            fn handler_stop(&mut self, session: &mut Session) {
                (**self).handler_stop(session);
            }
            fn handler_state(&mut self, session: &mut Session, state: &str) {
                (**self).handler_state(session, state);
            }
        }
    )*};
}
forward_class!(&mut C, Box<C>);
