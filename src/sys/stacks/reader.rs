//! The process that reads stacks: a fork of the parent, at the same addresses, that lives until it
//! has read the copies of a few children and for a few seconds at most. It takes hundreds of
//! milliseconds where debug information is large, and memory, and it walks what a fault may have
//! damaged: all that is its own risk and not the parent's.

#![allow(unsafe_code)]

use super::{AskedChild, area::StackArea, modules::Modules, unwind::walk};
use crate::{
    core::{
        child::ChildId,
        stack::lines::{ChildStack, StackParser},
        system::EventSource,
    },
    sys::{
        clock::Clock,
        fd_registry::Registered,
        fork::{self, Side},
        pipes,
        poller::Poller,
        signals::Mask,
    },
};
use mio::Interest;
use nix::{
    libc,
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// How long the process lives, at most.
const LIFE: u32 = 10;
/// How long it waits for children that do not answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks for answers.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How many bytes a turn of the loop reads.
const BUDGET: usize = 64 * 1024;

/// The parent's view of the process.
#[derive(Debug)]
pub(super) struct StackReader {
    pid: libc::pid_t,
    pipe: Registered<OwnedFd>,
    lines: StackParser,
    /// The children of which nothing has been told yet.
    unreported: Vec<ChildId>,
}

impl StackReader {
    /// Forks the process.
    pub(super) fn start(area: &StackArea, asked: &[AskedChild]) -> io::Result<Self> {
        let (read, write) = pipes::pipe()?;
        pipes::set_nonblocking(&read)?;
        let parent = unistd::getpid().as_raw();
        let mask = Mask::block_all()?;
        match fork::fork(&mask) {
            Ok(Side::Child) => be_the_reader(area, asked, write, parent),
            Ok(Side::Parent(pid)) => {
                mask.restore()?;
                Ok(Self {
                    // OK because the pid comes from fork(2).
                    pid: pid as libc::pid_t,
                    pipe: Registered::parents(read),
                    lines: StackParser::default(),
                    unreported: asked.iter().map(|asked| asked.child).collect(),
                })
            }
            Err(error) => {
                mask.restore()?;
                Err(error)
            }
        }
    }

    fn fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        poller.add_urgent(self.fd(), EventSource::Stacks, Interest::READABLE)
    }

    /// Reads what is there, within the budget of a turn. False when the process has ended.
    pub(super) fn read(
        &mut self,
        poller: &Poller,
        mut found: impl FnMut(ChildId, ChildStack),
    ) -> bool {
        let Self {
            pipe,
            lines,
            unreported,
            ..
        } = self;
        let mut buffer = [0; 4096];
        for _ in 0..BUDGET / buffer.len() {
            match pipes::read(pipe, &mut buffer) {
                Ok(None) => return true,
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(count)) => lines.feed(&buffer[..count], |told| {
                    let is_told = |child: &ChildId| *child == ChildId::new(told.slot, told.serial);
                    if let Some(at) = unreported.iter().position(is_told) {
                        found(unreported.swap_remove(at), told);
                    }
                }),
            }
        }
        // The poller is edge-triggered, and the rest is for the next turn.
        poller
            .renew_urgent(self.fd(), EventSource::Stacks, Interest::READABLE)
            .is_ok()
    }

    pub(super) fn kill(&self) {
        // SAFETY: `kill` touches no memory. The process was not reaped, so the pid is its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// Closes the pipe. Returns the process, to be reaped, and the children of which it told nothing.
    pub(super) fn end(self, poller: &Poller) -> (libc::pid_t, Vec<ChildId>) {
        if let Err(error) = poller.remove_urgent(self.fd()) {
            log::debug!("deregistering the reader of stacks: {error}");
        }
        (self.pid, self.unreported)
    }
}

/// Whether this process is reaped now: it has ended, or other code has reaped it.
pub(super) fn is_reaped(pid: libc::pid_t) -> bool {
    wait(pid, libc::WNOHANG) != 0
}

/// Waits for a process that is ending.
pub(super) fn await_end(pid: libc::pid_t) {
    while wait(pid, 0) < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {}
}

fn wait(pid: libc::pid_t, options: libc::c_int) -> libc::pid_t {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), options) }
}

/// Runs in the new process, to its end.
fn be_the_reader(area: &StackArea, asked: &[AskedChild], pipe: OwnedFd, parent: libc::pid_t) -> ! {
    let work = AssertUnwindSafe(|| {
        std::panic::set_hook(Box::new(|_| {}));
        settle(&pipe, parent)
            .is_ok()
            .then(|| read_all(area, asked, &pipe))
    });
    // OK to ignore: what was told before counts. A drop of the payload could panic again.
    std::mem::forget(catch_unwind(work));
    // SAFETY: `_exit` has no preconditions. Nothing that the parent owns is dropped or flushed here.
    unsafe { libc::_exit(0) }
}

/// Gives up what is the parent's, and limits what this process can do. All signals are blocked and
/// stay so, apart from the alarm.
fn settle(pipe: &OwnedFd, parent: libc::pid_t) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid().as_raw() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // For ps(1).
    nix::sys::prctl::set_name(c"stacks-reader")?;
    close_all_but(pipe.as_raw_fd());
    // SAFETY: `SIG_DFL` runs no code, and the alarm ends this process only.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(LIFE);
    }
    SigSet::from(Signal::SIGALRM).thread_unblock()?;
    // A damaged stack may end this process by a fault, which is no reason for a core file.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Closes all descriptors but `kept`: a listener or a connection that this process held would stay
/// open for its clients, and so would the pipe by which children see the end of their parent.
fn close_all_but(kept: RawFd) {
    let kept = kept.cast_unsigned();
    for (first, last) in [(3, kept - 1), (kept + 1, libc::c_uint::MAX)] {
        // SAFETY: nothing in this process uses or drops a descriptor that it had before.
        if first <= last && unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) } < 0
        {
            close_one_by_one(first, last);
        }
    }
}

/// For kernels before 5.9.
fn close_one_by_one(first: libc::c_uint, last: libc::c_uint) {
    let open = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let open = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for fd in open.collect::<Vec<libc::c_uint>>() {
        if (first..=last).contains(&fd) {
            // SAFETY: as in `close_all_but`.
            unsafe { libc::close(fd.cast_signed()) };
        }
    }
}

/// Reads the copies as they come, until all are read or the others are not coming.
fn read_all(area: &StackArea, asked: &[AskedChild], pipe: &OwnedFd) {
    let (mut left, mut modules) = (asked.to_vec(), None);
    let clock = Clock::new();
    while !left.is_empty() && clock.now().since_start() < PATIENCE {
        let before = left.len();
        left.retain(|asked| !read_one(area, *asked, pipe, &mut modules));
        if left.len() == before {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Reads the copy of one child, if it has left one. True if there is nothing more to wait for.
fn read_one(
    area: &StackArea,
    AskedChild { child, pid }: AskedChild,
    pipe: &OwnedFd,
    modules: &mut Option<Modules>,
) -> bool {
    let Some(slot) = area.slot(child) else {
        return true;
    };
    let Some(copy) = slot.read(child.serial()) else {
        return false;
    };
    let earlier = modules.take();
    let modules = modules.insert(Modules::of(pid, earlier));
    let told = ChildStack {
        slot: child.slot() as u32,
        serial: child.serial(),
        frames: modules.name(&walk(modules, &copy)),
    };
    write_all(pipe, told.lines().as_bytes());
    true
}

/// Writes, and waits for the parent to read.
fn write_all(pipe: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match unistd::write(pipe, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(nix::Error::EINTR) => {}
            Err(_) => return,
        }
    }
}
