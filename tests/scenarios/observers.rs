//! Observers and the log, on real processes: which events are reported, in which order, and what
//! happens to an observer that fails.
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prefork_server::{
    Child, ChildId, ChildServer, Death, Error, Event, Monitor, Observer, PreFork, PreForkHooks,
    Saturation, TcpServer, defaults,
};

use crate::subject::{
    Held, announce, converse, count, deaths, ended, ends_well, millis, report, send, spawn_thread,
    stop,
};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, Signal, World, connect, pause, programs, scenarios,
    until,
};

pub mod order;
mod program;

use self::program::{Written, pid, watched};

pub const PROGRAMS: Programs = programs![watched];

pub const SCENARIOS: Scenarios = scenarios![
    every_event_is_told_in_order_and_after_its_hook,
    a_child_told_to_stop_is_told_of_before_its_signal,
    a_fork_that_fails_is_told_of_after_its_hook,
    an_observer_that_panics_is_survived_and_the_next_one_is_told,
    an_observer_that_is_slow_is_measured_and_reported,
    the_log_has_a_line_for_each_thing_in_order,
    deaths_of_one_kind_are_a_line_and_a_number,
    a_saturation_is_told_with_who_waits,
    o24_a_death_is_one_line_on_stderr_without_a_logger,
    o24_an_abort_is_one_line_in_a_log_at_info,
    o24_a_child_that_timed_out_is_one_line,
    o24_a_logger_that_is_off_silences_the_server,
    o24_a_death_is_dropped_and_counted_where_stderr_is_full,
    o24_the_refusal_of_threads_tells_unnamed_ones_apart,
];

// The scenarios.

/// What the hooks and the observer have written so far.
fn told(server: &Server) -> Vec<String> {
    let text = server.stdout();
    let lines = text.lines();
    let ours = lines.filter(|line| line.starts_with("hook ") || line.starts_with("event "));
    ours.map(str::to_owned).collect()
}

/// Waits until a line that begins so is written, and gives the pid at its end.
#[track_caller]
fn expect_told(server: &Server, beginning: &str) -> u32 {
    until(beginning, SOON, || {
        let lines = told(server);
        let line = lines.iter().rfind(|line| line.starts_with(beginning))?;
        Some(
            line.split(' ')
                .nth(2)
                .and_then(|pid| pid.parse().ok())
                .unwrap_or(0),
        )
    })
}

/// The lines on stderr that speak of a child.
fn said_of(server: &Server, pid: u32) -> Vec<String> {
    let name = format!("child {pid} ");
    let text = server.stderr();
    let lines = text.lines().filter(|line| line.contains(&name));
    lines.map(str::to_owned).collect()
}

/// The events of a pool of one: a client comes and goes, the child is killed, and the shutdown
/// tells the next one to stop.
fn every_event_is_told_in_order_and_after_its_hook(world: &mut World) {
    let server = world.spawn("watched", &[]);
    let address = server.address();
    expect_told(&server, "event ready");
    let held = Held::new(&address);
    let first = held.pid;
    expect_told(&server, "event saturated");
    drop(held);
    expect_told(&server, "event relieved");
    send(first, Signal::SIGKILL);
    expect_told(&server, "event exited");
    let second = until("a second child that is ready", SOON, || {
        Some(expect_told(&server, "event ready")).filter(|&pid| pid != first)
    });
    assert!(server.stdout().contains("\nturn "));
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let expected = format!(
        "event Starting\n\
         hook handler_start\n\
         event opened {address}\n\
         event Started\n\
         hook server_forked {first}\n\
         event forked {first}\n\
         event ready {first}\n\
         hook server_busy {first}\n\
         event busy {first}\n\
         hook saturated Some(0)\n\
         event saturated Some(0)\n\
         event free {first}\n\
         event relieved true\n\
         hook server_exited {first}\n\
         event exited {first} Killed\n\
         hook server_forked {second}\n\
         event forked {second}\n\
         event ready {second}\n\
         hook handler_shutdown\n\
         event ShuttingDown\n\
         event told {second} Shutdown\n\
         event signalled {second} Interrupt None\n\
         hook server_exited {second}\n\
         event exited {second} Shutdown\n\
         hook handler_stop\n\
         event closed {address}\n\
         event Ended"
    );
    assert_eq!(told(&server).join("\n"), expected);
    // The hooks of a child are heard in the parent; there are no observers in a child.
    let stdout = server.stdout();
    assert!(stdout.contains(&format!("{first} STDOUT: hook handler_shutdown")));
    assert!(!stdout.contains("STDOUT: event"), "{stdout}");
}

