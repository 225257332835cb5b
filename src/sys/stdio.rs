//! The C library's own buffers of stdout and stderr, and of other streams at the end of a process: a
//! handler may print by printf(3), in C or in a language that is built on it. Writes out; buffers
//! nothing.

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

/// Writes what is buffered for stdout and stderr to where they lead now. Other streams are not
/// touched: what a parent has buffered for a file is the parent's to write.
pub(super) fn flush_outputs() {
    // SAFETY: both are streams of the C library's from the start of a program on; a program that
    // exchanges them leaves streams there. OK to ignore errors: the bytes are to vanish.
    unsafe {
        libc::fflush(stdout);
        libc::fflush(stderr);
    }
}

/// Writes what is buffered for any stream, as exit(3) would.
pub(super) fn flush_all() {
    // SAFETY: null stands for all streams. OK to ignore errors: nobody is left to tell.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}
