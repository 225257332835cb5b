//! Texts of the kernel, and which deaths a count explains.

use super::*;
use crate::core::testing::at;

#[test]
fn the_groups_of_both_versions_are_found() {
    let both = "9:name=systemd:/\n4:cpu,memory:/a:b\n3:cpuset:/c\n0::/d\n";
    let found = Membership::parse(both);
    assert_eq!((found.unified, found.memory), (Some("/d"), Some("/a:b")));
    for nonsense in ["", "0", "0:", ":::", "\n\n", "0:memory"] {
        assert_eq!(Membership::parse(nonsense).memory, None, "{nonsense:?}");
    }
}

#[test]
fn the_count_is_read_in_both_forms() {
    assert_eq!(
        kills("low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
        Some(2)
    );
    assert_eq!(
        kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        Some(1)
    );
    assert_eq!(kills("oom_kill x\n"), None);
    assert_eq!(kills("under_oom 0\n"), None);
}

#[test]
fn each_rise_explains_one_death_and_soon() {
    let mut kills = Kills::default();
    kills.begin("a", 7);
    assert_eq!(kills.claim("a", 7, at(0)), Some(false), "no rise");
    assert_eq!(kills.claim("a", 9, at(10)), Some(true));
    assert_eq!(kills.claim("a", 9, at(20)), Some(true), "both at once");
    assert_eq!(kills.claim("a", 9, at(30)), Some(false));
    assert_eq!(kills.claim("a", 11, at(40)), Some(true));
    assert_eq!(kills.claim("a", 11, at(2000)), Some(false), "too late");
}

#[test]
fn an_unknown_group_tells_only_if_it_has_counted_nothing() {
    let mut kills = Kills::default();
    assert_eq!(kills.claim("a", 0, at(0)), Some(false));
    assert_eq!(kills.claim("b", 3, at(0)), None);
    assert_eq!(kills.claim("b", 4, at(1)), Some(true), "known by now");
}

#[test]
fn the_log_tells_of_this_process_and_not_of_an_earlier_one() {
    let log = "<6>[   99.5] Killed process 41 (x) total-vm:1kB\n\
               <3>[  100.5] Memory cgroup out of memory: Killed process 42 (x) total-vm:1kB\n";
    let forked = Duration::from_secs(100);
    assert!(log_tells(log, 42, forked));
    assert!(!log_tells(log, 41, forked), "another process had that pid");
    assert!(!log_tells(log, 4, forked) && !log_tells(log, 2, forked));
    assert!(
        log_tells("Out of memory: Killed process 42 (x)", 42, forked),
        "no time"
    );
}

#[test]
fn while_the_machine_counts_none_nobody_looks_further() {
    let mut machine = MachineCount::default();
    machine.begin(Some(87));
    assert!(!machine.may_have_ended_one(Some(87), at(0)));
    assert!(machine.may_have_ended_one(Some(88), at(10)));
    assert!(
        machine.may_have_ended_one(Some(88), at(20)),
        "one that was counted together with another"
    );
    let late = at(10 + 60_000);
    assert!(machine.may_have_ended_one(Some(88), late));
    assert!(!machine.may_have_ended_one(Some(88), at(11 + 60_000)));
    assert!(machine.may_have_ended_one(Some(89), at(90_000)));
}

#[test]
fn where_the_machine_has_no_count_each_death_is_looked_at() {
    let mut machine = MachineCount::default();
    machine.begin(None);
    for seconds in [0, 100, 10_000] {
        assert!(machine.may_have_ended_one(None, at(seconds * 1000)));
    }
}
