//! Listening sockets, after reports from the field: options, names, addresses in use, files that
//! stay behind, sockets that the program has opened, kinds that the crate does not know.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect as connect_to,
    getsockname, getsockopt, listen, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use prefork_server::servers::conn::Peer;
use prefork_server::servers::{AcceptOrder, Conn, Listener, SocketFile, Stream, StreamServer};
use prefork_server::{
    ChildServer, Error, Event, ExecServer, Monitor, Observer, PreFork, TcpServer, UnixServer,
};

use crate::subject::{ended, ends_well, log_warnings, millis};
use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, processes, programs,
    scenarios, until,
};

mod programs;

use self::programs::{
    listeners_fastcgi, listeners_seqpacket, listeners_tcp, listeners_unix, listeners_worker,
    seqpacket_socket,
};

pub const PROGRAMS: Programs = programs![
    listeners_tcp,
    listeners_unix,
    listeners_seqpacket,
    listeners_fastcgi,
    listeners_worker
];

pub const SCENARIOS: Scenarios = scenarios![
    o01_a_line_in_two_writes_is_answered_at_once,
    o01_nothing_is_delayed_unless_it_is_asked_for,
    o05_a_second_server_on_a_name_is_refused,
    o08_a_socket_file_at_a_relative_path_is_removed_after_chdir,
    o13_a_directory_that_cannot_be_locked_is_a_warning,
    o29_a_listener_without_its_timeout_does_not_hold_a_stop,
    o38_a_socket_of_the_programs_own_is_served,
    o38_a_socket_that_does_not_listen_is_refused,
    o38_an_ipv6_address_may_stand_in_brackets,
    o38_an_abstract_name_is_served_and_leaves_no_file,
    o38_a_program_finds_the_socket_at_its_standard_input,
    a_kind_of_socket_from_outside_is_served_by_the_same_rules,
    a_kind_from_outside_leaves_no_client_in_its_queue_at_a_stop,
    a_kind_from_outside_is_told_to_stop_while_it_is_idle,
    the_sockets_of_a_kind_from_outside_outlive_an_upgrade,
    a_kind_from_outside_leaves_the_file_of_another_server_alone,
];

// What the scenarios share.

fn talking(world: &mut World, arguments: &[&str]) -> (Server, Client) {
    let server = world.spawn("listeners_tcp", arguments);
    let client = connect(&server.address());
    (server, client)
}

/// The only line on the stderr of a server that does not start.
#[track_caller]
fn refused(server: &Server) -> String {
    assert_eq!(server.wait(SOON).code(), Some(1));
    server.stderr().trim_end().to_owned()
}

// The scenarios.

/// The second of two small writes does not wait until the client acknowledges the first, which may
/// take 40 ms.
fn o01_a_line_in_two_writes_is_answered_at_once(world: &mut World) {
    let (server, mut client) = talking(world, &[]);
    // At its start a connection is acknowledged at once.
    for _ in 0..40 {
        assert_eq!(client.ask("a line"), "a line");
    }
    let times = (0..20).map(|_| {
        let before = Instant::now();
        assert_eq!(client.ask("a line"), "a line");
        before.elapsed()
    });
    // The machine may be busy, but hardly twenty times.
    let best = times.min().unwrap();
    assert!(best < Duration::from_millis(20), "{best:?}");
    drop(client);
    ends_well(&server);
}

/// A socket that the program has opened gets TCP_NODELAY as well.
fn o01_nothing_is_delayed_unless_it_is_asked_for(world: &mut World) {
    for (arguments, expected) in [(&[][..], true), (&["--delay"], false), (&["--own"], true)] {
        let (server, mut client) = talking(world, arguments);
        assert_eq!(client.ask("nodelay"), format!("Ok({expected})"));
        drop(client);
        ends_well(&server);
    }
}

/// An address in use is an error: otherwise a second server would listen beside the first,
/// unnoticed.
fn o05_a_second_server_on_a_name_is_refused(world: &mut World) {
    let first = world.spawn("listeners_tcp", &["--address", "localhost"]);
    let port = first.address().port().to_string();
    let second = world.spawn(
        "listeners_tcp",
        &["--address", "localhost", "--port", &port],
    );
    let error = refused(&second);
    assert!(error.contains("address already in use"), "{error}");
    ends_well(&first);
}

/// The path is made absolute when the socket is bound, so the file is removed even after a change
/// of directory.
fn o08_a_socket_file_at_a_relative_path_is_removed_after_chdir(world: &mut World) {
    let directory = world.tempdir();
    let script = r#"cd "$1" && exec "$0" --program unix --path socket --chdir"#;
    let own = std::env::current_exe().unwrap();
    let shell = world.command("/bin/sh").args(&["-c", script]);
    let server = shell.arg(own).arg(&directory).spawn();
    server.expect_stdout("where it listens", |text| {
        text.contains("listening on socket\n")
    });
    let path = directory.join("socket");
    until("it to serve", SOON, || UnixStream::connect(&path).ok());
    ends_well(&server);
    assert!(!path.exists());
}

