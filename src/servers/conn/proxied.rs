//! A connection that a proxy passes on: what the proxy has said, and the reads that stop at the end
//! of its header. Interprets no header.

use super::{Conn, Stream};
use crate::{
    servers::proxy::Proxied,
    sys::{
        link::Interest,
        sockets::{self, Blocking},
    },
};
use std::{io, net::SocketAddr};

impl<S: Stream> Conn<S> {
    /// What the proxy has said that passes this connection on.
    ///
    /// `None` without [`proxy_protocol`](crate::servers::StreamServer::proxy_protocol), and for a
    /// client that has connected [directly](crate::servers::proxy::ProxyProtocol::direct).
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxied(&self) -> Option<&Proxied> {
        self.proxied.as_deref()
    }

    /// The address of the proxy; `None` where [`proxied`](Self::proxied) is, and over a UNIX
    /// socket.
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxy_addr(&self) -> Option<SocketAddr> {
        self.proxied()?.proxy_addr()
    }

    pub(in crate::servers) fn set_proxied(&mut self, proxied: Proxied) {
        self.proxied = Some(Box::new(proxied));
    }

    /// The address at the other end of the connection itself.
    pub(in crate::servers) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Copies what has arrived, waiting for it if need be, and leaves it there to be read.
    pub(in crate::servers) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for_client(Interest::Read, None, |stream, blocking| {
            sockets::peek(stream, buffer, blocking)
        })
    }

    /// Reads as many bytes as `buffer` has, which have arrived. They are not the client's, so they
    /// are no request.
    pub(in crate::servers) fn read_away_exactly(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = self.wait_for_client(Interest::Read, None, |stream, _| {
                sockets::receive(stream, buffer, Blocking::Never)
            })?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[count..];
        }
        Ok(())
    }
}
