//! Gates: named points at which a program stops until the scenario lets it go.
//!
//! A gate is a listening UNIX socket in the scenario's directory. Who passes connects, says its
//! pid and waits for a byte or the end; nothing is opened before that moment and nothing stays
//! open after it, so forked children pass gates like anyone else. A gate that the scenario has not
//! made, or has opened, stops no process: a program may name more points than one scenario uses.
//!
//! It never stops a process forever: if the scenario ends, all its gates are open. It is not for
//! signal handlers.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::patience::patient;
use super::wait::until;
use super::world;

/// A named point, seen from the scenario. Dropping it opens it.
#[derive(Debug)]
pub struct Gate {
    name: String,
    path: PathBuf,
    listener: UnixListener,
    /// Who was seen waiting and has not been let go.
    waiting: Vec<(u32, UnixStream)>,
}

impl Gate {
    /// Makes the gate `name`, closed; [`World::gate`](super::World::gate) knows the directory.
    pub fn create(directory: &Path, name: &str) -> Self {
        let path = path(directory, name);
        let listener = UnixListener::bind(&path)
            .unwrap_or_else(|error| panic!("a socket for the gate {name:?}: {error}"));
        listener
            .set_nonblocking(true)
            .expect("a socket that does not block");
        Self {
            name: name.to_owned(),
            path,
            listener,
            waiting: Vec::new(),
        }
    }

    /// Waits until one more process stops here, and returns its pid.
    #[track_caller]
    pub fn reached(&mut self, deadline: Duration) -> u32 {
        let what = format!("a process at the gate {:?}", self.name);
        let (pid, stream) = until(&what, deadline, || self.arrival());
        self.waiting.push((pid, stream));
        pid
    }

    /// Who has stopped here and has not been let go, as far as [`reached`](Self::reached) has seen.
    pub fn waiting(&self) -> Vec<u32> {
        self.waiting.iter().map(|(pid, _)| *pid).collect()
    }

    /// Lets one process go that has reached the gate; the gate stays closed for the others.
    pub fn release(&mut self, pid: u32) {
        let at = self.waiting.iter().position(|(waiting, _)| *waiting == pid);
        let at = at.unwrap_or_else(|| panic!("{pid} is not waiting at {:?}", self.name));
        let (_, mut stream) = self.waiting.remove(at);
        // It may have been killed where it stood.
        let _ = stream.write_all(b"!");
    }

    /// Lets everyone go, those too who come later.
    pub fn open(self) {}

    fn arrival(&self) -> Option<(u32, UnixStream)> {
        let (mut stream, _) = self.listener.accept().ok()?;
        let mut pid = [0; 4];
        stream
            .set_read_timeout(Some(patient(Duration::from_secs(5))))
            .ok()?;
        stream.read_exact(&mut pid).ok()?;
        Some((u32::from_ne_bytes(pid), stream))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The path goes first: who comes between finds no gate, who came before finds the end.
        let _ = fs::remove_file(&self.path);
    }
}

/// Stops here until the scenario lets this process go, if it has made a gate of that name.
pub fn pass(name: &str) {
    let Some(directory) = world::directory() else {
        return;
    };
    let Some(mut stream) = connect(&path(&directory, name)) else {
        return;
    };
    // A failure to read or write means that the gate was opened meanwhile.
    let pid = std::process::id().to_ne_bytes();
    if stream.write_all(&pid).is_ok() {
        let _ = stream.read_exact(&mut [0]);
    }
}

fn connect(path: &Path) -> Option<UnixStream> {
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Some(stream),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("gate-{name}"))
}
