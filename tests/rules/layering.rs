//! Reads the source: the pure core names no system, imports point down only, `unsafe` stays in
//! `src/sys` and is explained, and each file says what it is. Runs nothing of the library.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The floors, from the top to the bottom: a file imports from its own floor and those below.
const FLOORS: [&str; 8] = [
    "run",
    "settings",
    "servers",
    "observe",
    "hooks",
    "listeners",
    "sys",
    "core",
];

/// The rooms of the core, from the top to the bottom; those on one line may import each other.
const CORE: [&[&str]; 21] = [
    &["simulation", "status"],
    &["control"],
    &["monitor"],
    &["pool"],
    &["journal"],
    &["inbox"],
    &["system"],
    &[
        "backoff",
        "alarms",
        "states",
        "queue",
        "report",
        "signal_policy",
        "draining",
        "notice",
        "repeats",
        "slow_hooks",
        "saturation",
        "stop",
        "upgrade",
    ],
    &["event"],
    &["state"],
    &["config", "cut"],
    &["replacement"],
    &["conn_end"],
    &["accept"],
    &["comm"],
    &["board"],
    &["wire"],
    &["child"],
    &["time_limits", "out_of_memory", "endpoint_load"],
    &["stack"],
    &[
        "time",
        "error",
        "say",
        "access",
        "confinement",
        "json",
        "metrics",
        "nearest",
        "brake",
        "queue_times",
        "proxy",
        "title",
        "restarts",
    ],
];

/// What stands beside the floors: the table of contents, what only tests and fuzzers build, and the
/// command, a crate of its own.
const OUTSIDE: [&str; 4] = ["lib", "fuzzing", "internals", "bin"];

/// What the pure core must not name: systems and clocks.
const SYSTEM: [&str; 5] = ["nix", "mio", "libc", "Instant", "SystemTime"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A source file: the floor and the room that it belongs to, its path, its text.
struct File {
    floor: String,
    room: String,
    name: String,
    text: String,
    /// The text without comments and string literals.
    code: String,
    is_test: bool,
}

fn sources() -> Vec<File> {
    let src = root().join("src");
    let mut paths = Vec::new();
    collect(&src, &mut paths);
    paths.sort();
    assert!(paths.len() > 30, "the source has moved");
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let relative = path.strip_prefix(&src).unwrap();
        let part = |n| {
            let part = relative.iter().nth(n).and_then(|part| part.to_str());
            part.unwrap_or("").trim_end_matches(".rs").to_owned()
        };
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (floor, room) = (part(0), part(1));
        File {
            is_test: stem.ends_with("tests")
                || ["segmentation", "walk", "testing"].contains(&stem)
                || floor == "fuzzing",
            code: without_comments(&text),
            name: relative.display().to_string(),
            floor,
            room,
            text,
        }
    };
    paths.into_iter().map(source).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The code alone, each line kept: comments are dropped and string literals emptied.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '/' if chars.peek() == Some(&'/') => {
                while chars.next_if(|&char| char != '\n').is_some() {}
            }
            '"' => {
                code.push('"');
                while let Some(char) = chars.next() {
                    match char {
                        '\\' => code.extend(chars.next().filter(|&char| char == '\n')),
                        '"' => break,
                        '\n' => code.push('\n'),
                        _ => {}
                    }
                }
                code.push('"');
            }
            // A character, so that '"' begins no string; a lifetime is left as it is.
            '\'' => {
                let mut ahead = chars.clone();
                let first = ahead.next();
                if first == Some('\\') {
                    chars.by_ref().take(2).for_each(drop);
                    while chars.next_if(|&char| char != '\'').is_some() {}
                    chars.next();
                } else if ahead.next() == Some('\'') {
                    chars.by_ref().take(2).for_each(drop);
                }
            }
            _ => code.push(char),
        }
    }
    code
}

/// Identifiers, in order.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|char: char| !(char.is_alphanumeric() || char == '_'))
        .filter(|word| !word.is_empty())
}

