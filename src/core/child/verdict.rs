//! What the end of a child means: why it has ended, whether its start or its first connection has
//! failed, whether a client was lost. Reaps nothing.

use super::{Cause, Child, ChildFlags, Collected, Reason, SIGKILL, START_HOLDS_AFTER, WaitStatus};
use crate::core::time::Time;

impl Child {
    /// Whether the start of a child that ended without being told to has failed.
    ///
    /// A child that said NOT_BUSY and then got SIGKILL was killed by another process: its start had
    /// succeeded. If it said NOT_BUSY and then ended by itself, the next child would do the same.
    pub(crate) fn start_failed(&self, status: Option<WaitStatus>, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        let killed = status.and_then(WaitStatus::signal) == Some(SIGKILL);
        let held = self.flags.contains(ChildFlags::WAS_BUSY)
            || (killed && self.flags.contains(ChildFlags::WAITED));
        young && !held
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

    /// Whether it is young and has said neither BUSY nor NOT_BUSY.
    pub(crate) fn is_unproven(&self, now: Time) -> bool {
        let young = now.since(self.start_time) < START_HOLDS_AFTER;
        young && !self.has_stated()
    }

    /// Whether it has ended with a connection in hand: by its notes, or by its words if it has noted
    /// none. A child that leaves in order need not say that it has finished.
    pub(crate) fn has_lost_its_client(&self, status: Option<WaitStatus>) -> bool {
        let in_order = status.and_then(WaitStatus::code) == Some(0);
        self.in_hand.since.is_some() || (self.is_serving() && !in_order)
    }

    /// Whether it was stuck, so that its stack belongs to its death: it was over its time, or has not
    /// left before SIGKILL.
    pub(crate) fn was_stuck(&self) -> bool {
        self.was_killed() || self.reason().is_some_and(Reason::is_over_time)
    }

    fn was_ended_by_a_hook(&self, status: Option<WaitStatus>) -> bool {
        self.flags.contains(ChildFlags::ASKED)
            || status.is_some_and(|status| status.is_of(self.sent_by_hooks))
    }

    fn has_crashed_on_its_way_out(&self, status: Option<WaitStatus>) -> bool {
        let crash = |status: WaitStatus| status.is_crash() && !status.is_of(self.sent_by_hooks);
        self.may_finish() && status.is_some_and(crash)
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
            Some(Reason::Closed) | None if self.was_ended_by_a_hook(status) => Some(Cause::Asked),
            // The processes that it left behind were told to stop, not the child.
            Some(Reason::Closed) if self.flags.contains(ChildFlags::OUTLIVED) => None,
            // Nothing is known about a child that other code has reaped.
            Some(Reason::Closed) => (self.was_told() && status.is_some()).then_some(Cause::Closed),
            None => None,
        };
        match (
            asked,
            status.map(|status| (status.code() == Some(0), status.signal())),
        ) {
            // It was served a client after it was told, or crashed on its way out.
            (Some(_), _) if self.has_crashed_on_its_way_out(status) => Cause::Killed,
            (Some(cause), _) => cause,
            _ if end.out_of_memory => Cause::OutOfMemory,
            _ if self.start_failed(status, now) => Cause::FailedStart,
            (None, None) => Cause::Lost,
            (None, Some((true, _))) => Cause::Finished,
            (None, Some((false, Some(_)))) => Cause::Killed,
            (None, Some((false, None))) => Cause::Failed,
        }
    }
}
