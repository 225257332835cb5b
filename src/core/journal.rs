//! The journal of a held server: what is known of its children, as words in memory that outlives
//! each parent. Encodes, decodes, and decides what becomes of a record when its parent is gone;
//! owns no memory and looks at no process.
//!
//! A parent writes a record before it forks, and the child's pid after that, or the kernel writes the
//! pid while the parent forks. The holder writes how a child has ended that it has reaped. So a parent
//! that is killed between two steps leaves one of few states, each of which [`JournalRecord::resolve`] brings
//! to one of two ends: the child is known, or there is none.

mod inherited;
mod layout;
mod notes;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    inherited::InheritedChild,
    layout::*,
    notes::{NotedPid, StopBy},
};

use crate::core::{
    child::{ChildId, Collected, Reason, Signal, State, Usage, WaitStatus},
    inbox::restored_end,
    notes::{RetirementNote, WordNotes},
    state::{ChildState, Coded},
    system::ToGroup,
    time::Time,
};
use std::{ops::Range, time::Duration};

/// How far the life of a child is, as the journal knows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum LifePhase {
    /// There is no child.
    #[default]
    Vacant,
    /// The parent forks.
    Forking,
    /// The pid is known.
    Lives,
    /// It is being reaped by the holder: its pid may be another process's soon.
    Ending,
    /// It was reaped.
    Ended,
}

impl LifePhase {
    fn read(code: u64) -> Self {
        match code & 0xff {
            1 => Self::Forking,
            2 => Self::Lives,
            3 => Self::Ending,
            4 => Self::Ended,
            _ => Self::Vacant,
        }
    }
}

/// One child in the journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct JournalRecord {
    pub(crate) phase: LifePhase,
    pub(crate) serial: u32,
    /// Whether it is kept for the time when all others are busy.
    pub(crate) reserved: bool,
    pub(crate) stop_by: StopBy,
    /// Zero while it is not known.
    pub(crate) pid: u32,
    pub(crate) epoch: u32,
    pub(crate) forked_at: Time,
    pub(crate) told: Option<RetirementNote>,
    /// Whether it was forked to replace a child, and none was told to stop for it yet.
    pub(crate) successor: bool,
    pub(crate) said: WordNotes,
    /// What the holder has collected.
    pub(crate) end: Option<Collected>,
}

// The words of a record. The first is written last.
/// The serial, how the child is told to stop, and the phase.
pub(crate) const STATE_AT: usize = 0;
/// The epoch, and in the lower half the pid.
pub(crate) const PID_AT: usize = 1;
const FORKED_AT: usize = 2;
const STATUS_AT: usize = 3;
const USAGE_AT: usize = 4;
const USAGES: usize = 7;
/// How it has ended.
pub(crate) const END_AT: Range<usize> = STATUS_AT..USAGE_AT + USAGES;
/// What it has said.
pub(crate) const SAID_AT: usize = USAGE_AT + USAGES;
/// Why it was told to stop.
pub(crate) const TOLD_AT: usize = SAID_AT + 1;
pub(crate) const SUCCESSOR_AT: usize = TOLD_AT + 1;

const _: () = assert!(SUCCESSOR_AT < RECORD_WORDS);

/// In the first word, above the phase: the flag of a reserved child, the number for its group, and
/// that of its stop signal.
const RESERVED: u64 = 1 << 8;
const GROUP_SHIFT: u32 = 9;
const GROUP_MASK: u64 = 0b11;
const SIGNAL_SHIFT: u32 = 16;
/// The flag of a status that is known.
const KNOWN: u64 = 1 << 32;

impl JournalRecord {
    /// A child that is about to be forked.
    pub(crate) fn forking(id: ChildId, epoch: u32, reserved: bool, now: Time) -> Self {
        Self {
            phase: LifePhase::Forking,
            serial: id.serial(),
            reserved,
            epoch,
            forked_at: now,
            ..Self::default()
        }
    }

    /// A child of an earlier program, which is the holder's from now on.
    pub(crate) fn adopted(child: &ChildState) -> Self {
        let end = child.end.as_ref().or(child.outlived.as_ref());
        let lives = Self {
            phase: LifePhase::Lives,
            serial: child.serial,
            reserved: child.state == Some(State::Reserved),
            stop_by: StopBy {
                signal: child.stop_signal.unwrap_or(Signal::Interrupt),
                group: ToGroup::of_code(child.group),
            },
            pid: child.pid,
            epoch: child.epoch,
            forked_at: child.start_time,
            told: child.retirement.as_ref().map(|told| RetirementNote {
                reason: told.reason.unwrap_or(Reason::Asked),
                at: told.at,
            }),
            // One of the program before, which replaces no child now.
            successor: false,
            said: WordNotes::of(child),
            end: None,
        };
        match end {
            Some(end) => lives.ended(restored_end(end)),
            None => lives,
        }
    }

    pub(crate) fn words(&self) -> [u64; RECORD_WORDS] {
        let mut words = [0; RECORD_WORDS];
        words[STATE_AT] = u64::from(self.serial) << 32 | self.terms() | self.phase as u64;
        words[PID_AT] = u64::from(self.epoch) << 32 | u64::from(self.pid);
        words[FORKED_AT] = nanoseconds(self.forked_at.since_start());
        words[SAID_AT] = self.said.word();
        words[TOLD_AT] = self.told.map_or(0, RetirementNote::word);
        words[SUCCESSOR_AT] = self.successor.into();
        if let Some(end) = &self.end {
            words[STATUS_AT] = status_word(end.status);
            words[USAGE_AT..][..USAGES].copy_from_slice(&usage_words(end.usage.as_ref()));
        }
        words
    }

