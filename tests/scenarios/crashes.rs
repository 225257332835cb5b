//! Children that crash, panic, exit or run out of memory during a connection: it costs one client.

use crate::subject::{Group, Held, deaths, ends_well, expect_exit, pids, report, send};
use crate::support::{SOON, Scenarios, Server, Signal, World, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    a03_every_crash_costs_one_client_only,
    a04_every_kind_of_panic_stays_in_the_child,
    a05_every_kind_of_exit_is_followed_by_another_child,
    a06_a_child_without_memory_dies_alone,
    a06_a_child_that_the_kernel_ends_for_its_memory_is_replaced,
    a04_a_panic_in_a_handler_ends_the_child_with_101,
];

/// Has one child after the other do something that it does not survive, while another serves a
/// client all the time; `how` is what the parent must say of its end.
fn die_of(world: &mut World, misdeeds: &[(&str, &str)]) -> Server {
    let server = world.spawn("serve", &["--start", "3", "--min-spare", "2"]);
    let address = server.address();
    let mut bystander = Held::new(&address);
    for (misdeed, how) in misdeeds {
        let mut held = Held::new(&address);
        held.client.send_line(misdeed);
        held.client.gone();
        expect_exit(&server, held.pid, how);
        bystander.is_served();
    }
    until("each to have a successor", SOON, || {
        (pids(&server, "forked").len() >= 3 + misdeeds.len()).then_some(())
    });
    drop(bystander);
    Held::new(&address).is_served();
    ends_well(&server);
    let lost = format!("; {} connections lost", misdeeds.len());
    assert!(report(&server).contains(&lost), "{}", report(&server));
    server
}

/// A child is a process of its own, so no other is affected. The hook gets the signal. The handlers
/// of std for SIGSEGV and SIGBUS stay, so a stack overflow prints its message and ends with
/// SIGABRT.
fn a03_every_crash_costs_one_client_only(world: &mut World) {
    let misdeeds = [
        ("segv", "Killed signal: 11 (SIGSEGV)"),
        ("bus", "Killed signal: 7 (SIGBUS)"),
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        ("ill", "Killed signal: 4 (SIGILL)"),
        ("abort", "Killed signal: 6 (SIGABRT)"),
        ("overflow", "Killed signal: 6 (SIGABRT)"),
    ];
    let server = die_of(world, &misdeeds);
    assert_eq!(deaths(&server, "Killed"), misdeeds.len() as u64);
    server.expect_stderr("the overflow", |text| {
        text.contains("has overflowed its stack")
    });
}

/// A panic ends the child wherever it happens and whatever its payload: with exit code 101, or with
/// SIGABRT where Rust itself aborts.
fn a04_every_kind_of_panic_stays_in_the_child(world: &mut World) {
    world.expect_panics();
    let server = die_of(
        world,
        &[
            ("panic-in-drop", "Failed exit status: 101"),
            ("panic-with-a-number", "Failed exit status: 101"),
            ("panic-with-a-bomb", "Failed exit status: 101"),
            ("panic-twice", "Killed signal: 6 (SIGABRT)"),
        ],
    );
    // One report: `run` has returned in the parent alone.
    assert_eq!(server.stdout().matches(" failed forks, ").count(), 1);
}

/// A child that exits in its handler counts as finished, or with another code than 0 as failed, and
/// is replaced like any child that died unasked.
fn a05_every_kind_of_exit_is_followed_by_another_child(world: &mut World) {
    let server = die_of(
        world,
        &[
            ("exit 0", "Finished exit status: 0"),
            ("c-exit 0", "Finished exit status: 0"),
            ("exit-at-once 0", "Finished exit status: 0"),
            ("exit 7", "Failed exit status: 7"),
        ],
    );
    assert_eq!(server.stdout().matches(" failed forks, ").count(), 1);
}

/// An allocation that fails aborts the child, and no other process.
fn a06_a_child_without_memory_dies_alone(world: &mut World) {
    let server = die_of(world, &[("eat-with-a-limit", "Killed signal: 6 (SIGABRT)")]);
    server.expect_stderr("the reason", |text| text.contains("memory allocation of"));
}

/// A child that the out-of-memory killer ends has a cause of its own (`Cause::OutOfMemory`), where its
/// control group or the kernel's log tells of it. Another SIGKILL that the parent has not sent comes
/// from an administrator (`Cause::Killed`), also in the same group.
///
/// Without the evidence (`OutOfMemory::has_ended`): both are killed.
fn a06_a_child_that_the_kernel_ends_for_its_memory_is_replaced(world: &mut World) {
    let Some(group) = Group::memory("33554432") else {
        return;
    };
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut bystander = Held::new(&address);
    let mut held = Held::new(&address);
    group.enter(held.pid);
    held.client.send_line("eat");
    held.client.gone();
    expect_exit(&server, held.pid, "OutOfMemory signal: 9 (SIGKILL)");
    let text = server.expect_stderr("the warning", |text| text.contains("lack of memory"));
    let line = format!(
        "child {} was ended by the kernel for lack of memory",
        held.pid
    );
    assert!(text.contains(&line), "{text}");
    let held = Held::new(&address);
    group.enter(held.pid);
    send(held.pid, Signal::SIGKILL);
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    bystander.is_served();
    drop(bystander);
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "OutOfMemory"), 1);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// A panic is caught right after the fork: the child exits with 101 and unwinds nothing of the
/// parent's stack.
fn a04_a_panic_in_a_handler_ends_the_child_with_101(world: &mut World) {
    world.expect_panics();
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut other = Held::new(&address);
    let mut held = Held::new(&address);
    held.client.send_line("panic");
    held.client.gone();
    expect_exit(&server, held.pid, "Failed exit status: 101");
    other.is_served();
    Held::new(&address).is_served();
    drop(other);
    ends_well(&server);
    assert_eq!(deaths(&server, "Failed"), 1);
    let text = format!("{} STDERR: the client asked for it", held.pid);
    assert!(server.stderr().contains(&text), "{}", server.stderr());
}
