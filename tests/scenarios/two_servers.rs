//! Which descriptors a child holds, and two servers in one thread, whose children must not hold
//! each other's.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prefork_server::{Error, PreFork, TcpServer};

use crate::subject::{Held, Journal, announce, builder, ended, ends_well, expect_up, log_warnings};
use crate::support::{
    Args, Programs, SOON, Scenarios, Server, World, port_is_free, processes, programs, scenarios,
    until,
};

pub const PROGRAMS: Programs = programs![pair];

pub const SCENARIOS: Scenarios = scenarios![
    b07_every_child_holds_the_same_descriptors,
    the_programs_own_descriptors_stay_open_in_children,
    two_servers_in_one_thread_serve_and_end_separately,
    f07_two_servers_leave_nothing_when_the_parent_is_killed,
    children_of_two_servers_hold_nothing_of_each_other,
];

type Driven = PreFork<Journal, TcpServer>;

/// Drives two servers by one poll(2), and ends the one whose number stands on stdin.
fn pair(args: Args) -> ExitCode {
    log_warnings();
    ended(drive_two(&args))
}

fn drive_two(args: &Args) -> Result<(), Error> {
    let mut servers = [Some(builder(args).start()?), Some(builder(args).start()?)];
    servers.iter().flatten().for_each(announce);
    let mut patience = Some(Duration::ZERO);
    while servers.iter().any(Option::is_some) {
        if wait(&servers, patience) {
            let number = read_number();
            servers[number].as_mut().expect("a server").shutdown();
        }
        let mut waits = Vec::new();
        for slot in &mut servers {
            let Some(server) = slot else { continue };
            let turn = server.turn(Some(Duration::ZERO))?;
            if turn.is_done() {
                *slot = None;
            } else {
                waits.extend(turn.wait());
            }
        }
        patience = waits.into_iter().min();
    }
    Ok(())
}

/// Waits until a server or stdin is ready; whether it is stdin.
fn wait(servers: &[Option<Driven>], patience: Option<Duration>) -> bool {
    let stdin = io::stdin();
    let servers = servers.iter().flatten().map(AsFd::as_fd);
    let all = [stdin.as_fd()].into_iter().chain(servers);
    let mut fds: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let timeout = patience.map_or(PollTimeout::NONE, |patience| {
        // Rounded up: a millisecond too early would be a millisecond of spinning.
        PollTimeout::try_from(patience + Duration::from_millis(1)).unwrap()
    });
    // Interrupted by the signal that a server is to hear of, it is just another turn.
    let _ = poll(&mut fds, timeout);
    let events = fds[0].revents();
    events.is_some_and(|events| events.contains(PollFlags::POLLIN))
}

fn read_number() -> usize {
    let mut digit = [0];
    nix::unistd::read(io::stdin(), &mut digit).expect("a digit");
    usize::from(digit[0] - b'0')
}

fn spawn_pair(world: &mut World, flags: &[&str]) -> Server {
    let pair = world.program("pair").args(flags);
    pair.stdin(Stdio::piped()).spawn()
}

/// The pipes among the descriptors of a process, without those that everything here inherits.
fn pipes(pid: u32) -> BTreeSet<String> {
    targets(pid, "pipe:")
}

fn sockets(pid: u32) -> BTreeSet<String> {
    targets(pid, "socket:")
}

fn targets(pid: u32, kind: &str) -> BTreeSet<String> {
    let inherited = processes::descriptors(std::process::id());
    let mut found = processes::descriptors(pid);
    found.retain(|(_, target)| target.starts_with(kind));
    found.retain(|(_, target)| inherited.iter().all(|(_, other)| other != target));
    found.into_iter().map(|(_, target)| target).collect()
}

/// What a process holds, without the numbers that tell one pipe from another.
fn shape(pid: u32) -> Vec<String> {
    let descriptors = processes::descriptors(pid).into_iter();
    let mut shape: Vec<String> = descriptors
        .map(|(_, target)| match target.split_once(":[") {
            Some((kind, _)) if kind != "anon_inode" => kind.to_owned(),
            _ => target,
        })
        .collect();
    shape.sort();
    shape
}

/// Waits until all children wait for clients: each has opened by then what it needs.
#[track_caller]
fn all_wait(children: &[u32]) {
    until("all children to wait for clients", SOON, || {
        let waits = |pid: u32| processes::waits_in_epoll(pid) || processes::waits_in_accept(pid);
        children.iter().all(|pid| waits(*pid)).then_some(())
    });
}

