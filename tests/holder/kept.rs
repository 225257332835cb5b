//! What a parent hands on to the next, and what the holder itself needs.

use std::fs;
use std::time::Duration;

use crate::support::{SOON, Scenarios, Signal, World, connect, processes, scenarios, until};
use crate::watched::{Watched, send, who};

pub const SCENARIOS: Scenarios = scenarios![
    counters_attributes_and_what_hooks_save_are_kept,
    what_was_saved_before_a_panic_is_kept,
    the_holder_takes_no_memory_and_no_descriptor,
    no_descriptor_of_a_dead_child_is_kept,
    a_state_that_is_too_long_is_told_of_and_left_out,
    the_reserved_child_is_taken_over,
];

fn counters_attributes_and_what_hooks_save_are_kept(world: &mut World) {
    world.deadline(SOON * 6);
    let watched = Watched::new(world, &["--saves"]);
    watched.expect_ready(4);
    watched.server.signal(Signal::SIGTTIN);
    watched.expect("max_clients is now 41", 1);
    for _ in 0..10 {
        who(&watched.address());
    }
    until("the state to be saved", SOON * 2, || {
        watched.kill_parent();
        // It is saved once a second: sooner or later a parent lives for long enough.
        crate::support::pause(Duration::from_millis(1_200));
        (watched.said("restored 3") > 0).then_some(())
    });
    let stdout = watched.stop();
    assert!(stdout.contains("max_clients 41"), "{stdout}");
    let report = stdout.lines().last().expect("a report");
    assert!(report.starts_with("4 forked"), "{report}");
    // The counts of the children are on the board, which no parent takes along.
    let counted = stdout.lines().find(|line| line.starts_with("counted "));
    assert!(
        counted.is_some_and(|line| line.contains("Counter(10)")),
        "{counted:?}"
    );
}

/// The hook `save` panics from its second call on, and `restore` in the parent after the next: the one
/// gets what was saved before, the other goes on without.
fn what_was_saved_before_a_panic_is_kept(world: &mut World) {
    world.deadline(SOON * 6);
    world.expect_panics();
    let watched = Watched::new(world, &["--saves", "--saves-once"]);
    watched.expect_ready(4);
    // Twice: what has come of the first panic is noted by then.
    watched.expect(&format!("cannot save in {}", watched.parent()), 2);
    watched.kill_parent();
    watched.expect("restored 1", 1);
    // It has saved 2 once.
    watched.expect(&format!("cannot save in {}", watched.parent()), 1);
    watched.kill_parent();
    until("the panic of restore", SOON, || {
        let stderr = watched.server.stderr();
        let warned = "what the hooks have saved is not used: the hook restore has panicked";
        stderr.contains(warned).then_some(())
    });
    who(&watched.address());
    watched.stop();
}

/// Some parents later it is what it was after the first: ten, or as many as `HOLDER_KILLS` says.
///
/// What it has for itself alone is little: the program and its libraries are shared with the others, and
/// so is what was there before `run` and was not changed since.
fn the_holder_takes_no_memory_and_no_descriptor(world: &mut World) {
    const OWN: u64 = 1024;
    let kills = std::env::var("HOLDER_KILLS").ok();
    let kills = kills.map_or(10, |n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + Duration::from_secs(1) * kills);
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    let holder = watched.server.pid();
    watched.kill_parent();
    let data = |name: &str| status(holder, name);
    let (size, heap) = (data("VmSize:"), data("VmData:"));
    let descriptors = watched.server.descriptors_settled().len();
    let private = own_memory(holder);
    for _ in 0..kills {
        watched.kill_parent();
        who(&watched.address());
    }
    assert_eq!((data("VmSize:"), data("VmData:")), (size, heap));
    assert!(own_memory(holder) <= OWN, "{} KiB", own_memory(holder));
    until("the descriptors as before", SOON, || {
        (watched.server.descriptors().len() == descriptors).then_some(())
    });
    assert_eq!(processes::threads(holder), 1);
    println!(
        "the holder after {kills} parents: {} KiB of its own (before: {private} KiB), {} KiB resident",
        own_memory(holder),
        data("VmRSS:"),
    );
    assert_eq!(watched.children(), before);
    watched.stop();
}

/// A line of /proc/PID/status, in KiB.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("a number").parse().expect("a number")
}

/// What a process shares with no other, in KiB.
fn own_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    let numbers = lines.filter_map(|line| line.split_whitespace().nth(1));
    numbers
        .map(|number| number.parse::<u64>().expect("a number"))
        .sum()
}

/// Children come and go, by one parent and the next: the holder keeps the pipes of those that live.
fn no_descriptor_of_a_dead_child_is_kept(world: &mut World) {
    world.deadline(SOON * 6);
    let watched = Watched::new(world, &[]);
    watched.expect_ready(4);
    watched.kill_parent();
    let descriptors = watched.server.descriptors_settled().len();
    for round in 0..3 {
        for pid in watched.expect_ready(4) {
            send(pid, Signal::SIGKILL);
        }
        watched.expect("exited ", 4 * (round + 1));
        // Those that have not come to run would leave with their parent.
        watched.expect("ready ", 4 * (round + 2));
        until("four others", SOON, || {
            (watched.children().len() == 4 && watched.children() == watched.known()).then_some(())
        });
        connect(&watched.address()).ask("who");
        watched.kill_parent();
    }
    until("the descriptors as before", SOON, || {
        (watched.server.descriptors().len() == descriptors).then_some(())
    });
    watched.stop();
}

/// The rest of the state is kept all the same.
fn a_state_that_is_too_long_is_told_of_and_left_out(world: &mut World) {
    let watched = Watched::new(world, &["--saves-bytes", "70000"]);
    watched.server.signal(Signal::SIGTTIN);
    watched.expect("max_clients is now 41", 1);
    let told = "the hooks save 70000 bytes, which is more than a holder keeps";
    let is_told = |stderr: &str| stderr.contains(told);
    watched.server.expect_stderr("a warning", is_told);
    who(&watched.address());
    watched.kill_parent();
    assert_eq!(watched.said("restored"), 0);
    let stdout = watched.stop();
    assert!(stdout.contains("max_clients 41"), "{stdout}");
}

/// There is one before and after, and it is the same.
fn the_reserved_child_is_taken_over(world: &mut World) {
    let flags = ["--max", "5", "--shedder", "--set", "reserved_shedder=true"];
    let watched = Watched::new(world, &flags);
    let before = watched.expect_ready(5);
    watched.kill_parent();
    assert_eq!(
        watched.said("Some(Reserved)"),
        1,
        "{}",
        watched.server.stdout()
    );
    who(&watched.address());
    assert_eq!(watched.children(), before);
    let stdout = watched.stop();
    let report = stdout.lines().last().expect("a report");
    assert!(report.starts_with("5 forked"), "{report}");
}
