//! Writes the parent's own stdout and stderr without blocking. Bytes that do not fit wait in a
//! bounded queue; what exceeds the queue is dropped and counted.
//!
//! Never sets O_NONBLOCK on an inherited descriptor: its open file description is shared with the
//! process that started the server and with the children.

#![allow(unsafe_code)]

use super::pipes;
use crate::core::queue::PrintTo;
use nix::{libc, sys::stat::fstat};
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    sync::atomic::{AtomicU64, Ordering},
};

/// How many bytes wait for a slow reader.
const CAPACITY: usize = 256 * 1024;

/// How a descriptor is written to without blocking.
#[derive(Debug)]
enum WriteMode {
    /// A regular file, or a device on which a write never waits.
    Plain,
    Socket,
    Pipe,
    /// A terminal, opened again in non-blocking mode with a description of our own.
    Reopened(File),
}

impl WriteMode {
    fn of(fd: RawFd, mode: libc::mode_t) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFIFO => Self::Pipe,
            libc::S_IFCHR if nix::unistd::isatty(borrow_fd(fd)).unwrap_or(false) => {
                Self::reopened(fd)
            }
            _ => Self::Plain,
        }
    }

    fn reopened(fd: RawFd) -> Self {
        let path = format!("/dev/fd/{fd}");
        // Without O_NOCTTY the terminal would become a session leader's controlling terminal.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&path)
        {
            Ok(file) => Self::Reopened(file),
            Err(error) => {
                log::debug!("cannot reopen {path}: {error}");
                Self::Pipe
            }
        }
    }

    /// Writes once. `None` if there is no room now.
    fn write(&mut self, fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
        let written = match self {
            Self::Pipe => return pipes::write_nowait(fd, bytes),
            Self::Socket => send_nowait(fd, bytes),
            Self::Plain => nix::unistd::write(borrow_fd(fd), bytes).map_err(io::Error::from),
            Self::Reopened(file) => file.write(bytes),
        };
        match written {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }
}

fn borrow_fd(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is 1 or 2. If the program has closed it, the call that borrows it fails;
    // the borrow is not kept.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn send_nowait(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `bytes` is readable for its length and lives across the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent >= 0 {
        Ok(sent.unsigned_abs())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Stdout or stderr of the parent, and what waits for it.
#[derive(Debug)]
struct Outlet {
    fd: RawFd,
    way: Option<((libc::dev_t, libc::ino_t), WriteMode)>,
    queue: VecDeque<u8>,
    dropped: u64,
}

impl Outlet {
    fn new(fd: RawFd) -> Self {
        Self {
            fd,
            way: None,
            queue: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Queues `bytes`. Where they do not fit, the descriptor is offered what waits first: only what a slow
    /// reader does not take is dropped.
    fn push(&mut self, bytes: &[u8]) {
        if !self.fits(bytes) {
            self.flush();
        }
        if self.fits(bytes) || self.queue.is_empty() {
            self.queue.extend(bytes);
        } else {
            self.dropped += bytes.len() as u64;
        }
        if self.queue.len() > CAPACITY {
            self.flush();
            self.dropped += self.queue.len().saturating_sub(CAPACITY) as u64;
            self.queue.truncate(CAPACITY);
        }
    }

    fn fits(&self, bytes: &[u8]) -> bool {
        self.queue.len() + bytes.len() <= CAPACITY
    }

    fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        if let Err(error) = self.try_flush() {
            log::debug!("writing to descriptor {}: {error}", self.fd);
            self.dropped += self.queue.len() as u64;
            self.queue.clear();
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        // Checked on each write: the program may have replaced the file.
        let stat = fstat(borrow_fd(self.fd))?;
        let file = (stat.st_dev, stat.st_ino);
        let fd = self.fd;
        let way = match &mut self.way {
            Some((known, way)) if *known == file => way,
            other => &mut other.insert((file, WriteMode::of(fd, stat.st_mode))).1,
        };
        while !self.queue.is_empty() {
            let (head, _) = self.queue.as_slices();
            match way.write(fd, head)? {
                Some(count) => drop(self.queue.drain(..count)),
                None => break,
            }
        }
        Ok(())
    }
}

/// Bytes that `write_stderr` has dropped and no loop has counted yet.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Writes to stderr at once, for callers without a loop. Bytes that do not fit are dropped, and
/// counted by the next flush of a loop.
pub(crate) fn write_stderr(bytes: &[u8]) {
    let mut outlet = Outlet::new(libc::STDERR_FILENO);
    outlet.push(bytes);
    outlet.flush();
    let dropped = outlet.dropped + outlet.queue.len() as u64;
    DROPPED.fetch_add(dropped, Ordering::Relaxed);
}

/// The parent's stdout and stderr.
#[derive(Debug)]
pub(crate) struct Outputs {
    stdout: Outlet,
    stderr: Outlet,
}

impl Outputs {
    pub(crate) fn new() -> Self {
        Self {
            stdout: Outlet::new(io::stdout().as_raw_fd()),
            stderr: Outlet::new(io::stderr().as_raw_fd()),
        }
    }

    /// Queues bytes for one of the two.
    pub(crate) fn push(&mut self, to: PrintTo, bytes: &[u8]) {
        match to {
            PrintTo::Stdout => self.stdout.push(bytes),
            PrintTo::Stderr => self.stderr.push(bytes),
        }
    }

    /// Writes what fits. Returns how many bytes were dropped since the last call.
    pub(crate) fn flush(&mut self) -> u64 {
        self.stdout.flush();
        self.stderr.flush();
        let outlets = [&mut self.stdout, &mut self.stderr];
        let dropped = outlets.map(|outlet| std::mem::take(&mut outlet.dropped));
        dropped.into_iter().sum::<u64>() + DROPPED.swap(0, Ordering::Relaxed)
    }

    /// Whether bytes wait for a slow reader.
    pub(crate) fn is_waiting(&self) -> bool {
        !(self.stdout.queue.is_empty() && self.stderr.queue.is_empty())
    }

    /// Drops the waiting bytes, and returns how many there were.
    pub(crate) fn give_up(&mut self) -> u64 {
        let left = self.stdout.queue.len() + self.stderr.queue.len();
        self.stdout.queue.clear();
        self.stderr.queue.clear();
        left as u64
    }
}
