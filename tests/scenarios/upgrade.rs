//! Upgrades on real processes: a program becomes another one and back again, under load; programs that
//! cannot take over, each in a way of its own; what is kept and what is refused. No client is lost.
//!
//! The programs are copies of this test file with a line after their end that says which version they
//! are and how they behave.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::raise;
use prefork_server::servers::TcpConn;
use prefork_server::{
    Builder, Child, ChildServer, Death, Error, Event, ExecServer, Launch, Monitor, Observer,
    ParentOnly, PreFork, PreForkHooks, Start, States, TcpServer, UnixServer, defaults, metrics,
};

use crate::reload::{BETWEEN, beside_clients, memory, under_load, under_load_with_pauses};
use crate::subject::{ended, log_warnings, millis};
use crate::support::leak::BOARDS;
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, connect, gate, holds, patient,
    processes, programs, scenarios, until, versions,
};

pub mod back;
mod tampering;

pub mod kept;
mod program;
pub mod refused;
mod upgraded;

use self::program::{MODES, Mode, upgrading, upgrading_programs};
use self::upgraded::{
    Upgraded, ask, expect_alive, expect_as_many, expect_no_zombie, held_when_settled, parsed,
    processes_killed, write_build, write_program,
};

pub const PROGRAMS: Programs = programs![upgrading, upgrading_programs];

pub const SCENARIOS: Scenarios = scenarios![
    i08_upgrades_and_downgrades_lose_no_client_and_no_descriptor,
    whoever_asks_is_told_the_outcome,
    children_of_the_old_program_leave_what_is_queued_to_others,
    children_that_die_meanwhile_are_reaped_and_replaced: long,
    a_stop_during_an_upgrade_wins,
    an_upgrade_during_an_upgrade_is_refused,
    the_tie_to_the_parent_survives,
    i09_an_instruction_for_nobody_changes_nothing,
];

/// How many upgrades and downgrades the first scenario makes beside four clients; `UPGRADES=10000` makes
/// the figure in the documents, beside sixteen.
const UPGRADES: usize = 4;

/// A program of each version, ready to be put in the place of the server's.
struct Builds<'u> {
    upgraded: &'u Upgraded,
    paths: [PathBuf; 2],
}

impl<'u> Builds<'u> {
    fn of(upgraded: &'u Upgraded) -> Self {
        let other = std::env::var_os("OTHER_BUILD").map(PathBuf::from);
        let own = std::env::current_exe().expect("this program");
        let versions = [(1, &own), (2, other.as_ref().unwrap_or(&own))];
        let paths = versions.map(|(version, build)| {
            let path = upgraded.path.with_file_name(format!("v{version}"));
            write_build(build, &path, version, Mode::Good);
            path
        });
        Self { upgraded, paths }
    }

    fn upgrade_to(&self, version: usize) {
        let (server, path) = (&self.upgraded.server, &self.upgraded.path);
        let link = path.with_extension("new");
        fs::hard_link(&self.paths[version - 1], &link).expect("a link");
        fs::rename(&link, path).expect("its place");
        let said = server.stdout_length();
        server.signal(Signal::SIGUSR2);
        let told = format!("upgraded to {version}");
        self.upgraded.expect_after(said, &told);
    }
}

