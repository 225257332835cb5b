//! How the programs of upgrades behave.

use std::path::Path;
use std::process::Command;
use std::thread;

use crate::support::versions;

/// How a program behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Good,
    /// It wants no holder.
    Plain,
    /// Exits at once.
    Exits,
    /// Never comes as far as to read the state.
    Hangs,
    /// Is killed in its trial, 10 ms after it was executed.
    Dies,
    /// Cannot use what the hooks have handed on.
    Refuses,
    /// Its children fail.
    Childless,
    /// Its children hang in their start.
    Stuck,
    /// Fails to start, but not in its trial.
    Fails,
    /// Has two threads when it is to have a holder.
    Threads,
}

const MODES: [(&str, Mode); 10] = [
    ("good", Mode::Good),
    ("plain", Mode::Plain),
    ("exits", Mode::Exits),
    ("hangs", Mode::Hangs),
    ("dies", Mode::Dies),
    ("refuses", Mode::Refuses),
    ("childless", Mode::Childless),
    ("stuck", Mode::Stuck),
    ("fails", Mode::Fails),
    ("threads", Mode::Threads),
];

/// The version and the behaviour of this program.
pub fn own() -> (u32, Mode) {
    let Some((version, word)) = versions::own() else {
        return (1, Mode::Good);
    };
    let mode = MODES.iter().find(|(name, _)| *name == word);
    (version, mode.expect("a mode").1)
}

/// Puts a program of that version and mode there, in place of the one that is there.
pub fn write_program(path: &Path, version: u32, mode: Mode) {
    let name = MODES.iter().find(|(_, known)| *known == mode);
    let own = std::env::current_exe().expect("this program");
    versions::write(&own, path, version, name.expect("a name").0);
}

/// What a broken program does before anything else.
pub fn misbehave(mode: Mode) {
    match mode {
        Mode::Exits => std::process::exit(3),
        Mode::Dies => {
            let script = "sleep 0.01; kill -9 $PPID";
            let killer = Command::new("sh").args(["-c", script]).spawn();
            drop(killer.expect("a shell"));
            hang()
        }
        Mode::Hangs => hang(),
        _ => {}
    }
}

pub fn hang() -> ! {
    loop {
        thread::park();
    }
}
