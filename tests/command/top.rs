//! `prefork top` on real servers, in a real terminal: what it shows, what hostile children make of it,
//! and how it leaves the terminal.

use std::env;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{strace, tell, terminal::Terminal, text, unread::Unread, watched::Watched};
use crate::support::{
    Client, SOON, Scenarios, Server, Signal, World, connect, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    top_needs_a_terminal,
    top_shows_children_and_retires_them,
    top_shows_where_a_living_child_is,
    top_gives_the_terminal_back_when_it_is_told_to_end,
    top_goes_on_when_the_server_has_gone,
    top_gives_the_terminal_back_when_it_panics,
    a_key_that_comes_with_a_new_size_is_read,
    hostile_children_garble_nothing,
];

const USAGE: i32 = 64;

fn top_needs_a_terminal(world: &mut World) {
    let watched = Watched::new(world);
    let refused = tell(world, &["top", "--status", text(&watched.status)], USAGE);
    assert!(
        refused.contains("top needs a terminal; `prefork status`"),
        "{refused}"
    );
    watched.stop(world);
}

fn top_shows_children_and_retires_them(world: &mut World) {
    let watched = Watched::new(world);
    let pids = watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched.flags()) else {
        return watched.stop(world);
    };
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>();
    let process = format!("process {}  serving, ready", watched.server.pid());
    terminal.expect(&[&process, &pids[0], &pids[1], &pids[2], "q quit"]);
    // A busy child shows its client, without a key pressed.
    let mut held = connect(&watched.server.address());
    held.ask("hello");
    terminal.expect(&["1 busy 2 free", "busy", "127.0.0.1:"]);
    terminal.press("/");
    terminal.press("busy");
    terminal.press("Enter");
    // A screen may be seen when it is half drawn.
    let shown = terminal.until("the busy child alone", |screen| {
        let shown = pids.iter().filter(|pid| screen.contains(pid.as_str()));
        let shown: Vec<_> = shown.collect();
        (screen.contains("only \"busy\"") && shown.len() == 1).then_some(shown)
    });
    terminal.press("Enter");
    terminal.expect(&["details", &format!("child {} #", shown[0]), "1 connections"]);
    // The size changes, and changes back.
    for (width, height) in [("50", "12"), ("120", "40")] {
        terminal.tell(&["resize-window", "-t", "t", "-x", width, "-y", height]);
        terminal.expect(&["process ", "details", "PID"]);
        terminal.is_as_wide_as(width.parse().expect("a number"));
    }
    // The child goes when its client has gone.
    terminal.press("x");
    terminal.expect(&[&format!("retire child {}? y for yes", shown[0])]);
    terminal.press("y");
    terminal.expect(&[&format!("retiring {}", shown[0])]);
    assert_eq!(held.ask("still"), "still");
    drop(held);
    terminal.expect(&[&format!("child {} has ended (Recycled); child ", shown[0])]);
    terminal.press("q");
    terminal.is_as_before(0);
    terminal.close();
    watched.stop(world);
}

/// Its stack where the server collects stacks, and where it stands in the kernel anyhow. It is in the
/// details until another child is chosen, and the child serves on.
fn top_shows_where_a_living_child_is(world: &mut World) {
    let watched = Watched::new(world);
    let pids = watched.pids(world);
    let mut held = connect(&watched.server.address());
    held.ask("hello");
    let Some(terminal) = Terminal::open(world, &watched.flags()) else {
        drop(held);
        return watched.stop(world);
    };
    terminal.expect(&["1 busy 2 free", "t stack"]);
    // The busy one is the first.
    let first = |screen: &str| rows(screen).first().map(|(pid, _)| *pid);
    let pid = terminal.until("a busy child", first);
    terminal.press("t");
    let place = format!("child {pid} is in ");
    let missing = "no stack: the server is built without the feature";
    let second = if cfg!(feature = "stacks") {
        "  at "
    } else {
        missing
    };
    terminal.expect(&["details", " ago:", &place, "state ", second]);
    assert_eq!(held.ask("still"), "still", "it serves on");
    terminal.press("j");
    terminal.until("the details of another child", |screen| {
        (screen.contains("details") && !screen.contains(&place)).then_some(())
    });
    terminal.press("k");
    terminal.expect(&[" ago:", &place]);
    terminal.press("q");
    terminal.is_as_before(0);
    terminal.close();
    assert_eq!(held.ask("on"), "on");
    let living = watched.server.children();
    assert!(pids.iter().all(|pid| living.contains(pid)), "{living:?}");
    drop(held);
    watched.stop(world);
}

