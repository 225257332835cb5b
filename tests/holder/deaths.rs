//! Children that end while they have another parent than the one that has forked them, or none: they
//! are reaped once, and told of with their status.

use nix::sys::signal::killpg;
use nix::unistd::{Pid, getpgid};

use crate::support::{
    Client, SOON, Scenarios, Signal, World, connect, processes, scenarios, until,
};
use crate::watched::{Watched, send};

pub const SCENARIOS: Scenarios = scenarios![
    a_child_that_was_taken_over_ends_like_any_other,
    children_that_end_without_a_parent_are_accounted_for,
    what_a_dead_child_has_printed_is_read,
    orphans_are_reaped_by_the_holder,
    children_in_groups_of_their_own_are_told_by_the_next_parent,
    a_child_that_was_taken_over_is_asked_where_it_is_stuck,
];

#[track_caller]
fn expect_line(watched: &Watched, line: &str) {
    watched.expect(line, 1);
}

fn a_child_that_was_taken_over_ends_like_any_other(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let children = watched.expect_ready(4);
    watched.kill_parent();
    let mut client = connect(&watched.address());
    let aborted: u32 = client.ask("who").parse().expect("a pid");
    let killed = children.into_iter().find(|pid| *pid != aborted);
    let killed = killed.expect("another child");
    client.send_line("die");
    client.gone();
    expect_line(&watched, &format!("exited {aborted} Killed signal: 6"));
    send(killed, Signal::SIGKILL);
    expect_line(&watched, &format!("exited {killed} Killed signal: 9"));
    // Both are replaced.
    watched.expect("forked ", 6);
    until("no zombie", SOON, || {
        let children = processes::children(watched.server.pid());
        children
            .iter()
            .all(processes::Process::is_alive)
            .then_some(())
    });
    watched.stop();
}

/// The holder is stopped, so that it starts no parent, while the parent and two children are killed.
fn children_that_end_without_a_parent_are_accounted_for(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let mut children = watched.expect_ready(4).into_iter();
    let pair = [children.next().unwrap(), children.next().unwrap()];
    // One of them has had another parent, the others not.
    watched.kill_parent();
    watched.server.signal(Signal::SIGSTOP);
    send(watched.parent(), Signal::SIGKILL);
    pair.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
    until("three zombies", SOON, || {
        let dead = processes::children(watched.server.pid());
        (dead.iter().filter(|it| it.state == 'Z').count() == 3).then_some(())
    });
    watched.server.signal(Signal::SIGCONT);
    watched.expect("parent ", 3);
    for pid in pair {
        expect_line(&watched, &format!("exited {pid} Killed signal: 9"));
    }
    watched.expect("forked ", 6);
    assert_eq!(watched.expect_children(4), watched.known());
    let stdout = watched.stop();
    assert_eq!(
        stdout.matches("exited ").count(),
        2 + 4,
        "each once: {stdout}"
    );
}

fn what_a_dead_child_has_printed_is_read(world: &mut World) {
    let watched = Watched::new(world, &["--children", "1"]);
    let mut client: Client = connect(&watched.address());
    watched.server.signal(Signal::SIGSTOP);
    send(watched.parent(), Signal::SIGKILL);
    let pid = client.ask("a last word");
    client.send_line("die");
    client.gone();
    watched.server.signal(Signal::SIGCONT);
    expect_line(&watched, "said served a last word");
    expect_line(&watched, &format!("exited {pid} Killed signal: 6"));
    watched.stop();
}

/// What a child has left behind becomes a child of the holder, which is not a parent of its own.
fn orphans_are_reaped_by_the_holder(world: &mut World) {
    let watched = Watched::new(world, &["--children", "1"]);
    let mut client = connect(&watched.address());
    let child: u32 = client.ask("who").parse().expect("a pid");
    let orphan: u32 = client.ask("grandchild").parse().expect("a pid");
    send(child, Signal::SIGKILL);
    client.gone();
    until("the orphan at the holder", SOON, || {
        let found = processes::Process::read(orphan)?;
        (found.parent == watched.server.pid()).then_some(())
    });
    send(orphan, Signal::SIGKILL);
    until("the orphan to be reaped", SOON, || {
        processes::Process::read(orphan).is_none().then_some(())
    });
    assert_eq!(watched.said(&format!("exited {orphan}")), 0);
    watched.stop();
}

/// Children that lead process groups are not reached by what is sent to the group of the holder, under any
/// parent: they are told by it.
fn children_in_groups_of_their_own_are_told_by_the_next_parent(world: &mut World) {
    let server = world.program("held").arg("--group").own_group().spawn();
    let watched = Watched::of(server);
    let before = watched.expect_ready(4);
    let mut client = connect(&watched.address());
    let pid = client.ask("who");
    watched.kill_parent();
    assert_eq!(watched.known(), before);
    let group = |pid: u32| getpgid(Some(Pid::from_raw(pid.cast_signed()))).expect("a group");
    assert!(
        before
            .iter()
            .all(|pid| group(*pid).as_raw().cast_unsigned() == *pid)
    );
    killpg(group(watched.server.pid()), Signal::SIGTERM).expect("a signal");
    watched.expect("shutting down", 1);
    assert_eq!(client.ask("who"), pid);
    drop(client);
    assert_eq!(watched.server.wait(SOON).code(), Some(0));
    assert_eq!(watched.said("exited "), 4);
}

/// It is told and killed for its time in any case; with the feature `stacks` its stack is collected.
fn a_child_that_was_taken_over_is_asked_where_it_is_stuck(world: &mut World) {
    // Time enough for its stack to be read on a machine that is busy.
    let flags = ["--set", "busy_timeout=500ms", "--set", "kill_timeout=5s"];
    let watched = Watched::new(world, &flags);
    let mut client = connect(&watched.address());
    let pid = client.ask("who");
    client.send_line("hang");
    watched.kill_parent();
    expect_line(&watched, &format!("exited {pid} Overtime signal: 9"));
    if cfg!(feature = "stacks") {
        expect_line(&watched, &format!("with its stack: {pid}"));
    }
    watched.stop();
}
