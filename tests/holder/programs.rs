//! Children that are other programs, which know of no holder: they outlive their parent, end with the
//! holder, and their ends are told as those of other children.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::kills::{CLIENTS, hold, tell_times, under_load};
use crate::support::{
    Client, SOON, Scenarios, Signal, World, connect, pause, processes, scenarios, until,
};
use crate::watched::{Dice, Watched, expect_gone, send, try_send};

pub const SCENARIOS: Scenarios = scenarios![
    f01_programs_serve_on_when_their_parent_is_killed_at_random_moments,
    f02_a_parent_killed_while_it_forks_programs_loses_none_and_doubles_none,
    programs_in_other_languages_serve_on_when_their_parent_is_killed,
    the_end_of_a_program_is_told_with_its_status,
    programs_that_end_without_a_parent_are_accounted_for,
    what_a_program_has_said_is_known_to_the_next_parent,
    signals_of_hooks_reach_programs,
    what_outlives_its_wrapper_is_told_by_the_next_parent,
    a_holder_that_is_killed_takes_programs_with_it,
    a_program_that_is_to_end_by_another_signal_gets_that_one,
    a_holder_that_gives_up_tells_programs_and_their_groups,
    programs_beyond_the_slots_end_with_their_parent_and_are_replaced,
    a_program_of_a_connection_outlives_the_parent,
    before_the_exec_the_c_library_knows_the_new_process,
    programs_of_a_parent_with_threads_end_with_it_and_are_replaced,
];

/// How many parents the first scenario kills; `HOLDER_KILLS=10000` gives the figure in the documents.
const KILLS: usize = 20;
const CHILDREN: usize = 20;

fn watched(world: &mut World, flags: &[&str]) -> Watched {
    Watched::of(world.spawn("held_programs", flags))
}

/// The program of the children is a line for a shell.
fn watched_shell(world: &mut World, flags: &[&str], script: &str) -> Watched {
    watched(world, &[flags, &["--", "sh", "-c", script]].concat())
}

/// With a holder programs have that as their parent from the first moment, so the signal at their
/// parent's end does not come when the parent is killed.
fn f01_programs_serve_on_when_their_parent_is_killed_at_random_moments(world: &mut World) {
    let kills = std::env::var("HOLDER_KILLS").ok();
    let kills = kills.map_or(KILLS, |n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + Duration::from_secs(2) * u32::try_from(kills).unwrap());
    let children = CHILDREN.to_string();
    let watched = watched(world, &["--children", &children]);
    let before = watched.expect_children(CHILDREN);
    let mut dice = Dice::new();
    let served = under_load(&watched.address(), CLIENTS, || {
        for _ in 0..kills {
            pause(dice.time_below(Duration::from_millis(300)));
            watched.kill_parent();
        }
    });
    println!("{kills} parents killed, {served} connections");
    assert!(served > 0);
    assert_eq!(watched.children(), before, "the same programs");
    assert_eq!(watched.known(), before, "and the parent knows them");
    // A program ends at once by the signal for a stop. One that has not yet said that its last client
    // has gone would count as one that has lost it.
    until("all programs to wait for clients", SOON, || {
        let mut all = before.iter().copied();
        all.all(processes::waits_in_accept).then_some(())
    });
    let stdout = watched.stop();
    tell_times(&stdout);
    let report = stdout.lines().last().expect("a report");
    assert!(report.contains(" 0 connections lost"), "{report}");
    let forked = format!("{CHILDREN} forked");
    assert!(report.starts_with(&forked), "{report}");
}

/// With a holder the kernel notes the pid of a program before that runs, so that the next parent knows
/// of every one.
fn f02_a_parent_killed_while_it_forks_programs_loses_none_and_doubles_none(world: &mut World) {
    const HELD: usize = 40;
    world.deadline(SOON * 9);
    let mut dice = Dice::new();
    let watched = watched(world, &["--children", "1", "--max", "60"]);
    let address = watched.address();
    let mut held: Vec<(Client, u32)> = thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..12 {
                pause(dice.time_below(Duration::from_millis(25)));
                watched.kill_parent();
            }
        });
        let clients: Vec<_> = (0..HELD).map(|_| scope.spawn(|| hold(&address))).collect();
        let held = clients.into_iter();
        held.map(|client| client.join().expect("a client"))
            .collect()
    });
    let pids: BTreeSet<u32> = held.iter().map(|(_, pid)| *pid).collect();
    assert_eq!(pids.len(), HELD, "each client has a program of its own");
    for (client, pid) in &mut held {
        assert_eq!(client.ask("who"), pid.to_string());
    }
    until("the parent to know all programs", SOON, || {
        // One that was dying when its parent was killed may be told of by neither.
        watched.children().is_subset(&watched.known()).then_some(())
    });
    assert!(watched.children().len() <= 60);
    drop(held);
    watched.stop();
}

