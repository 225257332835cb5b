//! Upgrades that turn out to be bad when they seem to be over, and what may come in between: a format
//! that the old program cannot read, signals, children that hang, states and descriptors that are not
//! what was handed on. The old program serves on, and says why.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    the_old_program_gets_back_what_it_has_handed_on,
    a_way_back_that_cannot_be_gone_leaves_nothing_of_the_old_program,
    a_panic_in_restore_ends_no_server,
    a_panic_in_save_fails_the_upgrade,
    i07_children_that_hang_in_their_start_bring_the_old_program_back: long,
    a_signal_between_the_state_and_the_exec_is_kept,
    a_signal_before_the_way_back_is_kept,
    trials_that_are_tried_again_at_once_are_reaped,
    who_asks_during_an_upgrade_is_refused_alone,
    the_path_by_which_it_was_executed_is_upgraded_to,
    what_runs_before_the_server_inherits_nothing,
    i07_a_state_that_is_bad_after_the_exec_brings_the_old_program_back,
];

/// A new version changes the format of what its hooks hand on, and its children fail: the old one gets
/// what it has handed on itself.
fn the_old_program_gets_back_what_it_has_handed_on(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.server.expect_children(4);
    let served = beside_clients(&upgraded.server.address(), 4, || {
        for times in 1..=2 {
            upgraded.upgrade_to(2, Mode::Later);
            upgraded.expect("version 1 serves on: ", times);
            // The new program says so, and the old one.
            upgraded.expect(&format!("{times} upgrades so far"), 2);
        }
    });
    assert!(served > 0);
    expect_alive(&before);
    upgraded.expect_version(1);
    upgraded.stop();
}

/// The new program serves on with the children of the old one, and holds its file no longer.
fn a_way_back_that_cannot_be_gone_leaves_nothing_of_the_old_program(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.server.expect_children(4);
    fs::set_permissions(&upgraded.path, Permissions::from_mode(0o000)).expect("permissions");
    upgraded.upgrade_to(2, Mode::Childless);
    upgraded.expect("version 2 serves on: ", 1);
    let stderr = upgraded.server.stderr();
    assert!(stderr.contains("permission denied"), "{stderr}");
    let is_old = |target: &str| target.ends_with("/server (deleted)");
    until("the old program to be let go", SOON, || {
        let held = upgraded.server.descriptors().into_iter();
        (!held.into_iter().any(|(_, target)| is_old(&target))).then_some(())
    });
    expect_alive(&before);
    upgraded.expect_version(1);
    upgraded.stop();
}

/// In the new program it is a reason to go back, in the old one that has come back a warning.
fn a_panic_in_restore_ends_no_server(world: &mut World) {
    world.deadline(SOON * 6);
    world.expect_panics();
    let upgraded = Upgraded::of(world, Mode::Upset, "upgrading", &[]);
    let before = upgraded.server.expect_children(4);
    let served = beside_clients(&upgraded.server.address(), 4, || {
        upgraded.upgrade_to(2, Mode::Upset);
        upgraded.expect("version 1 serves on: ", 1);
    });
    assert!(served > 0);
    let stdout = upgraded.server.stdout();
    assert!(stdout.contains("this program is upset"), "{stdout}");
    let stderr = upgraded.server.stderr();
    let warned = "what the hooks have saved is not used: the hook restore has panicked";
    assert!(stderr.contains(warned), "{stderr}");
    expect_alive(&before);
    upgraded.expect_version(1);
    upgraded.stop();
}

/// A new program that got nothing would begin as if nothing had been.
fn a_panic_in_save_fails_the_upgrade(world: &mut World) {
    world.expect_panics();
    let upgraded = Upgraded::of(world, Mode::Unsaved, "upgrading", &[]);
    let before = upgraded.server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("version 1 serves on: ", 1);
    let stdout = upgraded.server.stdout();
    assert!(stdout.contains("the hook save has panicked"), "{stdout}");
    expect_alive(&before);
    upgraded.expect_version(1);
    upgraded.stop();
}

/// Children of the new program that hang in their start bring the old one back.
fn i07_children_that_hang_in_their_start_bring_the_old_program_back(world: &mut World) {
    world.deadline(SOON * 6);
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path");
    let flags = ["--control", control, "--upgrade-timeout", "4000"];
    let upgraded = Upgraded::new(world, &flags);
    let before = upgraded.server.expect_children(4);
    let served = beside_clients(&upgraded.server.address(), 2, || {
        write_program(&upgraded.path, 2, Mode::Stuck);
        let answer = told(asked(control, &upgraded.path));
        let reason = "one has not become ready in 4s (upgrade_timeout)";
        assert!(answer.contains(reason), "{answer}");
    });
    assert!(served > 0);
    upgraded.expect("version 1 serves on: ", 1);
    expect_alive(&before);
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect("upgraded to 3", 1);
    upgraded.expect_version(3);
    upgraded.stop();
}

/// Somebody who has asked for an upgrade and waits.
fn asked(control: &str, program: &Path) -> UnixStream {
    let mut connection = UnixStream::connect(control).expect("a connection");
    let timeout = Some(SOON * 3);
    connection.set_read_timeout(timeout).expect("a timeout");
    writeln!(connection, "upgrade {}", program.display()).expect("room");
    connection
}

