//! What a program finds is not what was handed on to it: another state, a descriptor that is missing or
//! leads elsewhere. The real reader then has to refuse it, in the trial or after the exec.
//!
//! What was there is kept under another number, and put back in the program that comes back: that one
//! finds what it has handed on.

#![allow(unsafe_code, reason = "it puts other files behind numbers")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{getsockopt, sockopt};
use prefork_server::Launch;

use super::Mode;

/// What was behind a number is kept behind this much more.
const KEPT: RawFd = 500;

/// Changes what this program finds.
pub fn tamper(mode: Mode) {
    match (mode, Launch::of_this_process()) {
        // For a reader of an older format everything is written in a later one.
        (Mode::Older, Launch::Trial) | (Mode::Future, Launch::Upgrade) => {
            change_state(|state| state[8] += 1);
        }
        (Mode::CutOff, Launch::Upgrade) => change_state(|state| state.truncate(state.len() / 2)),
        (Mode::Flipped, Launch::Upgrade) => change_state(|state| *middle(state) ^= 1),
        (Mode::Missing, Launch::Upgrade) => close(found(is_board)),
        (Mode::Swapped, Launch::Upgrade) => {
            let other = File::open("/dev/null").expect("a file");
            replace(found(listens), &other);
        }
        _ => {}
    }
}

/// In each program, first of all.
pub fn put_back() {
    for kept in KEPT + 3..2 * KEPT {
        if is_open(kept) {
            // SAFETY: integers; the scenario's programs have nothing of their own at such numbers.
            unsafe {
                libc::dup2(kept, kept - KEPT);
                libc::close(kept);
            }
        }
    }
}

fn middle(state: &mut [u8]) -> &mut u8 {
    let middle = state.len() / 2;
    &mut state[middle]
}

/// Puts another state there, sealed as the real one is.
fn change_state(change: impl Fn(&mut Vec<u8>)) {
    let instruction = std::env::var("PREFORK_UPGRADE").expect("an instruction");
    let number = instruction.split(' ').nth(2).expect("three words");
    let mut state = Vec::new();
    let mut file = File::open(format!("/proc/self/fd/{number}")).expect("a state");
    file.read_to_end(&mut state).expect("a state");
    assert_eq!(&state[..8], b"preforkS");
    change(&mut state);
    let file = memfd_create(c"prefork-state", MFdFlags::MFD_ALLOW_SEALING).expect("memory");
    let mut file = File::from(file);
    file.write_all(&state).expect("room");
    let seals = [
        SealFlag::F_SEAL_WRITE,
        SealFlag::F_SEAL_GROW,
        SealFlag::F_SEAL_SHRINK,
        SealFlag::F_SEAL_SEAL,
    ];
    let seals = seals.into_iter().collect();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("seals");
    replace(number.parse().expect("a number"), &file);
}

fn replace(fd: RawFd, file: &File) {
    keep(fd);
    // SAFETY: integers; what was there is kept.
    unsafe { libc::dup2(file.as_raw_fd(), fd) };
}

fn close(fd: RawFd) {
    keep(fd);
    // SAFETY: an integer; what was there is kept.
    unsafe { libc::close(fd) };
}

fn keep(fd: RawFd) {
    // SAFETY: integers; nothing is at that number.
    let kept = unsafe { libc::dup2(fd, fd + KEPT) };
    assert_eq!(kept, fd + KEPT);
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: integers; a number that is not open is an error.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// A descriptor of that kind.
fn found(is_it: fn(RawFd) -> bool) -> RawFd {
    let mut open = (3..KEPT).filter(|fd| is_open(*fd));
    open.find(|fd| is_it(*fd)).expect("such a descriptor")
}

fn is_board(fd: RawFd) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).expect("a link");
    link.to_string_lossy().contains("memfd:prefork-board")
}

fn listens(fd: RawFd) -> bool {
    // SAFETY: it is open, and used at once.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    getsockopt(&fd, sockopt::AcceptConn) == Ok(true)
}
