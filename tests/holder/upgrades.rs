//! Upgrades of a server that has a holder: it becomes the new program, and the new program's holder.
//! Programs that cannot take over; parents that are killed before, in and after an upgrade. No client
//! is lost, and the process stays the same.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::kills::under_load;
use crate::support::gate::Gate;
use crate::support::leak::BOARDS;
use crate::support::{
    self, Address, SOON, Scenarios, Signal, World, connect, patient, pause, processes, scenarios,
    until,
};
use crate::versions::{Mode, write_program};
use crate::watched::{Dice, Watched, send};

pub mod meanwhile;
pub mod refused;
mod upgraded;

pub use self::upgraded::Upgraded;
use self::upgraded::{expect_version, kill_if_there};

pub const SCENARIOS: Scenarios = scenarios![
    i08_upgrades_under_a_holder_lose_no_client_and_no_descriptor,
    a_parent_killed_while_its_children_replace_the_others_is_no_end_of_the_upgrade,
    a_parent_killed_on_the_way_back_is_followed_by_one_that_goes_it,
    the_parent_of_the_new_program_is_replaced_by_one_of_the_new_program,
    a_server_gets_a_holder_and_loses_it_by_an_upgrade,
    f01_a_parent_killed_at_any_moment_of_an_upgrade_loses_no_client_and_no_child,
    whoever_asks_on_the_control_socket_is_told_and_goes_on,
    programs_outlive_the_parent_that_leaves_an_upgrade_to_its_holder,
    an_orphan_of_the_holder_is_reaped_by_a_program_without_one,
    process_1_of_a_container_is_upgraded,
];

/// How many upgrades the first scenario makes beside four clients, and at how many moments parents are
/// killed; `HOLDER_UPGRADES=n` makes as many, beside sixteen.
const UPGRADES: usize = 4;

fn upgrades() -> (usize, usize) {
    let many = std::env::var("HOLDER_UPGRADES").ok();
    let many = many.map(|n| n.parse().expect("a number"));
    (many.unwrap_or(UPGRADES), many.map_or(4, |_| 16))
}

/// Under a holder, too: each client is answered, the process is the same, and holder and parent hold as
/// many descriptors as before.
///
/// Upgrades and downgrades by turns, beside clients that come again and again.
fn i08_upgrades_under_a_holder_lose_no_client_and_no_descriptor(world: &mut World) {
    let (upgrades, clients) = upgrades();
    world.deadline(SOON * 6 + SOON * u32::try_from(upgrades).expect("a number"));
    let upgraded = Upgraded::new(world, &[]);
    // The boards of children that were there at the last upgrade stay open in the holder.
    let is_board = |target: &str| BOARDS.iter().any(|board| target.contains(board));
    let held = |pid| {
        let held = processes::descriptors(pid).into_iter();
        held.filter(|(_, target)| !is_board(target)).count()
    };
    let counts = || [upgraded.server.pid(), upgraded.parent()].map(held);
    let others = || 2 * (upgraded.children().len().saturating_sub(4));
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect_children(4);
    upgraded.server.descriptors_settled();
    let before = counts();
    let began = Instant::now();
    let served = under_load(&upgraded.address(), clients, || {
        for number in 0..upgrades {
            upgraded.upgrade_to(1 + u32::try_from(number % 2).unwrap(), Mode::Good);
        }
    });
    println!(
        "{upgrades} upgrades in {:?}, {served} connections",
        began.elapsed()
    );
    assert!(served > 0);
    until("the descriptors as before", SOON, || {
        let now = counts();
        let room = others();
        (now[0] <= before[0] + room && now[1] <= before[1] + room).then_some(())
    });
    upgraded.expect_version(1 + u32::try_from((upgrades + 1) % 2).unwrap());
    upgraded.expect_holder();
    let stdout = upgraded.stop();
    support::versions::tell_times("blind", &stdout, "blind for ");
    let report = stdout.lines().last().expect("a report");
    assert!(report.contains(" 0 connections lost"), "{report}");
    assert!(!stdout.contains(" Lost "), "{stdout}");
}

