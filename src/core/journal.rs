//! The journal of a held server: what is known of its children, as words in memory that outlives
//! each parent. Encodes, decodes, and decides what becomes of a record when its parent is gone;
//! owns no memory and looks at no process.
//!
//! A parent writes a record before it forks, and the child's pid after that, or the kernel writes the
//! pid while the parent forks. The holder writes how a child has ended that it has reaped. So a parent
//! that is killed between two steps leaves one of few states, each of which [`Record::resolve`] brings
//! to one of two ends: the child is known, or there is none.

mod failure;
mod heir;
#[cfg(test)]
mod tests;

pub(crate) use self::{failure::FailureNote, heir::Heir};

use crate::core::{
    child::{Child, ChildId, Collected, Flags, Reason, Signal, State, Usage, WaitStatus},
    inbox::restored_end,
    signal_policy::TABLE,
    state::{ChildState, Coded},
    system::ToGroup,
    time::Time,
};
use std::{ops::Range, time::Duration};

// The first words are those of the pool. The parent writes them at the end of a turn.
/// The epoch of the children that are forked now.
pub(crate) const EPOCH_AT: usize = 0;
/// The serial of the child that was forked last.
pub(crate) const SERIAL_AT: usize = 1;
/// Replacements for children that have ended by themselves.
pub(crate) const OWED_AT: usize = 2;
/// How far the upgrade is by which this program has come: see
/// [`UpgradeNote`](crate::core::upgrade::UpgradeNote).
pub(crate) const UPGRADE_AT: usize = 3;
/// The pid of the parent that has completed a turn.
pub(crate) const SETTLED_AT: usize = 4;
/// How many children the holder has reaped.
pub(crate) const DEATHS_AT: usize = 5;
/// Which of two places has the saved state, and its length: see [`SavedAt`].
pub(crate) const SAVED_AT: usize = 6;
/// Whether the settings were read anew.
pub(crate) const RENEWED_AT: usize = 7;
/// Whether the server has ended, and its parent is the program's alone.
pub(crate) const OVER_AT: usize = 8;
/// Why the server ends, if because of a failure: see [`FailureNote`].
pub(crate) const FAILURE_AT: usize = 9;
/// Which of two places has what some parent has acted on.
pub(crate) const HEARD_AT: usize = 10;
/// How often each signal of the table has come to the holder.
pub(crate) const ASKED_AT: usize = 16;
/// The two places, used by turns: a parent may be killed while it writes. A stop that counted as asked for
/// and not as acted on would be heard twice, which ends `pre_stop_delay`; the other way round it would
/// be lost.
const HEARD_PLACES_AT: usize = ASKED_AT + 16;
const HEARD_WORDS: usize = STOP_IN_HEARD + 1;
/// In such a place, behind how many of the signals some parent has acted on: how far the stop is that they
/// have asked for. See [`StopState`](crate::core::stop::StopState).
pub(crate) const STOP_IN_HEARD: usize = 16;
/// The records of the children, by slot.
pub(crate) const RECORDS_AT: usize = HEARD_PLACES_AT + 2 * HEARD_WORDS;
pub(crate) const RECORD_WORDS: usize = 16;

const _: () = assert!(TABLE.len() <= 16);

/// How many bytes of state can be saved.
pub(crate) const ROOM: usize = 64 * 1024;

/// How many words a journal for that many children has. `None` if there is no memory of that size.
pub(crate) fn words(slots: usize) -> Option<usize> {
    slots
        .checked_mul(RECORD_WORDS)?
        .checked_add(RECORDS_AT + 2 * ROOM / size_of::<u64>())
}

/// Where the words of such a place begin.
pub(crate) fn heard_at(place: u64) -> usize {
    HEARD_PLACES_AT + (place as usize & 1) * HEARD_WORDS
}

/// Where the saved state is: one of two places, since a parent may be killed while it writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SavedAt {
    /// 0 or 1.
    pub(crate) place: usize,
    /// In bytes; 0 if nothing was saved.
    pub(crate) length: usize,
}