    /// What does not change of a child, in the first word.
    fn terms(&self) -> u64 {
        let reserved = if self.reserved { RESERVED } else { 0 };
        let group = u64::from(ToGroup::code(self.stop_by.group)) << GROUP_SHIFT;
        let signal = u64::from(self.stop_by.signal.code()) << SIGNAL_SHIFT;
        reserved | group | signal
    }

    /// The record that these words are. A fork whose pid is known is complete: the kernel writes the
    /// pid of a child that is the holder's from its first moment, and no process writes a phase then.
    pub(crate) fn read(words: &[u64; RECORD_WORDS]) -> Self {
        let state = words[STATE_AT];
        // OK to cut: the pid is in the lower half.
        let pid = words[PID_AT] as u32;
        let phase = match LifePhase::read(state) {
            LifePhase::Forking if pid != 0 => LifePhase::Lives,
            LifePhase::Vacant => return Self::default(),
            phase => phase,
        };
        let end = || {
            let mut usage = [0; USAGES];
            usage.copy_from_slice(&words[USAGE_AT..][..USAGES]);
            let status = status_of(words[STATUS_AT]);
            Collected {
                status,
                usage: status.map(|_| usage_of(usage)),
                out_of_memory: false,
            }
        };
        Self {
            phase,
            // OK to cut: each is in its part of the word.
            serial: (state >> 32) as u32,
            reserved: state & RESERVED != 0,
            stop_by: StopBy {
                signal: Signal::of_code((state >> SIGNAL_SHIFT) as u8),
                group: ToGroup::of_code((state >> GROUP_SHIFT & GROUP_MASK) as u8),
            },
            pid,
            epoch: (words[PID_AT] >> 32) as u32,
            forked_at: Time::at_nanoseconds(words[FORKED_AT]),
            said: WordNotes::read(words[SAID_AT]),
            told: RetirementNote::read(words[TOLD_AT]),
            successor: words[SUCCESSOR_AT] != 0,
            end: (phase == LifePhase::Ended).then(end),
        }
    }

    /// Whether signals can be sent to its pid.
    pub(crate) fn lives(&self) -> bool {
        self.phase == LifePhase::Lives
    }

    /// The same child, once the holder has collected this.
    pub(crate) fn ended(self, end: Collected) -> Self {
        Self {
            phase: LifePhase::Ended,
            end: Some(end),
            ..self
        }
    }

    /// The record as the next parent finds it, when the parent is gone that has written it.
    ///
    /// `noted` is what the child has noted of itself. `is_child` says whether a pid is that of a child
    /// of the holder, which has all children of a parent that is gone.
    ///
    /// A new child notes its pid first, and looks then whether its parent lives; if not, it ends. So a
    /// child that has noted nothing when this looks ends by itself, and one that serves has noted its
    /// pid.
    pub(crate) fn resolve(self, noted: NotedPid, is_child: impl Fn(u32) -> bool) -> Self {
        match self.phase {
            LifePhase::Vacant | LifePhase::Ended => self,
            LifePhase::Forking => match noted.of(self.serial).filter(|pid| is_child(*pid)) {
                Some(pid) => Self {
                    phase: LifePhase::Lives,
                    pid,
                    ..self
                },
                None => Self::default(),
            },
            LifePhase::Lives if is_child(self.pid) => self,
            // The parent has reaped it, and has not lived to tell.
            LifePhase::Lives | LifePhase::Ending => self.ended(Collected::default()),
        }
    }

    /// Whether another child has the pid of this one, which was reaped before that was forked.
    pub(crate) fn is_outdated_by(&self, other: &Self) -> bool {
        let later = other.serial.wrapping_sub(self.serial);
        self.lives() && other.lives() && self.pid == other.pid && (1..u32::MAX / 2).contains(&later)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn status_word(status: Option<WaitStatus>) -> u64 {
    // OK to cast: the bits are what counts.
    status.map_or(0, |status| KNOWN | u64::from(status.raw().cast_unsigned()))
}

fn status_of(word: u64) -> Option<WaitStatus> {
    let known = word & KNOWN != 0;
    known.then(|| WaitStatus::from_raw((word as u32).cast_signed()))
}

fn usage_words(usage: Option<&Usage>) -> [u64; USAGES] {
    usage.map_or([0; USAGES], |usage| {
        [
            nanoseconds(usage.user_time),
            nanoseconds(usage.system_time),
            usage.max_resident,
            usage.minor_faults,
            usage.major_faults,
            usage.voluntary_switches,
            usage.involuntary_switches,
        ]
    })
}

fn usage_of(words: [u64; USAGES]) -> Usage {
    Usage {
        user_time: Duration::from_nanos(words[0]),
        system_time: Duration::from_nanos(words[1]),
        max_resident: words[2],
        minor_faults: words[3],
        major_faults: words[4],
        voluntary_switches: words[5],
        involuntary_switches: words[6],
    }
}
