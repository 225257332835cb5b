//! One child as the parent knows it: its state and its record; its name, times and end in the
//! modules below. Plain data; sends nothing and reads no clock.

mod deadlines;
mod death;
mod flags;
mod id;
mod last_lines;
mod retirement;
mod signal;
mod stuck;
mod usage;
mod verdict;
mod wait_status;
mod work;

use self::last_lines::LastLines;
pub(crate) use self::{
    death::Collected,
    flags::ChildFlags,
    retirement::Retirement,
    signal::{SignalSet, with_signals},
    wait_status::WaitStatus,
};
pub use self::{
    death::{Cause, Death},
    id::ChildId,
    retirement::Reason,
    signal::Signal,
    stuck::{Stuck, SystemCall},
    usage::Usage,
};

use crate::core::{stack, time::Time, time_limits::InHand};
use std::time::Duration;

/// The age at which the start of a child counts as successful, unless it says BUSY before.
pub(crate) const START_HOLDS_AFTER: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// How long the parent waits in a shutdown for a child that got SIGKILL.
///
/// The child dies at once, unless it hangs in the kernel.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);

/// What the parent believes a child is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Forked; no word has come yet.
    ///
    /// Counts as spare, so that a slow start does not cause a second fork.
    Starting,
    /// Waiting for a connection.
    Free,
    /// Serving a connection.
    Busy,
    /// Kept for the time when all others are busy (attribute `reserved_shedder`).
    ///
    /// It is not spare, and its words do not change its state.
    Reserved,
    /// Told to stop, not reaped yet.
    ///
    /// It is not spare, its words do not change its state, and it still counts for `max_clients`.
    Retiring,
}

/// What a successor is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SuccessorRole {
    /// One of the children that are to be replaced is told to stop when it is ready.
    Successor,
    /// It takes the place of a child that had to go first.
    Refill(ChildId),
}

/// No child takes more connections a second than this.
const FASTEST: u64 = 1_000_000;

/// A number of connections that a child has noted which was forked at `born`, unless no child can be
/// that fast: then 0.
pub(crate) fn believable(noted: u64, born: Time, now: Time) -> u64 {
    let seconds = now.since(born).as_secs().saturating_add(1);
    let most = seconds.saturating_mul(FASTEST);
    if noted <= most { noted } else { 0 }
}

/// The record of one child, the original's child hash.
#[derive(Clone, Debug)]
pub struct Child {
    pub(crate) id: ChildId,
    pub(crate) pid: u32,
    pub(crate) state: State,
    pub(crate) last_ack: Time,
    pub(crate) start_time: Time,
    pub(crate) flags: ChildFlags,
    /// The signals that hooks have sent to it.
    pub(crate) sent_by_hooks: SignalSet,
    /// The total time in which the parent had not run when `last_ack` was set.
    pub(crate) gaps_at_ack: Duration,
    /// The `timeout` from which the child derives its ACKs, if known.
    pub(crate) known_timeout: Option<Duration>,
    /// When it took the connection in hand.
    pub(crate) busy_since: Option<Time>,
    /// How many connections it has taken: by its notes in shared memory, and by its words.
    pub(crate) noted_requests: u64,
    pub(crate) said_requests: u64,
    /// The connection in hand, by its notes in shared memory.
    pub(crate) in_hand: InHand,
    /// When it was last found to take too long.
    pub(crate) judged_at: Option<Time>,
    pub(crate) retirement: Option<Retirement>,
    pub(crate) killed_at: Option<Time>,
    /// The epoch that it belongs to: a reload begins a new one.
    pub(crate) epoch: u32,
    pub(crate) role: Option<SuccessorRole>,
    pub(crate) private_memory: Option<u64>,
    pub(crate) last_lines: LastLines,
    /// Where it was stuck when SIGKILL was sent.
    pub(crate) stuck: Option<Stuck>,
    /// The delay of forks because it closed its outputs during its start, for the log of its death.
    pub(crate) failing: Option<Duration>,
    /// What it was asked about its stack, and has answered.
    pub(crate) stack: stack::StackRequest,
}

impl Child {
    pub(crate) fn new(id: ChildId, pid: u32, now: Time, gaps: Duration) -> Self {
        Self {
            id,
            pid,
            state: State::Starting,
            last_ack: now,
            start_time: now,
            flags: ChildFlags::STDOUT_OPEN | ChildFlags::STDERR_OPEN,
            sent_by_hooks: SignalSet::default(),
            gaps_at_ack: gaps,
            known_timeout: None,
            busy_since: None,
            noted_requests: 0,
            said_requests: 0,
            in_hand: InHand::default(),
            judged_at: None,
            retirement: None,
            killed_at: None,
            epoch: 0,
            role: None,
            private_memory: None,
            last_lines: LastLines::default(),
            stuck: None,
            failing: None,
            stack: stack::StackRequest::default(),
        }
    }

    /// Its name.
    pub fn id(&self) -> ChildId {
        self.id
    }

    /// Its process id.
    ///
    /// No other process can have it while the record exists, because the child has not been reaped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the last ACK came; the time of the fork if none has come.
    pub fn last_ack(&self) -> Time {
        self.last_ack
    }

    /// The number of the reload before which it was forked, modulo 2^32.
    ///
    /// It is 0 until the first.
    ///
    /// After a reload that has failed, the children that stay count as those of a later one.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether it is to be replaced: at a limit, or because a hook or the child asked.
    pub fn is_due(&self) -> bool {
        self.flags.contains(ChildFlags::DUE)
    }