/// The events of a child that is stopped: SIGINT, then SIGKILL.
fn a_child_told_to_stop_is_told_of_before_its_signal(world: &mut World) {
    let flags = ["--timeout", "600", "--check", "100", "--kill-timeout", "50"];
    let server = world.spawn("watched", &flags);
    server.address();
    let child = expect_told(&server, "event ready");
    stop(child);
    expect_told(&server, "event exited");
    let mut lines = told(&server);
    lines.retain(|line| line.contains(&format!(" {child} ")));
    let expected = format!(
        "event told {child} TimedOut\n\
         event signalled {child} Interrupt None\n\
         event signalled {child} Kill None\n\
         event exited {child} TimedOut"
    );
    assert_eq!(lines.join("\n"), expected);
    ends_well(&server);
}

/// No descriptor is left for the pipes of the first child, until the hook frees one.
fn a_fork_that_fails_is_told_of_after_its_hook(world: &mut World) {
    let server = world.spawn("watched", &["--few-descriptors"]);
    server.address();
    expect_told(&server, "event ready");
    let lines = told(&server);
    let failed = lines.iter().position(|line| line == "hook fork_failed");
    let event = &lines[failed.expect("the hook") + 1];
    let expected = "event fork failed: pipe for a child: too many open files (os error 24); 100ms";
    assert_eq!(event, expected);
    ends_well(&server);
}

/// Without the `catch_unwind` in `caught` the parent ends at the first connection.
fn an_observer_that_panics_is_survived_and_the_next_one_is_told(world: &mut World) {
    world.expect_panics();
    let server = world.spawn("watched", &["--panicking", "--logger", "warn"]);
    let address = server.address();
    let mut held = Held::new(&address);
    expect_told(&server, "event busy");
    held.is_served();
    server.expect_stderr("who it was", |text| {
        text.contains("observer 1 panicked: it was told to")
    });
    drop(held);
    ends_well(&server);
    let report = report(&server);
    assert!(report.contains(", 1 hook panics"), "{report}");
}

/// If an observer panics, the next one is still called, and one of the two calls is counted.
fn an_observer_that_is_slow_is_measured_and_reported(world: &mut World) {
    let server = world.spawn("watched", &["--slow", "--logger", "warn"]);
    let address = server.address();
    let held = Held::new(&address);
    expect_told(&server, "event busy");
    let text = server.expect_stderr("how long it took", |text| text.contains("observer 1 took"));
    assert!(!text.contains("observer 2"), "{text}");
    drop(held);
    ends_well(&server);
    assert!(report(&server).contains(" 1 slow hooks"));
}

