//! Replaces a child by a program: places its descriptors, resets its signals, calls exec. Decides
//! nothing about what is handed over.

#![allow(unsafe_code)]

use super::signals::{self, Mask};
use crate::core::{
    child,
    error::{Error, Operation},
};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigHandler, SigSet, Signal, signal},
    unistd,
};
use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// The first descriptor after the standard streams, as in systemd's protocol.
pub(crate) const FIRST: RawFd = 3;

/// The arguments of execve(2).
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ExecveCall {
    /// The files to try, in this order. More than one only if the program is looked up in PATH.
    pub(crate) files: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
}

/// Replaces this child by a program.
///
/// `descriptors` become 3, 4 and so on. The standard streams stay, except that stdin becomes the
/// first descriptor if asked for. Everything else closes. Returns `Ok` if the child was told to
/// stop before the exec.
///
/// After a failure, nothing that owns a descriptor in this child may be used.
pub(crate) fn exec(
    image: &ExecveCall,
    descriptors: &[BorrowedFd<'_>],
    first_at_stdin: bool,
    stop_signal: child::Signal,
    told_to_stop: impl FnOnce() -> bool,
) -> io::Result<()> {
    let mask = Mask::block_all()?;
    // An exec would lose a stop that our handler has noted. From here on a stop stays blocked until
    // the mask is restored, and then takes its default action.
    if told_to_stop() {
        return mask.restore();
    }
    signals::give_back()?;
    let stop_signal = Signal::try_from(signals::number(stop_signal))?;
    stop_by(stop_signal)?;
    let end = place_descriptors(descriptors)?;
    if first_at_stdin && end > FIRST {
        // SAFETY: two integers; nothing uses /dev/null, which was at 0, until the exec.
        Errno::result(unsafe { libc::dup2(FIRST, libc::STDIN_FILENO) })?;
    }
    close_on_exec_from(end)?;
    mask.restore()?;
    signals::block_again()?;
    SigSet::from(stop_signal).thread_unblock()?;
    Err(attempt(image).into())
}

/// Makes a signal end the program, unless the program changes that. The signal gets its default
/// action, and the kernel sends it when the parent dies.
fn stop_by(stop_signal: Signal) -> io::Result<()> {
    if stop_signal == Signal::SIGINT {
        return Ok(());
    }
    if stop_signal != Signal::SIGKILL {
        // SAFETY: no handler is installed.
        unsafe { signal(stop_signal, SigHandler::SigDfl) }?;
    }
    #[cfg(target_os = "linux")]
    match nix::sys::prctl::set_pdeathsig(stop_signal) {
        // As for every child: the parent may have died before the call above.
        Ok(()) | Err(Errno::EPERM | Errno::ENOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(())
}

/// Duplicates `descriptors` to 3 and up, over whatever was there. Returns the number after the
/// last.
fn place_descriptors(descriptors: &[BorrowedFd<'_>]) -> io::Result<RawFd> {
    let count = RawFd::try_from(descriptors.len()).map_err(io::Error::other)?;
    let end = FIRST + count;
    // Move them out of the way first: one may be at the number that another needs.
    let copies = descriptors
        .iter()
        .map(|fd| duplicate_from(*fd, end))
        .collect::<io::Result<Vec<OwnedFd>>>()?;
    for (copy, target) in copies.iter().zip(FIRST..) {
        // SAFETY: two integers. The owner of what was at `target` is not used again: the process
        // either becomes another program or ends.
        Errno::result(unsafe { libc::dup2(copy.as_raw_fd(), target) })?;
    }
    Ok(end)
}

/// A close-on-exec duplicate that is not below `lowest`.
fn duplicate_from(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fd` is open for as long as it is borrowed.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    let copy = Errno::result(copy)?;
    // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks every descriptor from `first` on as close-on-exec, including the user's. They are not
/// closed at once because the exec may fail.
pub(super) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: three integers; no descriptor is closed by the call itself.
        let result = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                first,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        // Kernels before 5.11 lack the flag, and kernels before 5.9 lack the call.
        if result == 0 {
            return Ok(());
        }
    }
    for fd in open_descriptors()? {
        if fd >= first {
            // SAFETY: two integers; a number that is no longer open is an error to ignore.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let entries = std::fs::read_dir("/dev/fd")?;
    let numbers = entries.map(|entry| Ok(entry?.file_name().to_str().and_then(|n| n.parse().ok())));
    numbers.filter_map(Result::transpose).collect()
}

/// Tries each file. Returns only if none can be run, with the most telling error.
fn attempt(image: &ExecveCall) -> Error {
    let mut denied = None;
    for file in &image.files {
        // execve returns only on failure.
        let Err(errno) = unistd::execve(file, &image.argv, &image.envp);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !exists(file) => {}
            // As in a shell, a file without permission to run does not end the search, but its
            // error is returned if no other file is found.
            Errno::EACCES if image.files.len() > 1 => {
                denied.get_or_insert_with(|| failed(file, errno));
            }
            _ => return failed(file, errno),
        }
    }
    denied.unwrap_or_else(|| {
        let program = image.argv.first().map_or(c"", CString::as_c_str);
        failed(program, Errno::ENOENT)
    })
}

fn failed(file: &CStr, errno: Errno) -> Error {
    explain(path(file), errno.into())
}

/// The error of an exec of this file, with what the kernel does not say.
pub(crate) fn explain(file: &Path, error: io::Error) -> Error {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let more = match errno {
        // The kernel returns the same error for a missing file and for a missing interpreter, named
        // in the first line or in the ELF header.
        Some(Errno::ENOENT) if file.exists() => Some("its interpreter is missing"),
        // A shell would run it by itself.
        Some(Errno::ENOEXEC) => Some("it is no program; begin a script with #!/bin/sh"),
        _ => None,
    };
    let reason = match more {
        Some(more) => io::Error::new(error.kind(), format!("{more}: {error}")),
        None => error,
    };
    Error::new(Operation::Exec, file.to_string_lossy(), reason)
}

fn path(file: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(file.to_bytes()))
}

fn exists(file: &CStr) -> bool {
    path(file).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_descriptors_are_found_where_the_kernel_does_not_close_ranges() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let open = open_descriptors().expect("a list");
        assert!(open.contains(&read.as_raw_fd()) && open.contains(&write.as_raw_fd()));
        assert!(open.iter().all(|fd| *fd >= 0));
    }

    #[test]
    fn a_search_that_finds_nothing_names_the_program() {
        let image = ExecveCall {
            files: vec![c"/no/such/a".into(), c"/no/such/b".into()],
            argv: vec![c"a".into()],
            envp: Vec::new(),
        };
        let error = attempt(&image).to_string();
        assert_eq!(error, "exec a: no such file or directory (os error 2)");
    }

    #[test]
    fn a_search_goes_past_what_may_not_be_run_and_tells_of_it() {
        let image = ExecveCall {
            files: vec![c"/".into(), c"/no/such/b".into()],
            argv: vec![c"a".into()],
            envp: Vec::new(),
        };
        let error = attempt(&image).to_string();
        assert_eq!(error, "exec /: permission denied (os error 13)");
    }
}
