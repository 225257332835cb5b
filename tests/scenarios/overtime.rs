//! The clocks `start_timeout` and `busy_timeout` on real processes, alone and together with
//! `timeout`, and what is known of a child that they have ended.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use prefork_server::{ExecServer, PreFork};

use crate::subject::{
    Held, Journal, deaths, ended, ends_well, expect_entry, expect_exit, expect_up, has_signal,
    hold, journal, log_warnings, millis, nobody_was_blamed, pids, send, stop,
};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, connect, holds, processes,
    programs, scenarios, until,
};

pub mod lateness;
pub mod report;

pub const PROGRAMS: Programs = programs![by_words];

pub const SCENARIOS: Scenarios = scenarios![
    a_stuck_handler_is_ended_whatever_it_does,
    a_start_that_hangs_is_ended_and_slows_forks_down,
    each_clock_ends_what_it_bounds_and_nothing_else,
    a_slow_client_has_busy_timeout_and_no_more,
    a_connection_that_asks_for_more_time_has_it,
    short_connections_without_a_pause_are_left_alone,
    a_child_that_the_hook_leaves_alone_is_reported_again,
    a_culled_child_that_is_stuck_is_ended,
    a_server_that_was_stopped_as_a_whole_blames_nobody,
    a_parent_that_was_stopped_ends_a_stuck_child_afterwards,
    a_program_without_notes_is_judged_by_its_words,
];

/// The six kinds of being stuck, and whether SIGINT ends one of them.
const KINDS: [&str; 6] = [
    "spin",
    "sleep",
    "read-for-ever",
    "stop",
    "mask",
    "wait-uninterruptibly",
];

// The program.

/// Children that are another program, which notes nothing in shared memory.
fn by_words(args: Args) -> std::process::ExitCode {
    log_warnings();
    let script = args.value("--script").expect("a script");
    let server = ExecServer::new("sh").args(["-c", script]);
    let run = || {
        let mut prefork = PreFork::builder(server)
            .hooks(Journal::new(&args))
            .start_servers(1)
            .max_spare_servers(10)
            .start_timeout(millis(&args, "--start-timeout", 0))
            .busy_timeout(millis(&args, "--busy-timeout", 0))
            .kill_timeout(Duration::from_millis(100))
            .start()?;
        println!("{}", prefork.run()?);
        Ok(())
    };
    ended(run())
}

// What the journal tells.

