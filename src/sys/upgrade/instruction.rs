//! What a program is told by the one that has executed it, in the variable PREFORK_UPGRADE: to try
//! whether it can use a state, or to take one over. Trusts nothing that it has not checked.

#![allow(unsafe_code)]

use super::{descriptors, state_file};
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

/// The variable in which an instruction is.
pub(super) const VARIABLE: &str = "PREFORK_UPGRADE";

/// Whether the instruction of this process has been answered.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// The descriptors that the state lists and that were there when it was first read.
static LISTED: OnceLock<Vec<RawFd>> = OnceLock::new();

/// Why this process was started.
pub(crate) fn launch() -> Launch {
    let instruction = peek();
    if let Some(instruction) = &instruction {
        keep_from_others(instruction);
    }
    match instruction.map(|instruction| instruction.task) {
        None => Launch::Fresh,
        Some(UpgradeTask::Trial { .. }) => Launch::Trial,
        Some(UpgradeTask::TakeOver { .. } | UpgradeTask::TakeBack { .. }) => Launch::Upgrade,
    }
}

/// What this process is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UpgradeInstruction {
    /// The descriptor of the state.
    pub(crate) state: RawFd,
    pub(crate) task: UpgradeTask,
}

/// What it is to do with the state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum UpgradeTask {
    /// To say whether it can use it, and to live until it is told to end.
    Trial { answers: RawFd, end: RawFd },
    /// To take it over. If it cannot, it executes `image` again.
    TakeOver { image: RawFd },
    /// To take over again, because the program after it could not.
    TakeBack { reason: String },
}

impl UpgradeInstruction {
    /// The text of an instruction that this process writes: for itself, or for a trial, its child.
    fn text(&self) -> String {
        self.text_for(std::process::id())
    }

    /// The text of an instruction for the process with this pid.
    pub(crate) fn text_for(&self, pid: u32) -> String {
        let state = self.state;
        match &self.task {
            UpgradeTask::Trial { answers, end } => format!("trial {pid} {state} {answers} {end}"),
            UpgradeTask::TakeOver { image } => format!("forth {pid} {state} {image}"),
            UpgradeTask::TakeBack { reason } => {
                let reason = reason.replace('\0', " ");
                TakeBackText { pid, state, reason }.to_string()
            }
        }
    }

    /// `own` is the pid of the process that reads it, `parent` that of its parent. One that was left
    /// for another process is none.
    fn parse(text: &str, own: u32, parent: u32) -> Option<Self> {
        let (task, rest) = text.split_once(' ')?;
        let mut parts = rest.splitn(3, ' ');
        let pid: u32 = parts.next()?.parse().ok()?;
        let state = parts.next()?.parse().ok().filter(|fd| *fd > 2)?;
        let rest = parts.next()?;
        let number = |text: &str| text.parse().ok().filter(|fd: &RawFd| *fd > 2);
        let (task, its) = match task {
            "trial" => {
                let (answers, end) = rest.split_once(' ')?;
                let (answers, end) = (number(answers)?, number(end)?);
                (UpgradeTask::Trial { answers, end }, parent)
            }
            "forth" => (
                UpgradeTask::TakeOver {
                    image: number(rest)?,
                },
                own,
            ),
            "back" => (
                UpgradeTask::TakeBack {
                    reason: rest.to_owned(),
                },
                own,
            ),
            _ => return None,
        };
        (pid == its).then_some(Self { state, task })
    }
}

/// The text of an instruction to take over again.
struct TakeBackText<R> {
    pid: u32,
    state: RawFd,
    reason: R,
}

impl<R: fmt::Display> fmt::Display for TakeBackText<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "back {} {} {}", self.pid, self.state, self.reason)
    }
}

/// The text of an instruction for the program that this process is, since the one that it was to become
/// cannot be executed. Allocates nothing.
#[cfg(feature = "holder")]
pub(crate) fn instruction_back(buffer: &mut [u8], state: RawFd, errno: Errno) -> &[u8] {
    let room = buffer.len();
    let mut rest = &mut *buffer;
    let back = TakeBackText {
        pid: std::process::id(),
        state,
        reason: format_args!("exec: {}", errno.desc()),
    };
    // OK to ignore: what has no room is left out.
    let _ = write!(rest, "{back}");
    let left = rest.len();
    &buffer[..room - left]
}

