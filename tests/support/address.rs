//! Addresses that servers listen on, and whether somebody still does.
//!
//! It never takes the traces of finished connections for a listener: a port in TIME_WAIT, or one
//! that the kernel has given to a client since, is free.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::marker::Marker;
use super::processes::{self, Process};

/// Where a server listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// Reads `127.0.0.1:80`, `[::1]:80`, `/path` or `unix:/path`.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(
            |_| Self::Unix(PathBuf::from(text.strip_prefix("unix:").unwrap_or(text))),
            Self::Tcp,
        )
    }

    /// The port; panics for a path.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(path) => panic!("{} has no port", path.display()),
        }
    }

    /// Who still has the address, in words; `None` if it is free.
    ///
    /// `path_may_stay` is for a server that was killed and could not clean up: its path may be
    /// there as long as no process listens on it.
    pub(super) fn occupant(&self, own: &Marker, path_may_stay: bool) -> Option<String> {
        match self {
            Self::Tcp(address) => tcp_occupant(*address, own),
            Self::Unix(path) => unix_occupant(path, path_may_stay),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

/// Whether a server could listen there now: a TCP address that no process listens on, or a path that
/// does not exist.
pub fn port_is_free(address: &Address) -> bool {
    match address {
        Address::Tcp(address) => {
            TcpListener::bind(address).is_ok() || listeners(address.port()).is_empty()
        }
        Address::Unix(path) => path.symlink_metadata().is_err(),
    }
}

fn tcp_occupant(address: SocketAddr, own: &Marker) -> Option<String> {
    // The standard library sets SO_REUSEADDR, so that TIME_WAIT does not refuse this.
    let error = TcpListener::bind(address).err()?;
    if error.kind() != ErrorKind::AddrInUse {
        return Some(error.to_string());
    }
    let sockets = listeners(address.port());
    let holders = holders(&sockets);
    // A scenario that runs beside this one may have been given the port once it was free.
    let foreign = holders.iter().any(|holder| own.is_foreign(holder.pid));
    if sockets.is_empty() || foreign {
        return None;
    }
    let holders: Vec<String> = holders.iter().map(Process::describe).collect();
    Some(format!("somebody listens on it: {}", holders.join("; ")))
}

fn unix_occupant(path: &Path, path_may_stay: bool) -> Option<String> {
    if path.symlink_metadata().is_err() {
        return None;
    }
    if UnixStream::connect(path).is_ok() {
        return Some("somebody listens on the path".to_owned());
    }
    (!path_may_stay).then(|| "the path is still there".to_owned())
}

/// The sockets that listen on `port`, as /proc/PID/fd names them.
fn listeners(port: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(File::open);
    let tables = tables.into_iter().flatten();
    let of_the_port = tables.flat_map(listening).filter(|found| found.0 == port);
    of_the_port.map(|(_, socket)| socket).collect()
}

/// The ports and the sockets of those that listen in a table of the kernel, in which they come first.
/// The rest, tens of thousands of finished connections, is not read: beside other scenarios each look
/// took seconds.
fn listening(table: File) -> impl Iterator<Item = (u16, String)> {
    const LISTEN: &str = "0A";
    let lines = BufReader::new(table).lines().map_while(Result::ok).skip(1);
    lines.map_while(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        let is_listening = fields.nth(1)? == LISTEN;
        let port = u16::from_str_radix(port, 16).ok()?;
        let inode = fields.nth(5)?;
        is_listening.then(|| (port, format!("socket:[{inode}]")))
    })
}

/// The processes that hold one of `sockets`.
fn holders(sockets: &[String]) -> Vec<Process> {
    let mut all = processes::all();
    all.retain(|process| {
        let descriptors = processes::descriptors(process.pid);
        descriptors
            .iter()
            .any(|(_, target)| sockets.contains(target))
    });
    all
}
