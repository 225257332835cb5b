//! System calls that fail in this process from now on, by a filter in the kernel. Needs no rights.
//!
//! A filter cannot be taken away again, and children inherit it.

use std::io;

use nix::errno::Errno;
use nix::libc;

/// Every way to fork that the C library may take.
pub(super) fn refuse_forks(error: Errno) -> io::Result<()> {
    refuse_number(libc::SYS_clone, error)?;
    #[cfg(target_arch = "x86_64")]
    refuse_number(libc::SYS_fork, error)?;
    refuse_number(libc::SYS_clone3, error)
}

/// One of the things that prctl(2) does.
pub(super) fn refuse_prctl(option: libc::c_int, error: Errno) -> io::Result<()> {
    // Where the first argument of a call is in what the filter sees, in a little-endian machine.
    const FIRST_ARGUMENT: u32 = 16;
    let option = u32::try_from(option).expect("a small number");
    install(&mut [
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 3, number(libc::SYS_prctl)),
        step(LOAD, 0, 0, FIRST_ARGUMENT),
        step(EQUAL, 0, 1, option),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    let code = code as u16;
    libc::sock_filter { code, jt, jf, k }
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("a small number")
}

fn refuse_number(call: libc::c_long, error: Errno) -> io::Result<()> {
    // The number of the call is the first word of what the filter sees.
    install(&mut [
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 1, number(call)),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ])
}

#[allow(unsafe_code)]
fn install(steps: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(steps.len()).expect("a few steps"),
        filter: steps.as_mut_ptr(),
    };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: plain numbers; without it only root may install filters.
    let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the kernel copies the program, which lives across the call.
    let second = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    if first == 0 && second == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
