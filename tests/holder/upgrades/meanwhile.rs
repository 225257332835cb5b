//! What may come in between while a server with a holder is upgraded: deaths, a stop, a holder that is
//! stopped.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    children_that_die_meanwhile_are_reaped_once_and_their_status_is_known,
    a_stop_during_an_upgrade_wins,
    a_holder_that_is_stopped_is_not_waited_for,
];

/// Children of the parent, of the parent before it, and of the program before.
fn children_that_die_meanwhile_are_reaped_once_and_their_status_is_known(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let mut dice = Dice::new();
    for version in 2..10 {
        let children = until("children", SOON, || {
            Some(upgraded.children()).filter(|children| children.len() >= 2)
        });
        if version % 2 == 0 {
            upgraded.kill_parent();
        }
        let began = upgraded.said("upgrade began");
        upgraded.ask(version, Mode::Good);
        upgraded.expect("upgrade began", began + 1);
        let victims = || children.iter().take(2);
        for pid in victims() {
            pause(dice.time_below(Duration::from_millis(60)));
            kill_if_there(*pid);
        }
        upgraded.expect(&format!("upgraded to {version},"), 1);
        for pid in victims() {
            upgraded.expect(&format!("exited {pid} "), 1);
            assert_eq!(upgraded.said(&format!("exited {pid} ")), 1, "once");
        }
        upgraded.expect_version(version);
    }
    until("no zombie", SOON, || {
        upgraded.server.zombies().is_empty().then_some(())
    });
    let stdout = upgraded.stop();
    assert!(!stdout.contains(" Lost "), "{stdout}");
}

fn a_stop_during_an_upgrade_wins(world: &mut World) {
    world.deadline(SOON * 6);
    for milliseconds in [0, 60, 110, 120, 130, 145, 160, 200] {
        let upgraded = Upgraded::new(world, &[]);
        let mut client = connect(&upgraded.address());
        client.ask("who");
        upgraded.ask(2, Mode::Good);
        pause(Duration::from_millis(milliseconds));
        upgraded.server.signal(Signal::SIGTERM);
        client.ask("who");
        client.close_write();
        client.eof();
        let status = upgraded.server.wait(SOON);
        assert!(status.success(), "{milliseconds} ms: {status}");
    }
}

/// The upgrade is refused, and everything is as before when the holder goes on.
fn a_holder_that_is_stopped_is_not_waited_for(world: &mut World) {
    let gate = world.gate("trial");
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.children();
    upgraded.ask_and_await_trial(2, gate, |_| upgraded.server.signal(Signal::SIGSTOP));
    upgraded.expect("the holder: it does not answer", 1);
    upgraded.server.signal(Signal::SIGCONT);
    assert_eq!(upgraded.children(), before);
    upgraded.expect_holder();
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect_version(3);
    upgraded.stop();
}
