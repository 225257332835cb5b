//! Reads the source: the pure core names no system, imports point down only, `unsafe` stays in
//! `src/sys` and is explained, and each file says what it is. Runs nothing of the library.

use super::{
    paths,
    source::{imports, root, sources, words},
};
use std::{collections::BTreeSet, fs};

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
const CORE: [&[&str]; 22] = [
    &["simulation", "status"],
    &["control"],
    &["monitor"],
    &["pool"],
    &["journal"],
    &["inbox"],
    &["system"],
    &["notes"],
    &[
        "backoff",
        "alarms",
        "states",
        "queue",
        "report",
        "signal_policy",
        "draining",
        "holder",
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
        "random",
        "title",
        "restarts",
    ],
];

/// What stands beside the floors: the table of contents, what only tests and fuzzers build, and the
/// command, a crate of its own.
const OUTSIDE: [&str; 4] = ["lib", "fuzzing", "internals", "bin"];

/// What the pure core must not name: systems and clocks.
const SYSTEM: [&str; 5] = ["nix", "mio", "libc", "Instant", "SystemTime"];

/// What of the standard library is a system. (Addresses are data. A hash table draws its order from
/// the random numbers of the system.) Tests may use it.
const SYSTEM_OF_STD: [&str; 18] = [
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::io::pipe",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
];

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

fn room(name: &str) -> Option<usize> {
    CORE.iter().position(|rooms| rooms.contains(&name))
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
        for path in paths::of_std(&file.code).iter().filter(|_| !file.is_test) {
            let path = path.join("::") + "::";
            let is_system = |system: &str| path.starts_with(&format!("{system}::"));
            let system = SYSTEM_OF_STD.into_iter().find(|system| is_system(system));
            assert_eq!(system, None, "{} names it", file.name);
        }
    }
    assert!(pure >= 17, "only {pure} pure files were found");
}

/// All that is judged by time is judged by the monotonic clock, which is read in one file. The wall
/// clock is read in another one, only to be shown: setting it changes nothing else.
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

/// Tests as well, on the floors and in the rooms of the core: what a test needs of those above belongs
/// up there.
#[test]
fn imports_point_down_only() {
    for file in sources() {
        let Some(from) = floor(&file.floor) else {
            continue;
        };
        let by_super = paths::by_super(&file.name, &file.code).into_iter();
        let by_super = by_super.map(|path| {
            let name = |at: usize| path.get(at).cloned().unwrap_or_default();
            (name(0), name(1))
        });
        for (to_floor, to_room) in imports(&file.code).into_iter().chain(by_super) {
            // A name that is re-exported at the top is an import of the top.
            let to = floor(&to_floor);
            let points_down = to.is_some_and(|to| to >= from);
            assert!(points_down, "{} imports {to_floor}", file.name);
            // The helpers of tests stand beside the rooms.
            let helps_tests = file.is_test && to_room == "testing";
            if let (false, Some(from)) = (helps_tests, room(&file.room))
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
