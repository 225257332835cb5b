//! A child at its very beginning, for strace to attach to: it has run nothing of its own yet.
//!
//! strace that follows forks injects into parent and children alike. To have one of them, the child
//! is caught by ptrace as it is forked and handed on, stopped. It never stays traced from here.

use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::Duration;

use crate::support::{processes, until};

/// Lets a process `go` on, which then forks, and returns its first child: stopped by SIGSTOP before
/// its first instruction. The process goes on by itself.
pub fn newborn(parent: u32, go: impl FnOnce()) -> u32 {
    let parent = Pid::from_raw(parent.cast_signed());
    ptrace::seize(parent, Options::PTRACE_O_TRACEFORK).expect("to seize the process");
    go();
    let child = forked(parent);
    // It stops by itself, since a tracer that seizes a parent with that option has its children too.
    wait(child);
    kill(child, Signal::SIGSTOP).expect("to stop the child");
    ptrace::detach(child, None).expect("to let go of the child");
    ptrace::detach(parent, None).expect("to let go of the process");
    let child = child.as_raw().cast_unsigned();
    until("the child to stand still", Duration::from_secs(5), || {
        (processes::state(child) == Some('T')).then_some(())
    });
    child
}

/// Waits until the process has forked, and leaves it stopped there.
fn forked(parent: Pid) -> Pid {
    loop {
        match wait(parent) {
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_FORK as i32 => {
                let child = ptrace::getevent(parent).expect("the pid of the child");
                return Pid::from_raw(i32::try_from(child).expect("a pid"));
            }
            WaitStatus::PtraceEvent(..) => ptrace::cont(parent, None).expect("to go on"),
            WaitStatus::Stopped(_, signal) => ptrace::cont(parent, signal).expect("to go on"),
            other => panic!("the process did not fork: {other:?}"),
        }
    }
}

fn wait(pid: Pid) -> WaitStatus {
    waitpid(pid, Some(WaitPidFlag::__WALL)).expect("a traced process")
}
