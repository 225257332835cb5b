//! The access log of a server: where the lines of its connections go, and in which form. Formats
//! nothing and decides nothing; `ending` calls it.

use crate::{
    core::conn_end::ConnEnd,
    hooks::{comm::Comm, server::complain},
    sys::log_sink::LogSink,
};
use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    rc::Rc,
};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AccessFormat {
    /// As [`ConnEnd::common_line`] makes them.
    #[default]
    Common,
    /// As [`ConnEnd::json_line`] makes them.
    Json,
}

impl AccessFormat {
    fn line(self, end: &ConnEnd) -> String {
        let mut line = match self {
            Self::Common => end.common_line(),
            Self::Json => end.json_line(),
        };
        line.push('\n');
        line
    }
}

/// Where the line of each connection is written: see
/// [`StreamServer::access_log`](crate::servers::StreamServer::access_log).
///
/// The parent opens it at its start, and children inherit it, also under another user. A child
/// writes a line in one write(2), so lines of different children never mix: to a file, which is
/// appended to, or to a pipe, which takes a line of up to 4,096 bytes whole. A pipe or a terminal
/// that has no room is not waited for: the line is dropped, and the child says so on its stderr.
///
/// When logs are [reopened](crate::PreForkHooks::reopen_logs) (SIGUSR1), parent and children open
/// the file again, by its path. A child that cannot, since it is another user or has another root
/// directory, goes on with the old file and asks to be replaced.
///
/// ```
/// # use prefork_server::{TcpServer, servers::{AccessFormat, AccessLog}};
/// let log = AccessLog::to_file("/var/log/hello/access.log").format(AccessFormat::Json);
/// let server = TcpServer::new(|conn| Ok(())).queue_time(true).access_log(log);
/// # let _ = server;
/// ```
#[derive(Debug)]
pub struct AccessLog {
    target: LogDestination,
    format: AccessFormat,
}

#[derive(Debug)]
enum LogDestination {
    File(PathBuf),
    Stdout,
    Stderr,
    Descriptor(OwnedFd),
}

impl AccessLog {
    /// To a file, which is made if there is none, for its owner and group to read.
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        Self::new(LogDestination::File(path.into()))
    }

    /// To the stdout of the parent. (The stdout of a child leads to the parent.)
    pub fn to_stdout() -> Self {
        Self::new(LogDestination::Stdout)
    }

    /// To the stderr of the parent.
    pub fn to_stderr() -> Self {
        Self::new(LogDestination::Stderr)
    }

    /// To something that the program has opened.
    ///
    /// A pipe to a program that writes logs, for example. It is not reopened. Several lines at once
    /// may mix in anything but pipes and files that are appended to.
    pub fn to(descriptor: impl Into<OwnedFd>) -> Self {
        Self::new(LogDestination::Descriptor(descriptor.into()))
    }

    /// As people write it: `-` is stdout, anything else the path of a file.
    pub fn named(name: impl Into<PathBuf>) -> Self {
        let path = name.into();
        match path.as_os_str() == "-" {
            true => Self::to_stdout(),
            false => Self::to_file(path),
        }
    }

    fn new(target: LogDestination) -> Self {
        Self {
            target,
            format: AccessFormat::default(),
        }
    }

    /// How lines look. Default: [`AccessFormat::Common`].
    #[must_use]
    pub fn format(mut self, format: AccessFormat) -> Self {
        self.format = format;
        self
    }

    /// Opens it, in the parent.
    pub(super) fn open(&self) -> io::Result<OpenLog> {
        let sink = match &self.target {
            LogDestination::File(path) => LogSink::open(path).map_err(|error| {
                let message = format!("the access log {}: {error}", path.display());
                io::Error::new(error.kind(), message)
            }),
            LogDestination::Stdout => LogSink::stdout(),
            LogDestination::Stderr => LogSink::stderr(),
            LogDestination::Descriptor(descriptor) => LogSink::duplicate(descriptor.as_fd()),
        };
        Ok(OpenLog {
            sink: Rc::new(sink?),
            format: self.format,
            dropped: Cell::new(0),
        })
    }
}

/// An access log that is open.
#[derive(Clone, Debug)]
pub(super) struct OpenLog {
    sink: Rc<LogSink>,
    format: AccessFormat,
    /// How many lines there was no room for, since the last one that was written.
    dropped: Cell<u64>,
}

impl OpenLog {
    /// In a child: opens it again whenever the child is told to reopen its logs.
    pub(super) fn follow(&self, comm: &Comm) {
        if !self.sink.has_path() {
            return;
        }
        let (sink, asker) = (Rc::clone(&self.sink), comm.share());
        comm.also_when_told_to_reopen(move || {
            if let Err(error) = sink.reopen() {
                log::debug!("the access log cannot be reopened here: {error}");
                // OK to ignore: a child without a parent leaves soon.
                let _ = asker.ask_for_replacement();
            }
        });
    }

    /// In the parent: opens it again, for children that are forked from now on.
    pub(super) fn reopen(&self) -> io::Result<()> {
        self.sink.reopen()
    }

    /// Writes the line of a connection.
    pub(super) fn write(&self, end: &ConnEnd) {
        let written = self.sink.write(self.format.line(end).as_bytes());
        match (written, self.dropped.get()) {
            (Ok(true), 0) => {}
            (Ok(true), dropped) => {
                self.dropped.set(0);
                complain!("{dropped} lines of the access log were dropped: it had no room");
            }
            (Ok(false), dropped) => self.dropped.set(dropped + 1),
            (Err(error), dropped) => {
                if dropped == 0 {
                    complain!("the access log cannot be written: {error}");
                }
                self.dropped.set(dropped + 1);
            }
        }
    }
}
