//! What is known of a child that a clock has ended: where it was stuck, what it had written.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    the_report_names_the_place_where_a_handler_was_stuck,
    the_report_has_the_last_lines_and_the_epoch,
];

/// State, system call and the place in the kernel are read before SIGKILL is sent.
///
/// Without `stuck` in `Parent::signal`: all are empty.
fn the_report_names_the_place_where_a_handler_was_stuck(world: &mut World) {
    // The process for which one of the kinds waits.
    world.expect_orphans();
    // They are deaf: one that SIGINT wakes is where it was stuck only when it has run again, which on a
    // busy machine may be after SIGKILL.
    let flags = ["--deaf", "--busy-timeout", "2000", "--kill-timeout", "50"];
    let server = world.spawn("serve", &[&flags[..], &["--start", "6"]].concat());
    let address = server.address();
    expect_up(&server, KINDS.len());
    // The one that spins comes last: it takes time from those that have something to do yet.
    let kinds = KINDS.iter().rev();
    let stuck: Vec<_> = kinds.map(|kind| (sticks(&address, kind), *kind)).collect();
    for (held, kind) in stuck {
        let (call, state) = place_of(kind);
        let state = format!("state {state}");
        let death = death_of(&server, held.pid);
        let stuck = &death["stuck"];
        assert!(stuck.contains(&state), "{stuck}, not {state}");
        if std::fs::read("/proc/self/syscall").is_ok() {
            assert!(stuck.contains(call), "{stuck}, not {call}");
        }
        assert_eq!(death["connections"], "1");
        assert!(
            time(&death, "in-hand") >= Duration::from_millis(2050),
            "{death:?}"
        );
        assert!(time(&death, "age") >= time(&death, "in-hand"), "{death:?}");
        assert!(
            death["memory"].parse::<u64>().unwrap() > 100_000,
            "{death:?}"
        );
        if kind == "spin" {
            assert!(time(&death, "cpu") > Duration::ZERO, "{death:?}");
        }
    }
    ends_well(&server);
}

/// What the report says of the system call and of the state of a kind.
fn place_of(kind: &str) -> (&'static str, char) {
    match kind {
        "spin" => ("in no system call", 'R'),
        "sleep" => ("nanosleep", 'S'),
        "read-for-ever" => ("in read", 'S'),
        "stop" => ("", 'T'),
        "mask" => ("in p", 'S'),
        _ => ("", 'D'),
    }
}

/// A client whose child is stuck in this way by now.
fn sticks(address: &Address, kind: &str) -> Held {
    let mut held = Held::new(address);
    held.client.send_line(kind);
    until(&format!("a child to {kind}"), SOON, || {
        let there = processes::state(held.pid) == Some(place_of(kind).1);
        (there && has_obeyed(held.pid, kind)).then_some(())
    });
    held
}

/// Whether a child in the right state is there because of what it was told: it waits for its client in
/// the same one.
fn has_obeyed(pid: u32, kind: &str) -> bool {
    let is_in = |expected| processes::system_call(pid).is_none_or(|call| call == expected);
    match kind {
        "sleep" => is_in(nix::libc::SYS_clock_nanosleep),
        "read-for-ever" => is_in(nix::libc::SYS_read),
        "mask" => has_signal(pid, "SigBlk", Signal::SIGTERM),
        _ => true,
    }
}

/// What a child that sticks has written to stderr, to which reload it belongs, and, where /proc tells
/// it, the function of the kernel in which it waits. The log has the same.
///
/// Without `note_stderr` in `deliver` there are no lines.
fn the_report_has_the_last_lines_and_the_epoch(world: &mut World) {
    let flags = ["--busy-timeout", "3000", "--kill-timeout", "50"];
    let server = world.spawn("serve", &[&flags[..], &["--start", "1"]].concat());
    let address = server.address();
    let first = expect_up(&server, 1)[0];
    server.signal(Signal::SIGHUP);
    expect_exit(&server, first, "Reloaded exit status: 0");
    assert_eq!(death_of(&server, first)["epoch"], "0");
    let mut stuck = Held::new(&address);
    for line in ["opening the ledger", "locking \"it\""] {
        assert_eq!(stuck.client.ask(&format!("mutter {line}")), "done");
    }
    stuck.client.send_line("read-for-ever");
    let waits = until("a place where it waits", SOON, || where_it_waits(stuck.pid));
    let death = death_of(&server, stuck.pid);
    let lines = r#"["opening the ledger", "locking \"it\""]"#;
    assert_eq!((&*death["epoch"], &*death["lines"]), ("1", lines));
    let place = waits.map_or_else(String::new, |place| format!("({place})"));
    assert!(death["stuck"].contains(&place), "{death:?}, not {place}");
    let about = format!("child {} has exceeded busy_timeout", stuck.pid);
    let log = server.expect_stderr("the death", |text| text.contains(&about));
    let line = log.lines().find(|line| line.contains(&about)).unwrap();
    for part in [", of epoch 1,", "opening the ledger", &place] {
        assert!(line.contains(part), "{line}, without {part}");
    }
    ends_well(&server);
}

/// The function of the kernel in which a process waits, once it does; `Some(None)` where that is not
/// told.
fn where_it_waits(pid: u32) -> Option<Option<String>> {
    let asleep = processes::state(pid) == Some('S');
    let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let name = (!["", "0"].contains(&wchan.trim())).then(|| wchan.trim().to_owned());
    // Before it reads it waits for its client.
    let reads = processes::system_call(pid).is_none_or(|call| call == nix::libc::SYS_read);
    (asleep && reads).then_some(name)
}
