//! The signals that hooks send and that lead to states. Names them; sends none.

/// A signal that a hook can send to a child, or that posts a state in the parent.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Signal {
    /// SIGABRT.
    Abort,
    /// SIGALRM: ends a child that runs for too long after its parent has gone.
    Alarm,
    /// SIGTTIN.
    BackgroundRead,
    /// SIGTTOU.
    BackgroundWrite,
    /// SIGCHLD.
    Child,
    /// SIGCONT.
    Continue,
    /// SIGXFSZ: a file has reached its size limit.
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
    /// SIGTERM: means the same as SIGINT to a stock server.
    Terminate,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGWINCH.
    Window,
}

impl Signal {
    /// Whether the signal is sent to end a process. SIGHUP, SIGUSR1 and the like have other
    /// meanings.
    pub(crate) fn ends(self) -> bool {
        use Signal::{Abort, Interrupt, Kill, Quit, Terminate};
        matches!(self, Abort | Interrupt | Kill | Quit | Terminate)
    }
}
