//! An upgrade, as hooks ask for it and as the loop needs it: what is handed on of the pool, and how
//! another program takes it over. Decides and converts; calls no hook and executes nothing.

use super::*;
use crate::core::{
    child::SignalSet,
    config::Attribute,
    inbox::{Inbox, restored_end, save_end},
    state::{
        ChildState, EncodedList, Ledger, Orders, PipeState, PoolState, RetirementState, Snapshot,
    },
    system::{Process, ToGroup},
    time_limits::WorkLimits,
    upgrade::{Outset, Trial, UpgradeFailure, UpgradeInput, UpgradeRequest},
};
use std::path::PathBuf;

/// An upgrade of the running program.
impl Monitor {
    /// Replaces the program by the one that its file has now, as SIGUSR2 does.
    ///
    /// The process stays the same, with its pid, its listening sockets and its children. The new program
    /// is run as a child first, to see whether it starts and can take over the state of this one; then
    /// it is executed, and its children replace the others, as in a reload. If anything fails, the old
    /// program serves on, and [`upgrade_failed`](crate::PreForkHooks::upgrade_failed) is called.
    ///
    /// Linux only. While another upgrade is under way it is refused, with a warning in the log. When a
    /// stop was announced or has begun it fails, and `upgrade_failed` is called.
    pub fn upgrade(&mut self) {
        self.ask_for_upgrade(UpgradeRequest::default());
    }

    /// Replaces the program by the one at `path`: see [`upgrade`](Self::upgrade).
    ///
    /// Later upgrades without a path are to this one.
    pub fn upgrade_to(&mut self, path: impl Into<PathBuf>) {
        self.ask_for_upgrade(UpgradeRequest {
            program: Some(path.into()),
            asker: None,
        });
    }

    /// Whether an upgrade is under way, in the old program or in the new one.
    pub fn is_upgrading(&self) -> bool {
        self.upgrade.is_under_way()
    }

    /// Whether an upgrade is under way, or was asked for in this turn.
    pub(crate) fn awaits_upgrade(&self) -> bool {
        self.is_upgrading() || self.queue.has(&PostedState::Upgrade)
    }

    pub(crate) fn ask_for_upgrade(&mut self, request: UpgradeRequest) {
        if self.upgrade.ask(request) {
            self.post_known(PostedState::Upgrade);
        }
    }

    /// Why no upgrade can begin now, if that is so; `keeps_programs` is what the system says.
    pub(crate) fn upgrade_refusal(&self, keeps_programs: bool) -> Option<UpgradeFailure> {
        let outset = Outset {
            stops: self.is_stopping(),
            programs: self.programs,
            keeps_programs,
        };
        outset.refusal()
    }

    /// Begins an upgrade, in which the new program is tried.
    pub(crate) fn begin_upgrade(&mut self) {
        let limit = self.attributes.upgrade_timeout;
        self.upgrade.begin(self.now, limit);
        self.happened(Event::UpgradeBegan);
    }

