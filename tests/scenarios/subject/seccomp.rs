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

#[allow(unsafe_code)]
fn refuse_number(call: libc::c_long, error: Errno) -> io::Result<()> {
    // The number of the call is the first word of what the filter sees.
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let refusal = libc::SECCOMP_RET_ERRNO | error as u32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(load, 0, 0, 0),
        step(equal, 0, 1, u32::try_from(call).expect("a small number")),
        step(answer, 0, 0, refusal),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
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