impl SavedAt {
    /// Where the next state goes.
    pub(crate) fn next(self, length: usize) -> Self {
        Self {
            place: 1 - self.place,
            length,
        }
    }

    pub(crate) fn word(self) -> u64 {
        (self.place as u64) << 32 | self.length as u64
    }

    pub(crate) fn read(word: u64) -> Self {
        Self {
            place: (word >> 32) as usize & 1,
            // OK to cut: the length is in the lower half.
            length: (word as u32 as usize).min(ROOM),
        }
    }
}

/// How far the life of a child is, as the journal knows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Phase {
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

impl Phase {
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

/// How a child is told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StopBy {
    pub(crate) signal: Signal,
    /// Which signals go to the process group that it leads, if it leads one.
    pub(crate) group: Option<ToGroup>,
}

impl Default for StopBy {
    fn default() -> Self {
        Self {
            signal: Signal::Interrupt,
            group: None,
        }
    }
}

impl StopBy {
    /// Whether SIGKILL, or any other signal, goes to the group of the child.
    pub(crate) fn reaches_group(self, kills: bool) -> bool {
        match self.group {
            None => false,
            Some(ToGroup::All) => true,
            Some(ToGroup::Kill) => kills,
        }
    }
}

/// What a child has said in words, as its parent has heard it. Of a child that notes its words on the
/// board, that has more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Said {
    pub(crate) flags: Flags,
    pub(crate) is_busy: bool,
    /// How many connections it has taken.
    pub(crate) requests: u32,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            flags: Flags::empty(),
            is_busy: false,
            requests: 0,
        }
    }
}

impl Said {
    const KEPT: Flags = Flags::ACKED
        .union(Flags::HEARD)
        .union(Flags::WAS_BUSY)
        .union(Flags::WAITED)
        .union(Flags::FINISHED_ONE)
        .union(Flags::READY);
    const BUSY: u64 = 1 << 31;

    pub(crate) fn by(child: &Child) -> Self {
        Self {
            flags: child.flags & Self::KEPT,
            is_busy: child.is_serving(),
            requests: u32::try_from(child.told_requests).unwrap_or(u32::MAX),
        }
    }

    fn of(child: &ChildState) -> Self {
        Self {
            flags: Flags::from_bits_truncate(child.flags) & Self::KEPT,
            is_busy: child.state == Some(State::Busy),
            requests: u32::try_from(child.told_requests).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn word(self) -> u64 {
        let busy = if self.is_busy { Self::BUSY } else { 0 };
        u64::from(self.requests) << 32 | busy | u64::from(self.flags.bits())
    }

    fn read(word: u64) -> Self {
        Self {
            // OK to cut: the flags are in the lower half, and the number is the upper one.
            flags: Flags::from_bits_truncate(word as u32) & Self::KEPT,
            is_busy: word & Self::BUSY != 0,
            requests: (word >> 32) as u32,
        }
    }
}

/// Why a child was told to stop, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ToldNote {
    pub(crate) reason: Reason,
    pub(crate) at: Time,
}

impl ToldNote {
    /// In one word, so that a parent that is killed leaves the note of before or this one: microseconds,
    /// below the reason. Zero is no note.
    const REASON_SHIFT: u32 = 56;

    pub(crate) fn word(self) -> u64 {
        let reason = u64::from(self.reason.code()) + 1;
        let microseconds = u64::try_from(self.at.since_start().as_micros()).unwrap_or(u64::MAX);
        reason << Self::REASON_SHIFT | microseconds.min((1 << Self::REASON_SHIFT) - 1)
    }

