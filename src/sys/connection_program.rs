//! A program that works for a child, with a connection as its stdin and stdout: started, waited for,
//! signalled. Decides neither what is run nor how long.

#![allow(unsafe_code)]

use super::{atfork, exec, signals};
use nix::{
    libc,
    sys::signal::{SigHandler, Signal, signal},
};
use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
};

/// The program of one connection. It is a member of the child's process group.
#[derive(Debug)]
pub(crate) struct ConnectionProgram {
    process: Child,
    /// Readable once the program has ended; `None` where the system has no such descriptor.
    end: Option<OwnedFd>,
}

impl ConnectionProgram {
    /// Starts it. It gets no descriptor but the connection and the child's stderr, and the signals that
    /// the child ignores have their default action again. On Linux the kernel kills it when the child
    /// ends for any reason.
    pub(crate) fn start(mut command: Command, connection: BorrowedFd<'_>) -> io::Result<Self> {
        let stream = || connection.try_clone_to_owned().map(Stdio::from);
        command.stdin(stream()?).stdout(stream()?);
        command.stderr(Stdio::inherit());
        let child = nix::unistd::getpid();
        // SAFETY: the closure only makes system calls, and reads a directory where the system lacks
        // one of them; the process has one thread, so no lock is held.
        unsafe {
            command.pre_exec(move || {
                die_with(child)?;
                signals::give_back()?;
                exec::close_on_exec_from(exec::FIRST)
            });
        }
        // The new process keeps nothing of ours across its exec, so the fork needs no handlers.
        let process = atfork::ours(|| command.spawn())?;
        let end = process_fd(process.id());
        Ok(Self { process, end })
    }

    /// Readable once it has ended.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(OwnedFd::as_fd)
    }

    /// Its status if it has ended.
    pub(crate) fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Tells it to end.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        // It was not reaped, or `process` would be gone: the number is its own.
        let pid = libc::pid_t::try_from(self.process.id()).map_err(io::Error::other)?;
        let pid = nix::unistd::Pid::from_raw(pid);
        Ok(nix::sys::signal::kill(pid, Signal::SIGTERM)?)
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }
}

/// In the new process: has the kernel kill it when `child` ends.
#[cfg(target_os = "linux")]
fn die_with(child: nix::unistd::Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The child may have died before the call.
    match nix::unistd::getppid() == child {
        true => Ok(()),
        false => Err(nix::errno::Errno::ESRCH.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with(_: nix::unistd::Pid) -> io::Result<()> {
    Ok(())
}

/// A descriptor that becomes readable when the process ends.
#[cfg(target_os = "linux")]
fn process_fd(pid: u32) -> Option<OwnedFd> {
    use std::os::fd::{FromRawFd, RawFd};
    // SAFETY: two integers; the process is a child of ours that was not reaped.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor, close-on-exec; it has no other owner.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(not(target_os = "linux"))]
fn process_fd(_: u32) -> Option<OwnedFd> {
    None
}

/// In a child that leads a process group: when the time is over that an orphan may live on, all of the
/// group ends with it, and not the child alone.
pub(crate) fn end_group_with_orphan() -> io::Result<()> {
    // SAFETY: the handler calls only what is async-signal-safe.
    unsafe { signal(Signal::SIGALRM, SigHandler::Handler(end_group)) }?;
    Ok(())
}

extern "C" fn end_group(_: libc::c_int) {
    // SAFETY: all three are async-signal-safe and touch no memory. The group is the child's own.
    unsafe {
        if libc::getpgid(0) == libc::getpid() {
            libc::kill(0, libc::SIGKILL);
        }
        libc::_exit(libc::EXIT_FAILURE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::Shutdown,
        os::{
            fd::AsRawFd,
            unix::{net::UnixStream, process::ExitStatusExt},
        },
    };

    fn started(script: &str) -> (ConnectionProgram, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let helper = ConnectionProgram::start(command, theirs.as_fd()).expect("a process");
        (helper, ours)
    }

    fn ended(helper: &mut ConnectionProgram) -> ExitStatus {
        if let Some(end) = helper.end() {
            let mut asked = libc::pollfd {
                fd: end.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd, which lives across the call.
            assert_eq!(unsafe { libc::poll(&raw mut asked, 1, 10_000) }, 1);
        }
        let status = helper.status().expect("an answer");
        status.expect("it has ended")
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_has_the_connection_and_its_end_is_seen() {
        let (mut helper, mut client) = started("read line; echo \"got $line\"; exit 3");
        assert!(helper.status().expect("an answer").is_none());
        client.write_all(b"a line\n").expect("a write");
        client.shutdown(Shutdown::Write).expect("an end");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "got a line\n");
        assert_eq!(ended(&mut helper).code(), Some(3));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_is_told_and_killed() {
        let (mut helper, _client) = started("exec sleep 1000");
        helper.terminate().expect("a signal");
        assert_eq!(ended(&mut helper).signal(), Some(libc::SIGTERM));
        let (mut helper, mut client) =
            started("trap '' TERM; echo ready; while :; do sleep 1; done");
        client.read_exact(&mut [0; 6]).expect("it has set the trap");
        helper.terminate().expect("a signal");
        helper.kill().expect("a signal");
        assert_eq!(ended(&mut helper).signal(), Some(libc::SIGKILL));
    }

    /// No descriptor of the process reaches the program, even if it is not close-on-exec.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_has_three_descriptors() {
        let (leaked, _write) = std::io::pipe().expect("a pipe");
        // SAFETY: two integers.
        unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
        let (mut helper, mut client) = started("exec ls /proc/self/fd");
        let mut list = String::new();
        // What the program leaves open ends with it.
        assert!(ended(&mut helper).success());
        client.shutdown(Shutdown::Write).expect("an end");
        drop(helper);
        client.read_to_string(&mut list).expect("a list");
        // The last is the directory that it reads.
        assert_eq!(list, "0\n1\n2\n3\n");
    }
}
