//! Calls into which no error is injected, each with the reason. They are killed at all the same.

/// Why `call` gets no error; `None` if it does.
pub fn without_errors(call: &str) -> Option<&'static str> {
    let reason = match call {
        "umask" | "getpid" | "getppid" | "gettid" | "getuid" | "geteuid" | "getgid" | "getegid" => {
            "always succeeds, and the caller has no way to be told otherwise"
        }
        "brk" => "fails by returning the old end, and not an errno",
        "exit_group" | "exit" => "does not return: there is nobody to tell",
        "rt_sigreturn" | "restart_syscall" => {
            "is no call of the program's: the kernel's way back from a signal or a stop"
        }
        // nix takes the result of pthread_sigmask, which is the errno itself, for a success.
        "rt_sigprocmask" => "fails for wrong arguments only, and ours are none",
        "clock_gettime" | "clock_nanosleep" | "nanosleep" | "sched_yield" | "futex" => {
            "fails for wrong arguments only; a failure would be taken for the lapse of time"
        }
        "execve" | "arch_prctl" | "set_tid_address" | "set_robust_list" | "rseq" => {
            "belongs to the loader and to the C library's part of fork, which do not look at it"
        }
        call if call.starts_with("syscall_") => "is newer than this strace, which cannot touch it",
        _ => return None,
    };
    Some(reason)
}
