//! One child as the parent knows it: its name, its state, its record, and the judgement of its end.
//! Plain data; sends nothing and reads no clock.

mod death;
mod last_lines;
mod signal;
mod stuck;
mod usage;
mod wait_status;
mod work;

use self::last_lines::LastLines;
pub(crate) use self::{death::Collected, wait_status::WaitStatus};
pub use self::{
    death::{Cause, Death},
    signal::Signal,
    stuck::{Stuck, SystemCall},
    usage::Usage,
};

use crate::core::{clocks::InHand, stack, time::Time};
use bitflags::bitflags;
use std::{fmt, time::Duration};

/// The age at which the start of a child counts as successful, unless it says BUSY before.
pub(crate) const START_HOLDS_AFTER: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// How long the parent waits in a shutdown for a child that got SIGKILL.
///
/// The child dies at once, unless it hangs in the kernel.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);

/// Names one child, the original's wheel ID.
///
/// Slots are used again, serials are not: the name of a child that has been reaped finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChildId {
    // The order of the fields matters: of children of the same age, the one with the smaller name,
    // which was forked first, counts as the oldest.
    serial: u32,
    slot: u32,
}

impl ChildId {
    pub(crate) const fn new(slot: u32, serial: u32) -> Self {
        Self { serial, slot }
    }

    pub(crate) const fn slot(self) -> usize {
        self.slot as usize
    }

    pub(crate) const fn serial(self) -> u32 {
        self.serial
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.serial)
    }
}

/// What the parent believes a child is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Forked; no word has come yet. Counts as spare, so that a slow start does not cause a second
    /// fork.
    Starting,
    /// Waiting for a connection.
    Free,
    /// Serving a connection.
    Busy,
    /// Kept for the time when all others are busy: see the attribute `reserved_shedder`. It is not
    /// spare, and its words do not change its state.
    Reserved,
    /// Told to stop, not reaped yet. It is not spare, its words do not change its state, and it
    /// still counts for `max_clients`.
    Retiring,
}

/// Why a child was told to stop.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It was one of the oldest above `max_spare_servers`.
    Culled,
    /// It sent no ACK for longer than `timeout`.
    TimedOut,
    /// It closed both its outputs and did not end.
    Closed,
    /// Reading its output failed, or the parent had no descriptors left for it.
    Faulty,
    /// It had reached a limit, or a hook or the child itself wanted it replaced, and its successor
    /// was ready.
    Recycled,
    /// A reload has replaced it.
    Reloaded,
    /// The server is shutting down.
    Shutdown,
    /// A hook asked for it.
    Asked,
    /// A connection took longer than `busy_timeout`.
    Overtime,
    /// It had not said that it can take connections within `start_timeout`.
    StartTimeout,
}

impl Reason {
    /// Whether the child is stuck, as far as the parent can tell: its stack says where.
    pub(crate) fn is_over_time(self) -> bool {
        matches!(self, Self::TimedOut | Self::Overtime | Self::StartTimeout)
    }

    /// Whether a child may finish the connection in hand, however long that takes.
    pub(crate) fn is_gentle(self) -> bool {
        matches!(self, Self::Culled | Self::Recycled | Self::Reloaded)
    }
}

bitflags! {
    /// What has happened to a child so far.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    pub(crate) struct Flags: u32 {
        /// Its stdout has not ended.
        const STDOUT_OPEN = 1;
        /// Its stderr has not ended.
        const STDERR_OPEN = 1 << 1;
        /// It has sent an ACK.
        const ACKED = 1 << 2;
        /// It has said BUSY: its start has succeeded.
        const WAS_BUSY = 1 << 3;
        /// It has said BUSY since it was told to stop, and not NOT_BUSY after that: it has a
        /// connection in hand.
        const BUSY_SINCE_TOLD = 1 << 4;
        /// SIGINT was sent to it.
        const INT_SENT = 1 << 5;
        /// SIGKILL was sent to it.
        const KILL_SENT = 1 << 6;
        /// The last turn left output of it unread, which may contain an ACK.
        const UNREAD = 1 << 7;
        /// `handler_server_closed` has been called for it.
        const CLOSED = 1 << 8;
        /// It has said NOT_BUSY: it can take connections.
        const WAITED = 1 << 9;
        /// A hook has sent it a signal that ends processes.
        const ASKED = 1 << 10;
        /// It has ended without being told to, and processes of its group still run.
        const OUTLIVED = 1 << 11;
        /// It has said NOT_BUSY after a BUSY: it has finished a connection.
        const FINISHED_ONE = 1 << 12;
        /// It has said any word: it has started.
        const HEARD = 1 << 13;
        /// It had a connection in hand when it was told to stop, and has not said NOT_BUSY since.
        const BUSY_WHEN_TOLD = 1 << 14;
        /// It was reaped, and what it has written is still being read: nothing can be sent to it.
        const REAPED = 1 << 15;
        /// It has been ready to serve, so far as is known: it has said BUSY or NOT_BUSY, or it is a
        /// program that need not say words and has run for some time.
        const READY = 1 << 16;
        /// It is to be replaced: it has reached a limit, or was named by a hook.
        const DUE = 1 << 17;
    }
}

