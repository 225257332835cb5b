//! The course of an upgrade, step by step, and each way in which it fails.

use super::*;

fn at(milliseconds: u64) -> Time {
    Time::at(Duration::from_millis(milliseconds))
}

fn seen(milliseconds: u64, trial: Trial) -> UpgradeInput {
    UpgradeInput {
        now: at(milliseconds),
        trial,
        is_calm: true,
        stops: false,
        hangs_at: None,
    }
}

const LIMIT: Duration = Duration::from_secs(10);

fn begun() -> Upgrade {
    let mut upgrade = Upgrade::default();
    upgrade.begin(at(0), LIMIT);
    upgrade
}

fn proving() -> Upgrade {
    let mut upgrade = Upgrade::default();
    upgrade.prove(7, at(3), Duration::ZERO);
    upgrade
}

/// Every case. Without the rule for programs the third one begins.
#[test]
fn an_upgrade_begins_unless_a_stop_or_the_end_of_programs_is_in_its_way() {
    let refusal = |stops, programs, keeps_programs| {
        let outset = Outset {
            stops,
            programs,
            keeps_programs,
        };
        outset.refusal()
    };
    for keeps in [false, true] {
        assert_eq!(refusal(false, false, keeps), None);
        assert_eq!(refusal(true, false, keeps), Some(UpgradeFailure::Stop));
        assert_eq!(refusal(true, true, keeps), Some(UpgradeFailure::Stop));
    }
    assert_eq!(
        refusal(false, true, false),
        Some(UpgradeFailure::EndsPrograms)
    );
    assert_eq!(refusal(false, true, true), None);
}

#[test]
fn a_trial_without_a_limit_is_waited_for() {
    let mut upgrade = Upgrade::default();
    upgrade.begin(at(0), Duration::ZERO);
    assert_eq!(upgrade.wake_at(), None);
    assert_eq!(
        upgrade.step(&seen(1_000_000, Trial::Runs)),
        UpgradeStep::Wait
    );
}

/// Children of the new program that hang in their start are given up: for as long as they hang no
/// other upgrade could begin.
#[test]
fn i07_children_of_the_new_program_that_hang_are_given_up() {
    let hangs = |now| UpgradeInput {
        hangs_at: Some(at(500)),
        ..seen(now, Trial::Gone)
    };
    let mut upgrade = proving();
    assert_eq!(upgrade.step(&hangs(499)), UpgradeStep::Wait);
    assert_eq!(upgrade.step(&hangs(500)), UpgradeStep::GiveUp);
    let stops = UpgradeInput {
        stops: true,
        ..hangs(500)
    };
    assert_eq!(upgrade.step(&stops), UpgradeStep::Wait);
}

#[test]
fn requests_of_one_turn_are_kept_apart() {
    let to = |path: &str| UpgradeRequest {
        program: Some(path.into()),
        asker: Some(Box::new(())),
    };
    let mut upgrade = Upgrade::default();
    assert!(upgrade.ask(to("a")) && upgrade.ask(to("b")));
    assert!(upgrade.ask(UpgradeRequest::default()));
    assert!(!upgrade.ask(UpgradeRequest::default()), "a second signal");
    let taken = [(); 4].map(|()| upgrade.take_asked().program);
    assert_eq!(taken, [Some("a".into()), Some("b".into()), None, None]);
}

#[test]
fn a_program_that_passes_is_executed_when_its_trial_has_ended() {
    let mut upgrade = begun();
    assert_eq!(upgrade.step(&seen(5, Trial::Runs)), UpgradeStep::Wait);
    assert_eq!(upgrade.step(&seen(10, Trial::Passed)), UpgradeStep::Wait);
    assert_eq!(upgrade.wake_at(), Some(at(110)));
    assert_eq!(upgrade.step(&seen(109, Trial::Passed)), UpgradeStep::Wait);
    assert_eq!(
        upgrade.step(&seen(110, Trial::Passed)),
        UpgradeStep::EndTrial
    );
    assert_eq!(upgrade.step(&seen(111, Trial::Passed)), UpgradeStep::Wait);
    let busy = UpgradeInput {
        is_calm: false,
        ..seen(112, Trial::Gone)
    };
    assert_eq!(upgrade.step(&busy), UpgradeStep::Wait);
    assert_eq!(upgrade.step(&seen(113, Trial::Gone)), UpgradeStep::Execute);
}

