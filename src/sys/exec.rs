//! The exec: descriptors moved to their places, signals given back, one system call. Decides nothing
//! about what is handed over.

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

/// The first descriptor after the standard streams: where systemd's begin too.
pub(crate) const FIRST: RawFd = 3;

/// What execve(2) is given.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Image {
    /// The files to try, in this order: one, unless the program is looked for in PATH.
    pub(crate) files: Vec<CString>,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
}

/// Puts a program in the place of this child: `descriptors` become 3, 4 and so on, the standard
/// streams stay (but for stdin, if the first descriptor is to be found there too), and everything else
/// closes. Returns `Ok` if the child was told to stop before.
///
/// Nothing of the child's that owns a descriptor may be used when it has failed.
pub(crate) fn exec(
    image: &Image,
    descriptors: &[BorrowedFd<'_>],
    first_at_stdin: bool,
    stop_signal: child::Signal,
    told_to_stop: impl FnOnce() -> bool,
) -> io::Result<()> {
    let mask = Mask::block_all()?;
    // A stop that our handler has noted would be forgotten by the exec. One that comes from here on
    // waits for the mask, and finds the default action then.
    if told_to_stop() {
        return mask.restore();
    }
    signals::give_back()?;
    let stop_signal = Signal::try_from(signals::number(stop_signal))?;
    stop_by(stop_signal)?;
    let end = place(descriptors)?;
    if first_at_stdin && end > FIRST {
        // SAFETY: two integers; /dev/null, which stood at 0, is used by nobody until the exec.
        Errno::result(unsafe { libc::dup2(FIRST, libc::STDIN_FILENO) })?;
    }
    close_on_exec_from(end)?;
    mask.restore()?;
    SigSet::from(stop_signal).thread_unblock()?;
    Err(attempt(image).into())
}

/// Has a signal stop the program, unless that sees to it: it has its default action, and is what comes when
/// the parent dies.
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
        // As with the tie that every child has.
        Ok(()) | Err(Errno::EPERM | Errno::ENOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(())
}

/// Duplicates `descriptors` to 3 and up, whatever was there, and returns the number after the last.
fn place(descriptors: &[BorrowedFd<'_>]) -> io::Result<RawFd> {
    let count = RawFd::try_from(descriptors.len()).map_err(io::Error::other)?;
    let end = FIRST + count;
    // Out of the way first: one of them may stand where another belongs.
    let copies = descriptors
        .iter()
        .map(|fd| duplicate_from(*fd, end))
        .collect::<io::Result<Vec<OwnedFd>>>()?;
    for (copy, target) in copies.iter().zip(FIRST..) {
        // SAFETY: two integers. Whoever owns what stood at `target` is not used again: the process
        // is about to become another program, or to end.
        Errno::result(unsafe { libc::dup2(copy.as_raw_fd(), target) })?;
    }
    Ok(end)
}

/// A close-on-exec duplicate that is not below `lowest`.
fn duplicate_from(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fd` is open for as long as it is borrowed.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    let copy = Errno::result(copy)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Marks every descriptor from `first` on, ours and the user's, whether or not it was opened with
/// an exec in mind. They are needed until then: the exec may fail.
fn close_on_exec_from(first: RawFd) -> io::Result<()> {
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
        // Kernels before 5.11 do not know the flag, those before 5.9 the call.
        if result == 0 {
            return Ok(());
        }
    }
    for fd in open_descriptors()? {
        if fd >= first {
            // SAFETY: two integers; a number that is not open any more is an error to ignore.
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

/// Tries each file. Returns only if none can be run, with the error that says most.
fn attempt(image: &Image) -> Error {
    let mut denied = None;
    for file in &image.files {
        // Only a success does not return.
        let Err(errno) = unistd::execve(file, &image.argv, &image.envp);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !exists(file) => {}
            // As a shell has it: a file that may not be run does not end the search, but is the
            // reason that is given if nothing else is found.
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
    let reason = match errno {
        // The kernel says the same of a file that is missing and of one whose first line, or whose
        // header, names an interpreter that is.
        Errno::ENOENT if exists(file) => {
            let text = format!("its interpreter is missing: {}", io::Error::from(errno));
            io::Error::new(io::ErrorKind::NotFound, text)
        }
        _ => errno.into(),
    };
    Error::new(Operation::Exec, file.to_string_lossy(), reason)
}

fn exists(file: &CStr) -> bool {
    Path::new(OsStr::from_bytes(file.to_bytes())).exists()
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
        let image = Image {
            files: vec![c"/no/such/a".into(), c"/no/such/b".into()],
            argv: vec![c"a".into()],
            envp: Vec::new(),
        };
        let error = attempt(&image).to_string();
        assert_eq!(error, "exec a: no such file or directory (os error 2)");
    }

    #[test]
    fn a_search_goes_past_what_may_not_be_run_and_tells_of_it() {
        let image = Image {
            files: vec![c"/".into(), c"/no/such/b".into()],
            argv: vec![c"a".into()],
            envp: Vec::new(),
        };
        let error = attempt(&image).to_string();
        assert_eq!(error, "exec /: permission denied (os error 13)");
    }
}
