//! Reads where a process stands from Linux's /proc. Interprets nothing; on other systems it finds
//! nothing.

use crate::core::child::Stuck;
use nix::libc;
use std::fs;

/// Where a process stands now; `None` if nothing can be read.
pub(super) fn look(pid: libc::pid_t) -> Option<Stuck> {
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let [stat, wchan, syscall] = ["stat", "wchan", "syscall"].map(read);
    let stuck = Stuck::parse(stat.as_deref(), wchan.as_deref(), syscall.as_deref(), name);
    (!stuck.is_unknown()).then_some(stuck)
}

/// System calls by their numbers here.
#[cfg(target_os = "linux")]
type Names = &'static [(libc::c_long, &'static str)];

#[cfg(target_os = "linux")]
macro_rules! names {
    ($($call:ident $name:literal),* $(,)?) => {
        &[$((libc::$call, $name)),*]
    };
}

/// Those that may take long, on all machines.
#[cfg(target_os = "linux")]
const COMMON: Names = names! {
    SYS_accept "accept",
    SYS_accept4 "accept4",
    SYS_clock_nanosleep "clock_nanosleep",
    SYS_clone "clone",
    SYS_close "close",
    SYS_connect "connect",
    SYS_epoll_pwait "epoll_pwait",
    SYS_exit_group "exit_group",
    SYS_fcntl "fcntl",
    SYS_fdatasync "fdatasync",
    SYS_flock "flock",
    SYS_fsync "fsync",
    SYS_futex "futex",
    SYS_ioctl "ioctl",
    SYS_msgrcv "msgrcv",
    SYS_nanosleep "nanosleep",
    SYS_openat "openat",
    SYS_ppoll "ppoll",
    SYS_pread64 "pread64",
    SYS_pselect6 "pselect6",
    SYS_pwrite64 "pwrite64",
    SYS_read "read",
    SYS_readv "readv",
    SYS_recvfrom "recvfrom",
    SYS_recvmsg "recvmsg",
    SYS_rt_sigsuspend "rt_sigsuspend",
    SYS_rt_sigtimedwait "rt_sigtimedwait",
    SYS_semtimedop "semtimedop",
    SYS_sendmsg "sendmsg",
    SYS_sendto "sendto",
    SYS_splice "splice",
    SYS_sync "sync",
    SYS_tgkill "tgkill",
    SYS_wait4 "wait4",
    SYS_waitid "waitid",
    SYS_write "write",
    SYS_writev "writev",
};

/// Older ones, which only this machine still has.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const OLDER: Names = names! {
    SYS_epoll_wait "epoll_wait",
    SYS_fork "fork",
    SYS_open "open",
    SYS_pause "pause",
    SYS_poll "poll",
    SYS_select "select",
    SYS_vfork "vfork",
};

#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
const OLDER: Names = &[];

/// The name of a system call that may take long.
#[cfg(target_os = "linux")]
fn name(number: i64) -> Option<&'static str> {
    let mut all = COMMON.iter().chain(OLDER);
    // The constants are shorter numbers on some machines.
    let found = all.find(|(call, _)| i128::from(*call) == i128::from(number));
    found.map(|(_, name)| *name)
}

#[cfg(not(target_os = "linux"))]
fn name(_: i64) -> Option<&'static str> {
    None
}
