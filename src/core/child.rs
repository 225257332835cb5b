//! One child as the parent knows it: its name, its record, the ways it can end. Plain data; decides
//! nothing and sends nothing.

mod death;
mod signal;
mod wait_status;

pub(crate) use self::wait_status::WaitStatus;
pub use self::{
    death::{Cause, Death},
    signal::Signal,
};

use crate::core::time::Time;
use bitflags::bitflags;
use std::{fmt, time::Duration};

/// How old a child must become, unless it says BUSY before, for its start to have held.
pub(crate) const START_HOLDS_AFTER: Duration = Duration::from_secs(1);

const SIGKILL: i32 = 9;

/// How long a child that got SIGKILL is waited for when the server ends: it dies at once, unless it
/// hangs in the kernel.
pub(crate) const AFTER_KILL: Duration = Duration::from_secs(5);

/// Names one child for as long as the parent keeps it, the original's wheel ID.
///
/// Slots are used again, serials are not: a name that has gone stale finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChildId {
    // The order matters: ties in "the oldest" are broken by comparing names, the earlier fork first.
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
    /// Forked and not heard of yet. Counts as free, so that a slow start does not fork twice for
    /// one need.
    Starting,
    /// Waiting for a connection.
    Free,
    /// Serving one.
    Busy,
    /// Told to stop, not reaped yet. In no spare count, and its words move it nowhere; still one of
    /// the `max_clients`.
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
    /// It closed both its outputs and lived on.
    Closed,
    /// Reading its output failed, or the output was lost for want of descriptors.
    Faulty,
    /// The server is shutting down.
    Shutdown,
    /// A hook asked for it.
    Asked,
}

bitflags! {
    /// What has happened to a child so far.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    pub(crate) struct Flags: u16 {
        /// Its stdout has not ended.
        const STDOUT_OPEN = 1;
        /// Its stderr has not ended.
        const STDERR_OPEN = 1 << 1;
        /// An ACK has come.
        const ACKED = 1 << 2;
        /// It has said BUSY: its start has held.
        const WAS_BUSY = 1 << 3;
        /// It has said BUSY since it was told to stop, and not NOT_BUSY after that: a connection is in
        /// its hands.
        const BUSY_SINCE_TOLD = 1 << 4;
        /// SIGINT was sent to it.
        const INT_SENT = 1 << 5;
        /// SIGKILL was sent to it.
        const KILL_SENT = 1 << 6;
        /// The last turn left output of it unread, so its silence proves nothing.
        const UNREAD = 1 << 7;
        /// `handler_server_closed` has been called for it.
        const CLOSED = 1 << 8;
        /// It has said NOT_BUSY: it can take connections.
        const WAITED = 1 << 9;
        /// A hook has sent it a signal that ends it.
        const ASKED = 1 << 10;
        /// It has ended unasked, and what it has started in its process group lives on.
        const OUTLIVED = 1 << 11;
        /// It has said NOT_BUSY after a BUSY: it can serve.
        const FINISHED_ONE = 1 << 12;
        /// It has said a word, whatever it was: it has started.
        const HEARD = 1 << 13;
        /// It had a connection in hand when it was told to stop, and has not said NOT_BUSY since.
        const BUSY_WHEN_TOLD = 1 << 14;
    }
}

/// When and why a child was told to stop, and when the telling becomes a SIGKILL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Retirement {
    pub(crate) reason: Reason,
    pub(crate) at: Time,
    pub(crate) kill_after: Duration,
    /// Likewise, while it is in its start.
    pub(crate) kill_in_start_after: Duration,
    /// How many children had been forked by then, or were owed for deaths of others.
    pub(crate) forks: u64,
}