    /// Its private memory in bytes when it was last looked at: see
    /// [`max_memory`](crate::Monitor::max_memory).
    ///
    /// `None` if it was not.
    pub fn private_memory(&self) -> Option<u64> {
        self.private_memory
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.flags.contains(ChildFlags::READY)
    }

    /// When it was forked.
    pub fn start_time(&self) -> Time {
        self.start_time
    }

    /// Whether it has sent an ACK.
    pub fn has_acked(&self) -> bool {
        self.flags.contains(ChildFlags::ACKED)
    }

    /// Whether it has taken a connection, that is, has said BUSY.
    pub fn has_served(&self) -> bool {
        self.flags.contains(ChildFlags::WAS_BUSY)
    }

    /// Whether its start is over: it has said BUSY or NOT_BUSY.
    pub(crate) fn has_stated(&self) -> bool {
        self.flags
            .intersects(ChildFlags::WAS_BUSY | ChildFlags::WAITED)
    }

    /// Whether it has waited for a connection, that is, has said NOT_BUSY.
    pub fn has_waited(&self) -> bool {
        self.flags.contains(ChildFlags::WAITED)
    }

    /// When it took the connection in hand; `None` if it has none.
    ///
    /// The time is as of its last word and of the last look at its clock. For a program that
    /// [`ExecServer`](crate::ExecServer) runs, and for a child beyond the `max_clients` of the start,
    /// it is that of the BUSY word.
    pub fn busy_since(&self) -> Option<Time> {
        self.in_hand.since.or(self.busy_since)
    }

    /// How many connections it has taken, including the one in hand.
    ///
    /// The number is as of its last word; in [`server_exited`](crate::PreForkHooks::server_exited)
    /// it is complete.
    ///
    /// For a program that [`ExecServer`](crate::ExecServer) runs, and for a child beyond the
    /// `max_clients` of the start, it is the number of its BUSY words.
    pub fn requests(&self) -> u64 {
        self.noted_requests.max(self.said_requests)
    }

    /// As [`requests`](Self::requests), without a note that cannot be true: a child may write any
    /// number over its notes.
    pub(crate) fn believed_requests(&self, now: Time) -> u64 {
        let noted = believable(self.noted_requests, self.start_time, now);
        noted.max(self.said_requests)
    }

    /// How many connections it has taken until `now`, for a sum over all children: by its notes, if it
    /// notes any that can be true. By its words, which may be counted twice, it may be one more.
    pub(crate) fn taken_by(&self, now: Time) -> u64 {
        match believable(self.noted_requests, self.start_time, now) {
            0 => self.said_requests,
            noted => noted,
        }
    }

    pub(crate) fn note_busy(&mut self, now: Time) {
        if self.busy_since.is_none() {
            self.busy_since = Some(now);
            self.said_requests += 1;
        }
    }

    /// Whether SIGINT was sent to it.
    pub fn was_interrupted(&self) -> bool {
        self.flags.contains(ChildFlags::INT_SENT)
    }

    /// Whether SIGKILL was sent to it.
    pub fn was_killed(&self) -> bool {
        self.flags.contains(ChildFlags::KILL_SENT)
    }

    /// Whether its stdout has not ended.
    pub fn stdout_is_open(&self) -> bool {
        self.flags.contains(ChildFlags::STDOUT_OPEN)
    }

    /// Whether its stderr has not ended.
    pub fn stderr_is_open(&self) -> bool {
        self.flags.contains(ChildFlags::STDERR_OPEN)
    }

    /// Why it was told to stop, if it was.
    pub fn reason(&self) -> Option<Reason> {
        self.retirement.map(|retirement| retirement.reason)
    }

    /// The last line that it wrote to stderr, cut to 256 bytes; empty if it wrote none.
    pub fn last_stderr(&self) -> &[u8] {
        self.last_lines.last()
    }

    pub(crate) fn note_stderr(&mut self, line: &[u8]) {
        self.last_lines.note(line);
    }

    /// Whether the parent has sent it SIGINT or SIGKILL.
    pub(crate) fn was_told(&self) -> bool {
        self.flags
            .intersects(ChildFlags::INT_SENT | ChildFlags::KILL_SENT)
    }

    /// Whether it has said no word yet.
    pub(crate) fn is_starting(&self) -> bool {
        !self.flags.contains(ChildFlags::HEARD)
    }

    /// Whether it has a connection in hand, by its words; also while it is retiring.
    pub(crate) fn is_serving(&self) -> bool {
        let serves = ChildFlags::BUSY_SINCE_TOLD | ChildFlags::BUSY_WHEN_TOLD;
        self.state == State::Busy || self.flags.intersects(serves)
    }

    pub(crate) fn is_reaped(&self) -> bool {
        self.flags.contains(ChildFlags::REAPED)
    }

    pub(crate) fn has_finished_one(&self) -> bool {
        self.flags.contains(ChildFlags::FINISHED_ONE)
    }

    /// Whether it was told to stop for a reason that lies not in itself, and may finish what it has
    /// in hand.
    pub(crate) fn may_finish(&self) -> bool {
        let reason = self.reason();
        reason.is_some_and(|reason| reason.is_gentle() || reason == Reason::Shutdown)
    }
}

#[cfg(test)]
mod tests;
