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
    /// Reading the program's settings again, or replacing the children after that.
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
    /// Becoming another program, or adopting what the program before has left.
    Upgrade,
    /// Collecting the status of a child.
    Wait,
    /// Sending something to a client.
    Write,
}

#[cfg(feature = "holder")]
impl Operation {
    const ALL: [Self; 26] = [
        Self::Accept,
        Self::Bind,
        Self::Chmod,
        Self::Confine,
        Self::Exec,
        Self::Fork,
        Self::Kill,
        Self::Limit,
        Self::Listen,
        Self::Lookup,
        Self::Map,
        Self::Open,
        Self::Pipe,
        Self::Poll,
        Self::Read,
        Self::Register,
        Self::Reload,
        Self::Signal,
        Self::Socket,
        Self::Start,
        Self::TakeOver,
        Self::Threads,
        Self::Unlink,
        Self::Upgrade,
        Self::Wait,
        Self::Write,
    ];

    /// The operation with this number, which is that of its place in the list.
    pub(crate) fn numbered(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
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
            Self::Upgrade => "upgrade",
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

/// An operation, its object and the reason of the failure.
///
/// For example `bind 127.0.0.1:80: permission denied (os error 13)`.
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

/// Exit codes of sysexits(3).
const EX_NOHOST: u8 = 68;
const EX_UNAVAILABLE: u8 = 69;
const EX_SOFTWARE: u8 = 70;
const EX_OSERR: u8 = 71;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

impl Error {
    /// The exit code of sysexits(3) for a program that ends because of this error.
    ///
    /// Supervisors can be told not to restart a program that ends with 77 (EX_NOPERM) or 78
    /// (EX_CONFIG), since the next start would fail as well. `docs/operations.md` lists all.
    ///
    /// ```no_run
    /// use prefork_server::{PreFork, TcpServer};
    /// use std::process::ExitCode;
    ///
    /// fn main() -> ExitCode {
    ///     let server = TcpServer::new(|_conn| Ok(())).port(80);
    ///     match PreFork::builder(server).run() {
    ///         Ok(_) => ExitCode::SUCCESS,
    ///         Err(error) => {
    ///             eprintln!("{error}");
    ///             ExitCode::from(error.exit_code())
    ///         }
    ///     }
    /// }
    /// ```
    pub fn exit_code(&self) -> u8 {
        use Operation as Op;
        match self.operation {
            Op::Lookup => EX_NOHOST,
            Op::Threads => EX_SOFTWARE,
            Op::Confine | Op::Exec | Op::Reload | Op::TakeOver | Op::Upgrade => EX_CONFIG,
            _ if self.source.kind() == io::ErrorKind::PermissionDenied => EX_NOPERM,
            Op::Accept | Op::Bind | Op::Chmod | Op::Listen | Op::Open => EX_UNAVAILABLE,
            Op::Socket | Op::Start | Op::Unlink => EX_UNAVAILABLE,
            Op::Fork | Op::Kill | Op::Limit | Op::Map | Op::Pipe | Op::Poll => EX_OSERR,
            Op::Read | Op::Register | Op::Signal | Op::Wait | Op::Write => EX_OSERR,
        }
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
    let typed = error.get_ref().and_then(|inner| inner.downcast_ref());
    match (typed, error.raw_os_error()) {
        (
            Some(Error {
                operation,
                object,
                source,
            }),
            _,
        ) => Error::new(*operation, object.clone(), copy(source)).into(),
        (None, Some(number)) => io::Error::from_raw_os_error(number),
        (None, None) => io::Error::new(error.kind(), error.to_string()),
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

    /// With the table of the guide for operators.
    #[test]
    fn the_exit_code_tells_settings_and_permissions_from_the_rest() {
        let text = include_str!("../../docs/operations.md");
        let code = |operation, number| {
            let error = Error::new(operation, "", io::Error::from_raw_os_error(number));
            let code = error.exit_code();
            assert!(text.contains(&format!("\n| {code} | EX_")), "{code}");
            code
        };
        assert_eq!(code(Operation::Bind, 98), 69);
        assert_eq!(code(Operation::Bind, 13), 77);
        assert_eq!(code(Operation::Open, 13), 77);
        assert_eq!(code(Operation::Fork, 11), 71);
        assert_eq!(code(Operation::Threads, 11), 70);
        assert_eq!(code(Operation::Confine, 1), 78);
        assert_eq!(code(Operation::TakeOver, 9), 78);
        assert_eq!(code(Operation::Lookup, 2), 68);
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
    fn a_copy_has_operation_object_and_reason_as_well() {
        let copied = copy(&Error::new(Operation::Accept, "127.0.0.1:80", denied()).into());
        let error = Error::new(Operation::Start, "server", copied);
        assert_eq!(error.operation(), Operation::Accept);
        assert_eq!(error.object(), "127.0.0.1:80");
        assert_eq!(error.io_error().raw_os_error(), Some(13));
        let bare = copy(&io::Error::other("nothing"));
        assert_eq!(bare.to_string(), "nothing");
        assert_eq!(copy(&denied()).raw_os_error(), Some(13));
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
