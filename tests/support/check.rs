//! The standing check: what must be true at the end of every scenario, whatever it was about.
//!
//! One part is made elsewhere, while there is something to be looked at: [`Server::stop`] compares the
//! descriptors of the parent with those that it had at the start.
//!
//! It never repairs what it finds: the process that fails it is dumped as it stands, and cleared
//! away afterwards.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::patience::FairClock;
use super::processes::Process;
use super::server::Server;
use super::wait::{pause, step_after};
use super::world::{THREAD_PANICKED, World};

/// How long what is left of the servers may take to go.
const GRACE: Duration = Duration::from_secs(5);

/// How long an address may take to be free once every process is gone.
const RELEASE: Duration = Duration::from_secs(2);

/// Panics, naming all it has found, if the scenario left anything behind.
pub fn standing_check(world: &World) {
    let mut faults = unended_servers(world);
    // The rest would only say in other words that a server runs.
    if faults.is_empty() {
        faults.extend(left_processes(world));
        faults.extend(busy_addresses(world));
    }
    faults.extend(panics(world));
    assert!(
        faults.is_empty(),
        "the standing check: {}",
        faults.join("\n  and: ")
    );
}

/// A scenario knows how each of its servers ended.
fn unended_servers(world: &World) -> Vec<String> {
    let unknown = world
        .servers
        .iter()
        .filter(|server| !server.was_waited_for());
    let fault = |server: &Server| match server.ended() {
        None => format!("{server} is still running"),
        Some(status) => format!("{server} ended with {status}, and nobody waited for it"),
    };
    unknown.map(fault).collect()
}

/// Nothing runs any more, and a server that exits with success has reaped its children.
fn left_processes(world: &World) -> Vec<String> {
    let adopted: Vec<String> = world.adopted().iter().map(Process::describe).collect();
    let mut faults = Vec::new();
    if !adopted.is_empty() && !world.orphans_expected && all_succeeded(world) {
        faults.push(format!(
            "a server exited without reaping: {}",
            adopted.join("; ")
        ));
    }
    let mut clock = FairClock::start();
    loop {
        let waited = clock.elapsed();
        let late = waited > GRACE;
        world.reap_orphans();
        let alive = world.processes();
        let childless = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
        if alive.is_empty() && childless == Err(Errno::ECHILD) {
            return faults;
        }
        if late {
            let alive: Vec<String> = alive.iter().map(Process::describe).collect();
            faults.push(format!("still alive after {GRACE:?}: {}", alive.join("; ")));
            return faults;
        }
        // Each look reads the environment of every process there is.
        pause(step_after(waited));
    }
}

/// Every address that a server named can be listened on again.
fn busy_addresses(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    for server in &world.servers {
        let killed = was_killed(server);
        for address in server.known_addresses() {
            let mut clock = FairClock::start();
            while let Some(occupant) = address.occupant(&world.marker, killed) {
                if clock.elapsed() > RELEASE {
                    faults.push(format!("{address} of {server} is not free: {occupant}"));
                    break;
                }
                pause(Duration::from_millis(20));
            }
        }
    }
    faults
}

/// Nobody panicked, neither in a server nor in a thread of the scenario.
fn panics(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    if THREAD_PANICKED.load(Ordering::Relaxed) {
        faults.push("a thread of the scenario panicked".to_owned());
    }
    for server in world.servers.iter().filter(|_| !world.panics_expected) {
        let stderr = server.stderr_if_kept();
        if let Some(line) = stderr.lines().find(|line| line.contains("panicked")) {
            faults.push(format!("the stderr of {server} tells of a panic: {line}"));
        }
    }
    faults
}

/// Whether every server says that all went well; one that was killed leaves orphans by right.
fn all_succeeded(world: &World) -> bool {
    let mut servers = world.servers.iter();
    servers.all(|server| server.ended().is_some_and(|status| status.success()))
}

fn was_killed(server: &Server) -> bool {
    let signal = server.ended().and_then(|status| status.signal());
    signal == Some(Signal::SIGKILL as i32)
}
