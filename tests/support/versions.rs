//! Programs for upgrades: copies of a test file with a line after their end that says which version they
//! are, and by a word how they behave. Runs nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The version and the word of this program; `None` if it is the test file itself.
pub fn own() -> Option<(u32, String)> {
    let mut file = File::open("/proc/self/exe").expect("this program");
    file.seek(SeekFrom::End(-64)).expect("its end");
    let mut end = Vec::new();
    file.read_to_end(&mut end).expect("its end");
    let end = String::from_utf8_lossy(&end);
    let (_, line) = end.rsplit_once("#program ")?;
    let (version, word) = line.trim().split_once(' ').expect("two words");
    Some((version.parse().expect("a number"), word.to_owned()))
}

/// Puts a program there, in place of the one that is there: a copy of this build of a test file.
pub fn write(build: &Path, path: &Path, version: u32, word: &str) {
    let fresh = path.with_extension("new");
    fs::copy(build, &fresh).expect("a copy");
    let mut file = OpenOptions::new()
        .append(true)
        .open(&fresh)
        .expect("a file");
    write!(file, "\n#program {version} {word}\n").expect("its end");
    drop(file);
    fs::rename(&fresh, path).expect("its place");
}

/// Prints how the numbers of microseconds are spread that follow this text in the lines of `stdout`.
pub fn tell_times(what: &str, stdout: &str, after: &str) {
    let told = stdout.lines().filter_map(|line| line.split_once(after));
    let times = told.filter_map(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{what}: p50 {} us, p99 {} us, max {} us",
        at(50),
        at(99),
        at(100)
    );
}
