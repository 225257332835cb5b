//! Which children are replaced, and when. Every child belongs to an epoch; a child of an older
//! epoch, or one that is due because of a limit, is told to stop only when a successor is ready.
//! Decides; forks and stops no child itself.

mod limits;
mod memory;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    limits::{Limits, Spread, Standing, hard, soft},
    memory::MemoryWatch,
};

use crate::core::{
    child::{ChildId, Reason, SuccessorRole},
    time::Time,
};
use std::{cmp::Reverse, collections::VecDeque, time::Duration};

/// How many successors may fail in a row before a reload is given up.
pub(crate) const FAILURES: u32 = 3;

/// For how long others wait for a child that went first and serves a client. Its place is not free before
/// that client is served; meanwhile it is missing no more than any other busy child.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// A child that is to be replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: ChildId,
    /// Why: [`Reason::Recycled`] or [`Reason::Reloaded`].
    pub(crate) reason: Reason,
    pub(crate) epoch: u32,
    pub(crate) start_time: Time,
    pub(crate) ready: bool,
    pub(crate) busy: bool,
    /// It was forked to take the place of a child that had to go first.
    pub(crate) refills: bool,
}

impl Candidate {
    /// Children at a limit go first, since the limit is a hard one soon; then the newest of the old
    /// epochs, that a reload during a reload has made useless; then free children before busy ones,
    /// then the oldest.
    fn rank(&self) -> impl Ord + use<> {
        let reloaded = self.reason == Reason::Reloaded;
        let epoch = Reverse(self.epoch);
        (reloaded, epoch, self.busy, self.start_time, self.id)
    }

    /// Free children first, so that a place is free at once.
    fn rank_to_make_room(&self) -> impl Ord + use<> {
        (self.busy, self.rank())
    }
}

/// The pool as a step of the replacement sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolView {
    /// The children that are to be replaced and were not told to stop.
    pub(crate) candidates: Vec<Candidate>,
    /// The children that are not ready yet: successors, and others, one of which may have taken the
    /// place of a child that went first.
    pub(crate) starting: usize,
    /// Whether a child of the present epoch is ready.
    pub(crate) renewed: bool,
    /// How many children may be forked now, by `max_clients`.
    pub(crate) room: usize,
    /// Children that were told to stop and have no connection in hand: their places are free soon.
    pub(crate) leaving: usize,
    /// All children that were told to stop.
    pub(crate) retiring: Vec<ChildId>,
    /// Those of them that serve a client, and have done so for longer than [`PATIENCE`].
    pub(crate) slow: Vec<ChildId>,
    /// Forks that are decided on and not performed, those for successors included.
    pub(crate) queued: usize,
    /// Whether failures delay forks.
    pub(crate) delayed: bool,
    /// How many replacements may be under way.
    pub(crate) at_once: usize,
}

/// What a step of the replacement asks for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use = "moves do nothing until they are performed"]
pub(crate) struct Moves {
    pub(crate) stop: Vec<(ChildId, Reason)>,
    /// How many successors to fork.
    pub(crate) forks: usize,
    /// Each replaced child with its successor.
    pub(crate) replaced: Vec<(ChildId, ChildId)>,
    pub(crate) reloaded: Option<Reloaded>,
}

/// A reload that has ended well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reloaded {
    pub(crate) epoch: u32,
    pub(crate) replaced: u64,
    pub(crate) began: Time,
}

/// A reload that is under way.
#[derive(Clone, Copy, Debug)]
struct RunningReload {
    began: Time,
    replaced: u64,
    /// Successors that have failed in a row.
    failures: u32,
}

/// The replacements of one server.
#[derive(Debug, Default)]
pub(crate) struct Replacement {
    epoch: u32,
    reload: Option<RunningReload>,
    /// Successors that have become ready and for which no child has been told to stop yet.
    ready: VecDeque<ChildId>,
    /// Children that were told to stop before their successors were forked, for lack of room.
    gone_first: VecDeque<ChildId>,
    /// Forks that were asked for and not performed.
    asked: usize,
    /// Successors for which a child was told to stop in the last step, or none had to be.
    #[cfg(feature = "holder")]
    paired: Vec<ChildId>,
    /// Replacements that hooks have not been told of.
    unreported: Vec<(ChildId, ChildId)>,
    /// Whether anything has happened that a step depends on.
    changed: bool,
}

impl Replacement {
    /// The epoch of a child that is forked now.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether a reload is under way.
    pub(crate) fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// How many forks of the queue are for successors. `queued` is the length of the queue: a hook
    /// may have refused some of those that were asked for.
    pub(crate) fn asked(&self, queued: usize) -> usize {
        self.asked.min(queued)
    }

