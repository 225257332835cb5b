//! A notify socket of the scenario's own, and what has come there.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use crate::support::{SOON, until};

/// Where a server tells how it is.
pub struct Notifications {
    name: OsString,
    path: Option<PathBuf>,
    socket: Option<UnixDatagram>,
    lines: Vec<String>,
    /// How many of them have been expected.
    expected: usize,
}

impl Notifications {
    /// With a path in `directory`.
    pub fn bind(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::of(path.clone().into(), Some(path), socket)
    }

    /// With an abstract name.
    pub fn abstract_name() -> Self {
        let name = format!("prefork-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self::of(format!("@{name}").into(), None, socket)
    }

    fn of(name: OsString, path: Option<PathBuf>, socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self {
            name,
            path,
            socket: Some(socket),
            lines: Vec::new(),
            expected: 0,
        }
    }

    /// What NOTIFY_SOCKET is to be.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Reads all that has come.
    pub fn read(&mut self) {
        let mut buffer = [0; 4096];
        let Some(socket) = &self.socket else {
            return;
        };
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = std::str::from_utf8(&buffer[..length]).unwrap();
                    self.lines.extend(text.lines().map(str::to_owned));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the notify socket: {error}"),
            }
        }
    }

    /// All lines that have been read.
    pub fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }

    /// Waits for a line, after those that were waited for before.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        self.expect_line(line, |found| found == line);
    }

    #[track_caller]
    pub fn expect_line(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        until(what, SOON, || {
            self.read();
            let new = &self.lines[self.expected..];
            let at = new.iter().position(|line| is_it(line))?;
            let line = new[at].clone();
            self.expected += at + 1;
            Some(line)
        })
    }

    /// Takes all the room that there is for messages.
    pub fn fill(&self) {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let path = self.path.as_ref().unwrap();
        while sender.send_to(b"X_FILLER=1", path).is_ok() {}
    }

    /// Closes the socket and removes its file.
    pub fn remove(&mut self) {
        self.socket = None;
        std::fs::remove_file(self.path.as_ref().unwrap()).unwrap();
    }
}