/// The next parent goes on with the upgrade where it was: it is told, and there is still the way back.
fn a_parent_killed_while_its_children_replace_the_others_is_no_end_of_the_upgrade(
    world: &mut World,
) {
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    for (mode, outcome) in [
        (Mode::Childless, "3 children in a row have not become ready"),
        (Mode::Good, "upgraded to 9,"),
    ] {
        let mut gate = world.gate("fork");
        upgraded.ask(9, mode);
        let parent = gate.reached(SOON);
        assert!(before.is_subset(&upgraded.children()));
        send(parent, Signal::SIGKILL);
        gate.open();
        upgraded.expect(outcome, 1);
        upgraded.expect_version(if mode == Mode::Good { 9 } else { 1 });
        upgraded.expect_holder();
    }
    let stdout = upgraded.stop();
    assert!(!stdout.contains(" Lost "), "{stdout}");
}

/// The children of the new program have failed, and it is about to execute the old one: so does the next
/// parent, which does not take the children that serve for those of the new program.
fn a_parent_killed_on_the_way_back_is_followed_by_one_that_goes_it(world: &mut World) {
    world.deadline(SOON * 6);
    let died = world.tempdir().join("died");
    let path = died.to_str().expect("a path");
    let flags = [
        "--set",
        "upgrade_timeout=3s",
        "--dies-on-the-way-back",
        path,
    ];
    let upgraded = Upgraded::new(world, &flags);
    let before = upgraded.children();
    upgraded.ask(2, Mode::Stuck);
    upgraded.expect("upgrade failed: ", 1);
    assert!(died.exists(), "no parent has died");
    assert_eq!(upgraded.said("upgraded to"), 0);
    assert!(before.is_subset(&upgraded.children()), "the same children");
    upgraded.expect_version(1);
    upgraded.expect_holder();
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect_version(3);
    upgraded.stop();
}

/// Also while children of the old program have clients in hand, which they serve to the end: they are
/// told to leave by the parent of that moment, and no other child is.
fn the_parent_of_the_new_program_is_replaced_by_one_of_the_new_program(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    let address = upgraded.address();
    let mut client = connect(&address);
    let old = client.ask("who");
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.kill_parent();
    assert_eq!(client.ask("who"), old);
    upgraded.expect_version(2);
    // Those that are idle leave when they come to run.
    let children = until("one old child", SOON, || {
        let children = upgraded.children();
        (children.intersection(&before).count() == 1).then_some(children)
    });
    assert!(children.contains(&old.parse().unwrap()));
    upgraded.kill_parent();
    assert_eq!(upgraded.children(), children);
    // It has been told before, and leaves when its client does.
    client.close_write();
    client.eof();
    upgraded.expect(&format!("exited {old} "), 1);
    let told = upgraded.server.stdout();
    assert!(!told.contains(" Lost "), "{told}");
    // A further upgrade is one of the new program.
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect_version(3);
    upgraded.expect_holder();
    upgraded.expect("restored ", 2);
    upgraded.stop();
}

fn a_server_gets_a_holder_and_loses_it_by_an_upgrade(world: &mut World) {
    world.deadline(SOON * 6);
    world.expect_orphans();
    let upgraded = Upgraded::new(world, &["--plain"]);
    let holder = upgraded.server.pid();
    assert_eq!(upgraded.parent(), holder, "it has none");
    let served = under_load(&upgraded.address(), 4, || {
        upgraded.upgrade_to(2, Mode::Good);
        upgraded.expect_version(2);
        upgraded.expect_holder();
        upgraded.upgrade_to(3, Mode::Plain);
        upgraded.expect_version(3);
        assert_eq!(upgraded.parent(), holder);
        upgraded.upgrade_to(4, Mode::Good);
        upgraded.expect_holder();
        upgraded.upgrade_to(5, Mode::Plain);
    });
    assert!(served > 0);
    until("no zombie", SOON, || {
        upgraded.server.zombies().is_empty().then_some(())
    });
    // The tie of the children to their parent's life is as without a holder.
    let children = upgraded.children();
    upgraded.server.kill9();
    until("their end", patient(SOON), || {
        (!children.iter().copied().any(processes::is_alive)).then_some(())
    });
    world.reap_orphans();
}

