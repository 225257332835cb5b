//! The stock servers: one listening socket or several, and in each child a loop that accepts one
//! connection at a time and hands it to a closure, or to an object made for it ([`conn`]).
//!
//! They share one accept loop, which follows the rules of [`Comm::wait`](crate::Comm::wait):
//!
//! - a child says BUSY when it takes a connection and NOT_BUSY when it finds none queued, so under
//!   load it says nothing between connections;
//! - when a child is told to stop (SIGINT, SIGTERM), it finishes the connection in hand, tries each
//!   listener once more, serves what that yields, and leaves;
//! - after `max_requests` connections it leaves without saying anything;
//! - when the parent is gone it closes its listeners at once, finishes the connection in hand within
//!   `kill_timeout`, and leaves.
//!
//! [`AcceptOrder`] says which idle child gets a connection, and what that costs.
//!
//! They open their sockets themselves, or take over sockets that a service manager has opened:
//! [`TcpServer::listen_fds`], [`UnixServer::listen_fds`].
//!
//! [`InetdServer`] runs a program for each connection, with the connection as its stdin and stdout.
//! [`ExecServer`] is the exception: it opens the sockets, and programs of any language accept.
//!
//! # Proxies
//!
//! With the feature `proxy-protocol`, a server behind HAProxy, nginx or another balancer learns the
//! address of the client from a header that the proxy sends, the PROXY protocol. The module
//! `servers::proxy` has the attribute and what such a header says.
//!
//! # Override parts of a stock server
//!
//! What subclasses of the original's PreFork::TCP override, and how that is done here:
//!
//! | there | here | SUPER |
//! |---|---|---|
//! | `connect` | [`ChildServer::start`](crate::ChildServer::start) of a server that wraps a stock one | its `start` |
//! | `handler_resume_accept` | [`ChildServer::resume_accept`](crate::ChildServer::resume_accept), likewise | its `resume_accept` |
//! | `handler_connection` | [`TcpServer::handler_connection`], [`UnixServer::handler_connection`] | the second argument |
//! | `handler_send_ack` | [`Comm::when_ack_due`](crate::Comm::when_ack_due) | [`Comm::ack`](crate::Comm::ack) |
//! | `signal_int` | [`Comm::when_told_to_stop`](crate::Comm::when_told_to_stop) | none: the child leaves in any case |
//! | `conn_class` | [`TcpServer::conn_class`], [`UnixServer::conn_class`] | [`conn::defaults`] |
//!
//! ```
//! use prefork_server::{ChildServer, Comm, TcpServer};
//! use std::io;
//!
//! struct Mine(TcpServer);
//!
//! impl ChildServer for Mine {
//!     // All that is not written here is the inner server's.
//!     fn inner(&mut self) -> Option<&mut dyn ChildServer> {
//!         Some(&mut self.0)
//!     }
//!
//!     fn start(&mut self) -> io::Result<()> {
//!         println!("about to listen"); // in the parent
//!         self.0.start() // SUPER
//!     }
//!
//!     fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
//!         eprintln!("about to accept"); // in the child
//!         comm.when_told_to_stop(|| eprintln!("told to stop"));
//!         self.0.resume_accept(comm) // SUPER
//!     }
//! }
//!
//! let server = Mine(TcpServer::new(|conn| Ok(())));
//! # let _ = server;
//! ```

mod accept;
mod access_log;
mod admission;
pub mod conn;
mod ending;
mod exec;
mod inetd;
mod listen;
#[cfg(feature = "proxy-protocol")]
#[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
pub mod proxy;
mod queues;
mod reloading;
mod reply;
mod reserve;
mod stream;
mod taken;
mod tcp;
mod unix;

pub use self::{
    access_log::{AccessFormat, AccessLog},
    conn::{Conn, Stream},
    exec::ExecServer,
    inetd::InetdServer,
    listen::Listen,
    reply::Reply,
    stream::{PerChild, StreamServer},
    tcp::{TcpPerChild, TcpServer},
    unix::{UnixPerChild, UnixServer},
};

#[cfg(feature = "config")]
pub(crate) use self::listen::check_taken_once;

pub use crate::{
    core::{
        accept::{
            order::AcceptOrder,
            refusal::{Refusal, Refusals},
        },
        access::{Access, Cidr, NoCidr},
        conn_end::{ConnEnd, Outcome},
        endpoint_load::EndpointLoad,
    },
    listeners::{
        Listener, ListenerStatus,
        inherited::{ListenFdsError, has_listen_fds},
        socket_file::SocketFile,
        tcp::{Domain, Keepalive, Tcp},
        unix::Unix,
    },
};

/// A connection of a [`TcpServer`].
pub type TcpConn = Conn<std::net::TcpStream>;
/// A connection of a [`UnixServer`].
pub type UnixConn = Conn<std::os::unix::net::UnixStream>;