    /// Whether a stop was announced or has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shutdown || self.stop.begins_at().is_some()
    }

    /// What the next step of the upgrade depends on.
    pub(crate) fn upgrade_seen(&self, trial: Trial, is_printing: bool) -> UpgradeInput {
        UpgradeInput {
            now: self.now,
            trial,
            is_calm: self.queue.is_empty() && !is_printing,
            stops: self.is_stopping(),
            hangs_at: self.first_hangs_at(),
        }
    }

    /// In a new program: when the first of its children will have been starting for too long, unless
    /// `start_timeout` is for that, or the server stops.
    pub(super) fn first_hangs_at(&self) -> Option<Time> {
        let epoch = self.upgrade.proves()?;
        if !self.attributes.start_timeout.is_zero() || self.is_stopping() {
            return None;
        }
        let limit = WorkLimits {
            start: self.attributes.upgrade_timeout,
            busy: Duration::ZERO,
        };
        let own = self.children().filter(|child| child.epoch == epoch);
        let starting = own.filter(|child| !child.is_ready() && !child.was_told());
        starting
            .filter_map(|child| limit.end(child.work()?, None, &self.time_limits.pauses))
            .min()
    }

    /// The pool, the attributes and the counters, to be handed on.
    pub(crate) fn save(&self) -> Snapshot {
        let children = self.pool.contacts();
        Snapshot {
            children: children
                .map(|(child, contact)| saved(child, contact))
                .collect(),
            ..self.save_pool()
        }
    }

    /// The same without the children.
    pub(crate) fn save_pool(&self) -> Snapshot {
        Snapshot {
            pool: PoolState {
                now: self.now,
                gaps: self.gaps,
                serial: self.pool.last_serial(),
                epoch: self.replacement.epoch(),
                owed: self.owed as u64,
                asked_at: self.upgrade.began(),
                ..PoolState::default()
            },
            attributes: self.changed_attributes(),
            counters: Ledger {
                counts: EncodedList(self.report.counters()),
            },
            orders: Some(Orders {
                drained: self.is_drained,
            }),
            ..Snapshot::default()
        }
    }

    /// The attributes that were set while the server ran.
    pub(crate) fn changed_attributes(&self) -> Vec<(String, String)> {
        let Some(begun_with) = &self.begun_with else {
            return Vec::new();
        };
        let asked = self.attributes.asked();
        let changed = |it: &&Attribute| it.text(asked) != it.text(begun_with);
        let changed = Config::attributes().iter().filter(changed);
        changed
            .map(|it| (it.name.to_owned(), it.text(asked)))
            .collect()
    }

    /// Takes back what was set since the start, for a parent that gets what the one before had: the memory
    /// of its holder may have what an earlier program had, and this one has taken back.
    #[cfg(feature = "holder")]
    pub(crate) fn unset_attributes(&mut self) {
        if let Some(begun_with) = self.begun_with.clone() {
            self.attributes.set(|asked| *asked = begun_with);
        }
    }

    /// Sets what was set while the program before ran. A value that is none here is left out.
    pub(crate) fn restore_attributes(&mut self, changed: &[(String, String)]) {
        for (name, text) in changed {
            let known = Config::attributes().iter().find(|it| it.name == name);
            let set = known.map(|it| {
                let mut result = Ok(());
                self.attributes.set(|asked| result = it.set(asked, text));
                result
            });
            if !matches!(set, Some(Ok(()))) {
                self.notice(
                    Notice::UnknownAttribute,
                    format_args!("attribute {name} was set to {text}, which is nothing here"),
                );
            }
        }
        self.attributes_changed();
    }

    /// How long the parent had not run, in all.
    #[cfg(feature = "holder")]
    pub(crate) fn gaps(&self) -> Duration {
        self.gaps
    }

    /// Takes over the pool of the program before, or of the parent before: the children with how they are
    /// reached, the counters and the epoch.
    pub(crate) fn adopt(&mut self, state: &Snapshot, children: Vec<(Child, Box<Contact>)>) {
        let pool = &state.pool;
        self.gaps = pool.gaps;
        self.turned = pool.now;
        self.owed = usize::try_from(pool.owed).unwrap_or(0);
        self.replacement.resume(pool.epoch);
        for (name, count) in &state.counters.counts.0 {
            self.report.restore(name, *count);
        }
        self.is_drained = state.is_drained().unwrap_or(self.is_drained);
        self.refused_before = self.report.refusals;
        let ids: Vec<_> = children.iter().map(|(child, _)| child.id).collect();
        self.pool.adopt(children, pool.serial);
        for id in ids {
            self.watch_clock(id);
            self.happened(Event::Adopted { child: id });
        }
        self.observe_surplus();
        self.plan_age_check();
        self.post_known(PostedState::Forkoff);
    }

    /// In a program that has taken over: its own children begin a new epoch, unless it has come back.
    pub(crate) fn prove(&mut self, state: &Snapshot) {
        if state.program.back.is_none() {
            self.begin_reload();
            let blind = self.now.since(state.pool.now);
            let epoch = self.replacement.epoch();
            self.upgrade.prove(epoch, state.pool.asked_at, blind);
        }
    }
}

