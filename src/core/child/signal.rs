//! The signals that hooks send and that lead to states. Names them; sends none.

/// A signal: one that a hook can have sent to a child, or that leads to a state in the parent.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Signal {
    /// SIGABRT.
    Abort,
    /// SIGALRM: ends a child that has outlived its parent for too long.
    Alarm,
    /// SIGTTIN.
    BackgroundRead,
    /// SIGTTOU.
    BackgroundWrite,
    /// SIGCHLD.
    Child,
    /// SIGCONT.
    Continue,
    /// SIGXFSZ: a file has reached the limit of its size.
    FileSize,
    /// SIGHUP.
    Hangup,
    /// SIGINT: finish the connection in hand and leave.
    Interrupt,
    /// SIGKILL.
    Kill,
    /// SIGPIPE.
    Pipe,
    /// SIGQUIT.
    Quit,
    /// SIGSTOP.
    Stop,
    /// SIGTERM: to a stock server, the same as SIGINT.
    Terminate,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGWINCH.
    Window,
}

impl Signal {
    /// Whether it is sent to end a process. (Those that programs give a meaning of their own are not.)
    pub(crate) fn ends(self) -> bool {
        use Signal::{Abort, Interrupt, Kill, Quit, Terminate};
        matches!(self, Abort | Interrupt | Kill | Quit | Terminate)
    }
}
