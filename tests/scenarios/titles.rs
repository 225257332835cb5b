//! What ps shows of a server with `process_title`: each process says what it does, and neither the
//! arguments nor the environment of the program are changed for that.

use std::env;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use prefork_server::{PreFork, TcpServer};

use crate::subject::{Held, ended, ends_well};
use crate::support::{Args, Programs, SOON, Scenarios, Signal, World, programs, scenarios, until};

pub const PROGRAMS: Programs = programs![titled];

pub const SCENARIOS: Scenarios = scenarios![
    each_process_says_what_it_does,
    a_child_that_is_starting_says_so,
    where_the_kernel_refuses_the_name_of_the_thread_says_it,
    the_arguments_are_found_unchanged_and_shown_again_at_the_end,
    a_server_without_a_title_shows_its_arguments,
];

/// What ps shows, from the file that it reads.
fn shown(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&bytes).replace('\0', " ");
    words.trim_end().to_owned()
}

fn thread_name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[track_caller]
fn expect(look: fn(u32) -> String, pid: u32, expected: &str) {
    until(&format!("{pid} to show {expected:?}"), SOON, || {
        (look(pid) == expected).then_some(())
    });
}

const DAY: u64 = 24 * 60 * 60;

fn seconds_of_the_day() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a date after 1970");
    since.as_secs() % DAY
}

/// `12:03:07Z` in seconds.
fn parse_time(text: &str) -> u64 {
    let text = text.strip_suffix('Z').expect("UTC");
    let parts = text
        .split(':')
        .map(|part| part.parse::<u64>().expect("a number"));
    parts.fold(0, |sum, part| sum * 60 + part)
}

fn each_process_says_what_it_does(world: &mut World) {
    let server = world.spawn("serve", &["--title", "web", "--start", "3"]);
    let address = server.address();
    let children = server.expect_children(3);
    for &child in &children {
        expect(shown, child, "web: free");
    }
    expect(shown, server.pid(), "web: parent, 0 busy of 3");

    let before = seconds_of_the_day();
    let held = Held::new(&address);
    let busy = shown(held.pid);
    let since = busy
        .strip_prefix("web: busy 127.0.0.1 since ")
        .expect(&busy);
    // Midnight may be in between.
    let age = (parse_time(since) + DAY + 1 - before) % DAY;
    assert!(age < 20, "{busy}, {age} s after {before}");
    expect(shown, server.pid(), "web: parent, 1 busy of 3");

    // Nothing but the title is another one: the environment is that of the program.
    let path = env::var("PATH").expect("a path");
    let environment = fs::read(format!("/proc/{}/environ", held.pid)).expect("an environment");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(
        environment
            .split('\0')
            .any(|one| one == format!("PATH={path}"))
    );
    assert_eq!(thread_name(held.pid), thread_name(std::process::id()));

    let pid = held.pid;
    drop(held);
    expect(shown, pid, "web: free");
    expect(shown, server.pid(), "web: parent, 0 busy of 3");
    ends_well(&server);
}

fn a_child_that_is_starting_says_so(world: &mut World) {
    let mut gate = world.gate("start");
    let server = world.spawn("serve", &["--title", "slow", "--start", "1"]);
    server.address();
    let child = gate.reached(SOON);
    assert_eq!(shown(child), "slow: starting");
    gate.release(child);
    expect(shown, child, "slow: free");
    drop(gate);
    ends_well(&server);
}

fn where_the_kernel_refuses_the_name_of_the_thread_says_it(world: &mut World) {
    let flags = ["--title", "web-server", "--start", "2", "--no-title-area"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let arguments = shown(server.pid());
    assert!(arguments.ends_with("--no-title-area"), "{arguments}");
    for child in server.expect_children(2) {
        expect(thread_name, child, "web-serve: free");
    }
    expect(thread_name, server.pid(), "web-server: 0/2");
    let held = Held::new(&address);
    assert_eq!(thread_name(held.pid), "web-serve: busy");
    assert_eq!(shown(held.pid), arguments);
    expect(thread_name, server.pid(), "web-server: 1/2");
    drop(held);
    ends_well(&server);
}

/// Prints what it was started with and what is shown, before, during and after a server.
fn titled(args: Args) -> ExitCode {
    let look = |when: &str| {
        let args: Vec<_> = env::args().collect();
        println!("{when}: {} / {}", args.join(" "), shown(std::process::id()));
    };
    let run = || {
        look("before");
        let server = TcpServer::new(|_| Ok(())).port(0);
        let builder = PreFork::builder(server).process_title(args.value("--title").map(Into::into));
        let mut prefork = builder.start()?;
        let _ = prefork.turn(Some(Duration::ZERO))?;
        look("during");
        prefork.shutdown();
        while !prefork.turn(None)?.is_done() {}
        look("after");
        Ok(())
    };
    ended(run())
}

fn the_arguments_are_found_unchanged_and_shown_again_at_the_end(world: &mut World) {
    let server = world.spawn("titled", &["--title", "hand"]);
    assert_eq!(server.wait(SOON).code(), Some(0));
    let text = server.stdout();
    let looks: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(": ")?.1.split_once(" / "))
        .collect();
    let [before, during, after] = looks[..] else {
        panic!("{text}");
    };
    assert_eq!(before.0, before.1);
    assert_eq!(during, (before.0, "hand: parent, 0 busy of 0"));
    assert_eq!(after, before);
}

fn a_server_without_a_title_shows_its_arguments(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let held = Held::new(&server.address());
    assert_eq!(shown(held.pid), shown(server.pid()));
    assert!(
        shown(held.pid).ends_with("--start 1"),
        "{}",
        shown(held.pid)
    );
    drop(held);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}