/// A lock on the directory serializes two servers that start at once. If the lock fails, the server
/// logs a warning and starts.
fn o13_a_directory_that_cannot_be_locked_is_a_warning(world: &mut World) {
    let path = world.tempdir().join("socket");
    let directory = File::open(world.tempdir()).unwrap();
    let _lock = Flock::lock(directory, FlockArg::LockExclusive).unwrap();
    let server = world.spawn("listeners_unix", &["--path", path.to_str().unwrap()]);
    assert_eq!(connect(&server.address()).ask("a line"), "a line");
    let warning = format!("{} cannot be locked", world.tempdir().display());
    assert!(server.stderr().contains(&warning), "{}", server.stderr());
    ends_well(&server);
}

/// The parent restores the timeout of the shared listener before it tells a child to stop. The signal
/// interrupts accept(2), which begins again with the timeout.
///
/// Without `before_stop` the children that wait there are killed after `shutdown_timeout`.
fn o29_a_listener_without_its_timeout_does_not_hold_a_stop(world: &mut World) {
    let server = world.spawn("listeners_tcp", &["--children", "1"]);
    let address = server.address();
    assert_eq!(connect(&address).ask("forget timeouts"), "1");
    // One after the other, so that the child comes to wait for the next in accept(2).
    until("the child to wait in accept", SOON, || {
        assert_eq!(connect(&address).ask("a line"), "a line");
        let child = server.expect_children(1)[0];
        let call = std::fs::read_to_string(format!("/proc/{child}/syscall")).ok()?;
        call.starts_with(&format!("{} ", nix::libc::SYS_accept4))
            .then_some(())
    });
    let before = Instant::now();
    ends_well(&server);
    assert!(before.elapsed() < Duration::from_secs(5));
}

/// The server accepts on a socket that the program has opened, instead of opening one.
fn o38_a_socket_of_the_programs_own_is_served(world: &mut World) {
    let (server, mut client) = talking(world, &["--own", "--port", "1"]);
    assert_eq!(client.ask("a line"), "a line");
    drop(client);
    ends_well(&server);
}

/// A socket of the program that does not listen is an error of the start.
fn o38_a_socket_that_does_not_listen_is_refused(world: &mut World) {
    let server = world.spawn("listeners_tcp", &["--own-deaf"]);
    let error = refused(&server);
    assert!(error.starts_with("error: take over descriptor "), "{error}");
    assert!(error.ends_with("does not listen"), "{error}");
}

/// An IPv6 address may be in brackets, as in a URL.
fn o38_an_ipv6_address_may_stand_in_brackets(world: &mut World) {
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("skipped: there is no IPv6 here");
    }
    let (server, mut client) = talking(world, &["--address", "[::1]"]);
    assert!(server.address().to_string().starts_with("[::1]:"));
    assert_eq!(client.ask("a line"), "a line");
    drop(client);
    ends_well(&server);
}