/// The helpers of other languages take a change of their parent for its end.
fn programs_in_other_languages_serve_on_when_their_parent_is_killed(world: &mut World) {
    world.deadline(SOON * 9);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/languages");
    for (interpreter, script) in [
        ("python3", "prefork.py"),
        ("perl", "Prefork.pm"),
        ("sh", "prefork.sh"),
    ] {
        // The shell's helper accepts by Perl.
        let needed = if interpreter == "sh" {
            "perl"
        } else {
            interpreter
        };
        let found = Command::new(needed).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: there is no {needed}");
            continue;
        }
        let script = folder.join(script);
        let script = script.to_str().expect("a path");
        let watched = watched(world, &["--children", "2", "--", interpreter, script]);
        watched.expect("ready ", 2);
        let before = watched.known();
        let mut client = connect(&watched.address());
        for round in 0..3 {
            let line = format!("round {round}");
            assert_eq!(client.ask(&line), line, "{script}");
            watched.kill_parent();
        }
        assert_eq!(client.ask("last"), "last", "{script}");
        assert!(watched.children().is_superset(&before), "{script}");
        drop(client);
        watched.stop();
    }
}

#[track_caller]
fn expect_line(watched: &Watched, line: &str) {
    watched.expect(line, 1);
}

/// A program that has taken a connection.
fn program(watched: &Watched) -> (Client, u32) {
    hold(&watched.address())
}

fn the_end_of_a_program_is_told_with_its_status(world: &mut World) {
    let watched = watched(world, &["--children", "4"]);
    watched.expect_children(4);
    for round in 0..2 {
        let (mut client, pid) = program(&watched);
        client.send_line("exit 7");
        client.gone();
        expect_line(&watched, &format!("exited {pid} Failed exit status: 7"));
        let (mut client, pid) = program(&watched);
        send(pid, Signal::SIGKILL);
        client.gone();
        expect_line(&watched, &format!("exited {pid} Killed signal: 9"));
        // What it has used is told as well.
        assert_eq!(watched.said("used: no"), 0, "{}", watched.server.stdout());
        watched.expect("used: yes", 2 * (round + 1));
        // Both are replaced.
        watched.expect("forked ", 4 + 2 * (round + 1));
        if round == 0 {
            watched.kill_parent();
        }
    }
    until("no zombie", SOON, || {
        let children = processes::children(watched.server.pid());
        let alive = children.iter().all(processes::Process::is_alive);
        alive.then_some(())
    });
    let stdout = watched.stop();
    assert_eq!(stdout.matches("exited ").count(), 4 + 4, "{stdout}");
}

/// The holder is stopped, so that it starts no parent, while the parent and two programs are killed.
fn programs_that_end_without_a_parent_are_accounted_for(world: &mut World) {
    let watched = watched(world, &["--children", "4"]);
    watched.expect_children(4);
    let (mut exits, first) = program(&watched);
    let (mut killed, second) = program(&watched);
    watched.server.signal(Signal::SIGSTOP);
    send(watched.parent(), Signal::SIGKILL);
    exits.send_line("exit 7");
    exits.gone();
    send(second, Signal::SIGKILL);
    killed.gone();
    watched.server.signal(Signal::SIGCONT);
    watched.expect("parent ", 2);
    expect_line(&watched, &format!("exited {first} Failed exit status: 7"));
    expect_line(&watched, &format!("exited {second} Killed signal: 9"));
    watched.expect("used: yes", 2);
    watched.expect("forked ", 6);
    assert_eq!(watched.expect_children(4), watched.known());
    let stdout = watched.stop();
    assert_eq!(stdout.matches("exited ").count(), 2 + 4, "{stdout}");
}

