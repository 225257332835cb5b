//! What one server holds for upgrades: its program, the one that it is to become, the trial of that, the
//! one that it was, and who waits for the outcome.

#[cfg(feature = "holder")]
use super::program::PreparedExecveat;
use super::{
    descriptors::{self, identify},
    execution,
    program::{RunningProgram, open_program},
    trial::TrialProcess,
};
use crate::{
    core::{
        error::{self, Error, Operation},
        say::say,
        state::{FdRole, Program, Snapshot},
        upgrade::Trial,
    },
    sys::{
        fd_registry::{self, PreForkId, Registered},
        poller::Poller,
        process,
    },
};
use nix::{
    errno::Errno,
    libc::SIGKILL,
    sys::{
        socket::{getsockopt, sockopt},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

/// The program that this process is to become.
#[derive(Debug)]
struct UpgradeTarget {
    path: PathBuf,
    file: Registered<OwnedFd>,
}

/// What one server holds for upgrades.
#[derive(Debug)]
pub(crate) struct Upgrades {
    image: io::Result<RunningProgram>,
    /// The file that the next upgrade without a path is to.
    path: PathBuf,
    target: Option<UpgradeTarget>,
    trial: Option<TrialProcess>,
    /// Trials that are over, until their processes are reaped.
    ended: Vec<TrialProcess>,
    /// The program before this one and its path, until this one has proved that it works.
    previous: Option<UpgradeTarget>,
    /// Connections on which a client waits for the outcome.
    askers: Vec<Registered<OwnedFd>>,
    /// The process that has told the status of the program before, until it is reaped.
    old_helper: Option<Pid>,
}

impl Upgrades {
    /// For a server that starts, or that goes on from this state.
    pub(crate) fn new(state: Option<&Snapshot>) -> Self {
        let image = RunningProgram::of_this_process();
        let own = image.as_ref().map(|image| image.path().to_owned());
        let told = state.map(|state| path(&state.program.path));
        Self {
            path: told.or(own.ok()).unwrap_or_default(),
            image,
            target: None,
            trial: None,
            ended: Vec::new(),
            previous: None,
            askers: Vec::new(),
            old_helper: None,
        }
    }

    /// Takes over what is for upgrades of a state that was adopted: the program before, if it may be
    /// needed again, and who waits for the outcome.
    pub(crate) fn adopt(&mut self, state: &Snapshot) {
        for descriptor in state.with_role(FdRole::Asker) {
            self.askers
                .push(Registered::parents(descriptors::take(descriptor.fd)));
        }
        let previous = state.descriptor(FdRole::Image).map(|image| UpgradeTarget {
            path: path(&state.program.previous_path),
            file: Registered::parents(descriptors::take(image.fd)),
        });
        self.previous = previous.filter(|_| state.program.back.is_none());
        for unknown in state.with_role(FdRole::Unknown) {
            drop(descriptors::take(unknown.fd));
        }
        answer_dropped(state);
        self.end_old_helper(state.pool.status_helper);
    }

    /// It ends by itself, since the exec has closed what ties it to the program. It holds the status's
    /// sockets until then.
    fn end_old_helper(&mut self, pid: Option<u32>) {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.filter(|pid| *pid > 1 && process::is_ours(*pid).unwrap_or(false));
        if let Some(pid) = pid {
            // OK to ignore: it is a child that was not reaped, so the call cannot fail.
            let _ = process::signal_one(pid, SIGKILL);
            self.old_helper = Some(Pid::from_raw(pid));
        }
        self.reap();
    }

    /// Has a client told the outcome of the upgrade that begins, by this program or by the next.
    pub(crate) fn add_asker(&mut self, connection: Registered<OwnedFd>) {
        self.askers.push(connection);
    }

    /// Tells the outcome to all that wait for it: one line.
    pub(crate) fn answer_askers(&mut self, outcome: &str) {
        for asker in self.askers.drain(..) {
            answer_asker(asker.as_fd(), outcome);
        }
    }

    /// Opens the program of an upgrade.
    pub(crate) fn open(&mut self, program: Option<&Path>) -> Result<(), Error> {
        let path = program.unwrap_or(&self.path).to_owned();
        let failed = |error| Error::new(Operation::Upgrade, path.display().to_string(), error);
        if let Err(error) = &self.image {
            return Err(failed(error::copy(error)));
        }
        if fd_registry::servers() > 1 {
            let reason = "another server runs in this process";
            return Err(failed(io::Error::other(reason)));
        }
        let file = open_program(&path).map_err(failed)?;
        let file = Registered::parents(file);
        self.target = Some(UpgradeTarget { path, file });
        Ok(())
    }

    pub(crate) fn begin_trial(&mut self, state: &Snapshot, poller: &Poller) -> io::Result<()> {
        let (Ok(image), Some(target)) = (&self.image, &self.target) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let trial = TrialProcess::start(target.file.as_fd(), image, state)?;
        let watched = trial.watch(poller);
        self.trial = Some(trial);
        watched
    }

    /// An error of the upgrade to the program that was opened.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        let target = self.target.as_ref();
        let path = target.map_or(&self.path, |target| &target.path);
        Error::new(Operation::Upgrade, path.display().to_string(), error)
    }

    pub(crate) fn look(&mut self) -> Trial {
        self.trial.as_mut().map_or(Trial::Gone, TrialProcess::look)
    }

    pub(crate) fn end_trial(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.kill();
        }
    }

    /// Ends the trial without waiting for it. Its process is reaped when it has ended.
    pub(crate) fn forget_trial(&mut self, poller: &Poller) {
        if let Some(mut trial) = self.trial.take() {
            trial.unwatch(poller);
            trial.kill();
            self.ended.push(trial);
        }
        self.target = None;
        self.reap();
    }

    /// At the end of the server: ends the trial, and waits for the end of all.
    pub(crate) fn close(&mut self, poller: &Poller) {
        self.forget_trial(poller);
        for mut trial in self.ended.drain(..) {
            trial.await_end();
        }
        self.answer_askers("error: the server has stopped");
    }

    /// Collects the processes of trials that are over, and that of the program before.
    pub(crate) fn reap(&mut self) {
        let lives = |pid: &Pid| {
            let found = waitpid(*pid, Some(WaitPidFlag::WNOHANG));
            matches!(found, Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
        };
        self.old_helper = self.old_helper.filter(lives);
        if let Some(trial) = &mut self.trial {
            trial.reap();
        }
        self.ended.retain_mut(|trial| !trial.reap());
    }

    /// Adds to a state what is handed on besides the pool.
    pub(crate) fn save(
        &self,
        state: &mut Snapshot,
        id: PreForkId,
        own: impl Iterator<Item = (RawFd, FdRole)>,
    ) -> io::Result<()> {
        let image = self.image.as_ref().map_err(error::copy)?;
        state.program = self.next_program(state.program.back.take());
        let askers = self.askers.iter();
        let askers = askers.map(|asker| (asker.as_raw_fd(), FdRole::Asker));
        let all = [(image.number(), FdRole::Image)].into_iter().chain(own);
        let all = all
            .chain(listed(state))
            .chain(askers)
            .chain(of_the_pool(state))
            .map(Ok)
            .chain(listening(id));
        let identified = |found: io::Result<_>| found.and_then(|(fd, role)| identify(role, fd));
        let all: io::Result<Vec<_>> = all.map(identified).collect();
        state.descriptors = all?;
        Ok(())
    }

    /// The program that comes next: the one that was tried, or the one before if `back` says why.
    fn next_program(&self, back: Option<String>) -> Program {
        let forth = self.target.as_ref().map(|target| &target.path);
        let before = self.previous.as_ref().map(|previous| &previous.path);
        let before = before.filter(|_| back.is_some());
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        Program {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path: bytes(before.or(forth).unwrap_or(&self.path)),
            previous_path: bytes(&self.path),
            back,
        }
    }

    /// Becomes the program that was tried, or the one before if the state says why. Returns only if that
    /// fails.
    pub(crate) fn execute(&self, state: &Snapshot) -> Error {
        let error = match (&self.image, self.program(state)) {
            (Ok(image), Ok(program)) => execution::execute(program, image, state),
            (_, Err(error)) => error,
            _ => io::ErrorKind::NotFound.into(),
        };
        self.failed(error)
    }

    /// The descriptor of the program that is executed with this state.
    pub(crate) fn program(&self, state: &Snapshot) -> io::Result<RawFd> {
        let target = match state.program.back {
            None => &self.target,
            Some(_) => &self.previous,
        };
        let target = target.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(target.file.as_raw_fd())
    }

    /// The call by which a holder becomes another program; `None` if it does not know its own.
    #[cfg(feature = "holder")]
    pub(crate) fn blank_call(&self) -> Option<PreparedExecveat> {
        self.image.as_ref().ok().map(RunningProgram::blank_call)
    }

    /// Whether the program before this one may be needed again.
    #[cfg(feature = "holder")]
    pub(crate) fn may_return(&self) -> bool {
        self.previous.is_some()
    }

    /// Forgets who waits for the outcome: another process tells them.
    #[cfg(feature = "holder")]
    pub(crate) fn leave_askers(&mut self) {
        self.askers.clear();
    }

    /// This program has proved that it works.
    pub(crate) fn forget_previous(&mut self) {
        self.previous = None;
    }
}

/// Tells the outcome of an upgrade: one line.
pub(crate) fn answer_asker(asker: BorrowedFd<'_>, outcome: &str) {
    descriptors::send_line(asker, &format!("{}\n", outcome.replace('\n', " ")));
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// What a later version has handed on for what this one has not.
fn answer_dropped(state: &Snapshot) {
    let descriptors: Vec<_> = state.with_role(FdRole::Unknown).map(|it| it.fd).collect();
    if !(state.unknown.is_empty() && descriptors.is_empty()) {
        say!(
            Warn,
            "the program before has handed on what is not known here, and is dropped: records with the \
             tags {:?}, descriptors {descriptors:?}",
            state.unknown
        );
    }
}

/// The descriptors that a state lists already.
fn listed(state: &Snapshot) -> impl Iterator<Item = (RawFd, FdRole)> {
    let listed = state.descriptors.iter();
    listed.map(|listed| (listed.fd.cast_signed(), listed.role))
}

/// The descriptors that belong to the children and clients of a state.
fn of_the_pool(state: &Snapshot) -> impl Iterator<Item = (RawFd, FdRole)> {
    let boards = state.boards.iter().map(|board| (board.fd, FdRole::Board));
    let pipes = state.children.iter().flat_map(|child| &child.pipes.0);
    let pipes = pipes.filter_map(|pipe| Some((pipe.fd?, FdRole::Pipe)));
    let stops = state.stop_boards().into_iter();
    let stops = stops.map(|fd| (fd, FdRole::Stops));
    let clients = state.clients.iter();
    let clients = clients.map(|client| (client.fd, FdRole::Client));
    let all = boards.chain(pipes).chain(stops).chain(clients);
    all.map(|(fd, role)| (fd.cast_signed(), role))
}

/// The sockets that a server listens on: its own, and those that another process has opened.
fn listening(id: PreForkId) -> impl Iterator<Item = io::Result<(RawFd, FdRole)>> {
    let all = fd_registry::for_children(id).into_iter();
    all.filter_map(|(fd, is_given)| match is_given {
        true => Some(Ok((fd, FdRole::Given))),
        false => match listens(fd) {
            Ok(listens) => listens.then_some(Ok((fd, FdRole::Listener))),
            Err(error) => Some(Err(error)),
        },
    })
}

/// One that is missed would be opened again, perhaps elsewhere.
fn listens(fd: RawFd) -> io::Result<bool> {
    match getsockopt(&descriptors::borrow_fd(fd)?, sockopt::AcceptConn) {
        Err(Errno::ENOTSOCK) => Ok(false),
        found => Ok(found?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_proc() -> Upgrades {
        let missing = io::Error::from_raw_os_error(Errno::ENOENT as i32);
        let missing = Error::new(Operation::Open, "/proc/self/exe", missing);
        Upgrades {
            image: Err(missing.into()),
            ..Upgrades::new(None)
        }
    }

    fn assert_says_what_is_missing(error: &Error) {
        assert_eq!(error.operation(), Operation::Open);
        assert_eq!(error.object(), "/proc/self/exe");
        let reason = error.io_error();
        assert_eq!(reason.raw_os_error(), Some(Errno::ENOENT as i32));
        assert_eq!(reason.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_program_that_does_not_know_itself_says_why_at_each_upgrade() {
        let mut upgrades = without_proc();
        for _ in 0..2 {
            let error = upgrades.open(None).unwrap_err();
            assert_says_what_is_missing(&error);
        }
    }

    #[test]
    fn a_state_without_the_running_program_says_why() {
        let mut state = Snapshot::default();
        let id = PreForkId::unique();
        let saved = without_proc().save(&mut state, id, std::iter::empty());
        let error = saved.unwrap_err();
        assert_says_what_is_missing(&Error::new(Operation::Upgrade, "a program", error));
    }
}
