//! The listening sockets of the program that was here before, which the new one takes in place of
//! opening its own. What it takes is a duplicate: until the adoption has succeeded, nothing of the old
//! program is closed or removed.

use crate::{
    core::state::{Descriptor, Role, Snapshot},
    sys::{
        fd_registry::{self, Ours},
        sockets,
        unix_socket::{self, path_of},
        upgrade::descriptors,
    },
};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A socket that the old program has listened on.
#[derive(Debug)]
struct Offered {
    socket: Ours<OwnedFd>,
    /// Whether children had it, and not the parent alone.
    is_childrens: bool,
    is_taken: bool,
}

static OFFERED: Mutex<Vec<Offered>> = Mutex::new(Vec::new());

/// Whether this process is about to adopt a server.
static ADOPTING: AtomicBool = AtomicBool::new(false);

fn offered() -> MutexGuard<'static, Vec<Offered>> {
    // OK to go on after a panic: each change of the list is a single step.
    OFFERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Offers the sockets of a state to the server that starts now.
pub(crate) fn offer(state: &Snapshot) {
    ADOPTING.store(true, Ordering::Relaxed);
    let socket = |(descriptor, is_childrens): (&Descriptor, bool)| Offered {
        socket: Ours::parents(descriptors::take(descriptor.fd)),
        is_childrens,
        is_taken: false,
    };
    let childrens = state.with_role(Role::Listener).map(|it| (it, true));
    let own = state.with_role(Role::Own).map(|it| (it, false));
    *offered() = childrens.chain(own).map(socket).collect();
}

/// Ends the offer: the adoption has succeeded. Returns the addresses of sockets that nobody wanted.
pub(crate) fn withdraw() -> Vec<String> {
    ADOPTING.store(false, Ordering::Relaxed);
    let offered = std::mem::take(&mut *offered());
    let left = offered.into_iter().filter(|offered| !offered.is_taken);
    left.map(end).collect()
}

/// Closes a socket, with its file unless children still serve it. Returns its address.
fn end(offered: Offered) -> String {
    let Offered {
        socket,
        is_childrens,
        ..
    } = offered;
    let (address, path) = (address(&socket), path_of(socket.as_fd()));
    drop(socket);
    if let (false, Some(path)) = (is_childrens, path) {
        unix_socket::remove_if_stale(&path);
    }
    address
}

fn address(socket: &OwnedFd) -> String {
    let path = || path_of(socket.as_fd()).map(|path| path.display().to_string());
    let tcp = sockets::tcp_address(socket).map(|address| address.to_string());
    tcp.or_else(path).unwrap_or_else(|| "a socket".to_owned())
}

/// Whether an adoption is under way: then no file of a socket is removed, since the old program may
/// come back.
pub(crate) fn is_adopting() -> bool {
    ADOPTING.load(Ordering::Relaxed)
}

/// A duplicate of the socket at `address`; for port 0, of any socket of that address.
pub(crate) fn tcp_socket(address: SocketAddr) -> Option<OwnedFd> {
    let is_it = |socket: &OwnedFd| {
        sockets::tcp_address(socket).is_some_and(|own| {
            own.ip() == address.ip() && [0, own.port()].contains(&address.port())
        })
    };
    take(is_it)
}

/// A duplicate of the socket at `path`.
pub(crate) fn unix_socket(path: &Path) -> Option<OwnedFd> {
    take(|socket| path_of(socket.as_fd()).as_deref() == Some(path))
}

fn take(is_it: impl Fn(&OwnedFd) -> bool) -> Option<OwnedFd> {
    if !is_adopting() {
        return None;
    }
    let mut offered = offered();
    let for_children = fd_registry::is_starting();
    let mut left = offered
        .iter_mut()
        .filter(|offered| !offered.is_taken && offered.is_childrens == for_children);
    let found = left.find(|offered| is_it(&offered.socket))?;
    let copy = found.socket.try_clone().ok()?;
    found.is_taken = true;
    Some(copy)
}
