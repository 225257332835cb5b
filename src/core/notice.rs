//! The kinds of repeated messages of the parent, and their levels. Logs nothing.

use crate::core::error::Operation;
use log::Level;
use std::time::Duration;

/// A kind of message. What differs from one time to the next, as pids, delays and reasons, is in the
/// text alone, so that a kind is limited as a whole.
///
/// Each has a row in `docs/operations.md`. A message that comes once at most, or that answers what an
/// operator has done, needs no kind.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Notice {
    /// A hook has panicked.
    HookPanicked(&'static str),
    /// An observer has panicked: its number from 1.
    ObserverPanicked(usize),
    /// A child is not watched, and ends.
    UnwatchedChild,
    /// The descriptor of a state is not watched.
    UnwatchedDescriptor,
    /// A signal could not be given a meaning.
    UnheardSignal,
    /// The server object could not open its log again.
    UnopenedLog,
    /// A child has outlived SIGKILL.
    Unkillable,
    /// The default of `handler_run_error`: the operation and the number of the error.
    RunError(Operation, i32),
    /// A child died before it could serve, and the next fork is delayed for so long. Each longer delay
    /// is news.
    FailedStart(Duration),
    /// The same of a child that died with its first client.
    FailedFirst(Duration),
    /// A fork has failed and is tried again.
    FailedFork,
    /// A child could not be sent a signal.
    UnsentSignal,
    /// A state was posted that is not registered.
    UnknownState,
    /// A state was posted that the loop calls with arguments.
    CalledState,
    /// An attribute has a value that makes no sense.
    Attribute(&'static str),
    /// An attribute that another program has set is none here.
    UnknownAttribute,
    /// A client of the control socket has connected.
    ControlClient,
    /// A client of the control socket was refused.
    RefusedControl,
    /// The control socket cannot be accepted on.
    ControlAccept,
    /// A reserved child is asked for, and there is none.
    NoReserve,
    /// The status helper has ended.
    #[cfg(feature = "status")]
    StatusEnded,
    /// The status helper cannot be started.
    #[cfg(feature = "status")]
    StatusStart,
}

impl Notice {
    pub(crate) const fn level(self) -> Level {
        match self {
            Self::HookPanicked(_)
            | Self::ObserverPanicked(_)
            | Self::UnwatchedChild
            | Self::UnwatchedDescriptor
            | Self::UnheardSignal
            | Self::UnopenedLog
            | Self::Unkillable => Level::Error,
            Self::ControlClient => Level::Info,
            _ => Level::Warn,
        }
    }
}
