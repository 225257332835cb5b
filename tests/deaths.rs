//! Children that die, or that turn into something else: noticed, counted, replaced, and no faster
//! than is good.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use subject::{
    Held, SOON, deaths, ends_well, expect_entry, expect_exit, expect_up, hold, journal, pids,
    report, send, serve,
};
use support::{Server, Signal, World, holds, processes, programs, scenarios, until};

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            an_idle_child_that_is_killed_is_replaced,
            a_busy_child_that_is_killed_costs_its_client_only,
            the_dead_of_a_large_pool_are_found_though_they_have_no_pidfd,
            the_dead_of_a_large_pool_are_found_behind_a_stranger,
            a_program_that_dies_at_once_is_slowed_down_and_recovers,
            a_fork_that_fails_is_retried_while_the_others_serve,
            an_execed_child_that_closes_its_outputs_is_told_and_replaced,
            an_execed_child_that_ignores_it_is_killed_and_counts_until_then,
            an_execed_child_that_says_nothing_is_timed_out,
            a_grandchild_that_holds_the_pipes_does_not_keep_the_child,
            a_grandchild_that_writes_for_ever_does_not_keep_the_parent,
            a_panic_in_a_handler_ends_the_child_with_101,
            c15_a_panic_in_a_hook_of_the_parent_is_survived,
        ],
    )
}

fn an_idle_child_that_is_killed_is_replaced(world: &mut World) {
    let server = world.spawn("serve", &["--min-spare", "2"]);
    let address = server.address();
    let mut other = Held::new(&address);
    let victim = Held::new(&address).pid;
    // Having served, it is no start that failed.
    expect_entry(&server, "idle", victim);
    send(victim, Signal::SIGKILL);
    expect_exit(&server, victim, "Killed signal: 9 (SIGKILL)");
    // Its outputs close a moment before it can be reaped, and the replacement may come in between.
    let closed = expect_entry(&server, "closed", victim);
    until("a replacement", SOON, || {
        let entries = journal(&server);
        let mut later = entries.iter().skip_while(|entry| **entry != closed);
        later.find(|entry| entry.event == "forked").map(drop)
    });
    other.is_served();
    Held::new(&address).is_served();
    drop(other);
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 1);
}