/// A program notes nothing on the board, and what the parent before has read of its words is gone from
/// the pipe. If it counted as starting, `start_timeout` would end it.
fn what_a_program_has_said_is_known_to_the_next_parent(world: &mut World) {
    let flags = [
        "--children",
        "3",
        "--start-timeout",
        "5000",
        "--tells-words",
    ];
    let watched = watched(world, &flags);
    let before = watched.expect_children(3);
    watched.expect("ready ", 3);
    let (mut client, pid) = program(&watched);
    watched.expect(&format!("busy {pid}"), 1);
    watched.kill_parent();
    assert_eq!(
        watched.said(&format!("adopted {pid} Some(Busy)")),
        1,
        "{}",
        watched.server.stdout()
    );
    assert_eq!(watched.said("Some(Free)"), 2);
    // For longer than a start may take, no child is told to stop.
    pause(Duration::from_millis(5200));
    assert_eq!(client.ask("who"), pid.to_string());
    assert_eq!(watched.children(), before);
    assert_eq!(watched.said("exited "), 0, "{}", watched.server.stdout());
    drop(client);
    watched.stop();
}

fn signals_of_hooks_reach_programs(world: &mut World) {
    let script = "trap 'echo got it' USR1; echo signal me; \
                  while :; do sleep 0.05; done";
    let watched = watched_shell(world, &["--children", "1"], script);
    expect_line(&watched, "said got it");
    let asking = "trap 'echo signal me' USR2; trap 'echo got it' USR1; \
                  echo listening; while :; do sleep 0.05; done";
    let adopted = watched_shell(world, &["--children", "1"], asking);
    let child = adopted.expect_children_of_name("sh", 1);
    expect_line(&adopted, "said listening");
    adopted.kill_parent();
    until("the signal of the hook", SOON, || {
        child.iter().for_each(|pid| send(*pid, Signal::SIGUSR2));
        (adopted.said("said got it") > 0).then_some(())
    });
    watched.stop();
    adopted.stop();
}

/// The wrapper ends, and the program in its group is left; the parent is killed before and after that.
fn what_outlives_its_wrapper_is_told_by_the_next_parent(world: &mut World) {
    let script = "sh -c 'trap \"\" INT; echo inner $$; while :; do sleep 0.05; done' & \
                  echo outer $$; wait";
    let watched = watched_shell(world, &["--children", "1"], script);
    let pid_of = |word: &str| {
        let stdout = watched.server.stdout();
        let said = format!("said {word} ");
        let line = stdout.lines().find_map(|line| line.strip_prefix(&said));
        line?.parse::<u32>().ok()
    };
    let inner = until("the inner one", SOON, || pid_of("inner"));
    let outer = until("the wrapper", SOON, || pid_of("outer"));
    watched.kill_parent();
    assert!(processes::is_alive(inner) && processes::is_alive(outer));
    watched.server.signal(Signal::SIGSTOP);
    send(watched.parent(), Signal::SIGKILL);
    send(outer, Signal::SIGKILL);
    watched.server.signal(Signal::SIGCONT);
    watched.expect("parent ", 3);
    // It ignores SIGINT, and is killed after `kill_timeout`.
    until("the inner one to be gone", SOON * 2, || {
        (!processes::is_alive(inner)).then_some(())
    });
    expect_line(&watched, &format!("exited {outer} Killed signal: 9"));
    // Its successor is as deaf once it has said so: the second signal kills.
    watched.expect("said inner ", 2);
    watched.server.signal(Signal::SIGTERM);
    watched.expect("shutting down", 1);
    watched.stop();
}

/// Alone, and together with the parent in both orders; programs that have had one parent, and two.
fn a_holder_that_is_killed_takes_programs_with_it(world: &mut World) {
    world.expect_orphans();
    world.deadline(SOON * 6);
    for (parent_before, parent_after) in [(false, false), (true, false), (false, true)] {
        let watched = watched(world, &["--children", "3"]);
        watched.expect_children(3);
        watched.kill_parent();
        let (client, _) = program(&watched);
        let (other, _) = program(&watched);
        let mut all = watched.children();
        all.insert(watched.parent());
        watched.server.signal(Signal::SIGSTOP);
        if parent_before {
            send(watched.parent(), Signal::SIGKILL);
        }
        send(watched.server.pid(), Signal::SIGKILL);
        if parent_after {
            // It may have ended with the holder.
            try_send(watched.parent(), Signal::SIGKILL);
        }
        watched.server.wait(SOON);
        expect_gone(all);
        drop((client, other));
    }
}

