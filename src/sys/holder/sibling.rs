//! The fork of a child that is the holder's from its first moment: for the kernel it is a sibling of
//! the parent that forks it. Whatever such a child executes, the signal at its parent's death comes
//! when the holder ends and at no other time. Runs no code of the user's.
//!
//! glibc's fork(2) takes no flags, so this is a clone(2) without it. What fork does besides the system
//! call is done here, or is not needed by a child that is about to execute a program:
//!
//! | what fork does | here |
//! |---|---|
//! | runs the handlers of `pthread_atfork` | not done: code that counts on them runs in `server_start` at the most |
//! | takes the locks of malloc and of streams | no thread can hold one: the process has a single one |
//! | notes the id of the thread, which pthread functions pass to the kernel | the kernel writes it to the same place |
//! | registers the list of robust mutexes, which the kernel forgets | done in the child |
//! | notes the process id, before 2.25 | such a glibc is left alone |

#![allow(unsafe_code)]

use crate::sys::{fork::Side, limits, signals::Mask};
use nix::{
    errno::Errno,
    libc::{self, c_long, pid_t},
};
use std::{io, ptr};

/// Whether clone(2) returns zero in the child, as everywhere but there.
const RETURNS_ZERO: bool = !cfg!(any(target_arch = "sparc", target_arch = "sparc64"));

/// What such a fork needs: where the C library keeps what a fork must change.
pub(super) struct SiblingFork {
    tid: *mut pid_t,
    /// The head of the list of robust mutexes, and the length of that head.
    robust: (*mut libc::c_void, usize),
}

impl SiblingFork {
    /// `None` if this process cannot fork such a child, which depends on the C library and on the
    /// kernel, or has other threads.
    pub(super) fn find() -> Option<Self> {
        let is_known = RETURNS_ZERO && keeps_no_pid() && limits::has_one_thread();
        let tid = is_known.then(place_of_tid).flatten()?;
        Some(Self {
            tid,
            robust: robust_list(),
        })
    }

    /// Forks a child of this process's parent.
    ///
    /// The kernel writes the child's pid to `pid_at` before the child runs, and also if this process is
    /// killed meanwhile: the call is either completed or has no effect.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the kernel or a filter refuses such a child; those of clone(2).
    pub(super) fn fork(&self, _blocked: &Mask, pid_at: *mut pid_t) -> io::Result<Side> {
        // SAFETY: the child gets a copy of this process's memory and runs on the same addresses, as
        // after a fork. There is no other thread, whose locks it would find locked. Both addresses are
        // valid for writes: the caller's, and the one where the C library has this thread's id, which
        // is right for the child as well once the kernel has written the child's there.
        match unsafe { clone(pid_at, self.tid) } {
            0 => {
                self.register_robust_list();
                Ok(Side::Child)
            }
            pid @ 1.. => u32::try_from(pid)
                .map(Side::Parent)
                .map_err(io::Error::other),
            _ => Err(match Errno::last() {
                Errno::EPERM | Errno::ENOSYS | Errno::EINVAL => io::ErrorKind::Unsupported.into(),
                errno => errno.into(),
            }),
        }
    }

    /// In the child: the kernel is to look at the list when this process ends.
    fn register_robust_list(&self) {
        let (head, length) = self.robust;
        if !head.is_null() {
            // SAFETY: the head was registered in the parent, and has the same address here. OK to
            // ignore: the kernel that has told it accepts it.
            unsafe { libc::syscall(libc::SYS_set_robust_list, head, length) };
        }
    }
}

/// Whether children that become programs can be the holder's.
pub(crate) fn keeps_programs() -> bool {
    SiblingFork::find().is_some()
}

/// clone(2) with the flags of a fork, for a child of this process's parent. That one gets the signal
/// that this process's own end sends it, SIGCHLD.
unsafe fn clone(pid_at: *mut pid_t, tid: *mut pid_t) -> c_long {
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::SIGCHLD;
    let flags = c_long::from(flags);
    let same_stack: c_long = 0;
    let (first, second) = if cfg!(target_arch = "s390x") {
        (same_stack, flags)
    } else {
        (flags, same_stack)
    };
    // SAFETY: as the caller says. The last two arguments are the child's address and thread storage,
    // in an order that depends on the machine; the storage is not looked at without CLONE_SETTLS.
    unsafe { libc::syscall(libc::SYS_clone, first, second, pid_at, tid, tid) }
}

/// Where the C library keeps the id of this thread. `None` if the kernel does not tell, or if something
/// else is there.
fn place_of_tid() -> Option<*mut pid_t> {
    const PR_GET_TID_ADDRESS: libc::c_int = 40;
    let mut tid: *mut pid_t = ptr::null_mut();
    // SAFETY: the kernel writes an address to the variable: the one that it is to clear at the thread's
    // end. There glibc has the thread's id.
    let told = unsafe { libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid) };
    if told != 0 || tid.is_null() {
        return None;
    }
    // SAFETY: the C library has told the kernel to write there, so it is memory of this process.
    let is_id = unsafe { tid.read_volatile() } == nix::unistd::gettid().as_raw();
    is_id.then_some(tid)
}

/// The list of robust mutexes that the C library has registered; a null head if it has none.
fn robust_list() -> (*mut libc::c_void, usize) {
    let (mut head, mut length) = (ptr::null_mut(), 0_usize);
    let this_thread: c_long = 0;
    // SAFETY: the kernel writes an address and a length to the variables, or nothing.
    unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            this_thread,
            &raw mut head,
            &raw mut length,
        )
    };
    (head, length)
}

/// Whether getpid(2) asks the kernel, as glibc's does since 2.25. Of other C libraries it is not known
/// what they keep: musl's raise(3) signals the thread whose id it has noted.
#[cfg(target_env = "gnu")]
fn keeps_no_pid() -> bool {
    // SAFETY: the string is a constant of the C library.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    let version = version.to_str().unwrap_or_default();
    let minor = version.strip_prefix("2.").and_then(|rest| {
        let digits = rest.split('.').next()?;
        digits.parse::<u32>().ok()
    });
    minor.is_some_and(|minor| minor >= 25)
}

#[cfg(not(target_env = "gnu"))]
fn keeps_no_pid() -> bool {
    false
}