/// One child, to be handed on.
fn saved(child: &Child, contact: &Contact) -> ChildState {
    let (pipes, seen) = contact.inbox.save();
    let process = contact.process.save();
    let end = contact.save_end();
    let left = end.as_ref().map_or([0; 3], |(_, left)| *left);
    let pipes = pipes.into_iter().zip(process.pipes).zip(left);
    let pipes = pipes.map(|((pipe, fd), left)| PipeState {
        fd,
        left: left as u64,
        ..pipe
    });
    ChildState {
        slot: child.id.slot() as u32,
        serial: child.id.serial(),
        pid: child.pid,
        state: Some(child.state),
        epoch: child.epoch,
        flags: child.flags.bits(),
        start_time: child.start_time,
        last_ack: child.last_ack,
        gaps_at_ack: child.gaps_at_ack,
        known_timeout: child.known_timeout,
        busy_since: child.busy_since,
        noted_requests: child.noted_requests,
        said_requests: child.said_requests,
        killed_at: child.killed_at,
        retirement: child.retirement.as_ref().map(saved_retirement),
        failing: child.failing,
        last_lines: EncodedList(child.last_lines.iter().map(<[u8]>::to_vec).collect()),
        pipes: EncodedList(pipes.collect()),
        seen,
        group: ToGroup::code(process.group),
        stop_signal: process.stop_signal,
        outlived: process.outlived.as_ref().map(save_end),
        end: end.map(|(end, _)| end),
        stops: process.stops,
        sent_by_hooks: child.sent_by_hooks.bits(),
    }
}

fn saved_retirement(told: &Retirement) -> RetirementState {
    RetirementState {
        reason: Some(told.reason),
        at: told.at,
        kill_after: told.kill_after,
        kill_in_start_after: told.kill_in_start_after,
        forks: told.forks,
    }
}

/// The record of a child that another program has handed on.
pub(crate) fn restored(state: &ChildState) -> Child {
    let id = ChildId::new(state.slot, state.serial);
    let mut child = Child::new(id, state.pid, state.start_time, state.gaps_at_ack);
    child.state = state.state.unwrap_or(State::Starting);
    child.epoch = state.epoch;
    child.flags = ChildFlags::from_bits_truncate(state.flags);
    child.sent_by_hooks = SignalSet::from_bits(state.sent_by_hooks);
    child.last_ack = state.last_ack;
    child.known_timeout = state.known_timeout;
    child.busy_since = state.busy_since;
    child.noted_requests = state.noted_requests;
    child.said_requests = state.said_requests;
    child.killed_at = state.killed_at;
    child.retirement = state.retirement.as_ref().map(|told| Retirement {
        reason: told.reason.unwrap_or(Reason::Asked),
        at: told.at,
        kill_after: told.kill_after,
        kill_in_start_after: told.kill_in_start_after,
        forks: told.forks,
    });
    child.failing = state.failing;
    for line in &state.last_lines.0 {
        child.last_lines.note(line);
    }
    child
}

/// How a child is reached that another program has handed on.
pub(crate) fn reached<P: Process + 'static>(
    state: &ChildState,
    words: CommWords,
    process: P,
) -> Box<Contact> {
    let mut contact: Box<Contact> = Box::new(Contact::new(Inbox::restored(state, words), process));
    contact.restore_end(state);
    contact
}

/// What was collected from a child whose group has outlived it.
pub(crate) fn outlived(state: &ChildState) -> Option<Collected> {
    state.outlived.as_ref().map(restored_end)
}

#[cfg(test)]
mod tests;
