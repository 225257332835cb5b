//! A terminal whose other end is not read until the test wants it, so that what writes to it waits.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::{OpenptyResult, openpty};
use nix::unistd::ttyname;

use super::PREFORK;
use crate::support::{SOON, Server, World, pause, processes, until};

/// A terminal in which `prefork top` runs, and what it has shown.
pub struct Unread {
    pub top: Server,
    other_end: File,
    path: PathBuf,
    shown: Vec<u8>,
}

impl Unread {
    /// Runs `prefork top` with these arguments.
    pub fn open(world: &mut World, arguments: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a mode");
        let path = ttyname(&slave).expect("its name");
        let copy = || slave.try_clone().expect("a descriptor");
        // A signal for a new size goes to the processes that have the terminal as the controlling one.
        let top = world.command("setsid").args(&["--ctty", PREFORK, "top"]);
        let top = top.args(arguments).env("TERM", "xterm-256color");
        let top = top.stdin(copy()).stdout(copy()).stderr(copy()).spawn();
        let terminal = Self {
            top,
            other_end: master.into(),
            path,
            shown: Vec::new(),
        };
        terminal.resize(100, 30);
        terminal
    }

    /// Reads what there is, as long as there is somebody to write.
    pub fn read(&mut self) -> &[u8] {
        match self.other_end.read_to_end(&mut self.shown) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Nobody has the terminal open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
            other => drop(other.expect("the terminal")),
        }
        &self.shown
    }

    pub fn press(&mut self, key: &[u8]) {
        self.other_end.write_all(key).expect("the terminal");
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let stty = Command::new("stty")
            .arg("-F")
            .arg(&self.path)
            .args(["cols", &columns, "rows", &rows])
            .status();
        assert!(stty.expect("stty").success());
    }

    /// Has it drawn again until what it writes finds no room, without reading any of it.
    #[track_caller]
    pub fn fill(&self) {
        let writes = || processes::system_call(self.top.pid()) == Some(libc::SYS_write);
        let mut columns = 100;
        until("it to wait for a reader", SOON * 3, || {
            columns ^= 1;
            self.resize(columns, 30);
            let waits = || {
                pause(Duration::from_millis(5));
                writes()
            };
            (0..20).all(|_| waits()).then_some(())
        });
    }
}