/// A path that begins with a zero byte is an abstract name, which leaves no file; messages write it with
/// an `@`.
fn o38_an_abstract_name_is_served_and_leaves_no_file(world: &mut World) {
    let name = format!("prefork-field-{}", std::process::id());
    let server = world.spawn("listeners_unix", &["--path", &format!("@{name}")]);
    let said = format!("listening on @{name}\n");
    server.expect_stdout("where it listens", |text| text.contains(&said));
    let address = {
        use std::os::linux::net::SocketAddrExt;
        UnixAddress::from_abstract_name(&name).unwrap()
    };
    let mut client = UnixStream::connect_addr(&address).unwrap();
    client.write_all(b"a line\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).unwrap();
    assert_eq!(answer, "a line\n");
    let second = world.spawn("listeners_unix", &["--path", &format!("@{name}")]);
    let error = refused(&second);
    assert!(error.starts_with(&format!("error: bind @{name}: address already in use")));
    drop(client);
    ends_well(&server);
}

/// `ExecServer::socket_at_stdin` puts the first socket at descriptor 0, where FastCGI programs look.
fn o38_a_program_finds_the_socket_at_its_standard_input(world: &mut World) {
    let server = world.spawn("listeners_fastcgi", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.read_line(), "from stdin");
    drop(client);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// A client of the kind that the crate does not know.
struct PacketClient(OwnedFd);

impl PacketClient {
    fn connect(path: &Path) -> Self {
        let client = seqpacket_socket().unwrap();
        connect_to(client.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        setsockopt(&client, sockopt::ReceiveTimeout, &TimeVal::new(20, 0)).unwrap();
        Self(client)
    }

    fn send(&self, packet: &str) {
        send(self.0.as_raw_fd(), packet.as_bytes(), MsgFlags::empty()).unwrap();
    }

    /// The pid of the child that answers to that packet.
    #[track_caller]
    fn answer_to(&self, packet: &str) -> u32 {
        let mut answer = [0; 64];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let (pid, text) = answer.split_once(' ').expect("a pid");
        assert_eq!(text, packet);
        pid.parse().expect("a number")
    }

    #[track_caller]
    fn ask(&self, packet: &str) -> u32 {
        self.send(packet);
        self.answer_to(packet)
    }
}

/// A server of the kind that the crate does not know, with three children.
fn packet_server(world: &mut World, flags: &[&str]) -> (Server, PathBuf) {
    let path = world.tempdir().join("packets");
    let arguments = [&["--path", path.to_str().unwrap()], flags].concat();
    let server = world.spawn("listeners_seqpacket", &arguments);
    server.expect_stdout("where it listens", |text| text.contains("packets\n"));
    (server, path)
}

/// A program can implement a kind of socket that the crate does not know, with the public
/// interface: children accept, reach their limit and are replaced, a stop works, the file is
/// removed.
fn a_kind_of_socket_from_outside_is_served_by_the_same_rules(world: &mut World) {
    let (server, path) = packet_server(world, &["--max-requests", "2"]);
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let client = PacketClient::connect(&path);
        pids.extend(["one", "two"].map(|packet| client.ask(packet)));
    }
    // Two connections each.
    assert!(pids.len() >= 6, "{pids:?}");
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(!path.exists());
}

/// All children are busy and more clients are queued when the stop begins: the file is removed, so
/// that no more come, and each that was queued is answered.
fn a_kind_from_outside_leaves_no_client_in_its_queue_at_a_stop(world: &mut World) {
    let (server, path) = packet_server(world, &[]);
    let held = [(); 3].map(|()| PacketClient::connect(&path));
    let busy = held.each_ref().map(|client| client.ask("held"));
    assert_eq!(std::collections::BTreeSet::from(busy).len(), 3);
    let queued = [(); 12].map(|()| PacketClient::connect(&path));
    queued.iter().for_each(|client| client.send("queued"));
    server.signal(Signal::SIGTERM);
    until("the file to be removed", SOON, || {
        (!path.exists()).then_some(())
    });
    for client in held {
        client.ask("still held");
    }
    for client in queued {
        assert!(busy.contains(&client.answer_to("queued")));
    }
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// Children that wait for a client leave at a stop by themselves: none has to be killed.
fn a_kind_from_outside_is_told_to_stop_while_it_is_idle(world: &mut World) {
    let (server, path) = packet_server(world, &[]);
    PacketClient::connect(&path).ask("one");
    for child in server.expect_children(3) {
        until("it to wait", SOON, || {
            processes::waits_in_epoll(child).then_some(())
        });
    }
    let before = Instant::now();
    ends_well(&server);
    assert!(before.elapsed() < Duration::from_secs(5));
    assert!(!path.exists());
}

/// The new program takes the socket over with its file, and its children answer there.
fn the_sockets_of_a_kind_from_outside_outlive_an_upgrade(world: &mut World) {
    world.deadline(SOON * 6);
    let (server, path) = packet_server(world, &[]);
    let inode = inode(&path);
    let first = PacketClient::connect(&path).ask("before");
    let mut before = server.expect_children(3);
    assert!(before.contains(&first));
    for upgrades in 1..=2 {
        server.signal(Signal::SIGUSR2);
        server.expect_stdout("the upgrade", |text| {
            assert!(!text.contains("failed"), "{}", server.stderr());
            text.matches("upgraded\n").count() == upgrades
        });
        // A child that leaves may answer first.
        let after = until("new children alone", SOON, || {
            let living = server.children();
            let are_new = living.iter().all(|child| !before.contains(child));
            (are_new && living.len() == 3).then_some(living)
        });
        assert!(after.contains(&PacketClient::connect(&path).ask("after")));
        before = after;
    }
    assert_eq!(self::inode(&path), inode);
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(!path.exists(), "its file is left");
}

/// Another server has bound at the path since: its file stays, also after an upgrade.
fn a_kind_from_outside_leaves_the_file_of_another_server_alone(world: &mut World) {
    let (first, path) = packet_server(world, &[]);
    first.expect_children(3);
    std::fs::remove_file(&path).unwrap();
    let (second, _) = packet_server(world, &[]);
    first.signal(Signal::SIGUSR2);
    first.expect_stdout("the upgrade", |text| text.contains("upgraded\n"));
    assert_eq!(first.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(path.exists(), "it is the second server's");
    PacketClient::connect(&path).ask("to the second");
    assert_eq!(second.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(!path.exists());
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().ino()
}
