//! A framework for preforking servers.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod alarms;
mod attributes;
mod child;
mod child_end;
mod comm;
pub mod defaults;
mod error;
mod hooks;
mod monitor;
mod os;
mod pool;
mod prefork;
mod report;
mod server;
pub mod servers;
mod slowdown;
mod states;
mod tasks;
mod time;

pub use alarms::AlarmId;
pub use attributes::{CommChannel, ThreadCheck};
pub use child::{Cause, Child, ChildId, Death, Flags, Reason, Signal, State};
pub use child_end::{Acker, Comm, Wake};
pub use comm::{COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, CommWords, Line, Output, Word};
pub use error::{Error, Operation};
pub use hooks::{DefaultHooks, PreForkHooks};
pub use monitor::Monitor;
pub use os::ours::PreForkId;
pub use prefork::{Builder, PreFork, Turn};
pub use report::Report;
pub use server::{ChildServer, Start};
pub use servers::{ExecServer, TcpServer, UnixServer};
pub use states::{DOCUMENTED_STATES, States, WatchId};
pub use time::Time;