/// With a holder a parent that is killed in an upgrade loses no client either: the old program goes on, and
/// the upgrade has failed, or the new one does.
///
/// In both cases there is a parent, and a holder that works, and each client is answered by the child
/// that it had.
fn f01_a_parent_killed_at_any_moment_of_an_upgrade_loses_no_client_and_no_child(world: &mut World) {
    let (upgrades, clients) = upgrades();
    let kills = upgrades * 3;
    world.deadline(SOON * 6 + SOON * u32::try_from(kills).expect("a number"));
    let upgraded = Upgraded::new(world, &[]);
    let address = upgraded.address();
    let mut dice = Dice::new();
    let (mut before, mut after) = (0, 0);
    let mut version = 1;
    let served = under_load(&address, clients, || {
        for number in 0..kills {
            let mut client = connect(&address);
            let pid = client.ask("who");
            let began = upgraded.said("upgrade began");
            let next = 2 + u32::try_from(number).unwrap();
            upgraded.ask(next, Mode::Good);
            upgraded.expect("upgrade began", began + 1);
            // The trial takes a tenth of a second and a bit.
            pause(Duration::from_millis(90) + dice.time_below(Duration::from_millis(80)));
            // The old parent may have left by now; then this one is not there yet. The count is taken
            // first: a process that tells of itself in between is the next one.
            let parents = upgraded.said("parent ");
            let parent = upgraded.parent();
            if parent != upgraded.server.pid() {
                kill_if_there(parent);
            }
            upgraded.expect("parent ", parents + 1);
            assert_eq!(client.ask("who"), pid, "the same child");
            let is_new = upgraded.goes_on_with(next, began + 1);
            *(if is_new { &mut after } else { &mut before }) += 1;
            if is_new {
                version = next;
                upgraded.expect(&format!("upgraded to {next},"), 1);
            }
            upgraded.expect_version(version);
            upgraded.expect_holder();
        }
    });
    println!("{kills} parents killed, {before} before the goodbye, {after} after; {served} served");
    let stdout = upgraded.stop();
    let report = stdout.lines().last().expect("a report");
    assert!(report.contains(" 0 connections lost"), "{report}");
}

/// On the connection on which it has asked, which goes on in the new program.
fn whoever_asks_on_the_control_socket_is_told_and_goes_on(world: &mut World) {
    world.deadline(SOON * 6);
    let control = world.tempdir().join("control");
    let upgraded = Upgraded::new(world, &["--control", control.to_str().expect("a path")]);
    let stream = UnixStream::connect(&control).expect("a connection");
    let patience = Some(patient(SOON));
    stream.set_read_timeout(patience).expect("a timeout");
    let mut lines = BufReader::new(&stream).lines();
    let mut ask = |command: &str| {
        writeln!(&stream, "{command}").expect("room");
        lines.next().expect("an answer").expect("a line")
    };
    for (version, mode) in [(2, Mode::Good), (3, Mode::Plain), (4, Mode::Good)] {
        write_program(&upgraded.path, version, mode);
        let answer = ask("upgrade");
        assert!(answer.contains("\"ok\":true"), "{answer}");
        upgraded.expect_version(version);
        let answer = ask("get max_clients");
        assert!(answer.contains("40"), "{answer}");
    }
    let parents = upgraded.said("parent ");
    for (mode, reason) in [
        (Mode::Exits, "exit status: 3"),
        (Mode::Fails, "does not start"),
    ] {
        write_program(&upgraded.path, 9, mode);
        let answer = ask("upgrade");
        assert!(
            answer.contains(reason) && answer.contains("\"ok\":false"),
            "{answer}"
        );
    }
    // It is the parent that has it: with that it ends.
    upgraded.expect("parent ", parents + 1);
    upgraded.kill_parent();
    let mut rest = BufReader::new(&stream);
    assert_eq!(rest.read_line(&mut String::new()).expect("the end"), 0);
    let again = UnixStream::connect(&control).expect("a connection");
    writeln!(&again, "get max_clients").expect("room");
    let mut answer = String::new();
    BufReader::new(&again)
        .read_line(&mut answer)
        .expect("an answer");
    assert!(answer.contains("40"), "{answer}");
    drop(again);
    upgraded.stop();
}