/// A death that was not asked for is one line on stderr, with the signal, if the program has no
/// logger and no observer.
fn o24_a_death_is_one_line_on_stderr_without_a_logger(world: &mut World) {
    let server = world.spawn("watched", &["--unobserved"]);
    let pid = Held::new(&server.address()).pid;
    send(pid, Signal::SIGKILL);
    server.expect_stderr("the death", |text| text.contains("has died"));
    // The shutdown is asked for, and its deaths are not spoken of.
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let begin = format!("prefork-server: warn: child {pid} has died: signal: 9 (SIGKILL) after ");
    let text = server.stderr();
    assert!(
        text.starts_with(&begin) && text.ends_with(", last lines \"\"\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// If the program has a logger, the logger gets that line and stderr does not.
fn o24_an_abort_is_one_line_in_a_log_at_info(world: &mut World) {
    let server = world.spawn("watched", &["--logger", "info"]);
    let pid = Held::new(&server.address()).pid;
    send(pid, Signal::SIGABRT);
    server.expect_stderr("the death", |text| text.contains("has died"));
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let lines = said_of(&server, pid);
    let [line] = lines.as_slice() else {
        panic!("one line of {lines:?}");
    };
    assert!(
        line.contains("WARN") && line.contains("(SIGABRT)"),
        "{line}"
    );
}

/// A child that has timed out is logged when it has ended, with the signal that ended it.
fn o24_a_child_that_timed_out_is_one_line(world: &mut World) {
    let flags = ["--timeout", "600", "--check", "100", "--kill-timeout", "50"];
    let server = world.spawn("watched", &flags);
    server.address();
    let child = expect_told(&server, "event ready");
    stop(child);
    expect_told(&server, "event exited");
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let lines = said_of(&server, child);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let how = "has timed out and was ended: signal: 9 (SIGKILL)";
    assert!(lines[0].contains(how), "{lines:?}");
}

/// Nothing is written to stderr if the logger's level is off.
fn o24_a_logger_that_is_off_silences_the_server(world: &mut World) {
    let server = world.spawn("watched", &["--logger", "off"]);
    let pid = Held::new(&server.address()).pid;
    send(pid, Signal::SIGKILL);
    expect_told(&server, "event exited");
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert_eq!(server.stderr(), "");
}

/// If stderr is full and not read, the line is dropped and counted: the parent does not wait.
///
/// With `eprintln!` in the place of `output::write_stderr` the second child never comes.
fn o24_a_death_is_dropped_and_counted_where_stderr_is_full(world: &mut World) {
    let (_reader, mut full) = io::pipe().unwrap();
    let size = fcntl(&full, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    full.write_all(&vec![b'x'; size.cast_unsigned() as usize])
        .unwrap();
    let server = world.program("watched").stderr(full).spawn();
    let address = server.address();
    let victim = Held::new(&address).pid;
    send(victim, Signal::SIGKILL);
    assert_eq!(expect_told(&server, "event exited"), victim);
    Held::new(&address).is_served();
    ends_well(&server);
    let begin =
        format!("prefork-server: warn: child {victim} has died: signal: 9 (SIGKILL) after ");
    let report = report(&server);
    let (before, _) = report.split_once(" bytes of output dropped").unwrap();
    let dropped = before
        .rsplit(' ')
        .next()
        .and_then(|count| count.parse().ok());
    assert!(
        dropped.is_some_and(|count: usize| count > begin.len()),
        "{report}"
    );
}

/// Threads without a name have that of the program: each is reported by its number, and by the
/// place in the kernel where it waits if /proc has it.
fn o24_the_refusal_of_threads_tells_unnamed_ones_apart(world: &mut World) {
    let server = world.spawn("watched", &["--thread"]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    let (_, list) = text.split_once("2 threads (").expect("the refusal");
    let (list, _) = list.split_once(");").expect("the end of the list");
    let tids = list.split(", ").map(|thread| thread.split(' ').next());
    let tids: Vec<u32> = tids.map(|tid| tid.unwrap().parse().unwrap()).collect();
    assert_eq!(tids.len(), 2, "{text}");
    assert_eq!(tids[0], server.pid());
    assert_ne!(tids[0], tids[1]);
}

/// What the log says at level `info`, without what stands before the text.
fn logged(server: &Server) -> Vec<String> {
    let text = server.stderr();
    let lines = text.lines().filter_map(|line| line.split_once("] "));
    lines.map(|(_, line)| line.to_owned()).collect()
}

/// Start, ready, reload, death, announced stop, stop.
fn the_log_has_a_line_for_each_thing_in_order(world: &mut World) {
    let flags = [
        "--logger",
        "info",
        "--max-clients",
        "3",
        "--pre-stop-delay",
        "60000",
    ];
    let server = world.spawn("watched", &flags);
    let address = server.address();
    server.expect_stderr("the first child", |text| text.contains("] ready after "));
    let victim = Held::new(&address).pid;
    send(victim, Signal::SIGABRT);
    server.expect_stderr("the death", |text| text.contains("has died"));
    server.signal(Signal::SIGHUP);
    server.expect_stderr("the reload", |text| text.contains("reloaded: "));
    server.signal(Signal::SIGTERM);
    server.expect_stderr("the announcement", |text| text.contains("announced"));
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    let lines = logged(&server);
    let expected = [
        format!(
            "started: listening on [{address}], with start_servers 1, max_clients 3, \
             pre_stop_delay 60 s"
        ),
        "ready after ".to_owned(),
        format!("child {victim} has died: signal: 6 (SIGABRT)"),
        "reload: epoch 1 begins".to_owned(),
        "reloaded: ".to_owned(),
        "a stop is announced, and begins in 60s".to_owned(),
        "stopping: ".to_owned(),
        "stopped: ".to_owned(),
    ];
    // In this order, though others may stand between them.
    let mut rest = lines.iter();
    for expected in &expected {
        let found = rest.any(|line| line.starts_with(expected));
        assert!(found, "no {expected:?} in its place: {lines:#?}");
    }
}

/// The number comes at the end, if ten seconds have not passed before.
fn deaths_of_one_kind_are_a_line_and_a_number(world: &mut World) {
    let server = world.spawn("watched", &["--max-clients", "3"]);
    let address = server.address();
    for _ in 0..4 {
        let victim = Held::new(&address).pid;
        send(victim, Signal::SIGKILL);
        until("it to be reaped", SOON, || {
            let ended = format!("event exited {victim} ");
            told(&server)
                .iter()
                .any(|line| line.starts_with(&ended))
                .then_some(())
        });
    }
    ends_well(&server);
    let text = server.stderr();
    assert_eq!(
        text.matches(" has died: signal: 9 (SIGKILL) after").count(),
        1
    );
    assert!(
        text.contains("3 more children: the child has died: signal: 9 (SIGKILL)"),
        "{text}"
    );
}

/// One line when clients have to wait, and one when that is over, here by the stop.
fn a_saturation_is_told_with_who_waits(world: &mut World) {
    let server = world.spawn("watched", &["--max-clients", "1"]);
    let address = server.address();
    // All three are there when the child takes the first one.
    let child = expect_told(&server, "event ready");
    stop(child);
    let held = connect(&address);
    let since = Instant::now();
    let mut waiting = [connect(&address), connect(&address)];
    send(child, Signal::SIGCONT);
    let begin = "saturated: all 1 children are busy, 2 clients wait, the first for ";
    let text = server.expect_stderr("the saturation", |text| text.contains(begin));
    let (_, age) = text.split_once(begin).expect("the line");
    let age = age.split_once(" s or more").expect("an age").0;
    let age: f64 = age.parse().expect("seconds");
    // It lasts for a second before it is told, and is looked at fifty times.
    assert!(
        (0.9..since.elapsed().as_secs_f64() + 0.1).contains(&age),
        "{age}"
    );
    drop(held);
    for client in &mut waiting {
        client.ask("who");
        client.close_write();
        client.gone();
    }
    ends_well(&server);
    let text = server.stderr();
    assert_eq!(text.matches(begin).count(), 1, "{text}");
    let end = text
        .lines()
        .find(|line| line.contains("no longer saturated: it lasted "));
    let end = end.unwrap_or_else(|| panic!("no end: {text}"));
    assert!(end.ends_with(", and at most 2 clients waited"), "{end}");
}
