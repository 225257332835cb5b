//! How programs for a connection end: by themselves, by a signal, after their time, with their child or
//! their parent.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    an_exit_code_is_told,
    a_program_that_is_killed_costs_its_client_only,
    a_program_has_its_deadline,
    a_deaf_program_is_killed_after_its_deadline,
    a_stop_lets_programs_finish,
    a_stop_kills_what_does_not_finish,
    a_program_dies_with_its_child,
    a_program_does_not_outlive_the_parent,
    a_program_does_not_outlive_parent_and_child,
    what_a_program_leaves_behind_ends,
];

fn an_exit_code_is_told(world: &mut World) {
    let script = "echo complaint >&2; exit 3";
    let server = inetd(world, &[], &["sh", "-c", script]);
    let mut client = connect(&server.address());
    let from = client.local_address();
    assert_eq!(client.read_rest(), "");
    server.expect_stderr("what the program says", |text| {
        text.contains("STDERR: complaint\n")
    });
    let told = format!("STDERR: sh for {from}: exit status: 3\n");
    server.expect_stderr("its exit code", |text| text.contains(&told));
    stop(&server);
}

fn a_program_that_is_killed_costs_its_client_only(world: &mut World) {
    world.expect_orphans();
    let server = inetd(world, &[], &["sh", "-c", "echo $$; cat"]);
    let address = server.address();
    let mut client = connect(&address);
    let pid = told_pid(&mut client);
    let mut other = connect(&address);
    told_pid(&mut other);
    let killed = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(killed, Signal::SIGKILL).unwrap();
    client.gone();
    assert_eq!(other.ask("still here"), "still here");
    server.expect_stderr("the signal", |text| text.contains("signal: 9 (SIGKILL)\n"));
    drop(other);
    let report = stop(&server);
    assert!(!report.contains("Killed"), "{report}");
}

fn a_program_has_its_deadline(world: &mut World) {
    let server = inetd(
        world,
        &["--deadline", "2s"],
        &["sh", "-c", "echo $$; exec cat"],
    );
    let address = server.address();
    let started = Instant::now();
    let mut client = connect(&address);
    let pid = told_pid(&mut client);
    assert_eq!(client.ask("hello"), "hello");
    client.gone();
    assert!(started.elapsed() >= Duration::from_secs(2));
    until_gone(pid);
    server.expect_stderr("the deadline", |text| text.contains(" has had its time\n"));
    // The next client is served as ever.
    told_pid(&mut connect(&address));
    stop(&server);
}

/// What it has started goes with it.
fn a_deaf_program_is_killed_after_its_deadline(world: &mut World) {
    world.expect_orphans();
    let script = "trap '' TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 1; done";
    let pool = [
        "--max-clients",
        "1",
        "--deadline",
        "2s",
        "--kill-timeout",
        "300ms",
    ];
    let server = inetd(world, &pool, &["sh", "-c", script]);
    let mut client = connect(&server.address());
    let (started, program) = (told_pid(&mut client), told_pid(&mut client));
    client.gone();
    until_gone(program);
    until_gone(started);
    stop(&server);
}

fn a_stop_lets_programs_finish(world: &mut World) {
    let server = inetd(world, &[], &["cat"]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("before"), "before");
    server.signal(Signal::SIGTERM);
    // The idle children have gone.
    server.expect_children(1);
    assert_eq!(client.ask("after"), "after");
    client.close_write();
    client.eof();
    assert!(server.wait(SOON).success());
}

fn a_stop_kills_what_does_not_finish(world: &mut World) {
    world.expect_orphans();
    let script = "trap '' TERM INT; sleep 1000 & echo $!; echo $$; while :; do sleep 1; done";
    let server = inetd(
        world,
        &["--shutdown-timeout", "300ms"],
        &["sh", "-c", script],
    );
    let mut client = connect(&server.address());
    let (started, program) = (told_pid(&mut client), told_pid(&mut client));
    server.signal(Signal::SIGTERM);
    assert!(server.wait(SOON).success());
    client.gone();
    // They have got SIGKILL, which ends them when they come to run.
    until_gone(program);
    until_gone(started);
}

fn a_program_dies_with_its_child(world: &mut World) {
    world.expect_orphans();
    let script = "sleep 1000 & echo $!; echo $$; echo $PPID; cat";
    let flags = ["--kill-timeout", "300ms"];
    let server = inetd(world, &flags, &["sh", "-c", script]);
    let mut client = connect(&server.address());
    let (started, program) = (told_pid(&mut client), told_pid(&mut client));
    let child = told_pid(&mut client);
    assert!(server.children().contains(&child));
    let killed = nix::unistd::Pid::from_raw(child.cast_signed());
    nix::sys::signal::kill(killed, Signal::SIGKILL).unwrap();
    until_gone(program);
    until_gone(started);
    client.gone();
    stop(&server);
}

/// The client in hand has `kill_timeout`; then the child ends, and with it all of its group.
fn a_program_does_not_outlive_the_parent(world: &mut World) {
    world.expect_orphans();
    let script = "sleep 1000 & echo $!; echo $$; cat";
    let flags = ["--kill-timeout", "300ms"];
    let server = inetd(world, &flags, &["sh", "-c", script]);
    let mut client = connect(&server.address());
    let (started, program) = (told_pid(&mut client), told_pid(&mut client));
    server.kill9();
    until_gone(program);
    until_gone(started);
    client.gone();
    until("the orphans to be reaped", SOON, || {
        world.reap_orphans();
        world.processes().is_empty().then_some(())
    });
}

/// Nobody is left to tell it.
fn a_program_does_not_outlive_parent_and_child(world: &mut World) {
    world.expect_orphans();
    let server = inetd(world, &[], &["sh", "-c", "echo $$; echo $PPID; exec cat"]);
    let mut client = connect(&server.address());
    let (program, child) = (told_pid(&mut client), told_pid(&mut client));
    server.signal(Signal::SIGSTOP);
    let killed = nix::unistd::Pid::from_raw(child.cast_signed());
    nix::sys::signal::kill(killed, Signal::SIGKILL).unwrap();
    until_gone(program);
    client.gone();
    server.kill9();
    until("the orphans to be reaped", SOON, || {
        world.reap_orphans();
        world.processes().is_empty().then_some(())
    });
}

/// A program that puts something into the background and ends.
fn what_a_program_leaves_behind_ends(world: &mut World) {
    world.expect_orphans();
    let script = "sleep 1000 & echo $!";
    let flags = ["--max-requests", "1", "--kill-timeout", "1s"];
    let server = inetd(world, &flags, &["sh", "-c", script]);
    let mut client = connect(&server.address());
    let left = told_pid(&mut client);
    // It has a copy of the connection, which ends all the same.
    client.eof();
    until_gone(left);
    stop(&server);
}