/// They are the holder's from their fork on, so that the end of the parent is nothing to them.
fn programs_outlive_the_parent_that_leaves_an_upgrade_to_its_holder(world: &mut World) {
    let upgraded = Upgraded::with(world, "held_programs", &[]);
    let before = upgraded.expect_ready(4);
    upgraded.upgrade_to(2, Mode::Good);
    let stdout = upgraded.server.stdout();
    for child in &before {
        assert!(stdout.contains(&format!("adopted {child} ")), "{stdout}");
    }
    let after = until("the new children alone", SOON, || {
        let children = upgraded.children();
        (children.is_disjoint(&before) && children.len() >= 4).then_some(children)
    });
    upgraded.kill_parent();
    assert!(upgraded.children().is_superset(&after));
    upgraded.stop();
}

/// It lives while the holder becomes the program, and ends after that.
fn an_orphan_of_the_holder_is_reaped_by_a_program_without_one(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    let orphan = orphan(&upgraded.address(), upgraded.server.pid());
    upgraded.upgrade_to(2, Mode::Plain);
    upgraded.expect_version(2);
    assert_eq!(upgraded.parent(), upgraded.server.pid(), "it has no holder");
    end_orphan(orphan);
    upgraded.stop();
}

/// A process that a child has started, and that has come to the holder.
#[track_caller]
pub fn orphan(address: &Address, holder: u32) -> u32 {
    let mut client = connect(address);
    client.ask("grandchild");
    client.send_line("die");
    until("an orphan", SOON, || {
        let mut all = processes::children(holder).into_iter();
        all.find(|it| it.name == "sleep").map(|it| it.pid)
    })
}

/// Kills it, and waits until it was reaped.
#[track_caller]
pub fn end_orphan(pid: u32) {
    send(pid, Signal::SIGKILL);
    until("the orphan to be reaped", SOON, || {
        processes::state(pid).is_none().then_some(())
    });
}

const UNSHARE: [&str; 2] = ["-Urpf", "--mount-proc"];

fn process_1_of_a_container_is_upgraded(world: &mut World) {
    let attempt = Command::new("unshare").args(UNSHARE).arg("true").output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine lets nobody have a pid namespace");
        return;
    }
    let path = world.tempdir().join("server");
    write_program(&path, 1, Mode::Good);
    let launch = world.command("unshare").args(&UNSHARE).arg(&path);
    let outer = launch.args(&["--program", "held", "--saves"]).spawn();
    let address = outer.address();
    let holder = outer.expect_children(1)[0];
    let said = |text: &str| {
        until(&format!("{text:?}"), SOON, || {
            outer.stdout().contains(text).then_some(())
        });
    };
    let mut client = connect(&address);
    let old = client.ask("who");
    write_program(&path, 2, Mode::Good);
    send(holder, Signal::SIGUSR2);
    said("version 2 in 1\n");
    said("upgraded to 2,");
    expect_version(&address, 2);
    assert_eq!(client.ask("who"), old, "the same child");
    end_orphan(orphan(&address, holder));
    let parent = || {
        let children = processes::children(holder).into_iter();
        let mut parents =
            children.filter(|it| it.is_alive() && !processes::children(it.pid).is_empty());
        parents.next().map(|process| process.pid)
    };
    send(until("a parent", SOON, parent), Signal::SIGKILL);
    said("took over");
    assert_eq!(client.ask("who"), old, "the same child");
    expect_version(&address, 2);
    end_orphan(orphan(&address, holder));
    drop(client);
    send(holder, Signal::SIGTERM);
    assert_eq!(outer.wait(SOON).code(), Some(0), "{}", outer.stderr());
}
