//! What a program is told by the one that has executed it, in the variable PREFORK_UPGRADE: to try
//! whether it can use a state, or to take one over. Trusts nothing that it has not checked.

#![allow(unsafe_code)]

use super::{descriptors, memory};
use crate::{
    core::state::Snapshot,
    sys::{launch::Launch, limits, waiter::poll_any},
};
#[cfg(feature = "holder")]
use nix::errno::Errno;
use nix::{poll::PollFlags, unistd};
#[cfg(feature = "holder")]
use std::io::Write;
use std::{
    env,
    ffi::OsString,
    fmt, io,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The variable in which a summons is.
pub(super) const VARIABLE: &str = "PREFORK_UPGRADE";

/// Whether the summons of this process has been answered.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// The descriptors that the state lists and that were there when it was first read.
static LISTED: OnceLock<Vec<RawFd>> = OnceLock::new();

/// Why this process was started.
pub(crate) fn launch() -> Launch {
    let summons = peek();
    if let Some(summons) = &summons {
        keep_from_others(summons);
    }
    match summons.map(|summons| summons.way) {
        None => Launch::Fresh,
        Some(Way::Trial { .. }) => Launch::Trial,
        Some(Way::Forth { .. } | Way::Back { .. }) => Launch::Upgrade,
    }
}

/// What this process is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Summons {
    /// The descriptor of the state.
    pub(crate) state: RawFd,
    pub(crate) way: Way,
}

/// What it is to do with the state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// To say whether it can use it, and to live until it is told to end.
    Trial { answers: RawFd, end: RawFd },
    /// To take it over. If it cannot, it executes `image` again.
    Forth { image: RawFd },
    /// To take over again, because the program after it could not.
    Back { reason: String },
}

impl Summons {
    /// The text of a summons that this process writes: for itself, or for a trial, its child.
    fn text(&self) -> String {
        self.text_for(std::process::id())
    }

    /// The text of a summons for the process with this pid.
    pub(crate) fn text_for(&self, pid: u32) -> String {
        let state = self.state;
        match &self.way {
            Way::Trial { answers, end } => format!("trial {pid} {state} {answers} {end}"),
            Way::Forth { image } => format!("forth {pid} {state} {image}"),
            Way::Back { reason } => {
                let reason = reason.replace('\0', " ");
                Back { pid, state, reason }.to_string()
            }
        }
    }

    /// `own` is the pid of the process that reads it, `parent` that of its parent. One that was left
    /// for another process is none.
    fn parse(text: &str, own: u32, parent: u32) -> Option<Self> {
        let (way, rest) = text.split_once(' ')?;
        let mut parts = rest.splitn(3, ' ');
        let pid: u32 = parts.next()?.parse().ok()?;
        let state = parts.next()?.parse().ok().filter(|fd| *fd > 2)?;
        let rest = parts.next()?;
        let number = |text: &str| text.parse().ok().filter(|fd: &RawFd| *fd > 2);
        let (way, its) = match way {
            "trial" => {
                let (answers, end) = rest.split_once(' ')?;
                let (answers, end) = (number(answers)?, number(end)?);
                (Way::Trial { answers, end }, parent)
            }
            "forth" => (
                Way::Forth {
                    image: number(rest)?,
                },
                own,
            ),
            "back" => (
                Way::Back {
                    reason: rest.to_owned(),
                },
                own,
            ),
            _ => return None,
        };
        (pid == its).then_some(Self { state, way })
    }
}

/// The text of a summons to take over again.
struct Back<R> {
    pid: u32,
    state: RawFd,
    reason: R,
}

impl<R: fmt::Display> fmt::Display for Back<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "back {} {} {}", self.pid, self.state, self.reason)
    }
}

/// The text of a summons for the program that this process is, since the one that it was to become
/// cannot be executed. Allocates nothing.
#[cfg(feature = "holder")]
pub(crate) fn summons_back(buffer: &mut [u8], state: RawFd, errno: Errno) -> &[u8] {
    let room = buffer.len();
    let mut rest = &mut *buffer;
    let back = Back {
        pid: std::process::id(),
        state,
        reason: format_args!("exec: {}", errno.desc()),
    };
    // OK to ignore: what has no room is left out.
    let _ = write!(rest, "{back}");
    let left = rest.len();
    &buffer[..room - left]
}

fn peek() -> Option<Summons> {
    if ANSWERED.load(Ordering::Relaxed) {
        return None;
    }
    let text = env::var(VARIABLE).ok()?;
    // OK because pids are positive.
    let parent = unistd::getppid().as_raw().cast_unsigned();
    Summons::parse(&text, std::process::id(), parent)
}

