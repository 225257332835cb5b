//! Accepting: errors of accept, interrupted calls, the thundering herd, a backlog that is full or
//! too large.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::{alone, unimpressed};
use crate::injection::Strace;
use crate::subject::{Held, ends_well, expect_exit, expect_up, hold, send};
use crate::support::{SOON, Scenarios, Signal, World, connect, holds, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    d02_an_error_of_the_network_is_no_error_of_the_server,
    d02_who_is_forbidden_to_accept_tries_again_now_and_then,
    d03_interrupted_calls_lose_nothing,
    d04_a_connection_wakes_one_child,
    d12_what_a_full_backlog_holds_is_served,
    d12_a_backlog_that_cannot_be_had_is_said,
];

// The scenarios.

/// accept(2) also returns errors of the new connection; the child treats them as if no connection
/// had come.
fn d02_an_error_of_the_network_is_no_error_of_the_server(world: &mut World) {
    // With ECONNABORTED taken for a broken socket, the child left with code 103.
    let (server, address, child) = alone(world, &[]);
    let errors = [
        "EPERM",
        "ECONNABORTED",
        "EPROTO",
        "ENETDOWN",
        "ENETUNREACH",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENOPROTOOPT",
        "ENONET",
        "ETIMEDOUT",
    ];
    for error in errors {
        let inject = format!("inject=accept4:error={error}:when=1");
        let Some(strace) = Strace::attach(world, child, &["-e", &inject]) else {
            break;
        };
        assert_eq!(Held::new(&address).pid, child, "after {error}");
        strace.expect_injected(1);
        strace.detach();
    }
    unimpressed(&server, &address, child);
    ends_well(&server);
}

/// A firewall may forbid one connection, a sandbox all of them: after many such errors in a row the
/// child logs it once and pauses, longer each time, until accept works again.
fn d02_who_is_forbidden_to_accept_tries_again_now_and_then(world: &mut World) {
    // Taken for "nothing there", it was tried some thousand times a second.
    let (server, address, child) = alone(world, &[]);
    let forbid = "inject=accept4:error=EPERM";
    let Some(strace) = Strace::attach(world, child, &["-e", forbid]) else {
        return ends_well(&server);
    };
    let mut client = connect(&address);
    client.send_line("who");
    let complaints = |text: &str| text.matches("cannot accept for now").count();
    server.expect_stderr("the complaint", |text| complaints(text) == 1);
    // 64 times, then after 10, 20, 40 … ms.
    holds("it pauses", Duration::from_secs(1), || {
        strace.injected() < 80
    });
    strace.expect_injected(66);
    strace.detach();
    assert_eq!(client.read_line(), format!("{child} who"));
    assert_eq!(complaints(&server.stderr()), 1, "once an episode");
    drop(client);
    assert_eq!(server.children(), [child]);
    ends_well(&server);
}

/// Every interrupted call is repeated, at once or in the next turn, in the parent and in the
/// children; and the signal has its effect.
fn d03_interrupted_calls_lose_nothing(world: &mut World) {
    // Without the loop around EINTR in `pipes::read` the first line was an error of reading, which
    // ended the server.
    const INJECT: &str = "inject=epoll_wait,epoll_pwait,poll,ppoll,read,recvfrom,write,pwritev2,\
                          sendto,accept4,wait4,waitid:error=EINTR:when=1+2";
    let server = world.spawn("shop", &[]);
    let address = server.address();
    let mut held = hold(&address, 2);
    let first = held[0].pid;
    let traced = [server.pid(), first].map(|pid| Strace::attach(world, pid, &["-e", INJECT]));
    let [Some(parent), Some(child)] = traced else {
        drop(held);
        return ends_well(&server);
    };
    for _ in 0..20 {
        held.iter_mut().for_each(Held::is_served);
        assert_eq!(held[0].client.ask("print"), "done");
        Held::new(&address).is_served();
    }
    let line = format!("{first} STDOUT: printed");
    server.expect_stdout("each line once", |text| {
        text.lines().filter(|&found| found == line).count() == 20
    });
    // The other child: this one's status strace would come by first.
    send(held[1].pid, Signal::SIGKILL);
    expect_exit(&server, held[1].pid, "Killed signal: 9 (SIGKILL)");
    drop(held);
    Held::new(&address).is_served();
    parent.expect_injected(50);
    child.expect_injected(20);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    parent.detach();
    child.detach();
}

/// How often `pid` has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Idle children wait on an epoll of their own in which the listener is exclusive: whatever their
/// number, a connection wakes one.
fn d04_a_connection_wakes_one_child(world: &mut World) {
    // Without EPOLLEXCLUSIVE the 24 children went to sleep 20 times for each connection.
    const CHILDREN: usize = 24;
    const CONNECTIONS: u64 = 100;
    let server = world.spawn("shop", &["--start", &CHILDREN.to_string()]);
    let address = server.address();
    let children = expect_up(&server, CHILDREN);
    let all = || children.iter().map(|&pid| sleeps(pid)).sum::<u64>();
    until("all children to be asleep", SOON, || {
        let mut states = children.iter().map(|&pid| processes::state(pid));
        states.all(|state| state == Some('S')).then_some(())
    });
    let before = all();
    for _ in 0..CONNECTIONS {
        Held::new(&address).client.close_write();
    }
    let each = (all() - before) as f64 / CONNECTIONS as f64;
    // For a connection, for its first line, for its end, and for the next connection.
    assert!(each < 8.0, "{each} times for each connection");
    ends_well(&server);
}

/// A connection in the backlog is served when its turn comes; the system refuses further ones,
/// which harms neither the parent nor the children.
fn d12_what_a_full_backlog_holds_is_served(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--backlog", "3", "--path", path.to_str().unwrap()];
    let (server, address, child) = alone(world, &arguments);
    let held = Held::new(&address);
    let mut waiting = Vec::new();
    let refused = loop {
        match connect_at_once(&path) {
            Ok(client) => waiting.push(client),
            Err(error) => break error,
        }
        assert!(waiting.len() < 100, "the backlog has no end");
    };
    assert_eq!(refused, Errno::EAGAIN);
    // The system gives one more than it is asked for.
    assert!((3..=4).contains(&waiting.len()), "{} wait", waiting.len());
    drop(held);
    for mut client in waiting {
        client.write_all(b"who\n").unwrap();
        let mut answer = String::new();
        BufReader::new(&client).read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{child} who\n"));
    }
    unimpressed(&server, &address, child);
    ends_well(&server);
}

fn connect_at_once(path: &PathBuf) -> nix::Result<std::os::unix::net::UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let client = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
    let client = std::os::unix::net::UnixStream::from(client);
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    Ok(client)
}

/// The system silently lowers a backlog to its own limit, so the server logs a warning.
fn d12_a_backlog_that_cannot_be_had_is_said(world: &mut World) {
    let (server, address, child) = alone(world, &["--backlog", "2000000000"]);
    assert_eq!(Held::new(&address).pid, child);
    let stderr = server.stderr();
    let expected = "backlog 2000000000 is more than can be had, using ";
    assert!(stderr.contains(expected), "{stderr}");
    ends_well(&server);
}
