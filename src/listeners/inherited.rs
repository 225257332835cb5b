//! Inherited sockets, in systemd's protocol: reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, and
//! chooses the sockets that a server takes. Trusts nothing that it has not checked; opens and binds
//! nothing.

use crate::{
    core::error::{Error, Operation},
    sys::{
        fd_registry::Registered,
        handed_over::{self, FdKind, HandedOverFd},
    },
};
use std::{
    env,
    ffi::OsString,
    fmt, io,
    os::{
        fd::{BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
};

/// The first descriptor of the protocol: it follows the standard streams.
const FIRST: RawFd = 3;

/// The largest count that is accepted: more than any process is given, and few enough to check one
/// by one.
const MOST: u32 = 65_536;

/// Why a server could not take inherited sockets.
///
/// The error of the server's start contains it: `error.io_error().get_ref()` and `downcast_ref`
/// find it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ListenFdsError {
    /// This variable is not set: no process has handed sockets over.
    Missing(&'static str),
    /// The value of this variable is not a decimal number, or is too large.
    NoNumber(&'static str, String),
    /// The variables are for another process, with this pid.
    ///
    /// This process has inherited them.
    OthersPid(u32),
    /// LISTEN_FDS is zero.
    None,
    /// LISTEN_FDS is this number, which is impossibly large.
    TooMany(u32),
    /// LISTEN_FDNAMES and LISTEN_FDS disagree about the number of sockets.
    Names {
        /// How many names there are.
        names: usize,
        /// How many sockets there should be.
        sockets: usize,
    },
    /// A name in LISTEN_FDNAMES has bytes that are not allowed in names.
    BadName(String),
    /// This descriptor is not a socket.
    NoSocket(i32),
    /// This descriptor is a socket of another family or type than the server's.
    WrongKind(i32),
    /// This descriptor is a socket that does not listen.
    NotListening(i32),
    /// The server can take none of the sockets.
    NoneFits,
}

impl fmt::Display for ListenFdsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(variable) => write!(f, "{variable} is not set"),
            Self::NoNumber(variable, value) => {
                write!(f, "{variable} is {value:?}, which is no number")
            }
            Self::OthersPid(pid) => write!(f, "they are for process {pid}, and this is another"),
            Self::None => f.write_str("there are none"),
            Self::TooMany(count) => write!(f, "there cannot be {count}"),
            Self::Names { names, sockets } => {
                write!(f, "there are {names} names for {sockets} sockets")
            }
            Self::BadName(name) => write!(f, "{name:?} is no name"),
            Self::NoSocket(fd) => write!(f, "descriptor {fd} is no socket"),
            Self::WrongKind(fd) => write!(f, "descriptor {fd} is a socket of another kind"),
            Self::NotListening(fd) => write!(f, "descriptor {fd} does not listen"),
            Self::NoneFits => f.write_str("none of them is a listening socket of that kind"),
        }
    }
}

impl std::error::Error for ListenFdsError {}

impl From<ListenFdsError> for io::Error {
    fn from(error: ListenFdsError) -> Self {
        let kind = match error {
            ListenFdsError::Missing(_)
            | ListenFdsError::OthersPid(_)
            | ListenFdsError::None
            | ListenFdsError::NoneFits => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// The three variables, as bytes: their values need not be text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Variables<'a> {
    pub(crate) pid: Option<&'a [u8]>,
    pub(crate) fds: Option<&'a [u8]>,
    pub(crate) names: Option<&'a [u8]>,
}

/// A descriptor that the variables announce.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AnnouncedFd {
    pub(crate) fd: RawFd,
    /// Empty if LISTEN_FDNAMES is not set.
    pub(crate) name: String,
}

impl fmt::Display for AnnouncedFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fd, name } = self;
        match name.as_str() {
            "" => write!(f, "descriptor {fd}"),
            name => write!(f, "descriptor {fd} ({name})"),
        }
    }
}

impl AnnouncedFd {
    /// A duplicate of the socket, and the original, if the server wants it and it fits.
    fn duplicate(
        &self,
        wanted: &WantedSockets,
        fits: &dyn Fn(BorrowedFd<'_>) -> bool,
    ) -> io::Result<Option<(OwnedFd, HandedOverFd)>> {
        let by_name = match wanted {
            WantedSockets::All => false,
            WantedSockets::Named(wanted) if *wanted == self.name => true,
            WantedSockets::Named(_) => return Ok(None),
        };
        match unfit(handed_over::kind(self.fd, fits)?, self.fd) {
            None => handed_over::duplicate(self.fd).map(Some),
            // A socket that is not asked for by name may be for another part of the program.
            Some(ListenFdsError::NoSocket(_) | ListenFdsError::WrongKind(_)) if !by_name => {
                log::debug!("{self} is not for this server");
                Ok(None)
            }
            Some(error) => Err(error.into()),
        }
    }
}

/// The sockets that the variables announce to the process with the pid `own`.
pub(crate) fn parse(
    variables: Variables<'_>,
    own: u32,
) -> Result<Vec<AnnouncedFd>, ListenFdsError> {
    let pid = number("LISTEN_PID", variables.pid)?;
    if pid != own {
        return Err(ListenFdsError::OthersPid(pid));
    }
    let count = number("LISTEN_FDS", variables.fds)?;
    match count {
        0 => return Err(ListenFdsError::None),
        1..=MOST => {}
        _ => return Err(ListenFdsError::TooMany(count)),
    }
    let names = names(variables.names, count as usize)?;
    let announced = (FIRST..).zip(names);
    Ok(announced
        .map(|(fd, name)| AnnouncedFd { fd, name })
        .collect())
}

/// Reads a number of plain digits. No correct writer of these variables adds signs, padding or
/// other characters.
fn number(variable: &'static str, value: Option<&[u8]>) -> Result<u32, ListenFdsError> {
    let value = value.ok_or(ListenFdsError::Missing(variable))?;
    let text = String::from_utf8_lossy(value);
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    match text.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(ListenFdsError::NoNumber(variable, text.into_owned())),
    }
}

