//! What a PROXY protocol header says: the ends of the client's connection, and notes of the proxy.
//! Reads a whole header from memory; decides nothing about trust.

use crate::{
    core::proxy::{Malformed, V2_SIGNATURE, checksum, line},
    sys::accept::canonical,
};
use proxy_header::{ParseConfig, ProxyHeader, SslInfo, Tlv};
use std::{borrow::Cow, net::SocketAddr};

/// What a proxy has said about a connection that it passes on.
///
/// [`Conn::proxied`](crate::servers::Conn::proxied) and
/// [`Session::proxied`](crate::servers::conn::Session::proxied) return it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxied {
    proxy: Option<SocketAddr>,
    version: u8,
    is_local: bool,
    header: ProxyHeader<'static>,
}

impl Proxied {
    /// Reads a whole header, which `proxy` has sent.
    pub(crate) fn read(header: &[u8], proxy: Option<SocketAddr>) -> Result<Self, Malformed> {
        match header.starts_with(V2_SIGNATURE) {
            true => Self::read_block(header, proxy),
            false => Self::read_line(header, proxy),
        }
    }

    fn read_line(header: &[u8], proxy: Option<SocketAddr>) -> Result<Self, Malformed> {
        let parsed = parse(header).filter(|_| line::is_strict(header));
        Ok(Self {
            proxy,
            version: 1,
            is_local: false,
            header: parsed.ok_or(Malformed)?,
        })
    }

    fn read_block(header: &[u8], proxy: Option<SocketAddr>) -> Result<Self, Malformed> {
        let is_local = header.get(V2_SIGNATURE.len()) == Some(&0x20);
        let parsed = parse(header).filter(notes_are_whole);
        let parsed = match is_local {
            // The rest of such a header has no meaning, so it cannot be wrong.
            true => parsed.or_else(|| Some(ProxyHeader::with_local())),
            false => parsed,
        };
        Ok(Self {
            proxy,
            version: 2,
            is_local,
            header: parsed
                .filter(|_| checksum::holds(header))
                .ok_or(Malformed)?,
        })
    }

    /// The address of the proxy that sent the header; `None` over a UNIX socket.
    pub fn proxy_addr(&self) -> Option<SocketAddr> {
        self.proxy
    }

    /// The client's address.
    ///
    /// `None` if the proxy speaks for itself ([`is_local`](Self::is_local)), or does not tell: for
    /// a client that has none because it uses a UNIX socket, or with `PROXY UNKNOWN`.
    pub fn source(&self) -> Option<SocketAddr> {
        let address = self.header.proxied_address()?;
        Some(canonical(address.source))
    }

    /// The address that the client has connected to, unless [`source`](Self::source) is `None`.
    pub fn destination(&self) -> Option<SocketAddr> {
        let address = self.header.proxied_address()?;
        Some(canonical(address.destination))
    }

    /// Whether the proxy has connected for itself: a health check.
    ///
    /// It is the command LOCAL of version 2.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// The version of the header, 1 or 2. Only version 2 has the notes below.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The host name that the client has asked for, usually by TLS (SNI).
    pub fn authority(&self) -> Option<&str> {
        self.header.authority()
    }

    /// The protocol that client and proxy have agreed on by TLS (ALPN).
    ///
    /// `h2` or `http/1.1`, for example.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.header.alpn()
    }

    /// The proxy's name for the connection, for the logs of both.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.header.unique_id()
    }

    /// The network namespace in which the client has connected.
    pub fn netns(&self) -> Option<&str> {
        self.header.netns()
    }

    /// How the client has connected to the proxy by TLS.
    ///
    /// `None` if it has not, or if the proxy does not tell.
    pub fn tls(&self) -> Option<ProxiedTls> {
        let info = self.header.ssl()?;
        info.client_ssl().then(|| ProxiedTls::from(&info))
    }

    /// The value of a note (TLV) of a type that has no method of its own here.
    ///
    /// Types from 0xE0 on are for such: 0xEA has the VPC endpoint of AWS, 0xEE that of Azure.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.header.tlvs().find_map(|tlv| match tlv {
            Ok(Tlv::Custom(found, Cow::Borrowed(value))) if found == kind => Some(value),
            _ => None,
        })
    }
}

/// How a client has connected to a proxy by TLS, as the proxy says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProxiedTls {
    /// The version of the protocol: `TLSv1.3`.
    pub version: Option<String>,
    /// The cipher.
    pub cipher: Option<String>,
    /// The common name in the client's certificate.
    pub common_name: Option<String>,
    /// Whether the client has shown a certificate, in this session.
    pub has_certificate: bool,
    /// Whether it has shown one that the proxy has verified.
    pub is_verified: bool,
}

impl From<&SslInfo<'_>> for ProxiedTls {
    fn from(info: &SslInfo<'_>) -> Self {
        let has_certificate = info.client_cert_sess() || info.client_cert_conn();
        Self {
            version: info.version().map(str::to_owned),
            cipher: info.cipher().map(str::to_owned),
            common_name: info.cn().map(str::to_owned),
            has_certificate,
            is_verified: has_certificate && info.verify() == 0,
        }
    }
}

/// The header, if all of the bytes are one.
fn parse(bytes: &[u8]) -> Option<ProxyHeader<'static>> {
    let (header, length) = ProxyHeader::parse(bytes, ParseConfig::default()).ok()?;
    (length == bytes.len()).then(|| header.into_owned())
}

/// Whether every note, and every note within the one on TLS, is complete and has a valid value.
fn notes_are_whole(header: &ProxyHeader<'_>) -> bool {
    header.tlvs().all(|tlv| match tlv {
        Ok(Tlv::Ssl(info)) => info.tlvs().all(|tlv| tlv.is_ok()),
        other => other.is_ok(),
    })
}

#[cfg(test)]
mod tests;
