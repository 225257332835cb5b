//! An upgrade, as one server's system takes part in it: what of it is in the state that is handed on, the
//! exec, and what it takes over of an earlier program. Does as it is told; `sys/upgrade` has the means.

use super::UnixSystem;
use crate::{
    core::{
        child::Collected,
        error::{Error, Operation},
        state::{ChildState, FdRole, Snapshot},
    },
    sys::{
        control::ControlSocket,
        limits, pipes,
        process::ChildProcess,
        signals::{Mask, blocked_before},
        stop_board::StopBoards,
        upgrade,
    },
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

impl UnixSystem {
    /// The process of a child that an earlier program of this process has forked.
    pub(crate) fn adopt(
        &mut self,
        child: &ChildState,
        outlived: Option<Collected>,
        stops: &StopBoards,
    ) -> io::Result<ChildProcess> {
        let stops = child.stops.and_then(|fd| stops.get(&fd)).cloned();
        #[cfg(all(feature = "holder", target_os = "linux"))]
        if let Some(stops) = &stops {
            self.earlier_stops
                .insert(child.id(), std::rc::Rc::clone(stops));
        }
        let process = ChildProcess::adopted(child, outlived, self.means(stops));
        let watched = process.watch();
        match watched {
            Ok(()) => Ok(process),
            Err(error) => {
                // Its pipes are still those of the program before.
                std::mem::forget(process);
                Err(error)
            }
        }
    }

    /// Takes over the orphans that the holder before had.
    pub(crate) fn adopt_orphans(&mut self, orphans: &[u32]) {
        self.adoption.inherit(orphans);
    }

    /// Takes over the connection of a client of the control socket, and returns its number.
    pub(crate) fn adopt_control(&mut self, fd: u32) -> io::Result<u64> {
        let stream = upgrade::take(fd);
        let control = self.control.get_or_insert_default();
        control.adopt(stream, &self.poller)
    }

    /// Runs another program with this state, to see whether it could take it over.
    pub(super) fn try_program(
        &mut self,
        program: Option<&Path>,
        state: &mut Snapshot,
    ) -> Result<(), Error> {
        self.upgrades.open(program)?;
        let begun = self.add_to_state(state);
        let begun = begun.and_then(|()| self.upgrades.begin_trial(state, &self.poller));
        begun.map_err(|error| self.upgrades.failed(error))
    }

    /// Adds to a state what the system knows of it.
    pub(super) fn add_to_state(&self, state: &mut Snapshot) -> io::Result<()> {
        state.pool.clock_start = self.clock.started();
        state.pool.mask = blocked_before()?;
        state.pool.open_files = limits::soft_before();
        state.pool.orphans = self.adoption.inherited();
        let death = [
            (&self.death_read, FdRole::DeathRead),
            (&self.death_write, FdRole::DeathWrite),
        ];
        let death = death
            .into_iter()
            .filter_map(|(end, role)| Some((end.as_ref()?.as_raw_fd(), role)));
        let control = self.control.as_ref().and_then(ControlSocket::listener);
        let own = death.chain(control.map(|listener| (listener, FdRole::Own)));
        let slots = state.children.iter().map(|child| child.slot as usize);
        state.boards = upgrade::saved_boards(&self.board, &slots.collect::<Vec<_>>());
        self.upgrades.save(state, self.id, own)
    }

    /// Becomes the program that was tried, or the one before. Returns only if that fails.
    pub(super) fn leave_to_program(&mut self, state: &Snapshot) -> Option<Error> {
        self.outputs.flush();
        // The next program would not know this process.
        self.stacks.close(&self.poller);
        #[cfg(all(feature = "holder", target_os = "linux"))]
        if self.holder.has_holder() {
            return self.leave_to_holder(state);
        }
        let mask = match Mask::block_all() {
            Ok(mask) => mask,
            Err(error) => return Some(self.upgrades.failed(error)),
        };
        if let Some(signals) = &mut self.signals {
            signals.leave_to_next();
        }
        let error = self.upgrades.execute(state);
        // OK to ignore: the mask was in force before.
        let _ = mask.restore();
        Some(error)
    }
}

/// The pipe by which children see that their parent has ended: a new one, or that of an earlier program.
pub(super) fn death_watch(state: Option<&Snapshot>) -> Result<(OwnedFd, OwnedFd), Error> {
    let Some(state) = state else {
        let pipe = |error| Error::new(Operation::Pipe, "for the death watch", error);
        return pipes::pipe().map_err(pipe);
    };
    let ends = [FdRole::DeathRead, FdRole::DeathWrite].map(|role| state.descriptor(role));
    match ends {
        // Duplicates: the program before may come back.
        [Some(read), Some(write)] => {
            let duplicate = upgrade::duplicate;
            let ends = duplicate(read.fd).and_then(|read| Ok((read, duplicate(write.fd)?)));
            ends.map_err(|error| Error::new(Operation::Upgrade, "death watch", error))
        }
        _ => {
            let missing = io::Error::other("the state does not list it");
            Err(Error::new(Operation::Upgrade, "death watch", missing))
        }
    }
}
