//! The start of a server that has a holder: this process becomes the holder, and `run` goes on in a
//! parent that it forks. The first parent goes on with the children of an earlier program, if there
//! was an upgrade; a parent after the first takes over the children of the one before. The holder
//! itself is in `sys/holder`.

use super::{PreFork, guarded, parent::ParentState, turn::Loop};
use crate::{
    core::{
        child::{ChildId, WaitStatus},
        control::ClientTable,
        error::{Error, Operation},
        event::Event,
        journal::InheritedChild,
        monitor::{RetiredBefore, outlived, reached, restored},
        notes::PoolNote,
        say::say,
        state::{ChildState, PoolState, Snapshot},
        system::System,
        upgrade::UpgradeNote,
    },
    hooks::{ChildServer, PreForkHooks},
    sys::{
        fd_registry, fork,
        holder::{HolderSplit, InheritedProcess, Legacy, keeps_programs, pending},
        limits::Threads,
        stdio,
        unix::UnixSystem,
    },
};
use std::io::{self, Write};

/// Why a parent executes the program before, if the parent before was about to.
const GIVEN_UP: &str = "its children have failed, as the parent before has told";

/// The exit code of a parent that cannot take over: EX_OSERR. The holder tries another.
const EXIT_LOST: i32 = 71;

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Splits this process in two, if that was asked for: it stays as the holder, and this returns in
    /// each parent.
    pub(super) fn split(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.wants_holder) {
            return Ok(());
        }
        self.split_in_two()
            .inspect_err(|error| self.inner.come_back_at_once(error))
    }

    fn split_in_two(&mut self) -> Result<(), Error> {
        self.check_split()?;
        flush_outputs();
        let grace = self.inner.parent.monitor.kill_timeout();
        let legacy = self.inner.legacy();
        let split = self.inner.parent.system.split(grace, &legacy)?;
        self.inner.settle();
        // From here on the holder has the process that `run` was called in: no error returns from it.
        let begun = self.inner.begin(&split, &legacy.children);
        begun.unwrap_or_else(|error| {
            say!(Error, "cannot take over: {error}");
            fork::exit(EXIT_LOST)
        });
        Ok(())
    }

    /// The holder must be alone in its process, and above all children.
    fn check_split(&self) -> Result<(), Error> {
        Threads::open().expect_one()?;
        let refused = |reason| {
            let reason = io::Error::other(reason);
            Err(Error::new(Operation::Start, "the holder", reason))
        };
        if self.inner.parent.system.is_settled() {
            return refused("the loop has turned before");
        }
        if fd_registry::servers() > 1 {
            return refused("another server runs in this process");
        }
        Ok(())
    }
}

/// What is buffered would be written by each parent.
fn flush_outputs() {
    // OK to ignore: their reader is gone.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    stdio::flush_all();
}

impl<H: PreForkHooks, S: ChildServer> Loop<H, S, UnixSystem> {
    /// The pool of an earlier program, if this one has taken over from one.
    fn legacy(&mut self) -> Legacy {
        let renewed = self.journaled.renewed;
        let note = self.parent.monitor.pool_note(renewed, None);
        let saved = match note.serial {
            0 => Vec::new(),
            _ => self.state_to_save(),
        };
        Legacy {
            note,
            saved,
            children: self.parent.monitor.save().children,
        }
    }

    /// Begins as a parent below the holder, the first one or a later one. The pool that is in memory is
    /// that of the process that is the holder now.
    fn begin(&mut self, split: &HolderSplit, children: &[ChildState]) -> Result<(), Error> {
        self.parent.monitor.pool.disown();
        self.parent.system.renew_poller()?;
        self.parent.update_time();
        match split.earlier {
            0 => {
                self.warn_of_programs();
                self.regain(children)
            }
            _ => {
                self.take_over()?;
                self.emit_takeover(split);
                Ok(())
            }
        }
    }

    fn warn_of_programs(&mut self) {
        if self.server.execs() && !keeps_programs() {
            say!(
                Warn,
                "programs will end with a parent that is killed: this C library, this kernel or a second \
                 thread does not let them outlive it"
            );
        }
    }

    /// The first parent of a holder that an earlier program has left children to.
    fn regain(&mut self, children: &[ChildState]) -> Result<(), Error> {
        let words = self.parent.monitor.comm_words();
        let regained = children.iter().map(|state| {
            let process = self.parent.system.adopt_ward(state, outlived(state))?;
            Ok((restored(state), reached(state, words, process)))
        });
        let regained: io::Result<Vec<_>> = regained.collect();
        let failed = |error| Error::new(Operation::Start, "the children", error);
        let regained = regained.map_err(failed)?;
        self.parent.monitor.regain(regained);
        for child in children.iter().filter(|child| child.end.is_some()) {
            self.finish_dead(child.id());
        }
        Ok(())
    }