fn children_hold_the_same(server: &Server, children: &[u32]) {
    all_wait(children);
    let shapes: Vec<_> = children.iter().map(|&pid| shape(pid)).collect();
    for (pid, shape) in children.iter().zip(&shapes) {
        assert_eq!(shape, &shapes[0], "{pid} and the first child of {server}");
    }
    let count = |what: &str| shapes[0].iter().filter(|held| *held == what).count();
    assert_eq!(count("anon_inode:[eventpoll]"), 1, "{:?}", shapes[0]);
    assert_eq!(count("anon_inode:[pidfd]"), 0, "{:?}", shapes[0]);
    assert_eq!(count("socket"), 1, "{:?}", shapes[0]);
}

/// Of all pipes, children share the death watch and no other.
fn children_share_one_pipe(children: &[u32]) {
    let held: Vec<_> = children.iter().map(|&pid| pipes(pid)).collect();
    for (at, one) in held.iter().enumerate() {
        for other in &held[at + 1..] {
            assert_eq!(one.intersection(other).count(), 1, "{one:?} and {other:?}");
        }
    }
}

/// The registry has all descriptors of the crate; each child closes those that are not its own
/// before it runs any code of the program. So all children hold the same set, however many were
/// forked before.
///
/// After 1, 10 and 50 children. Without `fd_registry::close_in_child`: the first child holds three epoll
/// instances, not one.
fn b07_every_child_holds_the_same_descriptors(world: &mut World) {
    let mut sizes = Vec::new();
    for count in [1, 10, 50] {
        let server = world.spawn("serve", &["--start", &count.to_string()]);
        server.address();
        let children = expect_up(&server, count);
        children_hold_the_same(&server, &children);
        children_share_one_pipe(&children);
        sizes.push(shape(children[count - 1]).len());
        ends_well(&server);
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
}

fn the_programs_own_descriptors_stay_open_in_children(world: &mut World) {
    let file = world.tempdir().join("own");
    fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap();
    let server = world.spawn("serve", &["--start", "3", "--open", path]);
    server.address();
    for pid in expect_up(&server, 3) {
        let held = processes::descriptors(pid);
        assert!(held.iter().any(|(_, target)| target == path), "{held:?}");
    }
    ends_well(&server);
}

fn two_servers_in_one_thread_serve_and_end_separately(world: &mut World) {
    let server = spawn_pair(world, &[]);
    let mut stdin = server.take_stdin().unwrap();
    let addresses = server.addresses(2);
    let (mut first, mut second) = (Held::new(&addresses[0]), Held::new(&addresses[1]));
    expect_up(&server, 4);
    stdin.write_all(b"0").unwrap();
    // The one in hand, and the two of the other server.
    let left = server.expect_children(3);
    assert!(left.contains(&first.pid) && left.contains(&second.pid));
    first.is_served();
    drop(first);
    until("the first port to be free", SOON, || {
        port_is_free(&addresses[0]).then_some(())
    });
    server.expect_children(2);
    second.is_served();
    Held::new(&addresses[1]).is_served();
    drop(second);
    stdin.write_all(b"1").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// The children of one server do not keep the death watch of another open.
///
/// Without `fd_registry::close_in_child` (and without PDEATHSIG, which hides it) each child would hold the
/// death watch of the others.
fn f07_two_servers_leave_nothing_when_the_parent_is_killed(world: &mut World) {
    let server = spawn_pair(world, &["--start", "5"]);
    let addresses = server.addresses(2);
    let mut held = Held::new(&addresses[0]);
    expect_up(&server, 10);
    server.kill9();
    until("the ports to be free", SOON, || {
        addresses.iter().all(port_is_free).then_some(())
    });
    until("the idle ones to go", SOON, || {
        (world.orphans() == [held.pid]).then_some(())
    });
    held.is_served();
    drop(held);
    until("all to go", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

/// Children hold no descriptor of another server. Fails if they keep those of another server's
/// children.
fn children_of_two_servers_hold_nothing_of_each_other(world: &mut World) {
    let server = spawn_pair(world, &["--start", "5"]);
    server.addresses(2);
    let children = expect_up(&server, 10);
    children_hold_the_same(&server, &children);
    let listeners: BTreeSet<_> = children.iter().map(|&pid| sockets(pid)).collect();
    assert_eq!(listeners.len(), 2, "{listeners:?}");
    for listener in &listeners {
        let siblings: Vec<u32> = children
            .iter()
            .copied()
            .filter(|&pid| &sockets(pid) == listener)
            .collect();
        assert_eq!(siblings.len(), 5);
        children_share_one_pipe(&siblings);
        let strangers = children.iter().filter(|pid| !siblings.contains(pid));
        for &stranger in strangers {
            assert!(
                siblings
                    .iter()
                    .all(|&pid| pipes(pid).is_disjoint(&pipes(stranger)))
            );
        }
    }
    ends_well(&server);
}