fn a_busy_child_that_is_killed_costs_its_client_only(world: &mut World) {
    let server = world.spawn("serve", &["--start", "3", "--min-spare", "1"]);
    let address = server.address();
    let mut held = hold(&address, 3);
    let mut victim = held.pop().unwrap();
    server.expect_children(4);
    send(victim.pid, Signal::SIGKILL);
    victim.client.gone();
    expect_exit(&server, victim.pid, "Killed signal: 9 (SIGKILL)");
    // Enough are spare, and one is forked all the same: a wake-up may have died with it.
    until("a replacement", SOON, || {
        (pids(&server, "forked").len() == 5).then_some(())
    });
    held.iter_mut().for_each(Held::is_served);
    Held::new(&address).is_served();
    drop(held);
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// Fails (with hundreds of forks) without `Slowdown::refuses`.
/// Fails without the look after SIGCHLD (`look_for_deaths`).
fn the_dead_of_a_large_pool_are_found_though_they_have_no_pidfd(world: &mut World) {
    kill_a_large_pool(world, &[]);
}

/// Fails if the look ends at a child that is not ours, and its status is still the program's.
fn the_dead_of_a_large_pool_are_found_behind_a_stranger(world: &mut World) {
    let stdout = kill_a_large_pool(world, &["--stranger"]);
    assert!(stdout.contains("stranger: exit status: 0"), "{stdout}");
}

/// Kills every child of a pool in which the later ones have no pidfd; what the server printed.
fn kill_a_large_pool(world: &mut World, more: &[&str]) -> String {
    let size = ["--start", "150", "--min-spare", "150", "--max-spare", "190"];
    let limit = ["--max-clients", "200", "--quiet"];
    let server = world.spawn("serve", &[&size[..], &limit, more].concat());
    let address = server.address();
    let victims: Vec<u32> = until("a pool of 150", SOON, || {
        let children = server.children();
        (children.len() >= 150).then_some(children)
    });
    for &victim in &victims {
        send(victim, Signal::SIGKILL);
    }
    until("a new pool", SOON, || {
        let children = server.children();
        let fresh = children.iter().filter(|child| !victims.contains(child));
        (fresh.count() >= 150 && server.zombies().len() <= more.len()).then_some(())
    });
    Held::new(&address).is_served();
    ends_well(&server);
    server.stdout()
}

fn a_program_that_dies_at_once_is_slowed_down_and_recovers(world: &mut World) {
    let broken = world.tempdir().join("broken");
    fs::write(&broken, "").unwrap();
    let flags = ["--start", "3", "--fail-while", broken.to_str().unwrap()];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let text = server.expect_stderr("a long delay", |text| text.contains("next fork in 400ms"));
    let warning = "failed to start: exit status: 102, last words \
                   \"server_start failed: no database today\"; next fork in 0ns";
    assert!(text.contains(warning), "{text}");
    // No fork bomb: at the most one wave of three in each delay.
    holds("few are forked", Duration::from_secs(2), || {
        pids(&server, "forked").len() <= 8 * 3
    });
    fs::remove_file(&broken).unwrap();
    let mut held = Held::new(&address);
    held.is_served();
    // The slate is clean: the next failure begins with no delay again.
    fs::write(&broken, "").unwrap();
    send(held.pid, Signal::SIGKILL);
    server.expect_stderr("another beginning", |text| {
        text.matches("next fork in 0ns").count() == 2
    });
    ends_well(&server);
    // Four waves and the one after the recovery, at the least.
    assert!(deaths(&server, "FailedStart") >= 5);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// A user without any other process, whose number of processes can be limited: root is exempt.
struct Somebody(Vec<String>);

impl Somebody {
    /// Every run its own, and one that nobody is.
    fn new() -> Self {
        let id = 1_000_000 + std::process::id();
        let ids = [format!("--reuid={id}"), format!("--regid={id}")];
        Self([&ids[..], &["--clear-groups".to_owned()]].concat())
    }

    /// Whether a command succeeds as that user.
    fn can(&self, command: &[&str]) -> bool {
        let run = Command::new("setpriv").args(&self.0).args(command).output();
        run.is_ok_and(|output| output.status.success())
    }

    fn spawn(&self, world: &mut World, command: &[&str]) -> Server {
        let ids: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let launch = world.command("setpriv").args(&ids);
        launch.args(command).spawn()
    }

    /// Sets how many processes the user may have, in the eyes of the server.
    fn limit(&self, server: &Server, processes: &str) {
        let pid = format!("--pid={}", server.pid());
        // With the colon, the soft limit: the hard one could not be raised again.
        let limit = format!("--nproc={processes}:");
        assert!(self.can(&["prlimit", &pid, &limit]), "prlimit {limit}");
    }
}

/// The soft limit of processes.
fn process_limit(server: &Server) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max processes"));
    line.unwrap().split_whitespace().nth(2).unwrap().to_owned()
}

/// A copy of this executable where another user can run it.
fn readable_copy(world: &World) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let directory = world.tempdir();
    let copy = directory.join("program");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for path in [directory.parent().unwrap(), &directory, &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

/// Fails without the retry in `Slowdown::fork_failed`.
fn a_fork_that_fails_is_retried_while_the_others_serve(world: &mut World) {
    let somebody = Somebody::new();
    let program = readable_copy(world);
    let program = program.to_str().unwrap();
    if !(somebody.can(&[program, "--list"]) && somebody.can(&["prlimit"])) {
        return eprintln!("skipped: to become another user takes root, setpriv and prlimit");
    }
    let server = somebody.spawn(world, &[program, "--program", "serve"]);
    let address = server.address();
    expect_up(&server, 2);
    let before = process_limit(&server);
    somebody.limit(&server, "3");
    let mut held = hold(&address, 2);
    let delays = |server: &Server| -> Vec<String> {
        let mut entries = journal(server);
        entries.retain(|entry| entry.event == "failed");
        entries.into_iter().map(|entry| entry.rest).collect()
    };
    until("three attempts", SOON, || {
        (delays(&server).len() >= 3).then_some(())
    });
    assert_eq!(delays(&server)[..3], ["100", "200", "400"]);
    assert_eq!(pids(&server, "forked").len(), 2);
    held.iter_mut().for_each(Held::is_served);
    somebody.limit(&server, &before);
    let third = Held::new(&address);
    assert!(held.iter().all(|held| held.pid != third.pid));
    drop((held, third));
    ends_well(&server);
    assert!(server.stderr().contains("fork failed: "));
    let failed = delays(&server).len();
    assert!(report(&server).contains(&format!(", {failed} failed forks, ")));
}

/// A server of one child at the most, whose first turns into another program.
fn spawn_execing(world: &mut World, command: &str, flags: &[&str]) -> (Server, PathBuf) {
    let exec = world.tempdir().join("exec");
    fs::write(&exec, "").unwrap();
    let path = exec.to_str().unwrap();
    let common = [
        "--max-clients",
        "1",
        "--exec-while",
        path,
        "--exec",
        command,
    ];
    let server = world.spawn("serve", &[&common, flags].concat());
    server.address();
    (server, exec)
}

fn an_execed_child_that_closes_its_outputs_is_told_and_replaced(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000 >&- 2>&-", &[]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "closed", pid);
    expect_exit(&server, pid, "Closed signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
    assert_eq!(
        pids(&server, "closed")
            .iter()
            .filter(|&&p| p == pid)
            .count(),
        1
    );
}

/// Fails if `max_clients` does not count the retiring ones: the original forgets such a child.
fn an_execed_child_that_ignores_it_is_killed_and_counts_until_then(world: &mut World) {
    let command = "trap '' INT; exec sleep 1000 >&- 2>&-";
    let (server, exec) = spawn_execing(world, command, &["--kill-timeout", "1500"]);
    let pid = server.expect_children(1)[0];
    let closed = expect_entry(&server, "closed", pid);
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    let end = expect_exit(&server, pid, "Closed signal: 9 (SIGKILL)");
    assert!(end.at - closed.at >= Duration::from_millis(1500));
    Held::new(&server.address()).is_served();
    let events: Vec<_> = journal(&server)
        .into_iter()
        .filter(|entry| ["forked", "closed", "exited"].contains(&entry.event.as_str()))
        .map(|entry| (entry.event, entry.pid == pid))
        .collect();
    let expected = [
        ("forked", true),
        ("closed", true),
        ("exited", true),
        ("forked", false),
    ];
    assert_eq!(
        events,
        expected.map(|(event, same)| (event.to_owned(), same))
    );
    ends_well(&server);
    assert_eq!(deaths(&server, "Closed"), 1);
}

fn an_execed_child_that_says_nothing_is_timed_out(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000", &["--timeout", "1000"]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "silent-free", pid);
    expect_exit(&server, pid, "TimedOut signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

fn is_sleep(pid: u32) -> bool {
    processes::Process::read(pid).is_some_and(|process| process.name == "sleep")
}

fn a_grandchild_that_holds_the_pipes_does_not_keep_the_child(world: &mut World) {
    let server = world.spawn("serve", &["--max-clients", "1", "--max-requests", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    let before = server.descriptors_settled().len();
    let mut held = Held::new(&address);
    let grandchild: u32 = held.client.ask("grandchild").parse().unwrap();
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Finished exit status: 0");
    assert!(processes::is_alive(grandchild));
    Held::new(&address).is_served();
    until("a third child", SOON, || {
        (pids(&server, "up").len() == 3).then_some(())
    });
    assert_eq!(server.descriptors_settled().len(), before);
    end_orphan(world, grandchild);
    ends_well(&server);
    assert_eq!(deaths(&server, "Finished"), 2);
}

/// Fails, as the one above, if `Wires::drain` reads to the end.
fn a_grandchild_that_writes_for_ever_does_not_keep_the_parent(world: &mut World) {
    let flags = ["--max-clients", "1", "--max-requests", "1", "--quiet"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut held = Held::new(&address);
    let grandchild: u32 = held.client.ask("chatterbox").parse().unwrap();
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Finished exit status: 0");
    Held::new(&address).is_served();
    // Nobody reads any more, so it ends.
    until("the end of the chatter", SOON, || {
        (!processes::is_alive(grandchild)).then_some(())
    });
    world.reap_orphans();
    ends_well(&server);
}

fn end_orphan(world: &World, pid: u32) {
    send(pid, Signal::SIGKILL);
    until("the orphan to end", SOON, || {
        world.reap_orphans().contains(&pid).then_some(())
    });
}

fn a_panic_in_a_handler_ends_the_child_with_101(world: &mut World) {
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

/// A panic in a hook of the parent is caught, logged with the hook's name and counted; the loop
/// goes on.
fn c15_a_panic_in_a_hook_of_the_parent_is_survived(world: &mut World) {
    // Fails without the `catch_unwind` in `Core::call`.
    world.expect_panics();
    let server = world.spawn("serve", &["--start", "1", "--panic-once"]);
    let address = server.address();
    let mut held = Held::new(&address);
    // What the hook had asked for before it panicked, a look at the numbers, is done.
    server.expect_children(2);
    held.is_served();
    Held::new(&address).is_served();
    drop(held);
    ends_well(&server);
    assert!(
        server
            .stderr()
            .contains("hook server_busy panicked: the hook was told to")
    );
    assert!(report(&server).ends_with(", 1 hook panics"));
}