fn top_gives_the_terminal_back_when_it_is_told_to_end(world: &mut World) {
    let watched = Watched::new(world);
    watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched.flags()) else {
        return watched.stop(world);
    };
    terminal.expect(&["process ", "q quit"]);
    let top = Pid::from_raw(terminal.top().cast_signed());
    kill(top, Signal::SIGTERM).expect("a signal");
    terminal.is_as_before(0);
    terminal.close();
    watched.stop(world);
}

/// It says so, shows what it knew last, and shows the next server at the same address.
fn top_goes_on_when_the_server_has_gone(world: &mut World) {
    let watched = Watched::new(world);
    watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched.flags()) else {
        return watched.stop(world);
    };
    terminal.expect(&["process ", "serving, ready"]);
    watched.stop(world);
    terminal.expect(&["no answer: "]);
    let next = Watched::new(world);
    let process = format!("process {}  serving, ready", next.server.pid());
    terminal.expect(&[&process]);
    terminal.press("C-c");
    terminal.is_as_before(0);
    terminal.close();
    next.stop(world);
}

/// No thread can be started for a command, and so it panics.
fn top_gives_the_terminal_back_when_it_panics(world: &mut World) {
    if strace::is_missing() {
        return;
    }
    let watched = Watched::new(world);
    watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched.flags()) else {
        return watched.stop(world);
    };
    terminal.expect(&["process ", "q quit"]);
    let inject = [
        "-e",
        "trace=clone,clone3",
        "-e",
        "inject=clone,clone3:error=EAGAIN",
    ];
    let trace = strace::Trace::attach(world, terminal.top(), &inject.map(str::to_owned));
    terminal.press("x");
    terminal.expect(&["? y for yes"]);
    terminal.press("y");
    terminal.is_as_before(101);
    // The message is whole, and what comes later is below it.
    let screen = terminal.expect(&["panicked at ", "failed to spawn thread"]);
    let place = |text: &str| screen.find(text).expect("its place");
    let places = [
        "before top",
        "panicked at ",
        "failed to spawn",
        "top has ended",
    ]
    .map(place);
    assert!(places.is_sorted(), "{screen}");
    trace.finish();
    terminal.close();
    watched.stop(world);
}

/// The signal for the new size and the key are there when it looks for the first of them.
fn a_key_that_comes_with_a_new_size_is_read(world: &mut World) {
    world.deadline(Duration::from_secs(60));
    let watched = Watched::new(world);
    watched.pids(world);
    let mut terminal = Unread::open(world, &watched.flags());
    until("its screen", SOON, || {
        let shown = String::from_utf8_lossy(terminal.read()).into_owned();
        shown.contains("q quit").then_some(())
    });
    terminal.fill();
    terminal.resize(90, 25);
    terminal.press(b"q");
    let status = until("its end", SOON, || {
        terminal.read();
        terminal.top.try_wait()
    });
    assert!(status.success(), "{status}");
    watched.stop(world);
}

// Hostile children.

/// How long they scribble; `SCRIBBLE_SECONDS=60` makes the figure in the documents.
fn scribble_time() -> Duration {
    let asked = env::var("SCRIBBLE_SECONDS").ok();
    let asked = asked.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(2))
}

/// What makes a terminal clear its screen, take another title, write in red and from right to left.
const ORDERS: &str = "\u{1b}[2J\u{1b}]2;owned\u{7}\u{9b}31m\u{202e}";

/// Connections that the children of a server hold, and the pids of those.
fn hold(server: &Server, count: usize) -> (Vec<Client>, Vec<u32>) {
    let mut clients: Vec<_> = (0..count).map(|_| connect(&server.address())).collect();
    let pid = |client: &mut Client| client.ask("pid").parse().expect("a pid");
    let pids = clients.iter_mut().map(pid).collect();
    (clients, pids)
}

fn helper_of(server: &Server) -> u32 {
    let is_helper = |pid: &u32| {
        processes::Process::read(*pid).is_some_and(|process| process.name == "prefork-status")
    };
    until("the helper", SOON, || {
        server.children().into_iter().find(is_helper)
    })
}

