//! Whose a process id is, of children that are ended here and of a stranger.

use super::ended::{is_ours, look};
use nix::libc;
use std::process::Command;

/// The pid of a reaped child may belong to any process by now; it is sent nothing.
#[test]
fn o27_who_was_reaped_by_somebody_else_is_ours_no_more() {
    let mut command = Command::new("sleep");
    let mut child = command.arg("1000").spawn().expect("a process");
    let pid = libc::pid_t::try_from(child.id()).expect("a pid");
    assert!(is_ours(pid).expect("an answer"), "it lives");
    child.kill().expect("a signal");
    while look(libc::P_PID, child.id()).expect("an answer").pid == 0 {
        std::thread::yield_now();
    }
    assert!(
        is_ours(pid).expect("an answer"),
        "it is dead and not reaped"
    );
    child.wait().expect("a status");
    assert!(!is_ours(pid).expect("an answer"));
}

/// No process is sent a signal that is not our child.
///
/// The parent of this test is alive and accepts signals.
#[test]
fn o27_a_stranger_is_not_ours() {
    let parent = nix::unistd::getppid().as_raw();
    assert!(!is_ours(parent).expect("an answer"));
}
