//! The runner: what it reports, lists, selects and repeats, and that each kind of fault is told.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::INNER;
use crate::support::{SOON, Scenarios, World, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    expected_faults_are_allowed,
    failed_scenarios_are_told_by_their_fault: long,
    failing_run_is_reported_as_such,
    good_scenario_passes,
    no_two_programs_have_one_name,
    listing_is_what_test_tools_expect,
    runner_killed_takes_all_with_it,
    scenarios_are_repeated,
    selection_is_by_name,
    unknown_option_is_refused,
];

// Scenarios about those.

/// How an inner run ended, and what it wrote.
struct Ended {
    status: ExitStatus,
    text: String,
}

/// Runs this test with the inner scenarios.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(arguments)
        .env(INNER, "1")
        .env("SCENARIO_PATIENCE", "1")
        // The trace of a panic that is wanted says nothing, and takes half a second to be made.
        .env("RUST_BACKTRACE", "0")
        .envs(variables.iter().copied());
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the inner run");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ended {
        status: output.status,
        text: text.into_owned(),
    }
}

/// Runs one inner scenario.
fn run_one(name: &str) -> Ended {
    run(&["--exact", name], &[])
}

/// Scenarios that fail, and what is told of each.
const FAILING: [(&str, &[&str]); 19] = [
    (
        "inner_abort",
        &["the scenario left behind", "--program sleeper"],
    ),
    ("inner_abort_bare", &["the scenario ended with signal: 6"]),
    (
        "inner_bare_daemon",
        &["without reaping", "still alive", "--program sleeper"],
    ),
    ("inner_busy_port", &["is not free: somebody listens on it"]),
    (
        "inner_daemon",
        &["still alive after 5s", "--program sleeper --own-session"],
    ),
    ("inner_early_exit", &["exited before its standing check"]),
    ("inner_fork_bomb", &["fork bomb: ", "10 are allowed"]),
    (
        "inner_hang",
        &["the scenario hangs", "1.5s", "fds: 0=/dev/null"],
    ),
    (
        "inner_hang",
        &[
            "still waiting for the server \"sleeper\"",
            "wchan",
            "SigBlk",
        ],
    ),
    (
        "inner_held_pipe",
        &[
            "in vain for the server \"hoarder\"",
            "descriptors of its own",
        ],
    ),
    (
        "inner_leak",
        &["a server exited without reaping", "still alive after 5s"],
    ),
    (
        "inner_never_listens",
        &["`listening on`", "exit status: 1", "no address to be had"],
    ),
    (
        "inner_not_waited_for",
        &["exit status: 0, and nobody waited for it"],
    ),
    (
        "inner_panic",
        &["tells of a panic", "000-panicker.stderr", "on purpose"],
    ),
    (
        "inner_still_running",
        &["the server \"sleeper\" (pid", "is still running"],
    ),
    ("inner_thread_panic", &["a thread of the scenario panicked"]),
    (
        "inner_unix_path_left",
        &["is not free: the path is still there"],
    ),
    (
        "inner_unreaped",
        &["a server exited without reaping", "state Z"],
    ),
    (
        "inner_vain_wait",
        &["waited 2s in vain for the moon", "---- 000-echo.stdout"],
    ),
];

fn failed_scenarios_are_told_by_their_fault(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let runs: Vec<_> = FAILING
        .iter()
        .map(|(name, wanted)| (name, wanted, std::thread::spawn(|| run_one(name))))
        .collect();
    for (name, wanted, run) in runs {
        let Ended { status, text } = run.join().unwrap();
        assert_eq!(status.code(), Some(101), "{name} should fail:\n{text}");
        for part in *wanted {
            assert!(text.contains(part), "{name} should say {part:?}:\n{text}");
        }
    }
    // The markers of inner runs extend the one of this run, so this looks for theirs as well.
    let left = world.processes();
    assert!(left.is_empty(), "the inner runs left {left:?}");
}

