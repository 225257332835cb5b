//! What each handler of a connection does unless it is overridden, callable from an override: the
//! counterpart of `SUPER::`. Asks the session; makes no system call.
//!
//! ```
//! use prefork_server::{Operation, servers::conn::{ConnClass, Session, defaults}};
//! use std::io;
//!
//! struct Polite;
//!
//! impl ConnClass for Polite {
//!     fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
//!         session.put(input);
//!     }
//!
//!     fn handler_error(&mut self, session: &mut Session, operation: Operation, error: &io::Error) {
//!         if error.kind() == io::ErrorKind::InvalidData {
//!             // The default would disconnect at once; this one lets the client know.
//!             session.put(format!("500 {error}"));
//!             session.shutdown();
//!         } else {
//!             defaults::handler_error(self, session, operation, error); // SUPER
//!         }
//!     }
//! }
//! ```

use super::{class::ConnClass, limit::Limit, pump::is_end_of_input, session::Session};
use crate::{
    core::{error::Operation, say::say},
    sys::blame::is_the_clients,
};
use std::io;

/// Does nothing.
pub fn handler_start<C: ConnClass + ?Sized>(_: &mut C, _session: &mut Session) {}

/// Sends the record: [`Session::put`].
pub fn handler_put<C: ConnClass + ?Sized>(_: &mut C, session: &mut Session, output: &[u8]) {
    session.put(output);
}

/// Warns of an error, and shuts down if `shutdown_on_error`.
///
/// It does not warn of what the client has caused.
///
/// The warning reads `connection got {operation} error {n} ({text})`. The end of input, and errors
/// that only say that the client has gone or cannot be reached, are not reported. An accept that
/// the client aborted does not shut down. The shutdown after an error disconnects at once; the one
/// after the end of input first sends the client what was put before.
pub fn handler_error<C: ConnClass + ?Sized>(
    _: &mut C,
    session: &mut Session,
    operation: Operation,
    error: &io::Error,
) {
    let ended = operation == Operation::Read && is_end_of_input(error);
    let aborted =
        operation == Operation::Accept && error.kind() == io::ErrorKind::ConnectionAborted;
    if !ended && !is_caused_by_client(error) {
        let number = error.raw_os_error().unwrap_or(0);
        say!(Warn, "connection got {operation} error {number} ({error})");
    }
    if !aborted && session.shutdown_on_error() {
        if !ended {
            session.set_got_error(true);
        }
        session.shutdown();
    }
}

/// Whether to warn: not of a client that has gone, nor of one that does not read its output until
/// the buffer overflows.
fn is_caused_by_client(error: &io::Error) -> bool {
    let inner = error.get_ref();
    let limit = inner.and_then(|inner| inner.downcast_ref::<Limit>());
    limit.map_or_else(
        || is_the_clients(error),
        |limit| limit.is_caused_by_client(),
    )
}

/// Disconnects if the connection is being shut down and nothing was put since.
pub fn handler_flush<C: ConnClass + ?Sized>(_: &mut C, session: &mut Session) {
    if session.is_shutdown() && session.pending_output() == 0 {
        session.disconnect();
    }
}

/// Notes that the connection is being shut down, and disconnects if it can.
///
/// It disconnects after an error or when nothing is left to write; otherwise `handler_flush` does
/// when everything has been written.
pub fn handler_shutdown<C: ConnClass + ?Sized>(_: &mut C, session: &mut Session) {
    session.set_shutdown(true);
    if session.got_error() || session.pending_output() == 0 {
        session.disconnect();
    }
}

/// Does nothing: the connection is served to its end.
///
/// An idle client may delay that for long.
pub fn handler_stopping<C: ConnClass + ?Sized>(_: &mut C, _session: &mut Session) {}

/// Does nothing.
pub fn handler_stop<C: ConnClass + ?Sized>(_: &mut C, _session: &mut Session) {}

/// Logs at debug level: a state of your own needs a handler of your own.
pub fn handler_state<C: ConnClass + ?Sized>(_: &mut C, _session: &mut Session, state: &str) {
    log::debug!("state {state} has no handler");
}
