//! A log to which many processes write: a file that is appended to, or a pipe or a terminal that the
//! parent has. Each line is one write(2), so lines of different processes never mix. Waits for no
//! reader, and formats nothing.

#![allow(unsafe_code)]

use super::{fd_registry::Registered, pipes};
use nix::libc;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// Who may read a new log: its owner and the group.
const MODE: u32 = 0o640;

/// An open log. The parent opens it, and children inherit it.
#[derive(Debug)]
pub(crate) struct LogSink {
    file: Registered<File>,
    /// Whether a write never waits for a reader.
    is_file: bool,
    /// Where it was opened, if it can be opened again.
    place: Option<LogPlace>,
}

/// Where a log was opened.
#[derive(Debug)]
struct LogPlace {
    path: PathBuf,
    /// The directory that was the root of all paths then.
    root: Option<(u64, u64)>,
}

impl LogSink {
    /// A file, which is made if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let file = append(&path)?;
        let root = root();
        Self::new(file, Some(LogPlace { path, root }))
    }

    /// What the process has open already.
    pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(fd.try_clone_to_owned()?.into(), None)
    }

    /// The process's stdout, as the parent has it.
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::duplicate(io::stdout().as_fd())
    }

    /// The process's stderr, as the parent has it.
    pub(crate) fn stderr() -> io::Result<Self> {
        Self::duplicate(io::stderr().as_fd())
    }

    fn new(file: File, place: Option<LogPlace>) -> io::Result<Self> {
        let is_file = file.metadata()?.is_file();
        Ok(Self {
            file: Registered::servers(file),
            is_file,
            place,
        })
    }

    /// Writes a line, which has its end. False if there was no room for it in a pipe.
    pub(crate) fn write(&self, line: &[u8]) -> io::Result<bool> {
        if self.is_file {
            return (&*self.file).write_all(line).map(|()| true);
        }
        Ok(pipes::write_nowait(self.file.as_raw_fd(), line)?.is_some())
    }

    /// Whether it can be opened again.
    pub(crate) fn has_path(&self) -> bool {
        self.place.is_some()
    }

    /// Opens the file again, by its path: the old one may have got another name. After an error
    /// the old one stays.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let Some(LogPlace { path, root }) = &self.place else {
            return Ok(());
        };
        if *root != self::root() {
            return Err(io::Error::other("this process has another root directory"));
        }
        put_in_place(append(path)?.into(), self.file.as_raw_fd())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE).open(path)
}

/// The directory at which paths begin.
fn root() -> Option<(u64, u64)> {
    let root = fs::metadata("/").ok()?;
    Some((root.dev(), root.ino()))
}

/// Makes an open descriptor lead where another one does, in one step: no other thread finds it
/// closed.
fn put_in_place(new: OwnedFd, old: libc::c_int) -> io::Result<()> {
    // SAFETY: two descriptors that are open; the owner of the second one owns it afterwards.
    let put = unsafe { libc::dup3(new.as_raw_fd(), old, libc::O_CLOEXEC) };
    if put < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_file_that_was_renamed_is_followed_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let [path, old] = ["log", "log.1"].map(|name| directory.path().join(name));
        let sink = LogSink::open(&path).unwrap();
        assert!(sink.has_path() && sink.write(b"one\n").unwrap());
        fs::rename(&path, &old).unwrap();
        assert!(sink.write(b"two\n").unwrap());
        sink.reopen().unwrap();
        assert!(sink.write(b"three\n").unwrap());
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o007, 0);
    }

    #[test]
    fn a_path_that_is_lost_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let sink = LogSink::open(&inner.join("log")).unwrap();
        let moved = directory.path().join("moved");
        fs::rename(&inner, &moved).unwrap();
        assert!(sink.reopen().is_err());
        assert!(sink.write(b"still\n").unwrap());
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "still\n");
    }

    #[test]
    fn a_full_pipe_takes_no_part_of_a_line() {
        let (mut read, write) = io::pipe().unwrap();
        let sink = LogSink::duplicate(write.as_fd()).unwrap();
        drop(write);
        let line = [b'x'; 4096];
        let mut written = 0;
        while sink.write(&line).unwrap() {
            written += line.len();
        }
        assert!(!sink.has_path() && sink.reopen().is_ok());
        drop(sink);
        let mut all = Vec::new();
        read.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), written);
    }
}