impl Retirement {
    /// Whether this one stands when `later` comes on top: being told twice must not give a child
    /// more time. The shutdown takes over from a cull, which has no bound of its own.
    pub(crate) fn overrides(&self, later: &Self) -> bool {
        let bounded = self.reason != Reason::Culled || later.reason != Reason::Shutdown;
        bounded && self.at + self.kill_after <= later.at + later.kill_after
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
    /// The gaps that the parent had slept through when `last_ack` was set.
    pub(crate) gaps_at_ack: Duration,
    /// The `timeout` that it sends its ACKs for; none is known of one that the monitor has not entered.
    pub(crate) known_timeout: Option<Duration>,
    /// Since when it has a connection in hand.
    pub(crate) busy_since: Option<Time>,
    /// How many connections it has taken: as it has noted, and as its words have told.
    pub(crate) noted_requests: u64,
    pub(crate) told_requests: u64,
    pub(crate) retirement: Option<Retirement>,
    pub(crate) killed_at: Option<Time>,
    pub(crate) last_stderr: Vec<u8>,
    /// It has closed its outputs before its start had held: the delay that has followed from that,
    /// for the report of its death.
    pub(crate) failing: Option<Duration>,
}

impl Child {
    /// How much of a child's last stderr line is kept for the report of its death.
    const LAST_STDERR: usize = 256;

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
            retirement: None,
            killed_at: None,
            last_stderr: Vec::new(),
            failing: None,
        }
    }

    /// Its name.
    pub fn id(&self) -> ChildId {
        self.id
    }

    /// Its process id. It cannot name another process while the record exists: the child has not
    /// been reaped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// When `server_ack` last ran for it; the time of the fork before that.
    pub fn last_ack(&self) -> Time {
        self.last_ack
    }

    /// When it was forked.
    pub fn start_time(&self) -> Time {
        self.start_time
    }

    /// Whether it has sent an ACK.
    pub fn has_acked(&self) -> bool {
        self.flags.contains(Flags::ACKED)
    }

    /// Whether it has taken a connection: it has said BUSY.
    pub fn has_served(&self) -> bool {
        self.flags.contains(Flags::WAS_BUSY)
    }

    /// Whether it has waited for a connection: it has said NOT_BUSY.
    pub fn has_waited(&self) -> bool {
        self.flags.contains(Flags::WAITED)
    }

    /// Since when it serves a connection, as far as its words have told: `None` while it has none in hand.
    ///
    /// A child that coalesces its words under load takes several connections in a row as one.
    pub fn busy_since(&self) -> Option<Time> {
        self.busy_since
    }

    /// How many connections it has taken, the one in hand included, as of its last word; all of them once
    /// it has ended, in [`server_exited`](crate::PreForkHooks::server_exited).
    ///
    /// A program that [`ExecServer`](crate::ExecServer) runs, and a child for which there was no room when
    /// `max_clients` was raised, is counted by the BUSY that it has said.
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
        &self.last_stderr
    }

    pub(crate) fn note_stderr(&mut self, line: &[u8]) {
        self.last_stderr.clear();
        self.last_stderr
            .extend_from_slice(&line[..line.len().min(Self::LAST_STDERR)]);
    }

    /// Whether the parent has sent it any signal that ends it.
    pub(crate) fn was_told(&self) -> bool {
        self.flags.intersects(Flags::INT_SENT | Flags::KILL_SENT)
    }

    /// When SIGKILL is due, for a child that was told to stop.
    ///
    /// A culled child may just have accepted a connection: once it says BUSY it has all the time
    /// that it would have had otherwise, for as long as it goes on reporting.
    pub(crate) fn kill_at(&self, timeout: Duration, gaps: Duration) -> Option<Time> {
        let told = self.retirement?;
        if self.flags.contains(Flags::KILL_SENT) {
            None
        } else if told.reason == Reason::Culled && self.flags.contains(Flags::BUSY_SINCE_TOLD) {
            let judged = !timeout.is_zero() && !self.flags.contains(Flags::UNREAD);
            judged.then(|| self.last_ack + timeout + gaps.saturating_sub(self.gaps_at_ack))
        } else {
            Some(told.at + self.time_to_leave(&told))
        }
    }

    fn time_to_leave(&self, told: &Retirement) -> Duration {
        if self.is_starting() {
            told.kill_in_start_after
        } else {
            told.kill_after
        }
    }

    /// Whether it is in its start: it has said no word yet.
    pub(crate) fn is_starting(&self) -> bool {
        !self.flags.contains(Flags::HEARD)
    }

    /// Whether it has a connection in hand, as far as it has told; also one that was told to stop.
    pub(crate) fn is_serving(&self) -> bool {
        let serves = Flags::BUSY_SINCE_TOLD | Flags::BUSY_WHEN_TOLD;
        self.state == State::Busy || self.flags.intersects(serves)
    }

    /// When a shutdown need not wait for it any longer.
    pub(crate) fn give_up_at(&self) -> Option<Time> {
        self.killed_at.map(|at| at + AFTER_KILL)
    }

    /// When SIGINT is due, for a child that closed its outputs: one that is merely exiting closes
    /// them a moment before it can be reaped, and is not to be taken for one that lives on.
    pub(crate) fn tell_at(&self) -> Option<Time> {
        const EXITING: Duration = Duration::from_millis(100);
        let told = self
            .retirement
            .filter(|told| told.reason == Reason::Closed)?;
        (!self.was_told()).then(|| told.at + EXITING)
    }

    /// Whether it is still in its start: it is young, and has said neither BUSY nor NOT_BUSY.
    pub(crate) fn is_unproven(&self, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        young && !self.flags.intersects(Flags::WAS_BUSY | Flags::WAITED)
    }

    /// Whether the start of a child that ended unasked has failed. One that can take connections and has
    /// had none is killed by somebody, or dies by itself: the next would do the same.
    fn start_failed(&self, status: Option<WaitStatus>, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        let killed = status.and_then(WaitStatus::signal) == Some(SIGKILL);
        let held =
            self.flags.contains(Flags::WAS_BUSY) || (killed && self.flags.contains(Flags::WAITED));
        young && !held
    }

    pub(crate) fn has_finished_one(&self) -> bool {
        self.flags.contains(Flags::FINISHED_ONE)
    }

    /// Whether a child that ended unasked has failed with its first connection in hand: the next may do the
    /// same. One that was killed was killed by somebody.
    pub(crate) fn fails_at_its_first(&self, status: Option<WaitStatus>, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        let killed = status.and_then(WaitStatus::signal) == Some(SIGKILL);
        let first = self.has_served() && !self.has_finished_one();
        young && first && !killed && status.is_some()
    }

    /// Why it ended, now that it has.
    pub(crate) fn cause(&self, status: Option<WaitStatus>, now: Time) -> Cause {
        let asked = match self.reason() {
            Some(Reason::Culled) => Some(Cause::Culled),
            Some(Reason::TimedOut) => Some(Cause::TimedOut),
            Some(Reason::Faulty) => Some(Cause::Faulty),
            Some(Reason::Shutdown) => Some(Cause::Shutdown),
            Some(Reason::Asked) => Some(Cause::Asked),
            // One that a hook has ended closes its outputs a moment before it can be reaped.
            Some(Reason::Closed) | None if self.flags.contains(Flags::ASKED) => Some(Cause::Asked),
            // What was told to stop is not the child.
            Some(Reason::Closed) if self.flags.contains(Flags::OUTLIVED) => None,
            // Of one that somebody else has reaped nothing is known.
            Some(Reason::Closed) => (self.was_told() && status.is_some()).then_some(Cause::Closed),
            None => None,
        };
        match (
            asked,
            status.map(|status| (status.code() == Some(0), status.signal())),
        ) {
            (Some(cause), _) => cause,
            _ if self.start_failed(status, now) => Cause::FailedStart,
            (None, Some((true, _))) => Cause::Finished,
            (None, Some((false, Some(_)))) => Cause::Killed,
            (None, Some((false, None)) | None) => Cause::Failed,
        }
    }

    /// Whether it has been silent for longer than it may. It is judged by the timeout that it knows of, or
    /// by the one in force, whichever is longer; not at all if either is zero.
    pub(crate) fn is_overdue(&self, timeout: Duration, now: Time, gaps: Duration) -> bool {
        let known = self.known_timeout.unwrap_or(timeout);
        let judged = !timeout.is_zero() && !known.is_zero();
        judged && self.silence(now, gaps) > timeout.max(known)
    }

    /// How long it has been silent, without the time in which the parent did not run.
    pub(crate) fn silence(&self, now: Time, gaps: Duration) -> Duration {
        now.since(self.last_ack)
            .saturating_sub(gaps.saturating_sub(self.gaps_at_ack))
    }
}

#[cfg(test)]
mod tests;