    /// Notes that a child has ended. If it went first, its place is the next that is filled; and so
    /// is its place if it `refilled` one and had not become ready.
    pub(crate) fn ended(&mut self, id: ChildId, refilled: bool) {
        self.changed = true;
        let at = self.gone_first.iter().position(|gone| *gone == id);
        let went_first = at.and_then(|at| self.gone_first.remove(at)).is_some();
        if went_first || refilled {
            self.gone_first.push_front(id);
        }
    }

    /// Whether a child has gone first, and its place is not filled.
    pub(crate) fn went_first(&self, id: ChildId) -> bool {
        self.gone_first.contains(&id)
    }

    /// Whether a child that went first waits for its successor, or hooks were not told of it yet.
    pub(crate) fn awaits(&self, id: ChildId) -> bool {
        let unreported = self.unreported.iter().any(|(old, _)| *old == id);
        unreported || self.went_first(id)
    }

    /// Begins a new epoch, in which every living child is to be replaced.
    pub(crate) fn reload(&mut self, now: Time) {
        self.epoch = self.epoch.wrapping_add(1);
        self.begin(now);
    }

    /// Goes on with a reload of the parent before, in whose epoch this one is.
    #[cfg(feature = "holder")]
    pub(crate) fn go_on(&mut self, now: Time) {
        self.begin(now);
    }

    fn begin(&mut self, now: Time) {
        self.reload = Some(RunningReload {
            began: now,
            replaced: 0,
            failures: 0,
        });
        self.changed = true;
    }

    /// Takes over the epoch of an earlier program of this process.
    pub(crate) fn resume(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.changed = true;
    }

    /// Notes that the pool has changed.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }

    /// Whether a step is due.
    pub(crate) fn is_due(&self) -> bool {
        self.changed
    }