/// What a successor is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// One of the children that are to be replaced is told to stop when it is ready.
    Successor,
    /// It takes the place of a child that had to go first.
    Refill(ChildId),
}

/// When and why a child was told to stop, and how long until SIGKILL, if it has a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Retirement {
    pub(crate) reason: Reason,
    pub(crate) at: Time,
    pub(crate) kill_after: Option<Duration>,
    /// The same while the child has said no word yet.
    pub(crate) kill_in_start_after: Option<Duration>,
    /// How many forks had been done or were owed at that time.
    pub(crate) forks: u64,
}

impl Retirement {
    /// Takes over an earlier end of the time that a child in its start has.
    pub(crate) fn bound_start(&mut self, later: &Self) {
        if let Some(time) = later.kill_in_start_after {
            let left = (later.at + time).since(self.at);
            let bounded = self.kill_in_start_after.map_or(left, |own| own.min(left));
            self.kill_in_start_after = Some(bounded);
        }
    }

    /// Whether this retirement stays in force when `later` follows.
    ///
    /// A child that is told to stop twice must not get more time. A shutdown replaces a reason that
    /// has no time limit of its own, and so does a connection that takes too long.
    pub(crate) fn overrides(&self, later: &Self) -> bool {
        let bounds = matches!(later.reason, Reason::Shutdown | Reason::Overtime);
        let bounded = !self.reason.is_gentle() || !bounds;
        bounded
            && match (self.kill_after, later.kill_after) {
                (Some(own), Some(other)) => self.at + own <= later.at + other,
                (None, Some(_)) => false,
                (_, None) => true,
            }
    }
}

/// The record of one child, the original's child hash.
#[derive(Clone, Debug)]
pub struct Child {
    pub(crate) id: ChildId,
    pub(crate) pid: u32,
    pub(crate) state: State,
    pub(crate) last_ack: Time,
    pub(crate) start_time: Time,
    pub(crate) flags: Flags,
    /// The total time in which the parent had not run when `last_ack` was set.
    pub(crate) gaps_at_ack: Duration,
    /// The `timeout` from which the child derives its ACKs, if known.
    pub(crate) known_timeout: Option<Duration>,
    /// When it took the connection in hand.
    pub(crate) busy_since: Option<Time>,
    /// How many connections it has taken: by its notes in shared memory, and by its words.
    pub(crate) noted_requests: u64,
    pub(crate) told_requests: u64,
    /// The connection in hand, by its notes in shared memory.
    pub(crate) in_hand: InHand,
    /// When it was last found to take too long.
    pub(crate) judged_at: Option<Time>,
    pub(crate) retirement: Option<Retirement>,
    pub(crate) killed_at: Option<Time>,
    /// The epoch that it belongs to: a reload begins a new one.
    pub(crate) epoch: u32,
    pub(crate) role: Option<Role>,
    pub(crate) private_memory: Option<u64>,
    pub(crate) last_lines: LastLines,
    /// Where it was stuck when SIGKILL was sent.
    pub(crate) stuck: Option<Stuck>,
    /// The delay of forks because it closed its outputs during its start, for the log of its death.
    pub(crate) failing: Option<Duration>,
    /// What it was asked about its stack, and has answered.
    pub(crate) stack: stack::Request,
}

