//! Programs that cannot take over from a parent with a holder: the old one serves on.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    i07_a_program_that_cannot_run_is_refused_and_the_holder_keeps_the_old_one,
    i07_a_program_that_hangs_is_refused_and_the_holder_keeps_the_old_one,
    a_program_that_fails_after_its_trial_gives_the_place_back_to_the_old_one,
    a_program_that_cannot_be_executed_after_its_trial_changes_nothing,
];

/// Under a holder the old parent serves on with the same children, its holder works, and a good program is
/// accepted afterwards.
fn i07_a_program_that_cannot_run_is_refused_and_the_holder_keeps_the_old_one(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    let parent = upgraded.parent();
    let served = under_load(&upgraded.address(), 4, || {
        upgraded.fail_to_upgrade(Mode::Exits, "exit status: 3");
        upgraded.fail_to_upgrade(Mode::Dies, "SIGKILL");
        upgraded.fail_to_upgrade(Mode::Refuses, "this is of a later version");
        let other = upgraded.path.with_extension("new");
        fs::write(&other, "no program").expect("a file");
        fs::rename(&other, &upgraded.path).expect("its place");
        let times = upgraded.said("upgrade failed: ");
        upgraded.server.signal(Signal::SIGUSR2);
        upgraded.expect("upgrade failed: ", times + 1);
        fs::remove_file(&upgraded.path).expect("a file");
        upgraded.server.signal(Signal::SIGUSR2);
        upgraded.expect("upgrade failed: ", times + 2);
    });
    assert!(served > 0);
    assert_eq!(upgraded.parent(), parent);
    assert!(before.is_subset(&upgraded.children()), "the same children");
    upgraded.expect_holder();
    assert!(before.is_subset(&upgraded.children()), "the same children");
    upgraded.expect_version(1);
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect_version(2);
    upgraded.stop();
}

/// Under a holder, too, a program that does not answer in its trial is killed.
fn i07_a_program_that_hangs_is_refused_and_the_holder_keeps_the_old_one(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    upgraded.ask(9, Mode::Hangs);
    until("a refusal", SOON * 3, || {
        (upgraded.said("has not answered in 10s") > 0).then_some(())
    });
    assert!(before.is_subset(&upgraded.children()), "the same children");
    upgraded.expect_holder();
    upgraded.stop();
}

/// In its start, with its children, and where it would get its holder: the old program has the same
/// children again, a holder, and the same process.
fn a_program_that_fails_after_its_trial_gives_the_place_back_to_the_old_one(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    let served = under_load(&upgraded.address(), 4, || {
        for (mode, reason) in [
            (Mode::Fails, "this program does not start"),
            (Mode::Childless, "3 children in a row have not become ready"),
            (Mode::Threads, "threads"),
        ] {
            let parents = upgraded.said("parent ");
            upgraded.fail_to_upgrade(mode, reason);
            upgraded.expect("parent ", parents + 1);
            upgraded.expect_version(1);
            upgraded.expect_holder();
        }
    });
    assert!(served > 0);
    let children = upgraded.children();
    assert!(before.is_subset(&children), "{before:?}, {children:?}");
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect_version(2);
    upgraded.stop();
}

/// The holder has neither the new program nor the old parent any more, and executes the old program.
fn a_program_that_cannot_be_executed_after_its_trial_changes_nothing(world: &mut World) {
    let gate = world.gate("trial");
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    upgraded.ask_and_await_trial(2, gate, |path| {
        fs::set_permissions(path, Permissions::from_mode(0o000)).expect("permissions");
    });
    upgraded.expect("upgrade failed: ", 1);
    let stdout = upgraded.server.stdout();
    assert!(stdout.contains("exec: Permission denied"), "{stdout}");
    upgraded.expect("parent ", 2);
    assert_eq!(upgraded.children(), before, "the same children");
    upgraded.expect_holder();
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect_version(3);
    upgraded.stop();
}