    /// Takes over what the parent before has left.
    fn take_over(&mut self) -> Result<(), Error> {
        // They were those of the first parent.
        self.parent.client_table = ClientTable::default();
        let (note, saved, inherited) = self.parent.system.inherit();
        self.go_on_with_upgrade(note.upgrade);
        let saved = self.regain_settings(Snapshot::decode(&saved).ok(), &note);
        let now = self.parent.monitor.now();
        let state = Snapshot {
            pool: PoolState {
                now,
                epoch: note.epoch,
                serial: note.serial,
                owed: note.owed,
                ..saved.pool
            },
            ..saved
        };
        self.inherit(&state, &inherited)?;
        let told: Vec<_> = inherited
            .iter()
            .filter_map(InheritedProcess::told)
            .collect();
        let succeeds =
            |child: &&InheritedProcess| child.record.successor && child.record.told.is_none();
        let successors = inherited.iter().filter(succeeds);
        successors.for_each(|child| self.parent.monitor.succeeds_still(child.id()));
        self.parent.monitor.go_on(note.stop, &told);
        if note.reload_asked {
            self.parent.monitor.reload();
        }
        self.failure = note.ends_for();
        for child in inherited.iter().filter(|child| child.record.end.is_some()) {
            self.reap_one(child.id());
        }
        let effect = self.parent.monitor.take_stop_effect();
        self.apply_stop(effect);
        self.parent.emit_pending();
        self.deaths_unknown = true;
        self.reading.compare_board();
        Ok(())
    }

    /// The upgrade by which this program has come is where the parent before has left it.
    fn go_on_with_upgrade(&mut self, left: UpgradeNote) {
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        match monitor.go_on_with_upgrade(left, system.upgrades.may_return()) {
            UpgradeNote::Proving => {}
            UpgradeNote::Returning => self.come_back_for = Some(GIVEN_UP.to_owned()),
            UpgradeNote::Over => {
                system.upgrades.forget_previous();
                self.handed_on = Vec::new();
            }
        }
    }

    /// Takes over the attributes and what the hooks have saved. While a reload is under way, hooks find
    /// what was in force before it when they read the settings, as they would without a kill: that is what
    /// they put back if the reload fails.
    fn regain_settings(&mut self, saved: Option<Snapshot>, note: &PoolNote) -> Snapshot {
        let Some(saved) = saved else {
            // OK: what is missing there is not needed by the children.
            self.restore_hooks(&Snapshot::default(), note);
            return Snapshot::default();
        };
        self.journaled.before_reload = saved.before_reload.clone();
        let before = saved.before_reload.as_ref();
        self.set_again(before.map_or(&saved.attributes, |it| &it.attributes.0));
        self.restore_hooks(&saved, note);
        self.set_again(&saved.attributes);
        saved
    }

    fn set_again(&mut self, changed: &[(String, String)]) {
        self.parent.monitor.unset_attributes();
        self.parent.monitor.restore_attributes(changed);
    }

    /// The hooks are as they were before the first fork: they get what they have saved, and read the
    /// settings that a reload had read.
    fn restore_hooks(&mut self, saved: &Snapshot, note: &PoolNote) {
        if !saved.hooks.is_empty()
            && let Err(error) = guarded::restore(self.hooks.program_mut(), &saved.hooks)
        {
            say!(Warn, "what the hooks have saved is not used: {error}");
        }
        if note.renewed {
            self.journaled.renewed = true;
            if let Err(error) = self.read_settings() {
                say!(Error, "{error}; the parent has those of the start");
            }
        }
    }

    fn inherit(&mut self, state: &Snapshot, inherited: &[InheritedProcess]) -> Result<(), Error> {
        let failed = |error| Error::new(Operation::Start, "the children", error);
        let words = self.parent.monitor.comm_words();
        let mut children = Vec::new();
        for child in inherited {
            let state = self.inherited(child).state(state.pool.now);
            let process = self.parent.system.adopt_ward(&state, None);
            let process = process.map_err(failed)?;
            let mut record = restored(&state);
            record.gaps_at_ack = self.parent.monitor.gaps();
            children.push((record, reached(&state, words, process)));
        }
        self.parent.monitor.adopt(state, children);
        self.parent.monitor.report.takeovers += 1;
        Ok(())
    }

    fn inherited(&self, child: &InheritedProcess) -> InheritedChild {
        InheritedChild {
            slot: child.slot,
            record: child.record,
            notes: self.parent.system.notes(child.slot as usize),
            pipes: child.pipes.map(|fd| fd.map(|fd| (fd, pending(fd)))),
        }
    }

    fn emit_takeover(&mut self, split: &HolderSplit) {
        let &HolderSplit { earlier, ended, at } = split;
        let took = self.parent.system.now().since(at);
        let children = self.parent.monitor.children().count();
        say!(
            Warn,
            "parent {earlier} of this server is gone ({}): another took over {children} children in {:.1} ms",
            ended.map_or_else(
                || "nobody knows how".to_owned(),
                |status| status.to_string()
            ),
            took.as_secs_f64() * 1e3
        );
        self.parent.emit(&Event::TookOver {
            earlier,
            code: ended.and_then(WaitStatus::code),
            signal: ended.and_then(WaitStatus::signal),
            children,
            took,
        });
    }
}

impl InheritedProcess {
    fn id(&self) -> ChildId {
        ChildId::new(self.slot, self.record.serial)
    }

    /// What the parent before has told it.
    fn told(&self) -> Option<RetiredBefore> {
        let was_told = self.told_to_leave || self.record.told.is_some();
        was_told.then(|| RetiredBefore {
            child: self.id(),
            was_sent: self.told_to_leave,
            why: self.record.told,
        })
    }
}
