//! Reads the handlers of signals in the source, and whatever they call: only what may be called there.
//! Sends no signal.

use super::source::{File, body, sources};
use std::{collections::BTreeSet, path::Path};

/// What handlers of signals may call: system calls that are async-signal-safe, atomics, arithmetic, and
/// the macros and functions of the same folder, of which the same is asked.
const IN_HANDLERS: [&str; 44] = [
    "add",
    "as_ptr",
    "as_ref",
    "AtomicI32::new",
    "AtomicU32::new",
    "AtomicUsize::new",
    "cast",
    "cast_unsigned",
    "compare_exchange",
    "Errno::last",
    "fetch_add",
    "is_err",
    "iter",
    "len",
    "libc::_exit",
    "libc::close",
    "libc::dup2",
    "libc::getpgid",
    "libc::getpid",
    "libc::getppid",
    "libc::kill",
    "libc::open",
    "libc::poll",
    "libc::raise",
    "libc::setitimer",
    "libc::signal",
    "libc::syscall",
    "libc::time_t::try_from",
    "libc::write",
    "load",
    "map",
    "min",
    "NonNull::new",
    "SavedErrno::save",
    "Some",
    "si_pid",
    "std::ptr::null_mut",
    "store",
    "swap",
    "to_ne_bytes",
    "unwrap_or",
    "usize::try_from",
    "wrapping_add",
    "zip",
];

/// What a body calls: the paths before its parentheses, those of macros with their exclamation mark.
fn calls(body: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_alphanumeric() || "_:!".contains(c);
    let opened = body.match_indices('(').map(|(at, _)| &body[..at]);
    let called = opened.map(|before| {
        let start = before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
        before[start..].trim_start_matches(':')
    });
    const KEYWORDS: [&str; 4] = ["in", "if", "for", "match"];
    called
        .filter(|word| !word.is_empty() && !KEYWORDS.contains(word))
        .collect()
}

/// A handler counts, writes a byte and, in an orphan, sets a timer: it allocates nothing, locks
/// nothing, logs nothing. What it calls is on a list.
///
/// Without it (a `log::debug!` in `in_parent`) the test names the macro.
#[test]
fn g08_handlers_of_signals_do_nothing_but_count_and_wake() {
    let mut handlers = 0;
    // What the C library calls after a fork is no handler of a signal.
    let all = sources();
    for file in all.iter().filter(|file| file.name != "sys/atfork.rs") {
        let extern_c = file.code.split("extern \"\" fn ").skip(1);
        let mut waiting: Vec<&str> = extern_c.filter_map(|rest| rest.split('(').next()).collect();
        handlers += waiting.len();
        let folder = code_of_the_folder(&all, file);
        let mut seen = BTreeSet::new();
        while let Some(function) = waiting.pop() {
            for call in calls(body(&folder, function).unwrap()) {
                if IN_HANDLERS.contains(&call) {
                    continue;
                }
                let name = call.rsplit(':').next().unwrap();
                let here = body_is_here(&folder, name);
                assert!(here, "{function}, called in {}, calls {call}", file.name);
                if seen.insert(name.to_owned()) {
                    waiting.push(name);
                }
            }
        }
    }
    assert!(handlers >= 2, "the handlers have moved");
}

/// The code of all files that stand in the same folder.
fn code_of_the_folder(all: &[File], file: &File) -> String {
    let folder = |file: &File| Path::new(&file.name).parent().map(Path::to_owned);
    let here = all.iter().filter(|other| folder(other) == folder(file));
    here.map(|other| other.code.as_str()).collect()
}

fn body_is_here(code: &str, function: &str) -> bool {
    let opening = [" fn ", "\nfn "].map(|opening| format!("{opening}{function}("));
    opening.iter().any(|opening| code.contains(opening))
}