/// The kernel sends the program its own stop signal.
fn a_program_that_is_to_end_by_another_signal_gets_that_one(world: &mut World) {
    world.expect_orphans();
    let script = "trap 'echo told >>told; exit 0' TERM; trap '' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let folder = world.tempdir();
    let launch = world.program("held_programs");
    let flags = ["--children", "2", "--stop-signal", "TERM"];
    let launch = launch
        .args(&flags)
        .args(&["--folder", folder.to_str().unwrap()]);
    let watched = Watched::of(launch.args(&["--", "sh", "-c", script]).spawn());
    watched.expect("said ready", 2);
    let all = watched.children();
    watched.kill_parent();
    assert_eq!(watched.said("said ready"), 2, "nobody has ended");
    watched.server.kill9();
    expect_gone(all);
    let told = std::fs::read_to_string(folder.join("told")).expect("what they have written");
    assert_eq!(told, "told\ntold\n");
}

/// Programs are told by the signal that they stop at, and so are those in their groups.
fn a_holder_that_gives_up_tells_programs_and_their_groups(world: &mut World) {
    let script = "trap '' INT; trap 'exit 0' TERM; \
                  sh -c 'trap \"\" INT; trap \"exit 0\" TERM; echo ready; while :; do sleep 0.05; done' & \
                  while :; do sleep 0.05; done";
    let flags = [
        "--children",
        "1",
        "--stop-signal",
        "TERM",
        "--dies-at-takeover",
    ];
    let watched = watched_shell(world, &flags, script);
    expect_line(&watched, "said ready");
    let all = watched.children();
    send(watched.parent(), Signal::SIGKILL);
    assert_eq!(watched.server.wait(SOON * 2).code(), Some(70));
    expect_gone(all);
}

/// Those are not in the journal, so the kernel ends them.
fn programs_beyond_the_slots_end_with_their_parent_and_are_replaced(world: &mut World) {
    let watched = watched(world, &["--children", "2", "--max", "2"]);
    let kept = watched.expect_children(2);
    watched.server.signal(Signal::SIGTTIN);
    let _held: Vec<_> = (0..2).map(|_| program(&watched)).collect();
    let all = watched.expect_children(3);
    let beyond: Vec<u32> = all.difference(&kept).copied().collect();
    watched.kill_parent();
    expect_gone(beyond);
    assert!(watched.children().is_superset(&kept));
    watched.stop();
}

/// A program of `InetdServer` is tied to its child, which the holder keeps.
fn a_program_of_a_connection_outlives_the_parent(world: &mut World) {
    let watched = Watched::of(world.spawn("held_inetd", &["--children", "2"]));
    watched.expect_children(2);
    let mut client = connect(&watched.address());
    assert_eq!(client.ask("one"), "one");
    watched.kill_parent();
    assert_eq!(client.ask("two"), "two");
    client.close_write();
    client.eof();
    watched.stop();
}

/// The hook `server_start` runs in a child that the C library has not forked.
fn before_the_exec_the_c_library_knows_the_new_process(world: &mut World) {
    let watched = watched(world, &["--children", "2", "--checks-state"]);
    let right = "said state CLibrary { pid: true, tid: true, robust_mutexes: true, threads: true }";
    watched.expect("said state ", 2);
    assert_eq!(watched.said(right), 2, "{}", watched.server.stdout());
    watched.stop();
}

/// Such a child could find locks locked forever if the C library did not fork it. It is the parent's.
fn programs_of_a_parent_with_threads_end_with_it_and_are_replaced(world: &mut World) {
    let watched = watched(
        world,
        &["--children", "3", "--starts-a-thread", "--tells-words"],
    );
    watched.expect("ready ", 3);
    let before = watched.children();
    watched.kill_parent();
    until("three others", SOON, || {
        let now = watched.children();
        (now.len() >= 3 && now.is_disjoint(&before)).then_some(())
    });
    watched.stop();
}