/// Whether each part of the screen is where it belongs, with the details open.
fn is_whole(screen: &str, server: u32) -> bool {
    let lines: Vec<_> = screen.lines().collect();
    let [header, _, _, _, columns, .., last] = lines[..] else {
        return false;
    };
    let Some(frame) = lines
        .iter()
        .position(|line| line.starts_with("\u{250c} details "))
    else {
        return false;
    };
    let is_side = |line: &&str| line.starts_with('\u{2502}') && line.ends_with('\u{2502}');
    header.starts_with(&format!("process {server}  "))
        && (columns.starts_with("PID") || columns.starts_with("AGO"))
        && lines[frame + 1..lines.len() - 2].iter().all(is_side)
        && last.starts_with("q quit")
}

/// The process ids and states of the children on the screen.
fn rows(screen: &str) -> Vec<(u32, &str)> {
    let rows = screen.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?))
    });
    rows.collect()
}

/// How many connections the screen says were taken.
fn connections(screen: &str) -> Option<u64> {
    let (_, rest) = screen.split_once("connections ")?;
    rest.split_once(" taken")?.0.parse().ok()
}

/// Waits until the screen has the living children, all of them free, and none that has gone. Returns
/// how many connections were taken.
fn numbers_are_right(terminal: &Terminal, server: &Server, gone: &[u32]) -> u64 {
    terminal.until("the right children", |screen| {
        let mut shown = rows(screen);
        shown.sort_unstable();
        let mut living = server.children();
        living.retain(|pid| *pid != helper_of(server));
        living.sort_unstable();
        let pids: Vec<_> = shown.iter().map(|(pid, _)| *pid).collect();
        let all_free = shown.iter().all(|(_, state)| *state == "free");
        let sum = format!("0 busy {} free of at most 5", living.len());
        let none_has_gone = gone.iter().all(|pid| !living.contains(pid));
        let is_right = !living.is_empty() && pids == living && all_free && none_has_gone;
        connections(screen).filter(|_| is_right && screen.contains(&sum))
    })
}

/// All children write nonsense over their slots, or say what a terminal would obey. What is drawn stays
/// whole, keys are read, and the numbers are right when those children have gone.
fn hostile_children_garble_nothing(world: &mut World) {
    let time = scribble_time();
    world.deadline(time + Duration::from_secs(60));
    let status = world.tempdir().join("status");
    let flags = ["--status", text(&status)];
    let server = world.spawn("told", &[&flags[..], &["--children", "5"]].concat());
    let (mut clients, pids) = hold(&server, 5);
    let helper = helper_of(&server);
    let Some(terminal) = Terminal::open(world, &flags) else {
        drop(clients);
        assert!(server.stop(Signal::SIGTERM, SOON).success());
        return;
    };
    terminal.expect(&["5 busy 0 free", "q quit"]);
    let title = terminal.title();
    let top = terminal.top();
    let (quiet, scribblers) = clients.split_first_mut().expect("five clients");
    quiet.ask(ORDERS);
    terminal.expect(&["[2J ]2;owned  31m\u{fffd}"]);
    terminal.press("Enter");
    for client in scribblers {
        assert_eq!(client.ask("scribble"), "scribbled");
    }
    let began = Instant::now();
    while began.elapsed() < time {
        for key in ["s", "j", "r", "d", "d"] {
            terminal.until("a whole screen", |screen| {
                is_whole(screen, server.pid()).then_some(())
            });
            terminal.press(key);
        }
    }
    assert_eq!((terminal.top(), terminal.title()), (top, title));
    assert_eq!(helper_of(&server), helper);
    // The numbers, once they have gone.
    for pid in &pids {
        // OK if the parent has replaced it: a random number may ask for that.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
    drop(clients);
    let taken = numbers_are_right(&terminal, &server, &pids);
    assert!(taken <= 5, "{taken} connections were taken");
    let (mut client, _) = hold(&server, 1);
    client[0].ask("GET /after");
    terminal.expect(&["1 busy ", "127.0.0.1:", "GET /after"]);
    terminal.until("one connection more", |screen| {
        (connections(screen)? == taken + 1).then_some(())
    });
    drop(client);
    terminal.press("q");
    terminal.is_as_before(0);
    terminal.close();
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}
