//! An upgrade in the program that is there: the trial of the new program, the exec, the way back of a
//! new program whose children fail. `core/upgrade.rs` decides what comes next; `adopt.rs` is the other
//! end.

use super::{child::ChildSide, parent::ParentState, turn::Loop};
use crate::{
    core::{
        error::{Error, Operation},
        event::Event,
        say::say,
        state::Snapshot,
        upgrade::{UpgradeFailure, UpgradeRequest, UpgradeStep},
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::{any::Any, io};

fn failed(failure: UpgradeFailure) -> Error {
    Error::new(Operation::Upgrade, "the new program", failure.into())
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// `upgrade`: runs the new program as a child, to see whether it can take over.
    pub(super) fn begin_upgrade(&mut self) {
        let UpgradeRequest { program, asker } = self.parent.monitor.upgrade.take_asked();
        if self.parent.monitor.is_upgrading() {
            return self.refuse_upgrade(asker);
        }
        if let Some(asker) = asker {
            self.parent.system.add_asker(asker);
        }
        let keeps_programs = self.parent.system.keeps_programs();
        if let Some(failure) = self.parent.monitor.upgrade_refusal(keeps_programs) {
            return self.upgrade_failed(&failed(failure));
        }
        self.parent.monitor.begin_upgrade();
        self.parent.emit_pending();
        let begun = self.save().and_then(|saved| {
            let mut state = self.snapshot(saved);
            let system = &mut self.parent.system;
            system.begin_trial(program.as_deref(), &mut state)
        });
        if let Err(error) = begun {
            self.upgrade_failed(&error);
        }
    }

    /// The upgrade that is under way goes on, so only the one who has asked for this one is told.
    fn refuse_upgrade(&mut self, asker: Option<Box<dyn Any>>) {
        let reason = io::Error::other("another upgrade is under way");
        let error = Error::new(Operation::Upgrade, "the program", reason);
        say!(Warn, "{error}");
        if let Some(asker) = asker {
            let outcome = format!("error: {error}");
            self.parent.system.answer_asker(asker, &outcome);
        }
    }

    /// What the hooks hand on.
    fn save(&mut self) -> Result<Vec<u8>, Error> {
        let mut saved = None;
        self.call("save", |hooks, monitor| saved = Some(hooks.save(monitor)));
        saved.ok_or_else(|| failed(UpgradeFailure::Unsaved))
    }

    /// The state of this server now, without what the system knows.
    fn snapshot(&self, saved: Vec<u8>) -> Snapshot {
        let ParentState {
            monitor,
            system,
            client_table,
            status,
            ..
        } = &self.parent;
        let mut snapshot = Snapshot {
            hooks: saved,
            clients: client_table.save(|client| system.control_fd(client)),
            descriptors: status.descriptors(),
            ..monitor.save()
        };
        snapshot.pool.status_helper = status.process();
        snapshot
    }

    /// Moves an upgrade on.
    pub(super) fn move_upgrade(&mut self) {
        if !self.parent.monitor.is_upgrading() {
            return;
        }
        let trial = self.parent.system.trial();
        let is_printing = self.parent.system.is_printing();
        let seen = self.parent.monitor.upgrade_seen(trial, is_printing);
        match self.parent.monitor.upgrade.step(&seen) {
            UpgradeStep::Wait => {}
            UpgradeStep::EndTrial => self.parent.system.end_trial(),
            UpgradeStep::Execute => match self.save() {
                Ok(saved) => self.execute(saved, None),
                Err(error) => self.upgrade_failed(&error),
            },
            UpgradeStep::GiveUp => self.give_up_children(),
            UpgradeStep::Return => {
                let reason = self.come_back_for.take().unwrap_or_default();
                // The program before may not be able to read what this one would hand on.
                self.execute(self.handed_on.clone(), Some(reason));
            }
            UpgradeStep::Fail(failure) => self.upgrade_failed(&failed(failure)),
        }
    }

    /// Becomes the new program, or the one before for this reason. Returns only if that fails, or is to
    /// be done in the next turn.
    fn execute(&mut self, saved: Vec<u8>, back: Option<String>) {
        let mut state = self.snapshot(saved);
        state.program.back = back;
        let failed = match self.parent.system.save(&mut state) {
            Ok(()) => self.parent.system.become_program(&state),
            Err(error) => Some(Error::new(Operation::Upgrade, "the state", error)),
        };
        match failed {
            Some(error) => self.upgrade_failed(&error),
            None => {
                self.come_back_for = state.program.back;
                self.deaths_unknown = true;
            }
        }
    }

    /// In the new program: its children hang in their start.
    fn give_up_children(&mut self) {
        let limit = self.parent.monitor.upgrade_timeout();
        let reason = format!("one has not become ready in {limit:?} (upgrade_timeout)");
        let error = Error::new(Operation::Upgrade, "the children", io::Error::other(reason));
        self.parent.monitor.give_up_reload();
        self.comes_back(&error);
    }

    /// The upgrade is over, and this program serves on. If it was on the way back, there is none any more.
    pub(super) fn upgrade_failed(&mut self, error: &Error) {
        say!(Error, "{error}; this program serves on");
        self.parent.monitor.upgrade.end();
        self.parent.system.forget_trial();
        self.forget_the_one_before();
        self.parent.system.answer_askers(&format!("error: {error}"));
        self.call_upgrade_failed(error);
    }

    fn call_upgrade_failed(&mut self, error: &Error) {
        let hooks = self.hooks.current();
        let event = Event::UpgradeFailed { error };
        self.parent
            .call_and_emit("upgrade_failed", &event, |monitor| {
                hooks.upgrade_failed(monitor, error);
            });
    }

    /// In the new program: its children have not become ready, so the one before is executed again at
    /// the next calm moment. False if no upgrade is under way.
    pub(super) fn comes_back(&mut self, error: &Error) -> bool {
        let proving = self.parent.monitor.upgrade.is_proving();
        if proving {
            say!(Error, "{error}; the program before comes back");
            self.come_back_for = Some(error.to_string());
            let now = self.parent.monitor.now();
            self.parent.monitor.upgrade.come_back(now);
        }
        proving
    }

    /// In the new program, which cannot go on: executes the one before. Returns if there is none, or that
    /// fails.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(super) fn come_back_at_once(&mut self, error: &Error) {
        if self.parent.monitor.upgrade.is_proving() {
            say!(Error, "{error}; the program before comes back");
            self.parent.monitor.give_up_reload();
            self.execute(self.handed_on.clone(), Some(error.to_string()));
        }
    }

    /// In the new program: its children have replaced those of an earlier epoch. If that was an upgrade,
    /// the program before is not needed any more.
    pub(super) fn complete_upgrade(&mut self, epoch: u32) {
        let began = self.parent.monitor.upgrade.began();
        if !self.parent.monitor.upgrade.take_proved(epoch) {
            return;
        }
        let took = self.parent.monitor.now().since(began);
        let blind = self.parent.monitor.upgrade.blind();
        log::info!(
            "upgraded in {:.1} s, and nobody watched the children for {:.1} ms",
            took.as_secs_f64(),
            blind.as_secs_f64() * 1e3
        );
        self.parent.monitor.report.upgrades += 1;
        self.parent.system.answer_askers("ok");
        self.parent.emit(&Event::Upgraded { took, blind });
        // Last: if this parent is killed before it, the next one tells of the upgrade again.
        self.forget_the_one_before();
    }

    /// The program before is not needed any more, and what it has handed on is not either.
    fn forget_the_one_before(&mut self) {
        self.handed_on = Vec::new();
        self.parent.system.forget_image();
    }
}
