//! How servers whose children are programs are watched and ended. Shared by the scenarios of
//! `ExecServer` and by those of `prefork run`, which say what a ready child is.

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Served, ready};
use crate::support::{SOON, Server, Signal, processes, until};

/// Ends a server in order, and returns what it reported.
#[track_caller]
pub fn stop(server: &Server) -> Report {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
    Report::of(server)
}

/// The numbers of a report, by the words before or after them.
#[derive(Debug)]
pub struct Report(String);

impl Report {
    #[track_caller]
    pub fn of(server: &Server) -> Self {
        let stdout = server.stdout();
        let report = stdout.lines().find(|line| line.contains(" forked, "));
        Self(report.expect("a report").to_owned())
    }

    /// The number before `word`; 0 if it does not occur.
    pub fn count(&self, word: &str) -> u64 {
        let words: Vec<&str> = self.0.split([' ', ',', ';', ':']).collect();
        let at = words.iter().position(|candidate| *candidate == word);
        at.and_then(|at| words[at.checked_sub(1)?].parse().ok())
            .unwrap_or(0)
    }
}

pub fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[track_caller]
pub fn until_gone(pid: u32) {
    until(&format!("process {pid} to be gone"), SOON, || {
        (!processes::is_alive(pid)).then_some(())
    });
}

/// The children, `count` of them, once each has said ACK: before, a program may not be ready for a
/// signal.
#[track_caller]
pub fn ready_children(server: &Served, count: usize) -> Vec<u32> {
    let what = format!("{count} children that said ACK");
    until(&what, SOON, || {
        ready(server).filter(|children| children.len() == count)
    })
}

/// Ends a server in order once every child is ready for it: an interpreter that is still starting may
/// swallow the signal, and is killed only after `shutdown_timeout`.
#[track_caller]
pub fn stop_ready(server: &Served) -> Report {
    until("every child to have said ACK", SOON, || {
        ready(server).filter(|children| !children.is_empty())
    });
    stop(server)
}