/// The fields of a death, by their names.
fn death_of(server: &Server, pid: u32) -> BTreeMap<String, String> {
    let entry = expect_entry(server, "death", pid);
    let (numbers, texts) = entry.rest.split_once(" stuck=").expect("the fields");
    let (stuck, lines) = texts.split_once(" lines=").expect("the lines");
    let numbers = numbers.split(' ').filter_map(|field| field.split_once('='));
    let texts = [("stuck", stuck), ("lines", lines)];
    let fields = numbers.chain(texts);
    fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn time(death: &BTreeMap<String, String>, field: &str) -> Duration {
    Duration::from_micros(death[field].parse().expect("microseconds"))
}

/// How long the work had taken when the hook was called for it.
fn took(server: &Server, pid: u32) -> Duration {
    let entry = expect_entry(server, "overtime", pid);
    Duration::from_micros(entry.rest.parse().expect("microseconds"))
}

// The scenarios.

const BUSY: Duration = Duration::from_secs(1);
const KILL: Duration = Duration::from_millis(200);

/// SIGINT, then SIGKILL; the others serve meanwhile, and each is replaced.
///
/// Without `check_clocks` in the turn: no child is ever told.
fn a_stuck_handler_is_ended_whatever_it_does(world: &mut World) {
    // The process for which one of the kinds waits.
    world.expect_orphans();
    let flags = ["--busy-timeout", "700", "--kill-timeout", "100"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    for kind in KINDS {
        let mut stuck = Held::new(&address);
        stuck.client.send_line(kind);
        assert!(
            took(&server, stuck.pid) >= Duration::from_millis(700),
            "{kind}"
        );
        Held::new(&address).is_served();
        expect_exit(&server, stuck.pid, "Overtime signal: 9 (SIGKILL)");
        stuck.client.gone();
        // The log repeats nothing within ten seconds.
        if kind == KINDS[0] {
            let stderr = server.expect_stderr(kind, |text| text.contains(&stuck.pid.to_string()));
            let about = |line: &&str| line.contains(&format!("child {} ", stuck.pid));
            let lines: Vec<&str> = stderr.lines().filter(about).collect();
            assert_eq!(lines.len(), 1, "{stderr}");
            assert!(
                lines[0].contains("has exceeded busy_timeout and was ended"),
                "{stderr}"
            );
            assert!(lines[0].contains(", the last in hand for "), "{stderr}");
        }
    }
    ends_well(&server);
    assert_eq!(deaths(&server, "Overtime"), KINDS.len() as u64);
}

/// A start that hangs counts as failed from the moment in which it is found: each further one makes
/// the delay of the next fork longer.
fn a_start_that_hangs_is_ended_and_slows_forks_down(world: &mut World) {
    let flags = ["--start", "2", "--stuck", "--start-timeout", "300"];
    let server = world.spawn("serve", &[&flags[..], &["--kill-timeout", "50"]].concat());
    server.address();
    let first = until("a child that hangs", SOON, || {
        pids(&server, "forked").first().copied()
    });
    assert!(took(&server, first) >= Duration::from_millis(300));
    expect_exit(&server, first, "StartTimeout signal: 9 (SIGKILL)");
    let text = server.expect_stderr("a long delay", |text| text.contains("next fork in 200ms"));
    let warning = format!("child {first} failed to start: signal: 9 (SIGKILL)");
    assert!(text.contains(&warning), "{text}");
    // Some four waves a second without the delays.
    holds("few are forked", Duration::from_secs(1), || {
        pids(&server, "forked").len() <= 2 * 7
    });
    ends_well(&server);
    assert!(deaths(&server, "StartTimeout") >= 3);
}

/// All three clocks are on, and each child breaks another one.
fn each_clock_ends_what_it_bounds_and_nothing_else(world: &mut World) {
    let start = ["--start-timeout", "2000", "--busy-timeout", "1200"];
    let silence = [
        "--timeout",
        "3000",
        "--check",
        "50",
        "--kill-timeout",
        "100",
    ];
    let hanging = world.tempdir().join("hanging");
    let hangs = ["--misdeed", "spin", "--misdeed-while"];
    let hangs = [&hangs[..], &[hanging.to_str().unwrap()]].concat();
    let spare = ["--min-spare", "2"];
    let server = world.spawn("serve", &[&start[..], &silence, &hangs, &spare].concat());
    let address = server.address();
    let children = expect_up(&server, 2);
    // A client that is slow: its child says ACK, and is not silent.
    let mut slow = Held::new(&address);
    expect_entry(&server, "overtime", slow.pid);
    slow.client.gone();
    // The other child waits, longer than any limit of a start or a connection, until it hangs.
    let waits = *children.iter().find(|pid| **pid != slow.pid).unwrap();
    expect_entry(&server, "ready", waits);
    // From now on each child hangs in its start, as the successor of the silent one.
    std::fs::write(&hanging, "").expect("a file");
    stop(waits);
    expect_entry(&server, "silent-free", waits);
    expect_exit(&server, waits, "TimedOut signal: 9 (SIGKILL)");
    let starts = until("a start that takes too long", SOON, || {
        let over = pids(&server, "overtime").into_iter();
        over.into_iter().find(|pid| *pid != slow.pid)
    });
    assert!(took(&server, starts) >= Duration::from_millis(2000));
    std::fs::remove_file(&hanging).expect("no file");
    expect_exit(&server, starts, "StartTimeout signal: 9 (SIGKILL)");
    ends_well(&server);
    let entries = journal(&server);
    let overtime = |pid| {
        entries
            .iter()
            .any(|entry| entry.event == "overtime" && entry.pid == pid)
    };
    assert!(!overtime(waits));
    assert_eq!(deaths(&server, "Overtime"), 1);
    assert_eq!(deaths(&server, "TimedOut"), 1);
    assert!(deaths(&server, "StartTimeout") >= 1);
}

/// The clock does not ask who is slow: a client that keeps its child for too long loses it. A child
/// that reacts to SIGINT is not killed until `kill_timeout`, and serves on until then.
fn a_slow_client_has_busy_timeout_and_no_more(world: &mut World) {
    let flags = ["--busy-timeout", "3000", "--kill-timeout", "60000"];
    let server = world.spawn("serve", &[&flags[..], &["--timeout", "2000"]].concat());
    let mut held = Held::new(&server.address());
    expect_entry(&server, "overtime", held.pid);
    held.is_served();
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Overtime exit status: 0");
    assert_eq!(death_of(&server, pid)["in-hand"], "0");
    ends_well(&server);
}

/// `Conn::extend` holds for the connection in hand only.
///
/// Without the extension in `WorkLimits::end`: the first is told after a second and a half.
fn a_connection_that_asks_for_more_time_has_it(world: &mut World) {
    let flags = [
        "--start",
        "1",
        "--busy-timeout",
        "1500",
        "--kill-timeout",
        "50",
    ];
    let server = world.spawn("serve", &[&flags[..], &["--max-clients", "1"]].concat());
    let address = server.address();
    let mut first = Held::new(&address);
    assert_eq!(first.client.ask("extend 4000"), "done");
    holds("it is left alone", Duration::from_millis(2800), || {
        pids(&server, "overtime").is_empty()
    });
    first.is_served();
    assert_eq!(first.client.ask("extend 60000"), "done");
    let pid = first.pid;
    drop(first);
    let mut second = Held::new(&address);
    assert_eq!(second.pid, pid, "there is one child");
    let took = took(&server, pid);
    assert!(took < Duration::from_secs(30), "{took:?}");
    second.client.gone();
    ends_well(&server);
}

/// A child under load says no word between its connections, and is busy forever by its words. Its
/// notes tell when each connection began.
///
/// By their words alone (`busy_since` in `Child::connection`) both are told after two seconds.
fn short_connections_without_a_pause_are_left_alone(world: &mut World) {
    let flags = [
        "--start",
        "2",
        "--max-clients",
        "2",
        "--busy-timeout",
        "2000",
    ];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    expect_up(&server, 2);
    // Longer than the limit. Always more clients than children, so that one is queued when another
    // has been served.
    let mut waiting: Vec<_> = (0..8).map(|_| connect(&address)).collect();
    let start = std::time::Instant::now();
    let mut served = 0;
    while start.elapsed() < Duration::from_millis(3500) {
        waiting.push(connect(&address));
        drop(Held::of(waiting.remove(0)));
        served += 1;
    }
    waiting
        .into_iter()
        .for_each(|client| drop(Held::of(client)));
    assert!(served > 20, "{served}");
    nobody_was_blamed(&server);
    ends_well(&server);
}

/// An override that does nothing is called again after as much time more, and not in each turn.
fn a_child_that_the_hook_leaves_alone_is_reported_again(world: &mut World) {
    let server = world.spawn("serve", &["--busy-timeout", "300", "--lenient"]);
    let mut held = Held::new(&server.address());
    until("three reports", SOON, || {
        (pids(&server, "overtime").len() >= 3).then_some(())
    });
    let entries = journal(&server);
    let reports: Vec<_> = entries
        .iter()
        .filter(|entry| entry.event == "overtime")
        .collect();
    for pair in reports.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(300));
    }
    held.is_served();
    drop(held);
    ends_well(&server);
}