fn names(value: Option<&[u8]>, count: usize) -> Result<Vec<String>, ListenFdsError> {
    let Some(value) = value else {
        return Ok(vec![String::new(); count]);
    };
    let found = value.split(|byte| *byte == b':');
    let (names, sockets) = (found.clone().count(), count);
    if names != sockets {
        return Err(ListenFdsError::Names { names, sockets });
    }
    found.map(name).collect()
}

/// As in systemd: printable ASCII.
fn name(bytes: &[u8]) -> Result<String, ListenFdsError> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let fit = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if bytes.iter().all(fit) {
        Ok(text)
    } else {
        Err(ListenFdsError::BadName(text))
    }
}

/// Whether sockets were handed over to this process.
///
/// LISTEN_PID is its pid, and LISTEN_FDS at least 1. For a program that opens its own sockets
/// otherwise.
///
/// ```
/// use prefork_server::{TcpServer, servers};
///
/// let mut server = TcpServer::new(|conn| Ok(())).port(7777);
/// if servers::has_listen_fds() {
///     server = server.listen_fds();
/// }
/// # let _ = server;
/// ```
pub fn has_listen_fds() -> bool {
    announced().is_ok()
}

fn announced() -> Result<Vec<AnnouncedFd>, ListenFdsError> {
    let [pid, fds, names] = handed_over::VARIABLES.map(env::var_os);
    let bytes = |value: &'_ Option<OsString>| value.as_ref().map(|value| value.as_bytes().to_vec());
    let (pid, fds, names) = (bytes(&pid), bytes(&fds), bytes(&names));
    let variables = Variables {
        pid: pid.as_deref(),
        fds: fds.as_deref(),
        names: names.as_deref(),
    };
    parse(variables, std::process::id())
}

/// Which of the sockets a server takes.
#[derive(Clone, Debug)]
pub(crate) enum WantedSockets {
    /// All sockets of its kind.
    All,
    /// All sockets of this name; they must be of its kind.
    Named(String),
}

/// As an address is written.
impl fmt::Display for WantedSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("systemd"),
            Self::Named(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// A socket that a server has taken.
#[derive(Debug)]
pub(crate) struct TakenSocket {
    /// Its name in LISTEN_FDNAMES; empty if that is not set.
    pub(crate) name: String,
    /// The server's own duplicate.
    pub(crate) socket: OwnedFd,
    /// The original: it stays open in the parent, for other servers and later starts.
    pub(crate) given: Registered<HandedOverFd>,
}

/// Takes the sockets that `fits` recognises as the server's kind.
pub(crate) fn take(
    wanted: &WantedSockets,
    fits: &dyn Fn(BorrowedFd<'_>) -> bool,
) -> Result<Vec<TakenSocket>, Error> {
    let failed = |object: String, error: io::Error| Error::new(Operation::TakeOver, object, error);
    let announced = announced().map_err(|error| failed("LISTEN_FDS".to_owned(), error.into()))?;
    let mut taken = Vec::new();
    for one in &announced {
        let duplicate = one.duplicate(wanted, fits);
        let duplicate = duplicate.map_err(|error| failed(one.to_string(), error))?;
        taken.extend(duplicate.map(|duplicate| (&one.name, duplicate)));
    }
    if taken.is_empty() {
        let object = match wanted {
            WantedSockets::All => "LISTEN_FDS".to_owned(),
            WantedSockets::Named(name) => format!("{name} in LISTEN_FDNAMES"),
        };
        return Err(failed(object, ListenFdsError::NoneFits.into()));
    }
    Ok(taken
        .into_iter()
        .map(|(name, (socket, given))| TakenSocket {
            name: name.clone(),
            socket,
            given: Registered::foreign(given),
        })
        .collect())
}

fn unfit(kind: FdKind, fd: RawFd) -> Option<ListenFdsError> {
    match kind {
        FdKind::Fitting { listens: true } => None,
        FdKind::Fitting { listens: false } => Some(ListenFdsError::NotListening(fd)),
        FdKind::OtherSocket => Some(ListenFdsError::WrongKind(fd)),
        FdKind::NoSocket => Some(ListenFdsError::NoSocket(fd)),
    }
}

#[cfg(test)]
mod tests;