    /// Ends all replacements: the server shuts down.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            epoch: self.epoch,
            ..Self::default()
        };
    }

    /// Whether a child that is forked now is a successor, for which a child is told to stop.
    #[cfg(feature = "holder")]
    pub(crate) fn forks_successor(&self) -> bool {
        self.asked > 0 && self.gone_first.is_empty()
    }

    /// The successors for which a child was told to stop in the last step, or none had to be.
    #[cfg(feature = "holder")]
    pub(crate) fn paired(&self) -> &[ChildId] {
        &self.paired
    }

    /// What a child that was just forked is for, if a replacement has asked for it.
    pub(crate) fn forked(&mut self) -> Option<SuccessorRole> {
        self.asked = self.asked.checked_sub(1)?;
        let refill = self.gone_first.pop_front();
        Some(refill.map_or(SuccessorRole::Successor, SuccessorRole::Refill))
    }

    /// Notes that a child of the present epoch has become ready.
    pub(crate) fn started(&mut self, id: ChildId, role: Option<SuccessorRole>) {
        if let Some(reload) = &mut self.reload {
            reload.failures = 0;
        }
        match role {
            Some(SuccessorRole::Successor) => self.ready.push_back(id),
            Some(SuccessorRole::Refill(old)) => self.unreported.push((old, id)),
            None => {}
        }
        self.changed = true;
    }

    /// Notes that a child of the present epoch has ended before it was ready. True if that ends the
    /// reload; then the old children stay: see [`adopt`](Self::adopt).
    pub(crate) fn failed(&mut self) -> bool {
        self.changed = true;
        let Some(reload) = &mut self.reload else {
            return false;
        };
        reload.failures += 1;
        let ends = reload.failures >= FAILURES;
        if ends {
            self.give_up();
        }
        ends
    }

    /// Ends a reload that cannot succeed; then the old children stay: see [`adopt`](Self::adopt).
    pub(crate) fn give_up(&mut self) {
        if self.reload.take().is_some() {
            self.epoch = self.epoch.wrapping_add(1);
            self.changed = true;
        }
    }

    /// The epoch for a child of `epoch` after a reload has failed: the old children count as those
    /// of the present epoch, those of the failed one do not.
    pub(crate) fn adopt(&self, epoch: u32) -> u32 {
        if epoch.wrapping_add(1) == self.epoch {
            epoch
        } else {
            self.epoch
        }
    }

    /// A child that was due has ended by itself, and no successor has been forked. True if one was
    /// asked for, which replaces it like any other child.
    pub(crate) fn takes_back_one(&mut self, queued: usize) -> bool {
        self.asked = self.asked.min(queued);
        let spare = self.asked > self.gone_first.len();
        self.asked -= usize::from(spare);
        spare
    }

    /// Whether a step may ask for forks.
    pub(crate) fn wants_forks(&self, candidates: &[Candidate]) -> bool {
        !candidates.is_empty() || !self.gone_first.is_empty()
    }

    /// What is to be done now.
    pub(crate) fn step(&mut self, mut seen: PoolView) -> Moves {
        self.changed = false;
        self.asked = self.asked.min(seen.queued);
        let mut moves = Moves {
            replaced: std::mem::take(&mut self.unreported),
            ..Moves::default()
        };
        self.forget_filled_places(&seen);
        self.drop_unready(&mut seen.candidates, &mut moves);
        seen.candidates.sort_by_key(Candidate::rank);
        self.exchange(&mut seen.candidates, &mut moves);
        self.begin_others(&mut seen, &mut moves);
        self.end_reload(&seen, &mut moves);
        moves
    }

    /// A child that is not ready serves no client: it needs no successor, and `forkoff` replaces it.
    /// But the place that it was to fill is still to be filled.
    fn drop_unready(&mut self, candidates: &mut Vec<Candidate>, moves: &mut Moves) {
        for unready in candidates.extract_if(.., |old| !old.ready) {
            moves.stop.push((unready.id, unready.reason));
            if unready.refills {
                self.gone_first.push_back(unready.id);
            }
        }
    }

    /// Where there is no room, the place of a child that went first and has ended was taken by
    /// another child, unless a fork for it is in the queue.
    fn forget_filled_places(&mut self, seen: &PoolView) {
        let mut queued = self.asked;
        self.gone_first.retain(|id| {
            let kept = seen.room > 0 || seen.retiring.contains(id) || queued > 0;
            queued = queued.saturating_sub(usize::from(!seen.retiring.contains(id)));
            kept
        });
    }

    /// For each successor that is ready, a child goes.
    fn exchange(&mut self, candidates: &mut Vec<Candidate>, moves: &mut Moves) {
        #[cfg(feature = "holder")]
        {
            self.paired.clear();
            self.paired.extend(&self.ready);
        }
        let pairs = self.ready.len().min(candidates.len());
        for (old, new) in candidates.drain(..pairs).zip(self.ready.drain(..)) {
            moves.stop.push((old.id, old.reason));
            moves.replaced.push((old.id, new));
        }
        // A successor that is not needed any more is a spare child like any other.
        self.ready.clear();
    }

    /// Forks successors for others. Where there is no room, children go first.
    fn begin_others(&mut self, seen: &mut PoolView, moves: &mut Moves) {
        let candidates = &mut seen.candidates;
        let is_slow = |id: &&ChildId| seen.slow.contains(id);
        let awaited = self.gone_first.len() - self.gone_first.iter().filter(is_slow).count();
        let under_way = seen.starting + self.asked.max(awaited);
        // A child that has gone first is no candidate any more, and its successor is under way.
        let replaceable = candidates.len() + awaited;
        let wanted = seen.at_once.min(replaceable).saturating_sub(under_way);
        let refills = self.gone_first.len().saturating_sub(self.asked);
        if !seen.delayed {
            moves.forks = (refills + wanted).min(seen.room);
            self.asked += moves.forks;
            let unforked = wanted - moves.forks.saturating_sub(refills).min(wanted);
            if seen.leaving == 0 && seen.room == 0 {
                self.make_room(candidates, unforked, moves);
            }
        }
    }

    /// Ends the reload, if no child of an older epoch is left and one of the present is ready.
    fn end_reload(&mut self, seen: &PoolView, moves: &mut Moves) {
        let reloaded = |reason| reason == Reason::Reloaded;
        if let Some(reload) = &mut self.reload {
            let stopped = moves.stop.iter().filter(|(_, reason)| reloaded(*reason));
            reload.replaced += stopped.count() as u64;
        }
        if seen.renewed && !seen.candidates.iter().any(|old| reloaded(old.reason)) {
            moves.reloaded = self.reload.take().map(|reload| Reloaded {
                epoch: self.epoch,
                replaced: reload.replaced,
                began: reload.began,
            });
        }
    }

    fn make_room(&mut self, candidates: &mut Vec<Candidate>, count: usize, moves: &mut Moves) {
        candidates.sort_by_key(Candidate::rank_to_make_room);
        for old in candidates.drain(..count) {
            moves.stop.push((old.id, old.reason));
            self.gone_first.push_back(old.id);
        }
    }
}
