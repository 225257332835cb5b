//! The start of a program that another one has executed: to say whether it could take over a server, or
//! to take it over. Until that has succeeded, nothing of the other program is closed, so that it can
//! come back.

use super::{PreFork, builder::Builder, guarded, parent::ParentState};
use crate::{
    core::{
        child::ChildId,
        error::{Error, Operation},
        monitor::{outlived, reached, restored},
        say::say,
        state::{FdRole, Snapshot},
        upgrade::UpgradeFailure,
    },
    hooks::{ChildServer, PreForkHooks},
    sys::{
        fork, limits, signals,
        upgrade::{self, UpgradeInstruction, UpgradeTask},
    },
};
use std::{
    io,
    mem::ManuallyDrop,
    os::fd::RawFd,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The exit code of a program that can neither take over nor go back: EX_OSERR.
const EXIT_LOST: i32 = 71;

impl<H: PreForkHooks, S: ChildServer> Builder<H, S> {
    /// Does what the program that has executed this one wants of it.
    pub(super) fn start_as_instructed(
        self,
        instruction: &UpgradeInstruction,
    ) -> Result<PreFork<H, S>, Error> {
        match instruction.task {
            UpgradeTask::Trial { answers, end } => self.try_state(instruction.state, answers, end),
            UpgradeTask::TakeOver { image } => Ok(self.take_over(instruction.state, image)),
            UpgradeTask::TakeBack { ref reason } => self.take_over_again(instruction.state, reason),
        }
    }

    /// In a trial: the answer, and the end of the process.
    fn try_state(mut self, state: RawFd, answers: RawFd, end: RawFd) -> ! {
        let answer = read(state, &mut self).map_err(|error| error.to_string());
        upgrade::answer_and_wait(answers, end, answer.map(drop));
        fork::exit(0)
    }

    /// Takes over, or executes the program before again.
    fn take_over(mut self, state: RawFd, image: RawFd) -> PreFork<H, S> {
        let snapshot = match upgrade::read_state(state) {
            Ok(snapshot) => snapshot,
            Err(error) => return give_up(image, state, None, &error.to_string()),
        };
        if let Err(error) = check(&snapshot, &mut self) {
            return give_up(image, state, Some(&snapshot), &error.to_string());
        }
        let adopted = catch_unwind(AssertUnwindSafe(|| self.adopt(&snapshot)));
        match adopted {
            Ok(Ok(prefork)) => {
                // The file of the state is needed no longer.
                drop(upgrade::take(state.cast_unsigned()));
                prefork
            }
            Ok(Err(error)) => give_up(image, state, Some(&snapshot), &error.to_string()),
            Err(_) => give_up(image, state, Some(&snapshot), "the start has panicked"),
        }
    }

    /// Takes over again, since the program after this one could not.
    fn take_over_again(mut self, state: RawFd, reason: &str) -> Result<PreFork<H, S>, Error> {
        let failed = |error| Error::new(Operation::Upgrade, "the task back", error);
        let mut snapshot = read_listed(state).map_err(failed)?;
        if let Err(error) = restore(&snapshot, &mut self) {
            say!(Warn, "what the hooks have saved is not used: {error}");
        }
        let own = std::mem::take(&mut snapshot.program.previous_path);
        if snapshot.program.back.replace(reason.to_owned()).is_none() {
            // It is the state that this program has written itself.
            snapshot.program.path = own;
        }
        let mut prefork = self.adopt(&snapshot)?;
        drop(upgrade::take(state.cast_unsigned()));
        let reason = UpgradeFailure::CameBack(reason.to_owned());
        let error = Error::new(Operation::Upgrade, "the new program", reason.into());
        prefork.inner.upgrade_failed(&error);
        Ok(prefork)
    }

    /// Starts as usual, but with the children, the sockets and the counters of the state.
    fn adopt(self, state: &Snapshot) -> Result<PreFork<H, S>, Error> {
        upgrade::offer(state)
            .map_err(|error| Error::new(Operation::Upgrade, "the sockets", error))?;
        if let Some(soft) = state.pool.open_files {
            limits::note_soft_before(soft);
        }
        // Whatever fails from here on, nothing that the program before needs is dropped.
        let mut prefork = ManuallyDrop::new(self.prepare(Some(state))?);
        if state.program.back.is_none() {
            prefork.inner.handed_on.clone_from(&state.hooks);
        }
        prefork.inner.parent.update_time();
        prefork
            .inner
            .parent
            .monitor
            .restore_attributes(&state.attributes);
        prefork.open()?;
        prefork.inner.parent.update_time();
        prefork.adopt_children(state)?;
        signals::resume(state.pool.mask)
            .map_err(|error| Error::new(Operation::Signal, "mask", error))?;
        prefork.commit(state);
        Ok(ManuallyDrop::into_inner(prefork))
    }
}

/// The state, if it is one that can be used.
fn read<H: PreForkHooks, S: ChildServer>(
    state: RawFd,
    builder: &mut Builder<H, S>,
) -> io::Result<Snapshot> {
    let snapshot = read_listed(state)?;
    restore(&snapshot, builder).map(|()| snapshot)
}

/// The state, if its descriptors are what it says.
fn read_listed(state: RawFd) -> io::Result<Snapshot> {
    let snapshot = upgrade::read_state(state)?;
    check_descriptors(&snapshot).map(|()| snapshot)
}

/// Fails unless the descriptors are what the state says, and the hooks can use what is for them.
fn check<H: PreForkHooks, S: ChildServer>(
    state: &Snapshot,
    builder: &mut Builder<H, S>,
) -> io::Result<()> {
    check_descriptors(state)?;
    restore(state, builder)
}

fn check_descriptors(state: &Snapshot) -> io::Result<()> {
    state.descriptors.iter().try_for_each(upgrade::verify)?;
    check_listed(state)
}

/// Has the hooks take what is for them.
fn restore<H: PreForkHooks, S: ChildServer>(
    state: &Snapshot,
    builder: &mut Builder<H, S>,
) -> io::Result<()> {
    match state.hooks.is_empty() {
        true => Ok(()),
        false => guarded::restore(builder.hooks_mut(), &state.hooks),
    }
}

/// What children, boards and clients name must be among what was verified, each once.
fn check_listed(state: &Snapshot) -> io::Result<()> {
    let mut verified: Vec<_> = state.descriptors.iter().map(|it| it.fd).collect();
    verified.sort_unstable();
    if let Some(pair) = verified.windows(2).find(|pair| pair[0] == pair[1]) {
        let reason = format!("descriptor {} is listed twice", pair[0]);
        return Err(io::Error::other(reason));
    }
    let pipes = state.children.iter().flat_map(|child| &child.pipes.0);
    let named: [(FdRole, Vec<u32>); 4] = [
        (FdRole::Pipe, pipes.filter_map(|pipe| pipe.fd).collect()),
        (FdRole::Board, state.boards.iter().map(|it| it.fd).collect()),
        (
            FdRole::Client,
            state.clients.iter().map(|it| it.fd).collect(),
        ),
        (FdRole::Stops, state.stop_boards()),
    ];
    for (role, mut named) in named {
        let mut listed: Vec<_> = state.with_role(role).map(|it| it.fd).collect();
        listed.sort_unstable();
        named.sort_unstable();
        if listed != named {
            let reason = format!("the descriptors listed as {role:?} are not those in use");
            return Err(io::Error::other(reason));
        }
    }
    Ok(())
}

/// Executes the program before again. Its children see the end of this process if that fails.
fn give_up<T>(image: RawFd, state: RawFd, snapshot: Option<&Snapshot>, reason: &str) -> T {
    say!(
        Error,
        "cannot take over: {reason}; the program before comes back"
    );
    let error = upgrade::go_back(image, state, snapshot, reason);
    say!(Error, "it cannot be executed again: {error}");
    fork::exit(EXIT_LOST)
}

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    fn adopt_children(&mut self, state: &Snapshot) -> Result<(), Error> {
        let failed = |error| Error::new(Operation::Upgrade, "the children", error);
        let parent = &mut self.inner.parent;
        let words = parent.monitor.comm_words();
        let stops = upgrade::adopt_stop_boards(state);
        // Dropped, they would close pipes that the program before needs.
        let mut children = ManuallyDrop::new(Vec::new());
        for child in &state.children {
            let process = parent
                .system
                .adopt(child, outlived(child), &stops)
                .map_err(failed)?;
            children.push((restored(child), reached(child, words, process)));
        }
        let children = ManuallyDrop::into_inner(children);
        parent.monitor.adopt(state, children);
        parent.monitor.prove(state);
        Ok(())
    }

    /// A client that has asked for the upgrade on the control socket gets its outcome there.
    fn adopt_clients(&mut self, state: &Snapshot) {
        let ParentState {
            monitor,
            system,
            client_table,
            ..
        } = &mut self.inner.parent;
        let listens = system.listens_for_control();
        for client in &state.clients {
            match system.adopt_control(client.fd) {
                Ok(number) => client_table.adopt(number, client, listens, monitor.now()),
                Err(error) => say!(Warn, "a client of the control socket is lost: {error}"),
            }
        }
    }

    /// From here on there is no way back but by the program that was kept.
    fn commit(&mut self, state: &Snapshot) {
        for address in upgrade::withdraw() {
            log::info!("{address} is not listened on any more");
        }
        let duplicated = [
            FdRole::Board,
            FdRole::DeathRead,
            FdRole::DeathWrite,
            FdRole::Stops,
        ];
        for original in duplicated
            .into_iter()
            .flat_map(|role| state.with_role(role))
        {
            drop(upgrade::take(original.fd));
        }
        self.inner.parent.system.upgrades.adopt(state);
        self.inner
            .parent
            .system
            .adopt_orphans(&state.pool.orphans.0);
        self.adopt_clients(state);
        self.inner.parent.emit_pending();
        self.inner.deaths_unknown = true;
        for child in &state.children {
            if child.end.is_some() {
                self.inner
                    .finish_dead(ChildId::new(child.slot, child.serial));
            }
        }
        log::info!(
            "took over from version {}: {} children, {} sockets",
            state.program.version,
            state.children.len(),
            state.with_role(FdRole::Listener).count()
        );
    }
}
