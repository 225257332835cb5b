//! The attribute of a stock server, with the counters that its children share. Reads no header.

use super::{HeaderRefusalCounters, HeaderRefusals, ProxyProtocol};
use crate::servers::{accept::HeaderCheck, conn::Stream};
use std::{io, rc::Rc};

/// Which proxies are trusted, and how many connections were refused.
#[derive(Debug, Default)]
pub(in crate::servers) struct ProxyPolicy {
    pub(in crate::servers) protocol: Option<ProxyProtocol>,
    counts: Option<Rc<HeaderRefusalCounters>>,
}

impl ProxyPolicy {
    /// Makes the counters, in the parent and before it forks.
    pub(in crate::servers) fn share_counts(&mut self) -> io::Result<()> {
        self.counts = match self.protocol {
            Some(_) => Some(Rc::new(HeaderRefusalCounters::new()?)),
            None => None,
        };
        Ok(())
    }

    pub(in crate::servers) fn refusals(&self) -> HeaderRefusals {
        let counts = self.counts.as_deref();
        counts.map(HeaderRefusals::from).unwrap_or_default()
    }

    /// Reads the header of each connection, in a child. One that is refused is counted and logged.
    pub(in crate::servers) fn header_check<S: Stream>(&self) -> Option<HeaderCheck<S>> {
        let protocol = self.protocol.clone()?;
        let counts = self.counts.clone();
        Some(Box::new(move |conn| {
            let Err(refusal) = protocol.introduce(conn) else {
                return true;
            };
            log::debug!("a connection is refused: {refusal} ({:?})", conn.remote());
            if let Some(counts) = &counts {
                counts.count(refusal);
            }
            false
        }))
    }
}
