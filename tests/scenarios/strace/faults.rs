//! How a system call may fail here, by its name: the errnos of its manual page that a running system
//! gives, and those of a kernel or a sandbox that lacks the call. Decides nothing about outcomes.

use std::fmt;

/// What is injected at a call.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// The call is not made and fails with this errno.
    Errno(&'static str),
    /// The process is killed as it makes the call.
    Kill,
}

impl Fault {
    /// As strace takes it.
    pub fn injection(self) -> String {
        match self {
            Self::Errno(errno) => format!("error={errno}"),
            Self::Kill => "signal=KILL".to_owned(),
        }
    }

    /// Whether `call` may never work: the kernel is too old for it, or a sandbox forbids it. Without
    /// the others, accept(2) say, there is no server.
    pub fn may_last(self, call: &str) -> bool {
        let lasts = matches!(self, Self::Errno("ENOSYS" | "EOPNOTSUPP" | "EPERM"));
        lasts && errnos(call).contains(&"ENOSYS")
    }

    /// Everything that may befall `call`, the end of the process always.
    pub fn of(call: &str) -> Vec<Self> {
        let errnos = errnos(call).iter().copied();
        errnos.map(Self::Errno).chain([Self::Kill]).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Errno(errno) => errno,
            Self::Kill => "KILL",
        })
    }
}

/// Calls of the allocator and of the stack. Rust's standard library ends the process by SIGABRT when
/// it gets no memory, and no library in it can do otherwise.
pub fn is_memory(call: &str) -> bool {
    matches!(
        call,
        "brk" | "mmap" | "mremap" | "mprotect" | "munmap" | "madvise"
    )
}

/// The likely errnos. Left out is what only a wrong program gets (EBADF, EFAULT, EINVAL of a value that
/// is right).
fn errnos(call: &str) -> &'static [&'static str] {
    if super::without_errors(call).is_some() {
        return &[];
    }
    match call {
        "accept4" | "accept" => &[
            "EAGAIN",
            "ECONNABORTED",
            "EINTR",
            "EMFILE",
            "ENFILE",
            "ENOBUFS",
            "ENOMEM",
            "EPERM",
            "EPROTO",
            "ENETDOWN",
        ],
        "bind" => &["EADDRINUSE", "EADDRNOTAVAIL", "EACCES"],
        "listen" => &["EADDRINUSE"],
        "socket" => &[
            "EACCES",
            "EAFNOSUPPORT",
            "EMFILE",
            "ENFILE",
            "ENOBUFS",
            "ENOMEM",
        ],
        "getsockname" | "getpeername" => &["ENOBUFS", "ENOTCONN"],
        "getsockopt" | "setsockopt" => &["ENOMEM", "ENOPROTOOPT"],
        "shutdown" => &["ENOTCONN"],
        "recvfrom" | "recvmsg" => &["EAGAIN", "ECONNRESET", "EINTR", "ENOMEM", "ETIMEDOUT"],
        "sendto" => &[
            "EAGAIN",
            "ECONNRESET",
            "EINTR",
            "ENOBUFS",
            "ENOMEM",
            "EPIPE",
        ],
        // The last one where there are descriptors in it.
        "sendmsg" => &[
            "EAGAIN",
            "ECONNRESET",
            "EINTR",
            "ENOBUFS",
            "ENOMEM",
            "EPIPE",
            "ETOOMANYREFS",
        ],
        "read" | "readv" | "pread64" => &["EAGAIN", "EINTR", "EIO", "ENOMEM"],
        "write" | "writev" => &["EAGAIN", "EINTR", "EIO", "ENOSPC", "EPIPE"],
        "pwritev2" => &[
            "EAGAIN",
            "EINTR",
            "EIO",
            "ENOSYS",
            "EOPNOTSUPP",
            "EPERM",
            "EPIPE",
        ],
        "close" => &["EINTR", "EIO"],
        "close_range" => &["EMFILE", "ENOMEM", "ENOSYS", "EPERM"],
        "dup2" | "dup3" | "dup" => &["EBUSY", "EINTR", "EMFILE"],
        "fcntl" => &["EAGAIN", "EINTR", "EMFILE"],
        "ioctl" => &["EINTR", "ENOTTY"],
        "openat" | "open" => &["EACCES", "EINTR", "EMFILE", "ENFILE", "ENOENT", "ENOMEM"],
        "statx" | "newfstatat" | "fstat" => &["EACCES", "ENOENT", "ENOMEM", "ENOSYS"],
        "unlink" | "unlinkat" | "chmod" | "fchmodat" => &["EACCES", "EPERM", "ENOENT", "EROFS"],
        "connect" => &["ECONNREFUSED", "EACCES", "EAGAIN", "ENOENT"],
        "flock" => &["EAGAIN", "EINTR", "ENOLCK"],
        "getdents64" | "lseek" => &["ENOENT", "EINTR"],
        "pipe2" | "pipe" | "socketpair" | "eventfd2" | "signalfd4" | "timerfd_create"
        | "epoll_create1" => &["EMFILE", "ENFILE", "ENOMEM"],
        "epoll_ctl" => &["ENOMEM", "ENOSPC", "EPERM"],
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => &["EINTR"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM"],
        "clone" | "clone3" | "fork" | "vfork" => &["EAGAIN", "ENOMEM"],
        "execveat" => &[
            "EACCES", "EAGAIN", "ENOENT", "ENOEXEC", "ENOMEM", "ENOSYS", "EPERM", "ETXTBSY",
        ],
        "memfd_create" => &["EMFILE", "ENFILE", "ENOMEM", "ENOSYS", "EPERM"],
        "wait4" | "waitid" => &["ECHILD", "EINTR"],
        "pidfd_open" => &["EMFILE", "ENFILE", "ENODEV", "ENOMEM", "ENOSYS", "EPERM"],
        "pidfd_send_signal" => &["ENOSYS", "EPERM", "ESRCH"],
        "kill" | "tgkill" => &["EPERM", "ESRCH"],
        "rt_sigaction" | "sigaltstack" => &["EINVAL", "ENOMEM"],
        "prctl" => &["EINVAL", "EPERM"],
        "prlimit64" | "getrlimit" | "setrlimit" => &["EPERM"],
        "timer_create" | "timer_settime" | "setitimer" => &["EAGAIN", "ENOMEM"],
        "getrandom" => &["EAGAIN", "EINTR", "ENOSYS"],
        call if is_memory(call) => &["ENOMEM"],
        // A call that is new here: what any of them may give.
        _ => &["EINTR", "ENOMEM", "ENOSYS"],
    }
}
