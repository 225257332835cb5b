//! The listening sockets of the program that was here before, which the new one takes in place of
//! opening its own. What it takes is a duplicate: until the adoption has succeeded, nothing of the old
//! program is closed or removed.

use crate::{
    core::state::{Descriptor, FdRole, Snapshot, SocketFileState},
    sys::{
        fd_registry::{self, Registered},
        socket_files::BoundFile,
        sockets, unix_socket,
        upgrade::descriptors,
    },
};
use nix::{
    errno::Errno,
    sys::socket::{Shutdown, SockaddrStorage, getsockname, shutdown},
};
use std::{
    ffi::OsString,
    fmt, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A socket that the old program has listened on.
#[derive(Debug)]
struct Offered {
    socket: Registered<OwnedFd>,
    at: OfferedAddress,
    /// Whether children had it, and not the parent alone.
    is_childrens: bool,
    is_taken: bool,
}

/// Where a socket listens.
#[derive(Clone, Debug, Eq, PartialEq)]
enum OfferedAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// It is of a kind that is not known here.
    Elsewhere,
}

static OFFERED: Mutex<Vec<Offered>> = Mutex::new(Vec::new());

/// Whether this process is about to adopt a server.
static ADOPTING: AtomicBool = AtomicBool::new(false);

fn offered() -> MutexGuard<'static, Vec<Offered>> {
    // OK to go on after a panic: each change of the list is a single step.
    OFFERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Offers the sockets of a state to the server that starts now.
///
/// It is an error if one cannot be asked for its address: the server would open another one in its
/// place. Nothing is taken from the program before then.
pub(crate) fn offer(state: &Snapshot) -> io::Result<()> {
    let childrens = state.with_role(FdRole::Listener).map(|it| (it, true));
    let own = state.with_role(FdRole::Own).map(|it| (it, false));
    let known = |(it, is_childrens): (&Descriptor, _)| {
        note_file(it)?;
        Ok((it.fd, is_childrens, OfferedAddress::of(it.fd)?))
    };
    let known: io::Result<Vec<_>> = childrens.chain(own).map(known).collect();
    let known = known?.into_iter();
    ADOPTING.store(true, Ordering::Relaxed);
    let socket = |(fd, is_childrens, at)| Offered {
        socket: Registered::parents(descriptors::take(fd)),
        at,
        is_childrens,
        is_taken: false,
    };
    *offered() = known.map(socket).collect();
    Ok(())
}

/// Notes the file that a program before has made for a socket, whatever is at its path now.
fn note_file(socket: &Descriptor) -> io::Result<()> {
    match socket.file.clone() {
        Some(file) => BoundFile::from(file).note(&descriptors::borrow_fd(socket.fd.cast_signed())?),
        None => Ok(()),
    }
}

impl From<SocketFileState> for BoundFile {
    fn from(state: SocketFileState) -> Self {
        Self {
            path: OsString::from_vec(state.path).into(),
            id: (state.device, state.inode),
        }
    }
}

/// Ends the offer: the adoption has succeeded. Returns the addresses of sockets that no server wanted.
pub(crate) fn withdraw() -> Vec<String> {
    ADOPTING.store(false, Ordering::Relaxed);
    let offered = std::mem::take(&mut *offered());
    let left = offered.into_iter().filter(|offered| !offered.is_taken);
    left.map(end).collect()
}

/// Closes a socket, with its file unless children may still serve it. Returns its address.
fn end(offered: Offered) -> String {
    if !offered.is_childrens {
        // The process that has told the status may hold it for a moment more. OK to ignore: it is closed
        // right after.
        let _ = shutdown(offered.socket.as_raw_fd(), Shutdown::Both);
    }
    if let (false, Some(file)) = (offered.is_childrens, BoundFile::of(&*offered.socket)) {
        file.remove();
    }
    drop(offered.socket);
    offered.at.to_string()
}

impl OfferedAddress {
    fn of(fd: u32) -> io::Result<Self> {
        let socket = descriptors::borrow_fd(fd.cast_signed())?;
        let address: SockaddrStorage = match getsockname(socket.as_raw_fd()) {
            Ok(address) => address,
            Err(Errno::EINVAL) => return Ok(Self::Elsewhere),
            Err(errno) => return Err(errno.into()),
        };
        let tcp = sockets::tcp_address_in(&address).map(Self::Tcp);
        let path = || unix_socket::path_in(address.as_unix_addr()?).map(Self::Unix);
        Ok(tcp.or_else(path).unwrap_or(Self::Elsewhere))
    }
}

impl fmt::Display for OfferedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(&unix_socket::display_name(path)),
            Self::Elsewhere => f.write_str("a socket"),
        }
    }
}

/// Whether an adoption is under way: then no file of a socket is removed, since the old program may
/// come back.
pub(crate) fn is_adopting() -> bool {
    ADOPTING.load(Ordering::Relaxed)
}

/// A duplicate of the socket at `address`; for port 0, of any socket of that address.
pub(crate) fn tcp_socket(address: SocketAddr) -> io::Result<Option<OwnedFd>> {
    let is_there =
        |own: &SocketAddr| own.ip() == address.ip() && [0, own.port()].contains(&address.port());
    take(|at| matches!(at, OfferedAddress::Tcp(own) if is_there(own)))
}

/// A duplicate of the socket at `path`. Another file may be there now.
pub(crate) fn unix_socket(path: &Path) -> io::Result<Option<OwnedFd>> {
    take(|at| matches!(at, OfferedAddress::Unix(own) if own == path))
}

/// Duplicates of all sockets that are wanted.
pub(crate) fn sockets(is_wanted: &dyn Fn(BorrowedFd<'_>) -> bool) -> io::Result<Vec<OwnedFd>> {
    let copies: io::Result<Vec<_>> = left(&mut offered()).map(Offered::copy).collect();
    // The list is not locked meanwhile: a kind may open other sockets to find out.
    let wanted = copies?
        .into_iter()
        .filter(|(socket, _)| is_wanted(socket.as_fd()));
    let wanted: Vec<_> = wanted.collect();
    let mut offered = offered();
    for (_, number) in &wanted {
        let own = |offered: &&mut Offered| offered.socket.as_raw_fd() == *number;
        offered.iter_mut().filter(own).for_each(|offered| {
            log::info!("{} is taken over", offered.at);
            offered.is_taken = true;
        });
    }
    Ok(wanted.into_iter().map(|(socket, _)| socket).collect())
}

fn take(is_it: impl Fn(&OfferedAddress) -> bool) -> io::Result<Option<OwnedFd>> {
    let mut offered = offered();
    let mut wanted = left(&mut offered).filter(|offered| is_it(&offered.at));
    wanted.next().map(Offered::duplicate).transpose()
}

/// Those that nobody has taken yet: children's for a server that starts, the parent's own for others.
fn left(offered: &mut [Offered]) -> impl Iterator<Item = &mut Offered> {
    let for_children = fd_registry::is_starting();
    offered
        .iter_mut()
        .filter(move |offered| !offered.is_taken && offered.is_childrens == for_children)
}

impl Offered {
    /// A duplicate, and the number by which it is known.
    fn copy(&mut self) -> io::Result<(OwnedFd, RawFd)> {
        Ok((self.socket.try_clone()?, self.socket.as_raw_fd()))
    }

    fn duplicate(&mut self) -> io::Result<OwnedFd> {
        let copy = self.socket.try_clone()?;
        self.is_taken = true;
        Ok(copy)
    }
}