fn peek() -> Option<UpgradeInstruction> {
    if ANSWERED.load(Ordering::Relaxed) {
        return None;
    }
    let text = env::var(VARIABLE).ok()?;
    // OK because pids are positive.
    let parent = unistd::getppid().as_raw().cast_unsigned();
    UpgradeInstruction::parse(&text, std::process::id(), parent)
}

/// What this process is told, once: a second server of the process is started as usual.
///
/// The variable is removed, so that no program which this one runs finds it; where there are other
/// threads, which may be reading the environment, it stays, and is for no other process in any case.
pub(crate) fn instruction() -> Option<UpgradeInstruction> {
    let instruction = peek()?;
    keep_from_others(&instruction);
    ANSWERED.store(true, Ordering::Relaxed);
    if limits::has_one_thread() {
        // SAFETY: there is one thread, so none reads or writes the environment meanwhile.
        unsafe { env::remove_var(VARIABLE) };
    }
    Some(instruction)
}

/// Has an exec close what is handed on, once: a program that this one runs is not to have it. What the
/// state lists and is not there is for the check of the state to find.
fn keep_from_others(instruction: &UpgradeInstruction) {
    let own = match instruction.task {
        UpgradeTask::Trial { answers, end } => [Some(answers), Some(end)],
        UpgradeTask::TakeOver { image } => [Some(image), None],
        UpgradeTask::TakeBack { .. } => [None, None],
    };
    LISTED.get_or_init(|| {
        for fd in own.into_iter().flatten() {
            // OK to ignore: one that is not open is missed when it is needed.
            let _ = descriptors::close_on_exec(fd, true);
        }
        let listed = read_state(instruction.state).map(|state| state.descriptors);
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

/// The state behind a descriptor that an instruction has named. It stays open: the program before may need
/// it again.
pub(crate) fn read_state(fd: RawFd) -> io::Result<Snapshot> {
    let file = descriptors::borrow_fd(fd)?;
    descriptors::close_on_exec(fd, true)?;
    let bytes = state_file::read(file)?;
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
        if descriptors::borrow_fd(fd).is_err() {
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

/// The text of an instruction.
impl From<&UpgradeInstruction> for OsString {
    fn from(instruction: &UpgradeInstruction) -> Self {
        instruction.text().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_by_the_process_that_it_is_for() {
        let own = std::process::id();
        let tasks = [
            UpgradeTask::Trial { answers: 4, end: 5 },
            UpgradeTask::TakeOver { image: 6 },
            UpgradeTask::TakeBack {
                reason: "it is broken: no, really".to_owned(),
            },
        ];
        for task in tasks {
            let instruction = UpgradeInstruction { state: 3, task };
            let text = instruction.text();
            let is_trial = matches!(instruction.task, UpgradeTask::Trial { .. });
            // A trial is told the pid of its parent.
            let (reader, parent) = if is_trial { (1, own) } else { (own, 1) };
            assert_eq!(
                UpgradeInstruction::parse(&text, reader, parent),
                Some(instruction)
            );
            assert_eq!(UpgradeInstruction::parse(&text, own + 1, own + 2), None);
        }
    }

    #[cfg(feature = "holder")]
    #[test]
    fn a_holder_tells_itself_why_it_is_not_another_program() {
        let own = std::process::id();
        let mut buffer = [0; 64];
        let text = instruction_back(&mut buffer, 9, Errno::ENOEXEC);
        let text = std::str::from_utf8(text).unwrap();
        let told = UpgradeInstruction::parse(text, own, 1).unwrap();
        let reason = "exec: Exec format error".to_owned();
        let task = UpgradeTask::TakeBack { reason };
        assert_eq!(told, UpgradeInstruction { state: 9, task });
        assert_eq!(instruction_back(&mut [0; 4], 9, Errno::ENOEXEC), b"back");
    }

    #[test]
    fn anything_else_is_no_instruction() {
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
            assert_eq!(UpgradeInstruction::parse(text, 7, 7), None, "{text:?}");
        }
    }
}