/// A culled child may serve on for as long as it likes, but not longer than `busy_timeout`.
///
/// Without `Overtime` in `Retirement::overrides`: it is told and never killed.
fn a_culled_child_that_is_stuck_is_ended(world: &mut World) {
    // Where another could be forked, that might serve the third client.
    let size = ["--start", "3", "--max-spare", "2", "--max-clients", "3"];
    let times = ["--busy-timeout", "1000", "--kill-timeout", "4000"];
    let flags = [&size[..], &times, &["--cull-after", "200", "--deaf"]].concat();
    let server = world.spawn("serve", &flags);
    let address = server.address();
    // It has blocked SIGINT, so it notices that it was told when it is woken for a client.
    let culled = until("a child to be culled", SOON, || {
        let mut children = server.children().into_iter();
        children.find(|pid| has_signal(*pid, "ShdPnd", Signal::SIGINT))
    });
    let mut clients = hold(&address, 3);
    let held = clients.iter_mut().find(|held| held.pid == culled);
    held.expect("a client of the culled child")
        .client
        .send_line("spin");
    assert!(took(&server, culled) >= Duration::from_secs(1));
    expect_exit(&server, culled, "Overtime signal: 9 (SIGKILL)");
    drop(clients);
    ends_well(&server);
}

/// Parent and children stand still together: neither has had its time.
fn a_server_that_was_stopped_as_a_whole_blames_nobody(world: &mut World) {
    let flags = ["--start-timeout", "1500", "--busy-timeout", "1500"];
    let server = world.spawn("serve", &[&flags[..], &["--kill-timeout", "50"]].concat());
    let address = server.address();
    let children = expect_up(&server, 2);
    let mut held = Held::new(&address);
    children.iter().for_each(|&pid| stop(pid));
    stop(server.pid());
    holds("the server is stopped", Duration::from_secs(3), || {
        processes::state(server.pid()) == Some('T')
    });
    server.signal(Signal::SIGCONT);
    children.iter().for_each(|&pid| send(pid, Signal::SIGCONT));
    held.is_served();
    nobody_was_blamed(&server);
    drop(held);
    Held::new(&address).is_served();
    nobody_was_blamed(&server);
    ends_well(&server);
}