/// Upgrades and downgrades by turns: each client is answered, the process is the same, and holds as many
/// descriptors and as much memory as before. `OTHER_BUILD` names another build of this test file, to
/// which the upgrades are.
fn i08_upgrades_and_downgrades_lose_no_client_and_no_descriptor(world: &mut World) {
    let many = std::env::var("UPGRADES").ok();
    let (clients, between) = match many {
        Some(_) => (16, Duration::ZERO),
        None => (4, BETWEEN),
    };
    let upgrades = many.map_or(UPGRADES, |n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + SOON * u32::try_from(upgrades).expect("a number"));
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let builds = Builds::of(&upgraded);
    let before = server.expect_children(4);
    let address = server.address();
    let (descriptors, memory_before) = (held_when_settled(server), memory(server.pid()));
    let began = Instant::now();
    let served = under_load_with_pauses(&address, clients, between, || {
        for _ in 0..upgrades {
            builds.upgrade_to(2);
            builds.upgrade_to(1);
        }
    });
    println!(
        "{upgrades} upgrades and downgrades in {:?}, {served} connections",
        began.elapsed()
    );
    upgraded.expect_version(1);
    let living = server.children();
    assert!(
        before.iter().all(|old| !living.contains(old)),
        "an old child lives"
    );
    assert_eq!(upgraded.said("event failed"), 0, "{}", server.stderr());
    expect_as_many(server, descriptors);
    let memory_after = memory(server.pid());
    println!(
        "the parent, without pipes: {} descriptors before, {} after; {} KiB before, {} after",
        descriptors - 2 * before.len(),
        held_when_settled(server) - 2 * server.children().len(),
        memory_before >> 10,
        memory_after >> 10
    );
    let grown = memory_after.saturating_sub(memory_before);
    assert!(grown < 2 << 20, "the parent has grown by {grown} bytes");
    versions::tell_times("blind", &server.stdout(), "blind for ");
    let report = upgraded.stop();
    assert!(report.contains(" 0 connections lost"), "{report}");
    assert!(
        server
            .stdout()
            .contains(&format!("{} upgrades so far", 2 * upgrades))
    );
}

fn whoever_asks_is_told_the_outcome(world: &mut World) {
    world.expect_panics();
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path");
    let upgraded = Upgraded::new(world, &["--control", control]);
    upgraded.server.expect_children(4);
    let ask = |program: &Path| {
        let mut connection = UnixStream::connect(control).expect("a connection");
        let patience = Some(patient(SOON));
        connection.set_read_timeout(patience).expect("a timeout");
        writeln!(connection, "upgrade {}", program.display()).expect("room");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let other = upgraded.path.with_file_name("other");
    assert!(ask(&other).starts_with("error: upgrade "), "there is none");
    write_program(&other, 2, Mode::Panics);
    let answer = ask(&other);
    assert!(answer.contains("the start has panicked"), "{answer}");
    write_program(&other, 3, Mode::Good);
    assert_eq!(ask(&other), "ok\n");
    upgraded.expect_version(3);
    // From now on the file is that one.
    write_program(&other, 4, Mode::Good);
    upgraded.server.signal(Signal::SIGUSR2);
    upgraded.expect("upgraded to 4", 1);
    upgraded.stop();
}

/// As in a reload: with more clients than children the queue is never empty, and a child that served
/// what is queued would stay for as long as `drain_timeout`.
fn children_of_the_old_program_leave_what_is_queued_to_others(world: &mut World) {
    let upgraded = Upgraded::new(world, &["--few"]);
    let before = upgraded.server.expect_children(4);
    under_load(&upgraded.server.address(), 16, || {
        upgraded.upgrade_to(2, Mode::Good);
        upgraded.expect("upgraded to 2", 1);
        until("the old children to leave", SOON, || {
            (!before.iter().copied().any(processes::is_alive)).then_some(())
        });
    });
    upgraded.stop();
}

/// Whenever a child dies, before, during or after the exec: it is reaped, counted and replaced.
fn children_that_die_meanwhile_are_reaped_and_replaced(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let mut killed = 0;
    for number in 2..=9 {
        let children = until("children", SOON, || {
            Some(server.children()).filter(|children| children.len() >= 2)
        });
        upgraded.upgrade_to(number, Mode::Good);
        // At another moment each time: the trial takes a tenth of a second and a bit.
        let moment = Instant::now() + Duration::from_millis(u64::from(number) * 20);
        until("the moment", SOON, || {
            (moment <= Instant::now()).then_some(())
        });
        processes_killed(&children[..2]);
        killed += 2;
        upgraded.expect(&format!("upgraded to {number}"), 1);
        for pid in &children[..2] {
            upgraded.expect(&format!("exited {pid} "), 1);
        }
        upgraded.expect_version(number);
    }
    expect_no_zombie(server);
    let report = upgraded.stop();
    let stdout = server.stdout();
    let exits = stdout
        .lines()
        .filter(|line| line.starts_with("exited "))
        .count();
    let lost = stdout
        .lines()
        .filter(|line| line.ends_with(" Lost"))
        .count();
    assert!(exits >= killed && lost == 0, "{report}");
}

fn a_stop_during_an_upgrade_wins(world: &mut World) {
    world.deadline(SOON * 6);
    for milliseconds in [0, 60, 110, 125, 140, 200] {
        let upgraded = Upgraded::new(world, &[]);
        let children = upgraded.server.expect_children(4);
        upgraded.upgrade_to(2, Mode::Good);
        let moment = Instant::now() + Duration::from_millis(milliseconds);
        until("the moment", SOON, || {
            (moment <= Instant::now()).then_some(())
        });
        upgraded.server.signal(Signal::SIGTERM);
        let status = upgraded.server.wait(SOON);
        assert!(status.success(), "{milliseconds} ms: {status}");
        assert!(!children.into_iter().any(processes::is_alive));
    }
}

fn an_upgrade_during_an_upgrade_is_refused(world: &mut World) {
    let mut gate = world.gate("trial");
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Good);
    gate.reached(SOON);
    upgraded.server.signal(Signal::SIGUSR2);
    until("the refusal", SOON, || {
        let stderr = upgraded.server.stderr();
        stderr
            .contains("another upgrade is under way")
            .then_some(())
    });
    gate.open();
    upgraded.expect("upgraded to 2", 1);
    assert_eq!(upgraded.said("serves on"), 0, "the first one was refused");
    assert_eq!(upgraded.said("event failed"), 0, "the first one has failed");
    upgraded.expect_version(2);
    upgraded.stop();
}