impl Child {
    pub(crate) fn new(id: ChildId, pid: u32, now: Time, gaps: Duration) -> Self {
        Self {
            id,
            pid,
            state: State::Starting,
            last_ack: now,
            start_time: now,
            flags: Flags::STDOUT_OPEN | Flags::STDERR_OPEN,
            gaps_at_ack: gaps,
            known_timeout: None,
            busy_since: None,
            noted_requests: 0,
            told_requests: 0,
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
            stack: stack::Request::default(),
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

    /// The number of the reload before which it was forked, modulo 2^32: 0 until the first.
    ///
    /// After a reload that has failed, the children that stay count as those of a later one.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether it is to be replaced, because of a limit or because a hook or the child wanted it.
    pub fn is_due(&self) -> bool {
        self.flags.contains(Flags::DUE)
    }

    /// Its private memory in bytes when it was last looked at: see
    /// [`max_memory`](crate::Monitor::max_memory). `None` if it was not.
    pub fn private_memory(&self) -> Option<u64> {
        self.private_memory
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.flags.contains(Flags::READY)
    }

    /// When it was forked.
    pub fn start_time(&self) -> Time {
        self.start_time
    }

    /// Whether it has sent an ACK.
    pub fn has_acked(&self) -> bool {
        self.flags.contains(Flags::ACKED)
    }

    /// Whether it has taken a connection, that is, has said BUSY.
    pub fn has_served(&self) -> bool {
        self.flags.contains(Flags::WAS_BUSY)
    }

    /// Whether its start is over: it has said BUSY or NOT_BUSY.
    pub(crate) fn has_stated(&self) -> bool {
        self.flags.intersects(Flags::WAS_BUSY | Flags::WAITED)
    }

    /// Whether it has waited for a connection, that is, has said NOT_BUSY.
    pub fn has_waited(&self) -> bool {
        self.flags.contains(Flags::WAITED)
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
        self.noted_requests.max(self.told_requests)
    }

    pub(crate) fn note_busy(&mut self, now: Time) {
        if self.busy_since.is_none() {
            self.busy_since = Some(now);
            self.told_requests += 1;
        }
    }

    /// Whether SIGINT was sent to it.
    pub fn was_interrupted(&self) -> bool {
        self.flags.contains(Flags::INT_SENT)
    }

    /// Whether SIGKILL was sent to it.
    pub fn was_killed(&self) -> bool {
        self.flags.contains(Flags::KILL_SENT)
    }

    /// Whether its stdout has not ended.
    pub fn stdout_is_open(&self) -> bool {
        self.flags.contains(Flags::STDOUT_OPEN)
    }

    /// Whether its stderr has not ended.
    pub fn stderr_is_open(&self) -> bool {
        self.flags.contains(Flags::STDERR_OPEN)
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
        self.flags.intersects(Flags::INT_SENT | Flags::KILL_SENT)
    }

    /// When SIGKILL is due, for a child that was told to stop.
    ///
    /// A culled child may just have accepted a connection, and one that is replaced may have one in
    /// hand. Only `timeout` limits such a child, as any busy child.
    pub(crate) fn kill_at(&self, timeout: Duration, gaps: Duration) -> Option<Time> {
        let told = self.retirement?;
        if self.flags.contains(Flags::KILL_SENT) {
            None
        } else if told.reason.is_gentle() && self.is_serving() {
            let patience = self.patience(timeout) + gaps.saturating_sub(self.gaps_at_ack);
            // It may have been silent for long when it was told.
            let at_least = told.at + told.kill_after?;
            (!timeout.is_zero()).then(|| (self.last_ack + patience).max(at_least))
        } else {
            self.time_to_leave(&told).map(|time| told.at + time)
        }
    }

    /// How long it may be silent. An ACK may stand in output that was not read, but not for longer than
    /// once more the timeout: each turn reads what stood in the pipe when it began.
    pub(crate) fn patience(&self, timeout: Duration) -> Duration {
        match self.flags.contains(Flags::UNREAD) {
            true => timeout.saturating_mul(2),
            false => timeout,
        }
    }

    fn time_to_leave(&self, told: &Retirement) -> Option<Duration> {
        if self.is_starting() {
            told.kill_in_start_after
        } else {
            told.kill_after
        }
    }

    /// Whether it has said no word yet.
    pub(crate) fn is_starting(&self) -> bool {
        !self.flags.contains(Flags::HEARD)
    }

    /// Whether it has a connection in hand, by its words; also while it is retiring.
    pub(crate) fn is_serving(&self) -> bool {
        let serves = Flags::BUSY_SINCE_TOLD | Flags::BUSY_WHEN_TOLD;
        self.state == State::Busy || self.flags.intersects(serves)
    }

    /// Whether it has ended with a connection in hand: by its notes, or by its words if it has noted
    /// none. A child that leaves in order need not say that it has finished.
    pub(crate) fn has_lost_its_client(&self, status: Option<WaitStatus>) -> bool {
        let in_order = status.and_then(WaitStatus::code) == Some(0);
        self.in_hand.since.is_some() || (self.is_serving() && !in_order)
    }

    /// When a shutdown gives up waiting for it.
    pub(crate) fn give_up_at(&self) -> Option<Time> {
        let living = !self.flags.contains(Flags::REAPED);
        self.killed_at.filter(|_| living).map(|at| at + AFTER_KILL)
    }

    /// When SIGINT is due, for a child that closed its outputs.
    ///
    /// A child that exits closes its outputs shortly before it can be reaped, so the parent waits a
    /// little first.
    pub(crate) fn tell_at(&self) -> Option<Time> {
        const EXITING: Duration = Duration::from_millis(100);
        let told = self
            .retirement
            .filter(|told| told.reason == Reason::Closed)?;
        (!self.was_told()).then(|| told.at + EXITING)
    }

    /// Whether it is young and has said neither BUSY nor NOT_BUSY.
    pub(crate) fn is_unproven(&self, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        young && !self.has_stated()
    }

    /// Whether the start of a child that ended without being told to has failed.
    ///
    /// A child that said NOT_BUSY and then got SIGKILL was killed by another process: its start had
    /// succeeded. If it said NOT_BUSY and then ended by itself, the next child would do the same.
    pub(crate) fn start_failed(&self, status: Option<WaitStatus>, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        let killed = status.and_then(WaitStatus::signal) == Some(SIGKILL);
        let held =
            self.flags.contains(Flags::WAS_BUSY) || (killed && self.flags.contains(Flags::WAITED));
        young && !held
    }

    pub(crate) fn is_reaped(&self) -> bool {
        self.flags.contains(Flags::REAPED)
    }

    pub(crate) fn has_finished_one(&self) -> bool {
        self.flags.contains(Flags::FINISHED_ONE)
    }

    /// Whether a child that ended without being told to has failed at its first connection.
    ///
    /// The next child may do the same. SIGKILL does not count, because another process sent it,
    /// unless it came for lack of memory.
    pub(crate) fn fails_at_its_first(&self, end: &Collected, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        let killed = end.status.and_then(WaitStatus::signal) == Some(SIGKILL);
        let killed = killed && !end.out_of_memory;
        let first = self.has_served() && !self.has_finished_one();
        young && first && !killed && end.status.is_some()
    }

    /// Whether it was stuck, so that its stack belongs to its death: it was over its time, or has not
    /// left before SIGKILL.
    pub(crate) fn was_stuck(&self) -> bool {
        self.was_killed() || self.reason().is_some_and(Reason::is_over_time)
    }

    /// Why the child ended.
    pub(crate) fn cause(&self, end: impl Into<Collected>, now: Time) -> Cause {
        let end = end.into();
        let status = end.status;
        let asked = match self.reason() {
            Some(Reason::Culled) => Some(Cause::Culled),
            Some(Reason::TimedOut) => Some(Cause::TimedOut),
            Some(Reason::Faulty) => Some(Cause::Faulty),
            Some(Reason::Recycled) => Some(Cause::Recycled),
            Some(Reason::Reloaded) => Some(Cause::Reloaded),
            Some(Reason::Shutdown) => Some(Cause::Shutdown),
            Some(Reason::Asked) => Some(Cause::Asked),
            Some(Reason::Overtime) => Some(Cause::Overtime),
            Some(Reason::StartTimeout) => Some(Cause::StartTimeout),
            // A child that a hook has ended closes its outputs shortly before it can be reaped.
            Some(Reason::Closed) | None if self.flags.contains(Flags::ASKED) => Some(Cause::Asked),
            // The processes that it left behind were told to stop, not the child.
            Some(Reason::Closed) if self.flags.contains(Flags::OUTLIVED) => None,
            // Nothing is known about a child that other code has reaped.
            Some(Reason::Closed) => (self.was_told() && status.is_some()).then_some(Cause::Closed),
            None => None,
        };
        match (
            asked,
            status.map(|status| (status.code() == Some(0), status.signal())),
        ) {
            // It was served a client after it was told, or crashed on its way out.
            (Some(_), _) if self.may_finish() && status.is_some_and(WaitStatus::is_crash) => {
                Cause::Killed
            }
            (Some(cause), _) => cause,
            _ if end.out_of_memory => Cause::OutOfMemory,
            _ if self.start_failed(status, now) => Cause::FailedStart,
            (None, None) => Cause::Lost,
            (None, Some((true, _))) => Cause::Finished,
            (None, Some((false, Some(_)))) => Cause::Killed,
            (None, Some((false, None))) => Cause::Failed,
        }
    }

    /// Whether it was told to stop for a reason that lies not in itself, and may finish what it has
    /// in hand.
    pub(crate) fn may_finish(&self) -> bool {
        let reason = self.reason();
        reason.is_some_and(|reason| reason.is_gentle() || reason == Reason::Shutdown)
    }

    /// Whether it has been silent for longer than allowed.
    ///
    /// The limit is the timeout that the child knows or the one in force, whichever is longer.
    /// There is no limit if either is zero.
    pub(crate) fn is_overdue(&self, timeout: Duration, now: Time, gaps: Duration) -> bool {
        let known = self.known_timeout.unwrap_or(timeout);
        let judged = !timeout.is_zero() && !known.is_zero();
        judged && self.silence(now, gaps) > timeout.max(known)
    }

    /// How long it has been silent, not counting the time in which the parent did not run.
    pub(crate) fn silence(&self, now: Time, gaps: Duration) -> Duration {
        now.since(self.last_ack)
            .saturating_sub(gaps.saturating_sub(self.gaps_at_ack))
    }
}

#[cfg(test)]
mod tests;
