//! Programs for upgrades: copies of this test file with a line after their end that says which version
//! they are and how they behave. Runs nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::thread;

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
    /// Fails to start, but not in its trial.
    Fails,
    /// Has two threads when it is to have a holder.
    Threads,
}

const MODES: [(&str, Mode); 9] = [
    ("good", Mode::Good),
    ("plain", Mode::Plain),
    ("exits", Mode::Exits),
    ("hangs", Mode::Hangs),
    ("dies", Mode::Dies),
    ("refuses", Mode::Refuses),
    ("childless", Mode::Childless),
    ("fails", Mode::Fails),
    ("threads", Mode::Threads),
];

/// The version and the behaviour of this program.
pub fn own() -> (u32, Mode) {
    let mut file = File::open("/proc/self/exe").expect("this program");
    file.seek(SeekFrom::End(-64)).expect("its end");
    let mut end = Vec::new();
    file.read_to_end(&mut end).expect("its end");
    let end = String::from_utf8_lossy(&end).into_owned();
    let Some((_, line)) = end.rsplit_once("#program ") else {
        return (1, Mode::Good);
    };
    let (version, mode) = line.trim().split_once(' ').expect("two words");
    let mode = MODES.iter().find(|(name, _)| *name == mode);
    (version.parse().expect("a number"), mode.expect("a mode").1)
}

/// Puts a program of that version and mode there, in place of the one that is there.
pub fn write_program(path: &Path, version: u32, mode: Mode) {
    let (name, _) = MODES
        .iter()
        .find(|(_, known)| *known == mode)
        .expect("a name");
    let fresh = path.with_extension("new");
    let own = std::env::current_exe().expect("this program");
    fs::copy(own, &fresh).expect("a copy");
    let mut file = OpenOptions::new()
        .append(true)
        .open(&fresh)
        .expect("a file");
    write!(file, "\n#program {version} {name}\n").expect("its end");
    drop(file);
    fs::rename(&fresh, path).expect("its place");
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
