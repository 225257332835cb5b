//! In place of `upgrade` on systems without sealed memory and execveat(2): no program becomes another
//! one, and none is told to.

use super::{
    board::Board,
    fd_registry::{PreForkId, Registered},
    launch::Launch,
    poller::Poller,
    stop_board::StopBoards,
};
use crate::core::{
    error::{Error, Operation},
    state::{BoardState, Descriptor, FdRole, Snapshot},
    upgrade::Trial,
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

/// What a process is told: never anything.
#[derive(Debug)]
pub(crate) struct UpgradeInstruction {
    pub(crate) state: RawFd,
    pub(crate) task: UpgradeTask,
}

#[derive(Debug)]
#[allow(dead_code, reason = "no process is told any of it")]
pub(crate) enum UpgradeTask {
    Trial { answers: RawFd, end: RawFd },
    TakeOver { image: RawFd },
    TakeBack { reason: String },
}

pub(crate) fn instruction() -> Option<UpgradeInstruction> {
    None
}

pub(crate) fn launch() -> Launch {
    Launch::Fresh
}

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

pub(crate) fn read_state(_: RawFd) -> io::Result<Snapshot> {
    Err(unsupported())
}

pub(crate) fn answer_and_wait(_: RawFd, _: RawFd, _: Result<(), String>) {}

pub(crate) fn go_back(_: RawFd, _: RawFd, _: Option<&Snapshot>, _: &str) -> io::Error {
    unsupported()
}

pub(crate) fn verify(_: &Descriptor) -> io::Result<()> {
    Err(unsupported())
}

#[allow(unsafe_code)]
pub(crate) fn take(fd: u32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: never called: no state is read on this system.
    unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) }
}

pub(crate) fn duplicate(_: u32) -> io::Result<OwnedFd> {
    Err(unsupported())
}

pub(crate) fn offer(_: &Snapshot) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn withdraw() -> Vec<String> {
    Vec::new()
}

pub(crate) fn is_adopting() -> bool {
    false
}

pub(crate) fn tcp_socket(_: SocketAddr) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

pub(crate) fn unix_socket(_: &Path) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

pub(crate) fn sockets(_: &dyn Fn(BorrowedFd<'_>) -> bool) -> io::Result<Vec<OwnedFd>> {
    Ok(Vec::new())
}

pub(crate) fn saved_boards(_: &Board, _: &[usize]) -> Vec<BoardState> {
    Vec::new()
}

pub(crate) fn adopt_boards(_: &mut Board, _: &[BoardState]) {}

pub(crate) fn adopt_stop_boards(_: &Snapshot) -> StopBoards {
    StopBoards::new()
}

pub(crate) fn answer_asker(_: BorrowedFd<'_>, _: &str) {}

/// Nothing.
#[derive(Debug)]
pub(crate) struct Upgrades;

impl Upgrades {
    pub(crate) fn new(_: Option<&Snapshot>) -> Self {
        Self
    }

    pub(crate) fn adopt(&mut self, _: &Snapshot) {}

    pub(crate) fn add_asker(&mut self, _: Registered<OwnedFd>) {}

    pub(crate) fn answer_askers(&mut self, _: &str) {}

    pub(crate) fn open(&mut self, _: Option<&Path>) -> Result<(), Error> {
        Err(self.failed(unsupported()))
    }

    pub(crate) fn begin_trial(&mut self, _: &Snapshot, _: &Poller) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn failed(&self, error: io::Error) -> Error {
        Error::new(Operation::Upgrade, "on this system", error)
    }

    pub(crate) fn look(&mut self) -> Trial {
        Trial::Gone
    }

    pub(crate) fn end_trial(&mut self) {}

    pub(crate) fn forget_trial(&mut self, _: &Poller) {}

    pub(crate) fn close(&mut self, _: &Poller) {}

    pub(crate) fn reap(&mut self) {}

    pub(crate) fn save(
        &self,
        _: &mut Snapshot,
        _: PreForkId,
        _: impl Iterator<Item = (RawFd, FdRole)>,
    ) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn execute(&self, _: &Snapshot) -> Error {
        self.failed(unsupported())
    }

    pub(crate) fn forget_previous(&mut self) {}
}