/// However the trial goes wrong, the upgrade fails with that reason, and is over.
#[test]
fn i07_whatever_goes_wrong_in_the_trial_ends_the_upgrade() {
    let refused = || Trial::Refused("no".to_owned());
    let ended = || Trial::Ended("exit status: 1".to_owned());
    let before = [
        (seen(5, refused()), UpgradeFailure::Refused("no".to_owned())),
        (
            seen(5, ended()),
            UpgradeFailure::Ended("exit status: 1".to_owned()),
        ),
        (seen(10_000, Trial::Runs), UpgradeFailure::Hangs(LIMIT)),
    ];
    for (seen, failure) in before {
        let mut upgrade = begun();
        assert_eq!(upgrade.step(&seen), UpgradeStep::Fail(failure));
        assert!(!upgrade.is_under_way());
    }
    let mut upgrade = begun();
    let _ = upgrade.step(&seen(1, Trial::Passed));
    let failed = upgrade.step(&seen(11, ended()));
    assert_eq!(
        failed,
        UpgradeStep::Fail(UpgradeFailure::Ended("exit status: 1".to_owned()))
    );
}

#[test]
fn a_stop_ends_the_upgrade_in_every_phase() {
    for passed in [0, 1, 2] {
        let mut upgrade = begun();
        for milliseconds in 0..passed {
            let _ = upgrade.step(&seen(milliseconds * 200, Trial::Passed));
        }
        let stop = UpgradeInput {
            stops: true,
            ..seen(500, Trial::Passed)
        };
        assert_eq!(upgrade.step(&stop), UpgradeStep::Fail(UpgradeFailure::Stop));
        assert!(!upgrade.is_under_way());
    }
}

#[test]
fn a_stop_wins_over_the_way_back() {
    let mut upgrade = proving();
    upgrade.come_back(at(10));
    let stop = UpgradeInput {
        stops: true,
        ..seen(11, Trial::Gone)
    };
    assert_eq!(upgrade.step(&stop), UpgradeStep::Fail(UpgradeFailure::Stop));
    assert!(!upgrade.is_under_way());
}

#[test]
fn a_process_that_cannot_be_killed_and_tasks_without_end_are_not_waited_for() {
    let mut upgrade = begun();
    let _ = upgrade.step(&seen(0, Trial::Passed));
    assert_eq!(
        upgrade.step(&seen(100, Trial::Passed)),
        UpgradeStep::EndTrial
    );
    assert_eq!(
        upgrade.step(&seen(10_099, Trial::Passed)),
        UpgradeStep::Wait
    );
    let stays = upgrade.step(&seen(10_100, Trial::Passed));
    assert_eq!(stays, UpgradeStep::Fail(UpgradeFailure::Stays));

    let mut upgrade = begun();
    let _ = upgrade.step(&seen(0, Trial::Passed));
    let _ = upgrade.step(&seen(100, Trial::Passed));
    let busy = |at| UpgradeInput {
        is_calm: false,
        ..seen(at, Trial::Gone)
    };
    assert_eq!(upgrade.step(&busy(200)), UpgradeStep::Wait);
    let never = upgrade.step(&busy(1_200));
    assert_eq!(never, UpgradeStep::Fail(UpgradeFailure::NeverCalm));
}

#[test]
fn the_way_back_waits_for_a_calm_moment_and_no_longer_than_a_second() {
    let mut upgrade = proving();
    upgrade.come_back(at(10));
    let busy = |at| UpgradeInput {
        is_calm: false,
        ..seen(at, Trial::Gone)
    };
    assert_eq!(upgrade.step(&busy(11)), UpgradeStep::Wait);
    assert_eq!(upgrade.step(&busy(1_010)), UpgradeStep::Return);
    assert_eq!(upgrade.step(&seen(12, Trial::Gone)), UpgradeStep::Return);
}

#[cfg(feature = "holder")]
#[test]
fn a_note_is_read_as_written_and_an_unknown_one_is_of_no_upgrade() {
    use UpgradeNote::{Over, Proving, Returning};
    for note in [Over, Proving, Returning] {
        assert_eq!(UpgradeNote::read(note.word()), note);
    }
    assert_eq!(UpgradeNote::read(9), Over);
}

#[test]
fn the_new_program_is_proved_by_the_reload_of_its_own_epoch() {
    let mut upgrade = proving();
    assert!(upgrade.is_under_way() && upgrade.is_proving());
    assert_eq!(upgrade.step(&seen(5, Trial::Runs)), UpgradeStep::Wait);
    assert!(!upgrade.take_proved(6));
    assert!(upgrade.take_proved(8), "a reload has begun meanwhile");
    upgrade.prove(7, at(3), Duration::ZERO);
    assert!(upgrade.take_proved(7));
    assert!(!upgrade.take_proved(7) && !upgrade.is_under_way());
}
