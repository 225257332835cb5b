//! Where a process stands: its state, the place in the kernel where it waits, its system call. Reads
//! the text of Linux's /proc; opens no file.

use std::fmt;

/// Where a child stood when the parent sent it SIGKILL.
///
/// [`Death::stuck`](crate::Death::stuck) returns it. What the system does not tell is `None`; other
/// systems than Linux tell nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stuck {
    /// Its state as ps(1) shows it.
    ///
    /// `R` for running, `S` for waiting, `D` for waiting without reacting to signals, `T` for
    /// stopped.
    pub state: Option<char>,
    /// The function of the kernel in which it waited, such as `pipe_read`.
    pub wait_channel: Option<String>,
    /// The system call in which it was; `None` if it was in code of its own.
    pub system_call: Option<SystemCall>,
}

/// A system call of Linux.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SystemCall {
    /// Its number on this machine.
    pub number: i64,
    /// Its name, if it is one that may take long.
    pub name: Option<&'static str>,
}

impl Stuck {
    /// Reads `/proc/PID/stat`, `wchan` and `syscall`, as far as they could be read.
    pub(crate) fn parse(
        stat: Option<&str>,
        wchan: Option<&str>,
        syscall: Option<&str>,
        name: impl FnOnce(i64) -> Option<&'static str>,
    ) -> Self {
        let number = syscall.and_then(system_call);
        Self {
            state: stat.and_then(state),
            wait_channel: wchan.and_then(wait_channel),
            system_call: number.map(|number| SystemCall {
                number,
                name: name(number),
            }),
        }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// The third field. The second one is the name of the program in parentheses, which may contain
/// anything.
fn state(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// The name; a process that does not wait has `0`.
fn wait_channel(wchan: &str) -> Option<String> {
    let name = wchan.trim();
    (!name.is_empty() && name != "0").then(|| name.to_owned())
}

/// The first field: the number, -1 outside of a system call, or `running`.
fn system_call(syscall: &str) -> Option<i64> {
    let number: i64 = syscall.split_whitespace().next()?.parse().ok()?;
    (number >= 0).then_some(number)
}

/// `in read (pipe_read), state S`.
impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system_call {
            Some(call) => write!(f, "in {call}")?,
            None => f.write_str("in no system call")?,
        }
        if let Some(channel) = &self.wait_channel {
            write!(f, " ({channel})")?;
        }
        match self.state {
            Some(state) => write!(f, ", state {state}"),
            None => Ok(()),
        }
    }
}

/// The name, or the number where the name is not known.
impl fmt::Display for SystemCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "system call {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: i64) -> Option<&'static str> {
        (number == 0).then_some("read")
    }

    #[test]
    fn a_blocked_read_is_told_with_its_place() {
        let stuck = Stuck::parse(
            Some("42 (a) b (c) S 1 42 42 0 -1"),
            Some("pipe_read"),
            Some("0 0x3 0x7ffd 0x1 0x0 0x0 0x0 0x7ffd 0x7f12"),
            name,
        );
        assert_eq!(stuck.state, Some('S'));
        assert_eq!(stuck.to_string(), "in read (pipe_read), state S");
    }

    #[test]
    fn a_loop_is_in_no_system_call_and_waits_nowhere() {
        let stuck = Stuck::parse(Some("42 (x) R 1"), Some("0"), Some("running\n"), name);
        assert_eq!(stuck.to_string(), "in no system call, state R");
        let stopped = Stuck::parse(
            Some("42 (x) T 1"),
            Some("do_signal_stop"),
            Some("-1 0x1"),
            name,
        );
        assert_eq!(
            stopped.to_string(),
            "in no system call (do_signal_stop), state T"
        );
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        assert!(Stuck::parse(None, None, None, name).is_unknown());
        for nonsense in ["", "\n", ")", "(", "-", "0x"] {
            let stuck = Stuck::parse(Some(nonsense), Some(""), Some(nonsense), name);
            assert!(stuck.is_unknown(), "{nonsense:?}");
        }
        let unnamed = Stuck::parse(None, None, Some("332 0x1"), name);
        assert_eq!(unnamed.to_string(), "in system call 332");
    }
}