/// What this process is told, once: a second server of the process is started as usual.
///
/// The variable is removed, so that no program which this one runs finds it; where there are other
/// threads, which may be reading the environment, it stays, and is for no other process in any case.
pub(crate) fn summons() -> Option<Summons> {
    let summons = peek()?;
    keep_from_others(&summons);
    ANSWERED.store(true, Ordering::Relaxed);
    if limits::has_one_thread() {
        // SAFETY: there is one thread, so none reads or writes the environment meanwhile.
        unsafe { env::remove_var(VARIABLE) };
    }
    Some(summons)
}

/// Has an exec close what is handed on, once: a program that this one runs is not to have it. What the
/// state lists and is not there is for the check of the state to find.
fn keep_from_others(summons: &Summons) {
    let own = match summons.way {
        Way::Trial { answers, end } => [Some(answers), Some(end)],
        Way::Forth { image } => [Some(image), None],
        Way::Back { .. } => [None, None],
    };
    LISTED.get_or_init(|| {
        for fd in own.into_iter().flatten() {
            // OK to ignore: one that is not open is missed when it is needed.
            let _ = descriptors::close_on_exec(fd, true);
        }
        let listed = read_state(summons.state).map(|state| state.descriptors);
        let listed = listed.unwrap_or_default().into_iter();
        let verified = listed.filter(|listed| descriptors::verify(listed).is_ok());
        verified.map(|listed| listed.fd.cast_signed()).collect()
    });
}

/// What an exec closes since then: the program before needs it if it comes back, whatever becomes of the
/// state here.
pub(super) fn kept_from_others() -> &'static [RawFd] {
    LISTED.get().map_or(&[], Vec::as_slice)
}

/// The state behind a descriptor that a summons has named. It stays open: the program before may need
/// it again.
pub(crate) fn read_state(fd: RawFd) -> io::Result<Snapshot> {
    let file = descriptors::borrow(fd)?;
    descriptors::close_on_exec(fd, true)?;
    let bytes = memory::read(file)?;
    Snapshot::decode(&bytes).map_err(io::Error::other)
}

/// In a trial: says whether the state can be used, and waits for the end, which is an end by signal as
/// a rule. Returns when no process waits for this one any more.
pub(crate) fn answer_and_wait(answers: RawFd, end: RawFd, answer: Result<(), String>) {
    let text = match answer {
        Ok(()) => "ok\n".to_owned(),
        Err(reason) => format!("no {}\n", reason.replace('\n', " ")),
    };
    for fd in [answers, end] {
        if descriptors::borrow(fd).is_err() {
            return;
        }
    }
    let answers = descriptors::take(answers.cast_unsigned());
    let end = descriptors::take(end.cast_unsigned());
    // OK to ignore: the process that started this one is gone then.
    let _ = unistd::write(&answers, text.as_bytes());
    log::debug!("waits at {} for the end of the trial", end.as_raw_fd());
    let _ = poll_any([(end.as_fd(), PollFlags::POLLIN)], None);
}

/// The text of a summons.
impl From<&Summons> for OsString {
    fn from(summons: &Summons) -> Self {
        summons.text().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_by_the_process_that_it_is_for() {
        let own = std::process::id();
        let ways = [
            Way::Trial { answers: 4, end: 5 },
            Way::Forth { image: 6 },
            Way::Back {
                reason: "it is broken: no, really".to_owned(),
            },
        ];
        for way in ways {
            let summons = Summons { state: 3, way };
            let text = summons.text();
            let is_trial = matches!(summons.way, Way::Trial { .. });
            // A trial is told the pid of its parent.
            let (reader, parent) = if is_trial { (1, own) } else { (own, 1) };
            assert_eq!(Summons::parse(&text, reader, parent), Some(summons));
            assert_eq!(Summons::parse(&text, own + 1, own + 2), None);
        }
    }

    #[cfg(feature = "holder")]
    #[test]
    fn a_holder_tells_itself_why_it_is_not_another_program() {
        let own = std::process::id();
        let mut buffer = [0; 64];
        let text = summons_back(&mut buffer, 9, Errno::ENOEXEC);
        let text = std::str::from_utf8(text).unwrap();
        let told = Summons::parse(text, own, 1).unwrap();
        let reason = "exec: Exec format error".to_owned();
        let way = Way::Back { reason };
        assert_eq!(told, Summons { state: 9, way });
        assert_eq!(summons_back(&mut [0; 4], 9, Errno::ENOEXEC), b"back");
    }

    #[test]
    fn anything_else_is_no_summons() {
        for text in [
            "",
            "forth",
            "forth 7",
            "forth 7 3",
            "forth 7 3 x",
            "forth 7 -1 4",
            "forth 7 1 4",
            "trial 7 3 4",
            "trial 7 3 4 0",
            "sideways 7 3 4",
            "forth 7 3 4 5",
            "forth  7 3 4",
        ] {
            assert_eq!(Summons::parse(text, 7, 7), None, "{text:?}");
        }
    }
}