/// Children of the old program and of the new one end with the parent.
fn the_tie_to_the_parent_survives(world: &mut World) {
    world.expect_orphans();
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    server.expect_children(4);
    let mut held = connect(&server.address());
    let (old, _) = parsed(&held.ask("who"));
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    let children = server.children();
    assert!(children.contains(&old) && children.len() > 1);
    server.kill9();
    // The old one finishes what it has in hand.
    assert_eq!(parsed(&held.ask("who")).0, old);
    drop(held);
    until("their end", SOON, || {
        (!children.iter().copied().any(processes::is_alive)).then_some(())
    });
    world.reap_orphans();
}

/// A variable that is left from somewhere else, or that somebody has made up.
fn i09_an_instruction_for_nobody_changes_nothing(world: &mut World) {
    for text in ["forth 1 5 6", "trial 1 5 6 7", "nonsense", ""] {
        let launch = world.program("upgrading").env("PREFORK_UPGRADE", text);
        let server = launch.spawn();
        server.expect_children(4);
        assert_eq!(ask(&server.address()).1, 1);
        assert!(server.stop(Signal::SIGTERM, SOON).success());
    }
    // For this process, with descriptors that are not there: there is no way back either.
    let path = world.tempdir().join("server");
    write_program(&path, 1, Mode::Good);
    let script = "PREFORK_UPGRADE=\"forth $$ 50 51\" exec \"$@\"";
    let launch = world
        .command("/bin/sh")
        .args(&["-c", script, "sh"])
        .arg(&path);
    let server = launch.args(&["--program", "upgrading"]).spawn();
    let status = server.wait(SOON);
    assert_eq!(status.code(), Some(71), "{}", server.stderr());
    let stderr = server.stderr();
    assert!(stderr.contains("cannot take over"), "{stderr}");
    holds("nothing is left", Duration::from_millis(50), || {
        server.children().is_empty()
    });
}