    fn read(word: u64) -> Option<Self> {
        // OK to cut: that is how it was written.
        let reason = ((word >> Self::REASON_SHIFT) as u8).checked_sub(1)?;
        let microseconds = word & ((1 << Self::REASON_SHIFT) - 1);
        Some(Self {
            reason: Reason::of_code(reason),
            at: Time::at(Duration::from_micros(microseconds)),
        })
    }
}

/// One child in the journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    pub(crate) serial: u32,
    /// Whether it is kept for the time when all others are busy.
    pub(crate) reserved: bool,
    pub(crate) stop_by: StopBy,
    /// Zero while it is not known.
    pub(crate) pid: u32,
    pub(crate) epoch: u32,
    pub(crate) forked_at: Time,
    pub(crate) told: Option<ToldNote>,
    /// Whether it was forked to replace a child, and none was told to stop for it yet.
    pub(crate) successor: bool,
    pub(crate) said: Said,
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

impl Record {
    /// A child that is about to be forked.
    pub(crate) fn forking(id: ChildId, epoch: u32, reserved: bool, now: Time) -> Self {
        Self {
            phase: Phase::Forking,
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
            phase: Phase::Lives,
            serial: child.serial,
            reserved: child.state == Some(State::Reserved),
            stop_by: StopBy {
                signal: child.stop_signal.unwrap_or(Signal::Interrupt),
                group: ToGroup::of_code(child.group),
            },
            pid: child.pid,
            epoch: child.epoch,
            forked_at: child.start_time,
            told: child.retirement.as_ref().map(|told| ToldNote {
                reason: told.reason.unwrap_or(Reason::Asked),
                at: told.at,
            }),
            // One of the program before, which replaces nobody now.
            successor: false,
            said: Said::of(child),
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
        words[TOLD_AT] = self.told.map_or(0, ToldNote::word);
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
    /// pid of a child that is the holder's from its first moment, and nobody writes a phase then.
    pub(crate) fn read(words: &[u64; RECORD_WORDS]) -> Self {
        let state = words[STATE_AT];
        // OK to cut: the pid is in the lower half.
        let pid = words[PID_AT] as u32;
        let phase = match Phase::read(state) {
            Phase::Forking if pid != 0 => Phase::Lives,
            Phase::Vacant => return Self::default(),
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
            said: Said::read(words[SAID_AT]),
            told: ToldNote::read(words[TOLD_AT]),
            successor: words[SUCCESSOR_AT] != 0,
            end: (phase == Phase::Ended).then(end),
        }
    }

    /// Whether signals can be sent to its pid.
    pub(crate) fn lives(&self) -> bool {
        self.phase == Phase::Lives
    }

    /// The same child, once the holder has collected this.
    pub(crate) fn ended(self, end: Collected) -> Self {
        Self {
            phase: Phase::Ended,
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
            Phase::Vacant | Phase::Ended => self,
            Phase::Forking => match noted.of(self.serial).filter(|pid| is_child(*pid)) {
                Some(pid) => Self {
                    phase: Phase::Lives,
                    pid,
                    ..self
                },
                None => Self::default(),
            },
            Phase::Lives if is_child(self.pid) => self,
            // The parent has reaped it, and has not lived to tell.
            Phase::Lives | Phase::Ending => self.ended(Collected::default()),
        }
    }

    /// Whether another child has the pid of this one, which was reaped before that was forked.
    pub(crate) fn is_outdated_by(&self, other: &Self) -> bool {
        let later = other.serial.wrapping_sub(self.serial);
        self.lives() && other.lives() && self.pid == other.pid && (1..u32::MAX / 2).contains(&later)
    }
}

/// What a new child has noted of itself: its serial and its pid.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct NotedPid(pub(crate) u64);

impl NotedPid {
    pub(crate) fn new(serial: u32, pid: u32) -> Self {
        Self(u64::from(serial) << 32 | u64::from(pid))
    }

    /// The note that stays when this one is made over an earlier one. A child that comes to run late finds
    /// that of its successor in the slot: its own parent was killed, and it is not known to the next.
    pub(crate) fn noted_over(self, before: Self) -> Self {
        // OK to cut: the serial is in the upper half.
        let [own, earlier] = [self, before].map(|note| (note.0 >> 32) as u32);
        let is_later = own.wrapping_sub(earlier) < u32::MAX / 2;
        match is_later || before == Self::default() {
            true => self,
            false => before,
        }
    }

    fn of(self, serial: u32) -> Option<u32> {
        // OK to cut: each is in its half of the word. Process 0 and 1 are no child.
        let pid = self.0 as u32;
        ((self.0 >> 32) as u32 == serial && pid > 1).then_some(pid)
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
