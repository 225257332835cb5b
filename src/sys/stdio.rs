//! Flushes the buffers of the C library: stdout and stderr, and all streams when a process ends. A
//! handler may print with printf(3), from C or from a language built on C. Buffers nothing.

#![allow(unsafe_code)]

use nix::libc;

unsafe extern "C" {
    #[cfg_attr(
        any(target_vendor = "apple", target_os = "freebsd"),
        link_name = "__stdoutp"
    )]
    static stdout: *mut libc::FILE;
    #[cfg_attr(
        any(target_vendor = "apple", target_os = "freebsd"),
        link_name = "__stderrp"
    )]
    static stderr: *mut libc::FILE;
}

/// Writes the buffered bytes of stdout and stderr to their present files. Other streams are left
/// alone: the parent writes what the parent has buffered for a file.
pub(super) fn flush_outputs() {
    // SAFETY: both are valid C library streams from the start of the program; a program may only
    // replace them by other streams. OK to ignore errors: these bytes are to be discarded.
    unsafe {
        libc::fflush(stdout);
        libc::fflush(stderr);
    }
}

/// Writes the buffered bytes of all streams, as exit(3) does.
pub(crate) fn flush_all() {
    // SAFETY: null means all streams. OK to ignore errors: the process ends.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}
