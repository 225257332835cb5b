//! The operating system, as the loop and the servers need it: small wrappers, one duty a file. Only
//! these files contain `unsafe`, and none of them decides anything about children.

pub(crate) mod accept;
pub(crate) mod adopted;
pub(crate) mod atfork;
pub(crate) mod blame;
pub(crate) mod board;
pub(crate) mod cells;
pub(crate) mod child_link;
pub(crate) mod clock;
pub(crate) mod confine;
pub(crate) mod connection_program;
pub(crate) mod control;
pub(crate) mod credentials;
pub(crate) mod date;
pub(crate) mod exec;
mod exit_status;
mod fd_ranges;
pub(crate) mod fd_registry;
mod fd_table;
pub(crate) mod flag;
pub(crate) mod fork;
mod group;
pub(crate) mod handed_over;
pub(crate) mod hangup;
#[cfg(all(feature = "holder", target_os = "linux"))]
pub(crate) mod holder;
#[cfg(not(all(feature = "holder", target_os = "linux")))]
#[path = "no_holder.rs"]
pub(crate) mod holder;
pub(crate) mod launch;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod log_sink;
mod memory;
#[cfg(feature = "systemd")]
pub(crate) mod notify;
mod null;
mod out_of_memory;
pub(crate) mod output;
pub(crate) mod parent_only;
pub(crate) mod pipes;
pub(crate) mod poller;
pub(crate) mod probes;
pub(crate) mod process;
#[cfg(feature = "status")]
pub(crate) mod record_memory;
mod run_time;
mod shared_memory;
#[cfg(feature = "status")]
pub(crate) mod side_process;
pub(crate) mod signals;
pub(crate) mod socket_files;
pub(crate) mod sockets;
#[cfg(all(
    feature = "stacks",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub(crate) mod stacks;
#[cfg(not(all(
    feature = "stacks",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
#[path = "no_stacks.rs"]
pub(crate) mod stacks;
pub(crate) mod stdio;
pub(crate) mod stop_board;
mod stuck;
pub(crate) mod tally;
pub(crate) mod tcp_info;
pub(crate) mod title;
pub(crate) mod unix;
pub(crate) mod unix_diag;
pub(crate) mod unix_socket;
#[cfg(target_os = "linux")]
pub(crate) mod upgrade;
#[cfg(not(target_os = "linux"))]
#[path = "no_upgrade.rs"]
pub(crate) mod upgrade;
pub(crate) mod waiter;

use std::time::Duration;

/// A timeout in whole milliseconds, for poll(2) and epoll_wait(2). Rounded up: rounded down, a wait
/// of less than a millisecond would become a busy loop.
pub(crate) fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