/// What the code names of this crate, as `crate::floor::room` or in a `use crate::{…}`: floor and room.
fn imports(code: &str) -> BTreeSet<(String, String)> {
    let dense: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for (at, path) in dense.match_indices("crate::") {
        let standing = dense[..at].chars().next_back();
        if standing.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '$') {
            continue;
        }
        for item in items(&dense[at + path.len()..]) {
            let (floor, rest) = head(&item);
            let rooms = items(rest.trim_start_matches("::"));
            let rooms = rooms.iter().map(|room| head(room).0.to_owned());
            found.extend(rooms.map(|room| (floor.to_owned(), room)));
        }
    }
    found
}

/// The first name of a path, and what follows it.
fn head(path: &str) -> (&str, &str) {
    let path = path.trim();
    let end = path.find(|char: char| !(char.is_alphanumeric() || char == '_'));
    path.split_at(end.unwrap_or(path.len()))
}

/// The items of a group, `{a::{b, c}, d}` gives `a::{b, c}` and `d`; of anything else, itself.
fn items(text: &str) -> Vec<String> {
    let Some(group) = text.strip_prefix('{') else {
        return vec![text.to_owned()];
    };
    let mut items = vec![String::new()];
    let mut depth = 0;
    for char in group.chars() {
        match char {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(String::new()),
            _ => {
                depth += i32::from(char == '{') - i32::from(char == '}');
                items.last_mut().unwrap().push(char);
            }
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

fn room(name: &str) -> Option<usize> {
    CORE.iter().position(|rooms| rooms.contains(&name))
}

#[test]
fn the_reader_of_source_reads() {
    let code = without_comments("a // nix\n\"mio \\\" {\" 'x' '\"' b // \"\n'\\'' &'a c");
    assert_eq!(words(&code).collect::<Vec<_>>(), ["a", "b", "a", "c"]);
    let code = "use crate::{\n a::{self, B, c::{D}},\n e,\n}; f(crate::g::H) $crate::i mycrate::j";
    let found: Vec<_> = imports(code).into_iter().collect();
    let expected = [("a", "B"), ("a", "c"), ("a", "self"), ("e", ""), ("g", "H")];
    let expected = expected.map(|(floor, room)| (floor.to_owned(), room.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn every_file_has_its_floor_and_in_the_core_its_room() {
    for file in sources() {
        let outside = OUTSIDE.contains(&file.floor.as_str());
        let inside = floor(&file.floor).is_some();
        assert!(inside != outside, "{}: on which floor is it?", file.name);
        let in_core = file.floor == "core" && !["mod", "testing"].contains(&file.room.as_str());
        let housed = !in_core || room(&file.room).is_some();
        assert!(housed, "{}: in which room is it?", file.name);
    }
}

#[test]
fn the_pure_core_names_no_system_and_no_clock() {
    let mut pure = 0;
    for file in sources().iter().filter(|file| file.floor == "core") {
        pure += 1;
        for word in words(&file.code) {
            assert!(!SYSTEM.contains(&word), "{} names {word}", file.name);
        }
    }
    assert!(pure >= 17, "only {pure} pure files were found");
}

/// Whatever is judged by time is judged by the monotonic clock, which is read in one file. The wall
/// clock is read in another one, for those who only show it: setting it changes nothing else.
#[test]
fn h01_one_file_reads_the_clock_and_one_the_wall_clock_to_show_it() {
    let mut readers = BTreeSet::new();
    let mut of_the_wall = BTreeSet::new();
    let mut shows_it = BTreeSet::new();
    let sources = sources();
    for file in sources.iter().filter(|file| !file.is_test) {
        if words(&file.code).any(|word| word == "wall_clock") {
            shows_it.insert(file.name.as_str());
        }
        for word in words(&file.code) {
            if ["SystemTime", "UNIX_EPOCH", "gettimeofday", "CLOCK_REALTIME"].contains(&word) {
                of_the_wall.insert(file.name.as_str());
            }
            // The simulation, which tests are made of, measures how fast it is.
            let simulated = file.name == "run/simulation_tests.rs";
            if !simulated && (word == "Instant" || word == "clock_gettime") {
                readers.insert(file.name.as_str());
            }
        }
    }
    assert_eq!(readers.into_iter().collect::<Vec<_>>(), ["sys/clock.rs"]);
    assert_eq!(of_the_wall.into_iter().collect::<Vec<_>>(), ["sys/date.rs"]);
    let shows_it: Vec<_> = shows_it.into_iter().collect();
    let expected = [
        "observe/status/recorder.rs",
        "servers/ending.rs",
        "sys/date.rs",
        "sys/title/mod.rs",
    ];
    assert_eq!(shows_it, expected);
}

/// Tests as well: what a test needs of the floors above belongs up there.
#[test]
fn imports_point_down_only() {
    for file in sources() {
        let Some(from) = floor(&file.floor) else {
            continue;
        };
        for (to_floor, to_room) in imports(&file.code) {
            // A name that is re-exported at the top is an import of the top.
            let to = floor(&to_floor);
            let points_down = to.is_some_and(|to| to >= from);
            assert!(points_down, "{} imports {to_floor}", file.name);
            if let (false, Some(from)) = (file.is_test, room(&file.room))
                && file.floor == "core"
            {
                let points_down = room(&to_room).is_some_and(|to| to >= from);
                assert!(points_down, "{} imports {to_room}", file.name);
            }
        }
    }
}

#[test]
fn unsafe_stays_in_sys_and_each_block_is_explained() {
    let mut blocks = 0;
    for file in sources() {
        let in_sys = file.floor == "sys";
        let code: Vec<_> = file.code.lines().collect();
        let text: Vec<_> = file.text.lines().collect();
        assert_eq!(code.len(), text.len(), "{}", file.name);
        for (n, line) in code.iter().enumerate() {
            if !words(line).any(|word| word == "unsafe") {
                continue;
            }
            let place = format!("{}:{}", file.name, n + 1);
            assert!(in_sys, "{place} is unsafe");
            if !line.contains("unsafe {") {
                continue;
            }
            blocks += 1;
            let above = &text[n.saturating_sub(8)..n];
            let explained = above.iter().any(|line| line.contains("SAFETY:"));
            assert!(explained, "{place} does not say why it is sound");
        }
    }
    assert!(
        blocks > 3,
        "no unsafe block was found: has the source moved?"
    );
}

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

/// The body of a function of `code`, between its braces.
fn body<'a>(code: &'a str, function: &str) -> Option<&'a str> {
    let at = code.find(&format!("fn {function}("))?;
    let start = at + code[at..].find('{')?;
    let mut depth = 0;
    let end = code[start..].find(|c| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some(&code[start + 1..start + end])
}

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
    let files = sources().into_iter();
    for file in files.filter(|file| file.name != "sys/atfork.rs") {
        let extern_c = file.code.split("extern \"\" fn ").skip(1);
        let mut waiting: Vec<&str> = extern_c.filter_map(|rest| rest.split('(').next()).collect();
        handlers += waiting.len();
        let folder = code_of_the_folder(&file);
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
fn code_of_the_folder(file: &File) -> String {
    let folder = |name: &str| Path::new(name).parent().map(Path::to_owned);
    let here = sources().into_iter();
    let here = here.filter(|other| folder(&other.name) == folder(&file.name));
    here.map(|other| other.code).collect()
}

fn body_is_here(code: &str, function: &str) -> bool {
    let opening = [" fn ", "\nfn "].map(|opening| format!("{opening}{function}("));
    opening.iter().any(|opening| code.contains(opening))
}

#[test]
fn every_file_opens_with_what_it_does() {
    for file in sources() {
        let opens = file.text.starts_with("//! ");
        assert!(opens, "{} does not say what it is", file.name);
    }
}

#[test]
fn the_mandatory_dependencies_are_five() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut mandatory = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
            let of_a_target = line.starts_with("[target.") && line.contains("dependencies");
            assert!(!of_a_target || line.contains("dev-"), "{line}");
            assert!(!line.starts_with("[dependencies."), "{line}: one line each");
            assert!(!line.contains("build-dependencies"), "{line}");
        } else if section == "[dependencies]"
            && let Some((name, value)) = line.split_once('=')
            && !value.contains("optional = true")
        {
            mandatory.insert(name.trim());
        }
    }
    let expected = BTreeSet::from(["bitflags", "log", "mio", "nix", "slab"]);
    assert_eq!(mandatory, expected);
}