fn told(mut connection: UnixStream) -> String {
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The signal comes when the old program has looked for signals for the last time.
fn a_signal_between_the_state_and_the_exec_is_kept(world: &mut World) {
    let upgraded = Upgraded::of(world, Mode::Signalled, "upgrading", &[]);
    upgraded.server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Good);
    let status = upgraded.server.wait(SOON);
    assert!(status.success(), "{status}");
    upgraded.expect_said("version 2 in", 1);
}

/// The new program has noted the signal, and has not acted on it.
fn a_signal_before_the_way_back_is_kept(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    upgraded.upgrade_to(2, Mode::SignalledFails);
    let status = upgraded.server.wait(SOON);
    assert!(status.success(), "{status}");
    upgraded.expect_said("version 2 in", 1);
    upgraded.expect_said("version 1 serves on: ", 1);
}

/// A trial that has not ended when the next one begins is still a child of the server.
fn trials_that_are_tried_again_at_once_are_reaped(world: &mut World) {
    let upgraded = Upgraded::new(world, &["--retries", "5"]);
    let server = &upgraded.server;
    server.expect_children(4);
    let descriptors = held_when_settled(server);
    upgraded.upgrade_to(2, Mode::Refuses);
    upgraded.expect("version 1 serves on: ", 6);
    expect_no_zombie(server);
    expect_as_many(server, descriptors);
    upgraded.stop();
}

/// The first one is told the outcome of the upgrade, and no hook hears of the other.
fn who_asks_during_an_upgrade_is_refused_alone(world: &mut World) {
    let control = world.tempdir().join("control");
    let control = control.to_str().expect("a path");
    let mut gate = world.gate("trial");
    let upgraded = Upgraded::new(world, &["--control", control]);
    upgraded.server.expect_children(4);
    let other = upgraded.path.with_file_name("other");
    write_program(&other, 2, Mode::Good);
    let first = asked(control, &other);
    gate.reached(SOON);
    let refused = told(asked(control, Path::new("/no/such/program")));
    assert!(
        refused.contains("another upgrade is under way"),
        "{refused}"
    );
    gate.open();
    assert_eq!(told(first), "ok\n");
    upgraded.expect_version(2);
    assert_eq!(upgraded.said("serves on"), 0);
    assert_eq!(upgraded.said("event failed"), 0);
    upgraded.stop();
}

/// A deploy that puts a symbolic link to the new version in the place of the one to the old.
fn the_path_by_which_it_was_executed_is_upgraded_to(world: &mut World) {
    let directory = world.tempdir();
    let link_to = |version: &str| {
        let fresh = directory.join("fresh");
        std::os::unix::fs::symlink(version, &fresh).expect("a link");
        fs::rename(&fresh, directory.join("server")).expect("its place");
    };
    for version in 1..=3 {
        write_program(&directory.join(format!("v{version}")), version, Mode::Good);
    }
    link_to("v1");
    let path = directory.join("server");
    let launch = world.command(&path).args(&["--program", "upgrading"]);
    let server = launch.spawn();
    let upgraded = Upgraded { server, path };
    upgraded.server.expect_children(4);
    for version in 2..=3 {
        link_to(&format!("v{version}"));
        upgraded.server.signal(Signal::SIGUSR2);
        upgraded.expect(&format!("upgraded to {version}"), 1);
        upgraded.expect_version(version);
    }
    upgraded.stop();
}

/// A program that asks why it was started, and runs another one before its server.
fn what_runs_before_the_server_inherits_nothing(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    upgraded.upgrade_to(2, Mode::Lists);
    upgraded.expect("upgraded to 2", 1);
    let stdout = upgraded.server.stdout();
    let lists: Vec<_> = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("inherited: "))
        .collect();
    // In its trial and after the exec.
    assert_eq!(lists.len(), 2, "{stdout}");
    for list in lists {
        assert!(
            !list.contains("memfd:") && !list.contains("socket:"),
            "{list}"
        );
    }
    upgraded.stop();
}

/// After the exec a state from the future, cut off, or with a bit flipped, and a descriptor that is missing
/// or leads elsewhere, bring the old program back.
fn i07_a_state_that_is_bad_after_the_exec_brings_the_old_program_back(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let before = server.expect_children(4);
    let descriptors = held_when_settled(server);
    let bad = [
        (Mode::Future, "it is written in format 2, a later one"),
        (Mode::CutOff, "header at byte 12: "),
        (Mode::Flipped, "header at byte 16: "),
        (Mode::Missing, "Board: Bad file descriptor"),
        (Mode::Swapped, "Listener: it leads to another file"),
    ];
    let served = beside_clients(&server.address(), 4, || {
        for (number, (mode, reason)) in bad.into_iter().enumerate() {
            upgraded.upgrade_to(2, mode);
            upgraded.expect("version 1 serves on: upgrade ", number + 1);
            let stdout = server.stdout();
            let told = stdout.lines().rev().find(|line| line.contains("serves on"));
            let told = told.expect("a line");
            assert!(told.contains(reason), "{reason}: {told}");
        }
    });
    assert!(served > 0);
    expect_alive(&before);
    upgraded.expect_version(1);
    expect_no_zombie(server);
    expect_as_many(server, descriptors);
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect("upgraded to 3", 1);
    upgraded.stop();
}
