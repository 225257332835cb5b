//! What moves over a connection, and what its handler says about it, for those that are told of its
//! end. Counts; writes nothing.

use super::{Conn, Stream};
use crate::core::conn_end::kept_text;
use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    rc::Rc,
};

use crate::sys::sockets::{self, Blocking};

/// The counts of one connection, which outlive it.
#[derive(Debug, Default)]
pub(in crate::servers) struct Meter {
    received: Cell<u64>,
    sent: Cell<u64>,
    /// Whether others have the stream as well, or in place of the connection.
    is_shared: Cell<bool>,
    text: RefCell<String>,
}

impl Meter {
    pub(in crate::servers) fn received(&self) -> Option<u64> {
        (!self.is_shared.get()).then(|| self.received.get())
    }

    pub(in crate::servers) fn sent(&self) -> Option<u64> {
        (!self.is_shared.get()).then(|| self.sent.get())
    }

    pub(in crate::servers) fn take_text(&self) -> String {
        self.text.take()
    }
}

/// The meter of a connection, if a hook is told of its end.
pub(in crate::servers) type Metered = Option<Rc<Meter>>;

fn add(counter: &Cell<u64>, bytes: usize) {
    counter.set(counter.get().saturating_add(bytes as u64));
}

impl<S: Stream> Conn<S> {
    /// Reads what has arrived.
    pub(super) fn receive(&self, buffer: &mut [u8], blocking: Blocking) -> io::Result<usize> {
        let count = sockets::receive(&self.stream, buffer, blocking)?;
        if let Some(meter) = &self.meter {
            add(&meter.received, count);
        }
        Ok(count)
    }

    /// Writes what there is room for.
    pub(super) fn send(&self, parts: &[IoSlice<'_>], blocking: Blocking) -> io::Result<usize> {
        let count = sockets::send(&self.stream, parts, blocking)?;
        if let Some(meter) = &self.meter {
            add(&meter.sent, count);
        }
        Ok(count)
    }

    /// Notes that others read and write on the stream from now on, so that its bytes are not known.
    pub(in crate::servers) fn note_shared(&self) {
        if let Some(meter) = &self.meter {
            meter.is_shared.set(true);
        }
    }

    /// Keeps what the handler says.
    pub(super) fn note_text(&self, text: &str) {
        if let Some(meter) = &self.meter {
            let mut kept = meter.text.borrow_mut();
            kept.clear();
            kept.push_str(kept_text(text));
        }
    }
}
