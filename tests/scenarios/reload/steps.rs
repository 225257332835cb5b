//! Replacement step by step: how many children are replaced at once, which go first when a reload
//! overtakes another one, a hook that panics, and limits with jitter. A gate holds new children where
//! the order matters.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    replace_at_once_bounds_the_successors_that_start,
    a_reload_during_a_reload_retires_the_second_epoch_first,
    a_reload_whose_hook_panics_changes_nothing,
    children_with_jitter_leave_after_different_numbers_of_connections,
];

/// None of the successors becomes ready, so no further one is forked.
///
/// Without the bound in `Replacement::step` there are twenty.
fn replace_at_once_bounds_the_successors_that_start(world: &mut World) {
    for (flags, at_once) in [(&[][..], 1), (&["--replace-at-once", "3"], 3)] {
        let flags = [flags, &["--start", "10", "--kill-timeout", "100"]].concat();
        let reloaded = Reloaded::new(world, &flags);
        let before = reloaded.server.expect_children(10);
        reloaded.expect("ready\n", 10);
        reloaded.reload("hanging");
        reloaded.expect("began", 1);
        reloaded.server.expect_children(10 + at_once);
        holds("no further one", Duration::from_millis(500), || {
            let living = reloaded.server.children();
            living.len() == 10 + at_once && before.iter().all(|old| living.contains(old))
        });
        reloaded.reload("third");
        reloaded.expect("reloaded, ", 1);
        reloaded.expect_settings("third");
        assert_eq!(reloaded.stop(), 0, "the capacity fell");
    }
}

/// Who was replaced by whom, in this order.
fn replacements(reloaded: &Reloaded) -> Vec<(String, String)> {
    let stdout = reloaded.server.stdout();
    let lines = stdout.lines().filter_map(|line| {
        let (old, new) = line.strip_prefix("replaced ")?.split_once(" by ")?;
        Some((old.to_owned(), new.to_owned()))
    });
    lines.collect()
}

/// One child of the second epoch serves, and another one stands in its start, when a third epoch
/// begins: these two go before any further child of the first.
fn a_reload_during_a_reload_retires_the_second_epoch_first(world: &mut World) {
    let reloaded = Reloaded::new(world, &["--kill-timeout", "200"]);
    reloaded.server.expect_children(4);
    reloaded.expect("ready\n", 4);
    let mut start = world.gate("start");
    reloaded.reload("second");
    let second = start.reached(SOON);
    start.release(second);
    reloaded.expect("replaced ", 1);
    let starting = start.reached(SOON);
    reloaded.reload("third");
    reloaded.expect("began 2", 1);
    start.open();
    reloaded.expect("reloaded, ", 1);
    reloaded.expect_settings("third");
    let replaced = replacements(&reloaded);
    let second = &replaced[0].1;
    assert_eq!(
        &replaced[1].0, second,
        "the second epoch goes first: {replaced:?}"
    );
    assert_eq!(
        replaced.len(),
        5,
        "the one that was starting served nobody: {replaced:?}"
    );
    reloaded.expect(&format!("exited {starting} Reloaded"), 1);
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

fn a_reload_whose_hook_panics_changes_nothing(world: &mut World) {
    world.expect_panics();
    let reloaded = Reloaded::new(world, &[]);
    let before = reloaded.server.expect_children(4);
    reloaded.expect_settings("first");
    reloaded.reload("panic");
    reloaded.expect("failed: reload the settings: the hook has panicked", 1);
    reloaded.expect_settings("first");
    assert_eq!(reloaded.server.expect_children(4), before);
    assert_eq!(reloaded.said("began"), 0);
    let stderr = reloaded.server.stderr();
    let line = "hook handler_reload panicked: these settings are too much";
    assert_eq!(stderr.matches(line).count(), 1, "{stderr}");
    // The next one is a reload like any other.
    reloaded.reload("third");
    reloaded.expect("reloaded, 4 replaced", 1);
    reloaded.expect_settings("third");
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
    assert!(reloaded.said(" 1 hook panics") == 1);
}

/// How many connections each child had that has left at its limit, by four clients.
fn connections_at_the_limit(world: &mut World, jitter: &str) -> Vec<u32> {
    let flags = ["--max-requests", "60", "--jitter", jitter];
    let reloaded = Reloaded::new(world, &flags);
    reloaded.server.expect_children(4);
    let address = reloaded.server.address();
    let (served, over) = (Mutex::new(BTreeMap::new()), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut client = connect(&address);
                    let (pid, _) = ask(&mut client, "who");
                    *served.lock().unwrap().entry(pid).or_insert(0) += 1;
                }
            });
        }
        let server = &reloaded.server;
        server.expect_stdout("12 to leave", |stdout| at_their_limit(stdout).len() >= 12);
        over.store(true, Ordering::Relaxed);
    });
    let stdout = reloaded.server.stdout();
    reloaded.stop();
    let served = served.into_inner().unwrap();
    let left = at_their_limit(&stdout);
    left.iter().map(|pid| served[pid]).collect()
}

/// The children that have left at their limit. Where the successor comes late a child ends by itself.
fn at_their_limit(stdout: &str) -> Vec<u32> {
    let left = stdout.lines().filter_map(|line| {
        let (pid, cause) = line.strip_prefix("exited ")?.split_once(' ')?;
        ["Recycled", "Finished"]
            .contains(&cause)
            .then(|| pid.parse().ok())?
    });
    left.collect()
}

/// Children of one age would leave together, and their successors after them. With a jitter of 50 %
/// a child leaves after 30 to 60 connections. It serves on by a tenth at most until its successor is
/// ready, and looks into the queue once more when it is told to leave.
fn children_with_jitter_leave_after_different_numbers_of_connections(world: &mut World) {
    let without = connections_at_the_limit(world, "0");
    assert!(
        without.iter().all(|count| (60..=67).contains(count)),
        "{without:?}"
    );
    let with = connections_at_the_limit(world, "50");
    assert!(
        with.iter().all(|count| (30..=67).contains(count)),
        "{with:?}"
    );
    // No more of them: on a busy machine a successor comes late, and a child serves on until then.
    let early = with.iter().filter(|count| **count < 60).count();
    assert!(early >= 2, "they leave together: {with:?}");
}