fn failing_run_is_reported_as_such(_: &mut World) {
    let Ended { status, text } = run(&["inner_good", "inner_early", "--test-threads=1"], &[]);
    assert_eq!(status.code(), Some(101));
    let at = |part: &str| {
        text.find(part)
            .unwrap_or_else(|| panic!("{part:?} in:\n{text}"))
    };
    assert!(at("running 2 tests") < at("test inner_early_exit ... FAILED"));
    assert!(at("test inner_good ... ok") < at("---- inner_early_exit output ----"));
    assert!(at("failures:") < at("test result: FAILED. 1 passed; 1 failed; 0 ignored; "));
    at("0 measured; 20 filtered out; finished in ");
}

fn good_scenario_passes(_: &mut World) {
    let Ended { status, text } = run_one("inner_good");
    assert!(status.success(), "{text}");
    assert!(text.contains("running 1 test\n"), "{text}");
    assert!(text.contains("test inner_good ... ok"), "{text}");
    assert!(
        text.contains("test result: ok. 1 passed; 0 failed; "),
        "{text}"
    );
}

fn expected_faults_are_allowed(_: &mut World) {
    for name in ["inner_expected", "inner_tidy_parent", "inner_killed_parent"] {
        let Ended { status, text } = run_one(name);
        assert!(status.success(), "{text}");
    }
}

fn scenarios_are_repeated(_: &mut World) {
    let Ended { status, text } = run(&["inner_good"], &[("SCENARIO_REPEAT", "5")]);
    assert!(status.success(), "{text}");
    let Ended { status, text } = run(&["early_exit"], &[("SCENARIO_REPEAT", "5")]);
    assert_eq!(status.code(), Some(101), "{text}");
    assert!(text.contains("FAILED (after 0 of 5 had passed)"), "{text}");
}

fn listing_is_what_test_tools_expect(_: &mut World) {
    let terse = run(&["--list", "--format", "terse", "--skip", "daemon"], &[]).text;
    assert_eq!(terse.lines().count(), 20, "{terse}");
    assert!(
        terse.lines().all(|line| line.ends_with(": test")),
        "{terse}"
    );
    let ignored = run(&["--list", "--format=terse", "--ignored"], &[]).text;
    assert_eq!(ignored, "");
    let verbose = run(&["--list", "inner_good"], &[]).text;
    assert_eq!(verbose, "inner_good: test\n\n1 tests, 0 benchmarks\n");
}

fn selection_is_by_name(_: &mut World) {
    let selected = |arguments: &[&str]| {
        let mut all = vec!["--list", "--format", "terse"];
        all.extend(arguments);
        run(&all, &[]).text.replace(": test\n", " ")
    };
    assert_eq!(
        selected(&["unix_path", "good"]),
        "inner_good inner_unix_path_left "
    );
    assert_eq!(selected(&["--exact", "good"]), "");
    assert_eq!(selected(&["daemon", "--skip", "bare"]), "inner_daemon ");
}

fn unknown_option_is_refused(_: &mut World) {
    let Ended { status, text } = run(&["--no-such-option"], &[]);
    assert_eq!(status.code(), Some(101));
    assert!(
        text.contains("Unrecognized option: --no-such-option"),
        "{text}"
    );
}

fn runner_killed_takes_all_with_it(world: &mut World) {
    let own = std::env::current_exe().unwrap();
    let launch = world.command(own).args(&["--exact", "inner_hang"]);
    let runner = launch.env(INNER, "1").spawn();
    // The runner, the scenario and its server.
    let count = |world: &World| world.processes().len();
    until("the server of the inner scenario", SOON, || {
        (count(world) == 3).then_some(())
    });
    runner.kill9();
    until("the end of the inner scenario", SOON, || {
        (count(world) == 0).then_some(())
    });
}

/// There is one table of programs: a second one of the same name would never be started.
fn no_two_programs_have_one_name(_: &mut World) {
    let programs = crate::PROGRAMS.concat();
    let mut names: Vec<&str> = programs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}
