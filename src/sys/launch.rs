//! Why this process was started, as programs ask. Reads what an upgrade has told it; changes nothing.

use super::upgrade;

/// Why this process was started.
///
/// For a program that does more than to start a server: a trial must not take locks or open ports that
/// the running program has, and must not change anything.
///
/// ```
/// use prefork_server::Launch;
///
/// if Launch::of_this_process() != Launch::Trial {
///     // Write a file with the pid, take a lock.
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Launch {
    /// As any program, by a shell or a service manager.
    Fresh,
    /// To read the state of a running server, whose program this one may become.
    ///
    /// It ends in [`Builder::start`](crate::Builder::start). Linux only.
    Trial,
    /// In place of another program, or of itself.
    ///
    /// It takes over its server and children in [`Builder::start`](crate::Builder::start). Linux
    /// only.
    Upgrade,
}

impl Launch {
    /// Why this process was started.
    ///
    /// Later than the start of its first server: always [`Fresh`](Self::Fresh).
    ///
    /// A program that runs other programs before its server calls this first: from then on they do
    /// not inherit the sockets, the pipes and the memory that were handed on. Otherwise that is so
    /// from [`Builder::start`](crate::Builder::start) on.
    pub fn of_this_process() -> Self {
        upgrade::launch()
    }
}
