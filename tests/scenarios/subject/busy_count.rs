//! Hooks that write down how many children are busy, as the parent counts them. They change nothing
//! else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use prefork_server::{Child, ChildId, Death, Line, Monitor, PreForkHooks, defaults};

use crate::support::{SOON, until};

/// Writes the number to a file as soon as it is known, and each death to stdout.
pub struct BusyCount {
    busy: File,
    drops_stderr: bool,
}

impl BusyCount {
    pub fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        let busy = File::create(path)?;
        Ok(Self {
            busy,
            drops_stderr: false,
        })
    }

    /// For children that flood their stderr: what they write there is dropped.
    pub fn drop_stderr(self) -> Self {
        Self {
            drops_stderr: true,
            ..self
        }
    }

    fn write(&self, monitor: &Monitor) {
        let busy = monitor.busy_servers().count();
        self.busy.write_all_at(&[b'0' + busy as u8], 0).unwrap();
    }
}

impl PreForkHooks for BusyCount {
    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_busy(self, monitor, child);
        self.write(monitor);
    }

    fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_not_busy(self, monitor, child);
        self.write(monitor);
    }

    fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if !self.drops_stderr {
            defaults::server_stderr(self, monitor, child, line);
        }
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        println!(
            "death of {}: {:?} {:?}",
            child.pid(),
            death.cause(),
            death.code()
        );
        self.write(monitor);
    }
}

/// Waits until the parent counts this many busy children, though nothing else happens.
#[track_caller]
pub fn expect_busy(counted: &Path, count: usize) {
    until(
        &format!("{count} children to be counted as busy"),
        SOON,
        || (fs::read(counted).unwrap() == [b'0' + count as u8]).then_some(()),
    );
}
