//! What a program gets besides descriptors: its arguments, its environment, and the paths where it
//! may be. Computes; runs nothing and opens nothing.

use crate::{
    servers::listen::Listening,
    sys::exec::{ExecveCall, FIRST},
};
use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

pub(in crate::servers) type Environment = BTreeMap<OsString, OsString>;

/// A program as the builder describes it.
#[derive(Clone, Debug)]
pub(in crate::servers) struct ExecSpec {
    pub(in crate::servers) program: OsString,
    pub(in crate::servers) args: Vec<OsString>,
    /// Nothing is inherited.
    pub(in crate::servers) clear: bool,
    /// Variables to set, or with `None` to remove.
    pub(in crate::servers) changes: BTreeMap<OsString, Option<OsString>>,
    pub(super) server_starter: bool,
    pub(super) einhorn: bool,
}

/// What is only known after the fork.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaunchValues<'a> {
    pub(super) pid: u32,
    pub(super) sockets: &'a [Socket],
    pub(super) send_ack: Option<Duration>,
}

/// A socket as variables describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Socket {
    /// `host:port` or a path.
    pub(super) place: OsString,
    pub(super) name: String,
}

impl From<&Listening> for Socket {
    fn from(listening: &Listening) -> Self {
        Self {
            place: listening.place(),
            name: listening.name.clone(),
        }
    }
}

/// Whether the variable describes descriptors that our own parent has passed to us, or is for the
/// parent's reports to systemd: the program does not get those.
fn is_stale(name: &OsStr) -> bool {
    const NAMES: [&str; 9] = [
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "NOTIFY_SOCKET",
        "SERVER_STARTER_GENERATION",
        "SERVER_STARTER_PORT",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    NAMES.iter().any(|stale| name == *stale) || name.as_bytes().starts_with(b"EINHORN_")
}

impl ExecSpec {
    pub(in crate::servers) fn new(program: OsString) -> Self {
        Self {
            program,
            args: Vec::new(),
            clear: false,
            changes: BTreeMap::new(),
            server_starter: false,
            einhorn: false,
        }
    }

    /// The image for one child, whose parent has the environment `inherited`.
    pub(super) fn image(
        &self,
        inherited: impl IntoIterator<Item = (OsString, OsString)>,
        launch: LaunchValues<'_>,
    ) -> io::Result<ExecveCall> {
        let environment = self.with_sockets(self.environment(inherited)?, launch)?;
        let argv = std::iter::once(&self.program).chain(&self.args);
        let path = environment.get(OsStr::new("PATH"));
        Ok(ExecveCall {
            files: self.files(path.map(OsString::as_os_str))?,
            argv: argv
                .map(|arg| terminated(arg.clone()))
                .collect::<io::Result<_>>()?,
            envp: environment
                .into_iter()
                .map(|(name, value)| assignment(name, &value))
                .collect::<io::Result<_>>()?,
        })
    }

    /// The parent's variables without those that describe its descriptors, and with the changes.
    /// Fails if a variable cannot be set.
    pub(in crate::servers) fn environment(
        &self,
        inherited: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> io::Result<Environment> {
        let mut environment: Environment = inherited
            .into_iter()
            .filter(|(name, _)| !self.clear && !is_stale(name))
            .collect();
        for (name, value) in &self.changes {
            match value {
                Some(value) => {
                    assignment(name.clone(), value)?;
                    environment.insert(name.clone(), value.clone())
                }
                None => environment.remove(name),
            };
        }
        Ok(environment)
    }

    /// The file of the program in the environment that it would get now.
    pub(in crate::servers) fn file(&self) -> Option<PathBuf> {
        self.find(&self.environment(std::env::vars_os()).ok()?)
    }

    /// The file of the program, if there is one that may be executed.
    pub(in crate::servers) fn find(&self, environment: &Environment) -> Option<PathBuf> {
        let path = environment.get(OsStr::new("PATH"));
        let files = self.files(path.map(OsString::as_os_str)).ok()?;
        let mut files = files
            .iter()
            .map(|file| Path::new(OsStr::from_bytes(file.to_bytes())));
        files.find(|file| is_executable(file)).map(Path::to_owned)
    }

    fn with_sockets(
        &self,
        mut environment: Environment,
        launch: LaunchValues<'_>,
    ) -> io::Result<Environment> {
        let mut set = |name: String, value: OsString| environment.insert(name.into(), value);
        if let Some(interval) = launch.send_ack {
            let seconds = interval.as_secs_f64().to_string();
            set("PREFORK_SEND_ACK".to_owned(), seconds.into());
        }
        if launch.sockets.is_empty() {
            return Ok(environment);
        }
        let count = launch.sockets.len();
        let names: Vec<&str> = launch
            .sockets
            .iter()
            .map(|socket| socket.name.as_str())
            .collect();
        set("LISTEN_FDS".to_owned(), count.to_string().into());
        set("LISTEN_PID".to_owned(), launch.pid.to_string().into());
        set("LISTEN_FDNAMES".to_owned(), names.join(":").into());
        if self.server_starter {
            let ports = server_starter_ports(launch.sockets)?;
            set("SERVER_STARTER_PORT".to_owned(), ports);
        }
        if self.einhorn {
            set("EINHORN_FD_COUNT".to_owned(), count.to_string().into());
            for (index, fd) in (0..count).zip(FIRST..) {
                set(format!("EINHORN_FD_{index}"), fd.to_string().into());
            }
        }
        Ok(environment)
    }

    /// A name with a slash is a path; any other is looked up in PATH, as a shell does.
    fn files(&self, path: Option<&OsStr>) -> io::Result<Vec<CString>> {
        const PATH_WITHOUT_ONE: &[u8] = b"/usr/local/bin:/bin:/usr/bin";
        let program = self.program.as_bytes();
        if program.contains(&b'/') || program.is_empty() {
            return Ok(vec![terminated(self.program.clone())?]);
        }
        let path = path.map_or(PATH_WITHOUT_ONE, OsStrExt::as_bytes);
        let files = path.split(|byte| *byte == b':').map(|directory| {
            let directory = if directory.is_empty() {
                b"."
            } else {
                directory
            };
            terminated(OsString::from_vec([directory, b"/", program].concat()))
        });
        files.collect()
    }
}

fn is_executable(file: &Path) -> bool {
    let mode =
        |found: std::fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    std::fs::metadata(file).is_ok_and(mode)
}

/// `host:port=3;/path=4`.
fn server_starter_ports(sockets: &[Socket]) -> io::Result<OsString> {
    let entry = |(socket, fd): (&Socket, i32)| {
        let place = socket.place.as_bytes();
        if place.iter().any(|byte| matches!(byte, b'=' | b';')) {
            let reason = format!("{:?} cannot stand in SERVER_STARTER_PORT", socket.place);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok([place, b"=", fd.to_string().as_bytes()].concat())
    };
    let entries = sockets.iter().zip(FIRST..).map(entry);
    let entries = entries.collect::<io::Result<Vec<_>>>()?;
    Ok(OsString::from_vec(entries.join(&b';')))
}

fn assignment(name: OsString, value: &OsStr) -> io::Result<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        let reason = format!("{name:?} cannot be the name of a variable");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let mut text = name;
    text.push("=");
    text.push(value);
    terminated(text)
}

fn terminated(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|error| {
        let reason = format!(
            "{:?} contains a zero byte",
            OsString::from_vec(error.into_vec())
        );
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    })
}

#[cfg(test)]
mod tests;
