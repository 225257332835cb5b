//! The error type of the crate: the operation, its object and the reason. Holds and formats data;
//! performs nothing.

use std::{fmt, io};

/// The operation that failed, with which an error message begins.
///
/// POE passes the same to an `ErrorEvent`: operation, errno and text.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Operation {
    /// Taking a connection from a listening socket.
    Accept,
    /// Giving a socket its address.
    Bind,
    /// Setting the mode of a socket file.
    Chmod,
    /// Limiting what a child may do and use; the object is the step.
    Confine,
    /// Executing another program in a child.
    Exec,
    /// Making a child process.
    Fork,
    /// Sending a signal to a child.
    Kill,
    /// Comparing a resource limit with what the attributes need.
    Limit,
    /// Making a socket accept connections.
    Listen,
    /// Turning a name into addresses.
    Lookup,
    /// Mapping memory that parent and children share.
    Map,
    /// Opening a file or a directory.
    Open,
    /// Making a pipe.
    Pipe,
    /// Waiting for events.
    Poll,
    /// Reading what a child, or a client, wrote.
    Read,
    /// Adding a descriptor to a poller.
    Register,
    /// Reading the program's settings anew, or replacing the children after that.
    Reload,
    /// Setting a signal's disposition.
    Signal,
    /// Making a socket.
    Socket,
    /// Starting the server object.
    Start,
    /// Taking over a socket from the process that started the program.
    TakeOver,
    /// Counting the threads of the process before a fork.
    Threads,
    /// Removing a stale socket file.
    Unlink,
    /// Collecting the status of a child.
    Wait,
    /// Sending something to a client.
    Write,
}

impl Operation {
    /// The operation as a word, as in `bind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Bind => "bind",
            Self::Chmod => "chmod",
            Self::Confine => "confine",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Kill => "kill",
            Self::Limit => "limit",
            Self::Listen => "listen",
            Self::Lookup => "lookup",
            Self::Map => "map",
            Self::Open => "open",
            Self::Pipe => "pipe",
            Self::Poll => "poll",
            Self::Read => "read",
            Self::Register => "register",
            Self::Reload => "reload",
            Self::Signal => "signal",
            Self::Socket => "socket",
            Self::Start => "start",
            Self::TakeOver => "take over",
            Self::Threads => "threads",
            Self::Unlink => "unlink",
            Self::Wait => "wait",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation, its object and the reason of the failure: `bind 127.0.0.1:80: permission denied
/// (os error 13)`.
///
/// It converts into an [`io::Error`] of the same kind and back without loss, so a
/// [`ChildServer`](crate::ChildServer) can return it in an `io::Result`.
#[derive(Debug)]
pub struct Error {
    operation: Operation,
    object: String,
    source: io::Error,
}

impl Error {
    /// An error of `operation` on `object`.
    ///
    /// If `source` carries an `Error`, that one is returned, because it names the innermost
    /// operation.
    pub fn new(operation: Operation, object: impl Into<String>, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(inner) => inner,
            Err(source) => Self {
                operation,
                object: object.into(),
                source,
            },
        }
    }

    /// What was attempted.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// What it was attempted on: an address, a path, a child.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Why it failed.
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt(f)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        write!(f, ": {}", uncapitalised(&self.source.to_string()))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// A copy of an error that is lent to a hook and needed after the call.
pub(crate) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The C library's texts begin with a capital letter, which does not fit the middle of a message.
fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !chars.as_str().starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> io::Error {
        io::Error::from_raw_os_error(13)
    }

    #[test]
    fn the_message_names_operation_object_and_reason() {
        let error = Error::new(Operation::Bind, "127.0.0.1:80", denied());
        assert_eq!(
            error.to_string(),
            "bind 127.0.0.1:80: permission denied (os error 13)"
        );
        let bare = Error::new(Operation::Poll, "", io::Error::other("EIO happened"));
        assert_eq!(bare.to_string(), "poll: EIO happened");
    }

    #[test]
    fn the_innermost_error_survives_the_way_through_io_error() {
        let inner = Error::new(Operation::Bind, "/run/x", denied());
        let through: io::Error = inner.into();
        assert_eq!(through.kind(), io::ErrorKind::PermissionDenied);
        let outer = Error::new(Operation::Start, "server", through);
        assert_eq!(outer.operation(), Operation::Bind);
        assert_eq!(outer.object(), "/run/x");
        assert_eq!(outer.io_error().raw_os_error(), Some(13));
    }
}