/// The parent cannot look while it is stopped, and ends what is stuck when it goes on.
fn a_parent_that_was_stopped_ends_a_stuck_child_afterwards(world: &mut World) {
    let flags = ["--busy-timeout", "1000", "--kill-timeout", "100"];
    let server = world.spawn("serve", &flags);
    let mut stuck = Held::new(&server.address());
    stop(server.pid());
    stuck.client.send_line("spin");
    holds("the parent is stopped", Duration::from_secs(2), || {
        processes::state(server.pid()) == Some('T')
    });
    server.signal(Signal::SIGCONT);
    expect_exit(&server, stuck.pid, "Overtime signal: 9 (SIGKILL)");
    stuck.client.gone();
    ends_well(&server);
}

/// A program that says BUSY and no NOT_BUSY takes too long; one that says no word takes too long to
/// start.
fn a_program_without_notes_is_judged_by_its_words(world: &mut World) {
    let busy = "printf '\\n\\021\\n\\023\\n'; exec sleep 1000";
    for (script, flag, cause) in [
        (busy, "--busy-timeout", "Overtime signal: 2 (SIGINT)"),
        (
            "exec sleep 1000",
            "--start-timeout",
            "StartTimeout signal: 2 (SIGINT)",
        ),
    ] {
        let launch = world
            .program("by_words")
            .args(&["--script", script, flag, "400"]);
        let server = launch.spawn();
        let pid = until("a child", SOON, || pids(&server, "forked").first().copied());
        assert!(took(&server, pid) >= Duration::from_millis(400), "{cause}");
        expect_exit(&server, pid, cause);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait(SOON).code(), Some(0));
    }
}
