//! The status with which a process ended, decoded from the kernel's encoding, and the names of
//! signals. Makes no system call.

use super::{Signal, SignalSet};
use std::fmt;

/// How a process ended, as wait(2) encodes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct WaitStatus(i32);

impl WaitStatus {
    pub(crate) const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> i32 {
        self.0
    }

    /// The exit code, if it exited.
    pub(crate) const fn code(self) -> Option<i32> {
        match self.0 & 0x7f {
            0 => Some(self.0 >> 8 & 0xff),
            _ => None,
        }
    }

    /// The signal that ended it, if one did.
    pub(crate) const fn signal(self) -> Option<i32> {
        match self.0 & 0x7f {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Whether it was ended by a signal that the process has brought on itself, as a wrong address
    /// does.
    pub(crate) fn is_crash(self) -> bool {
        let own = [
            "SIGILL", "SIGTRAP", "SIGABRT", "SIGFPE", "SIGBUS", "SIGSEGV", "SIGSYS",
        ];
        let name = self.signal().and_then(signal_name);
        name.is_some_and(|name| own.contains(&name))
    }

    /// Whether one of these signals ended it.
    pub(crate) fn is_of(self, signals: SignalSet) -> bool {
        let name = self.signal().and_then(signal_name);
        let has_name = |signal: &Signal| Some(signal.name()) == name;
        Signal::ALL
            .iter()
            .filter(|signal| signals.contains(**signal))
            .any(has_name)
    }

    const fn dumped_core(self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code() {
            return write!(f, "exit status: {code}");
        }
        let signal = self.0 & 0x7f;
        write!(f, "signal: {signal}")?;
        if let Some(name) = signal_name(signal) {
            write!(f, " ({name})")?;
        }
        f.write_str(if self.dumped_core() {
            " (core dumped)"
        } else {
            ""
        })
    }
}

/// The name of a signal that can end a process.
///
/// Up to SIGTERM the numbers are the same on every Unix, except for SIGBUS, SIGSYS and the user's
/// signals.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 if cfg!(target_os = "linux") => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 if cfg!(target_os = "linux") => "SIGUSR1",
        10 => "SIGBUS",
        11 => "SIGSEGV",
        12 if cfg!(target_os = "linux") => "SIGUSR2",
        12 => "SIGSYS",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 if cfg!(target_os = "linux") => "SIGSYS",
        _ => return None,
    })
}
