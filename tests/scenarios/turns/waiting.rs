//! Where a child waits for its next connection, so that the kernel does not wake children that
//! cannot take it.

use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{CHILDREN, SOON, pool, stop};
use crate::support::processes::{self, waits_in_accept, waits_in_epoll};
use crate::support::{Scenarios, Signal, World, connect, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    who_is_busy_for_long_is_not_asked,
    who_has_found_a_queue_waits_in_accept_for_a_moment,
];

/// An epoll that has the listener in it is asked for each connection, whether its child waits or not: with
/// two hundred busy children that took a tenth of the rate.
///
/// A child gets out of the way when its client is slow, when the last connection took long, and when it has
/// found many in a row; and is back when it waits. (Each of the three was taken out once, and its part
/// of this failed.)
fn who_is_busy_for_long_is_not_asked(world: &mut World) {
    if !cfg!(target_os = "linux") {
        return eprintln!("skipped: elsewhere children have no epoll");
    }
    let server = world.spawn("in_turns", &["--order", "oldest-first"]);
    let address = server.address();
    let children = server.expect_children(CHILDREN);
    let all_are_asked = || {
        until("all children to wait", SOON, || {
            let waits = |&child: &u32| waits_in_epoll(child) && is_asked(child);
            children.iter().all(waits).then_some(())
        });
    };
    let is_not_asked = |what: &str, child| {
        until(what, SOON, || (!is_asked(child)).then_some(()));
    };
    all_are_asked();

    let mut slow = connect(&address);
    let child: u32 = slow.ask("who?").parse().unwrap();
    is_not_asked("a child with a slow client to get out of the way", child);
    assert_eq!(slow.ask("who?"), child.to_string());
    drop(slow);
    all_are_asked();

    // The last one that this child has had was slow. It goes first again, when its elders are busy.
    let mut others = Vec::new();
    let mut next = loop {
        let mut client = connect(&address);
        let by: u32 = client.ask("work").parse().unwrap();
        if by == child {
            break client;
        }
        others.push(client);
    };
    assert!(!is_asked(child), "before it began to work");
    next.send_line("done");
    drop((next, others));
    all_are_asked();

    // Stopped, so that they find a queue.
    for &child in &children {
        kill(Pid::from_raw(child.cast_signed()), Signal::SIGSTOP).unwrap();
    }
    let mut queue: Vec<_> = (0..40).map(|_| connect(&address)).collect();
    for client in &mut queue {
        client.send_line("work");
    }
    let child = children[0];
    kill(Pid::from_raw(child.cast_signed()), Signal::SIGCONT).unwrap();
    for client in &mut queue[..20] {
        assert_eq!(client.read_line(), child.to_string());
        client.send_line("done");
        client.close_write();
    }
    assert_eq!(queue[20].read_line(), child.to_string());
    assert!(!is_asked(child), "there is always another one");
    for &child in &children {
        kill(Pid::from_raw(child.cast_signed()), Signal::SIGCONT).unwrap();
    }
    drop(queue);
    all_are_asked();
    stop(&server);
}

/// Woken there it is off the listener's list at once, and in an epoll only when it has run: with two hundred
/// that share a core the kernel went through dozens of them for each connection. (With handlers that are fast,
/// whose child does not look before it accepts, and slow ones, whose child does.)
fn who_has_found_a_queue_waits_in_accept_for_a_moment(world: &mut World) {
    if !cfg!(target_os = "linux") {
        return eprintln!("skipped: elsewhere no child waits in accept");
    }
    let (server, address) = pool(world, &["--order", "oldest-first"]);
    let children = server.children();
    let all_wait_outside = || {
        until("all children to wait outside", SOON, || {
            let waits = |&child: &u32| waits_in_epoll(child) && is_asked(child);
            children.iter().all(waits).then_some(())
        });
    };
    all_wait_outside();
    let signal_to = |child: u32, signal| kill(Pid::from_raw(child.cast_signed()), signal).unwrap();
    for &child in &children[1..] {
        signal_to(child, Signal::SIGSTOP);
    }
    let child = children[0];
    let waits_in_accept_after = |question: &str| {
        signal_to(child, Signal::SIGSTOP);
        let mut queue: Vec<_> = (0..20).map(|_| connect(&address)).collect();
        for client in &mut queue {
            client.send_line(question);
            client.close_write();
        }
        signal_to(child, Signal::SIGCONT);
        for client in &mut queue {
            assert_eq!(client.read_line(), child.to_string());
        }
        let moment = Instant::now();
        let mut waited = false;
        while !waited && moment.elapsed() < Duration::from_millis(20) {
            waited = waits_in_accept(child) && !is_asked(child) && waits_in_accept(child);
        }
        waited
    };
    for question in ["who?", "slowly"] {
        until("a child to wait in accept after a queue", SOON, || {
            waits_in_accept_after(question).then_some(())
        });
    }
    for &child in &children[1..] {
        signal_to(child, Signal::SIGCONT);
    }
    all_wait_outside();
    stop(&server);
}

/// Whether an epoll of `pid` has a socket in it. Its own descriptors are an eventfd and a pipe.
fn is_asked(pid: u32) -> bool {
    let descriptors = processes::descriptors(pid);
    let epolls = descriptors
        .iter()
        .filter(|(_, to)| to.contains("eventpoll"));
    let watched: Vec<i32> = epolls
        .flat_map(|(epoll, _)| {
            let path = format!("/proc/{pid}/fdinfo/{epoll}");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let targets = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let number = |rest: &str| rest.split_whitespace().next()?.parse().ok();
            targets.filter_map(number).collect::<Vec<i32>>()
        })
        .collect();
    let is_socket = |(fd, to): &(i32, String)| watched.contains(fd) && to.starts_with("socket:");
    descriptors.iter().any(is_socket)
}
