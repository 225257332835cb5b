//! The stock servers: a listening socket or several, and in each child a loop that accepts one
//! connection at a time and hands it to a closure, or to an object made for it ([`conn`]).
//!
//! They share one accept loop, which keeps the rules of [`Comm::wait`](crate::Comm::wait):
//!
//! - a child says BUSY when it takes a connection and NOT_BUSY when it finds none queued, so under
//!   load it says nothing between connections;
//! - told to stop (SIGINT, SIGTERM), it finishes the connection in hand, tries each listener once
//!   more, serves what that yields, and leaves;
//! - after `max_requests` connections it leaves without another word;
//! - when the parent is gone it closes its listeners at once, finishes the connection in hand within
//!   `kill_timeout`, and leaves.

mod accept;
pub mod conn;
mod tcp;
mod unix;

pub use self::{
    conn::{Conn, Stream},
    tcp::{Domain, TcpPerChild, TcpServer},
    unix::{UnixPerChild, UnixServer},
};

/// A connection of a [`TcpServer`].
pub type TcpConn = Conn<std::net::TcpStream>;
/// A connection of a [`UnixServer`].
pub type UnixConn = Conn<std::os::unix::net::UnixStream>;
