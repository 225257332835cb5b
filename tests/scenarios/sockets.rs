//! Listening sockets: addresses that cannot be bound, socket files in every state, interfaces that
//! disappear.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::listening::{ask, refused, spawn_unix, stop};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, World, connect, holds, programs, scenarios,
    try_connect, until,
};
use crate::tracing::Traced;

pub const PROGRAMS: Programs = programs![client];

pub const SCENARIOS: Scenarios = scenarios![
    j02_a_restart_does_not_wait_for_connections_in_time_wait,
    j03_an_address_that_cannot_be_had_is_an_error_that_names_it,
    j05_an_instance_between_bind_and_listen_is_not_replaced,
    j07_a_socket_file_that_was_removed_is_missed_at_the_end,
    j08_what_is_no_socket_is_never_replaced,
    j09_nobody_can_connect_before_the_mode_is_set,
    j10_nobody_can_share_the_port,
    j12_ipv6_takes_ipv4_along_or_leaves_it_alone_as_told,
    j13_a_network_interface_that_goes_and_comes_back_costs_nothing,
];

/// An address of the loopback network that no other test has: what is done with its ports is ours.
fn private_loopback() -> Ipv4Addr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | a, b, c)
}

fn spawn_tcp(world: &mut World, address: &str, port: u16) -> Server {
    let port = port.to_string();
    world.spawn("listening_tcp", &["--address", address, "--port", &port])
}

/// SO_REUSEADDR is set, so that connections which linger in TIME_WAIT do not keep a new server from
/// the port.
///
/// Without it the second start fails: address already in use.
fn j02_a_restart_does_not_wait_for_connections_in_time_wait(world: &mut World) {
    world.deadline(SOON * 12);
    let host = private_loopback();
    let mut port = 0;
    for _ in 0..5 {
        // The kernel keeps so many of them, and none beyond while other scenarios have them all.
        until("connections in TIME_WAIT", SOON * 6, || {
            port = serve_five(world, host, port);
            is_taken(host, port).then_some(())
        });
    }
}

/// Starts a server, which ends its connections first: who does has them in TIME_WAIT afterwards.
fn serve_five(world: &mut World, host: Ipv4Addr, port: u16) -> u16 {
    let server = spawn_tcp(world, &host.to_string(), port);
    let address = server.address();
    for _ in 0..5 {
        let mut client = connect(&address);
        client.ask("pid");
        client.send_line("bye");
        client.eof();
    }
    stop(&server);
    address.port()
}

/// Whether a socket without SO_REUSEADDR is refused the port, on which nobody listens: connections in
/// TIME_WAIT have it. (The kernel's table of them is long beside other scenarios.)
fn is_taken(host: Ipv4Addr, port: u16) -> bool {
    let stream = socket::socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let address = SockaddrIn::from(SocketAddrV4::new(host, port));
    socket::bind(stream.unwrap().as_raw_fd(), &address) == Err(Errno::EADDRINUSE)
}

/// Each step of the set-up that fails is an error of its own kind that names the address.
fn j03_an_address_that_cannot_be_had_is_an_error_that_names_it(world: &mut World) {
    // An address for documentation, which no host has.
    let elsewhere = spawn_tcp(world, "192.0.2.1", 0);
    let error = refused(&elsewhere);
    let expected = "bind 192.0.2.1:0: cannot assign requested address";
    assert!(error.starts_with(expected), "{error}");

    let path = world.tempdir().join("missing").join("socket");
    let error = refused(&spawn_unix(world, &path));
    let directory = path.parent().unwrap().display();
    let expected = format!("open {directory}: no such file or directory");
    assert!(error.starts_with(&expected), "{error}");

    let Some(first) = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok()
    else {
        return;
    };
    if first.trim() == "0" {
        return eprintln!("skipped in part: here everybody may have port 1");
    }
    let host = private_loopback().to_string();
    let own = std::env::current_exe().unwrap();
    let launch = if Uid::effective().is_root() {
        let setpriv = world.command("setpriv");
        let dropped = setpriv.args(&["--bounding-set", "-net_bind_service"]);
        dropped.arg(own).args(&["--program", "listening_tcp"])
    } else {
        world.program("listening_tcp")
    };
    let server = launch.args(&["--address", &host, "--port", "1"]).spawn();
    let error = refused(&server);
    let expected = format!("bind {host}:1: permission denied");
    assert!(error.starts_with(&expected), "{error}");
}

/// A lock on the directory is held from the check of the file to the listen: in between the socket
/// file has no listener, and another instance would consider it stale.
///
/// The first is held between the two calls.
/// Without `lock_directory` the second replaces the first, and both run.
fn j05_an_instance_between_bind_and_listen_is_not_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let Some((first, held)) = hold_at(world, &path, &[libc::SYS_listen]) else {
        return;
    };
    assert!(path.exists());
    let second = spawn_unix(world, &path);
    holds("the second waits", Duration::from_millis(200), || {
        second.try_wait().is_none() && second.stdout().is_empty()
    });
    held.release();
    let error = refused(&second);
    let expected = format!("bind {}: another server is listening there", path.display());
    assert_eq!(error, expected);
    ask(&first.address());
    stop(&first);
}

/// A UNIX server in its start, held at one of these system calls. Nothing, with a message, where
/// that cannot be done.
fn hold_at(world: &mut World, path: &std::path::Path, calls: &[i64]) -> Option<(Server, Traced)> {
    let mut gate = world.gate("before-start");
    let server = spawn_unix(world, path);
    gate.reached(SOON);
    let held = Traced::seize(server.pid());
    gate.open();
    let Some(held) = held else {
        server.address();
        stop(&server);
        return None;
    };
    held.advance_to(calls);
    Some((server, held))
}

/// The socket file is not watched: if it is removed, clients cannot connect until the server is
/// started again. Current clients are still served, and at the end a warning says that the file was
/// gone.
fn j07_a_socket_file_that_was_removed_is_missed_at_the_end(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = spawn_unix(world, &path);
    let address = server.address();
    let mut client = connect(&address);
    let pid = client.ask("pid");
    fs::remove_file(&path).unwrap();
    assert!(try_connect(&address).is_err());
    assert_eq!(client.ask("pid"), pid);
    // Another can have the place meanwhile, and keeps it.
    let next = spawn_unix(world, &path);
    next.address();
    fs::rename(&path, path.with_extension("kept")).unwrap();
    drop(client);
    stop(&server);
    let warning = format!("removing {}: ", path.display());
    assert!(server.stderr().contains(&warning), "{}", server.stderr());
    fs::rename(path.with_extension("kept"), &path).unwrap();
    ask(&next.address());
    stop(&next);
}

/// A file, a directory, a FIFO or a symbolic link in the place of the socket is left alone, and the
/// start is refused. A link is never followed.
fn j08_what_is_no_socket_is_never_replaced(world: &mut World) {
    let directory = world.tempdir();
    let path = |name: &str| directory.join(name);
    fs::create_dir(path("directory")).unwrap();
    mkfifo(&path("fifo"), Mode::S_IRUSR).unwrap();
    // A stale socket, which would be replaced were it not for the link.
    drop(std::os::unix::net::UnixListener::bind(path("stale")).unwrap());
    symlink(path("stale"), path("link")).unwrap();
    symlink(path("nothing"), path("dangling")).unwrap();
    for name in ["directory", "fifo", "link", "dangling"] {
        let before = path(name).symlink_metadata().unwrap().file_type();
        let server = spawn_unix(world, &path(name));
        let error = refused(&server);
        let expected = format!(
            "bind {}: there is a file that is not a socket",
            path(name).display()
        );
        assert_eq!(error, expected);
        let after = path(name).symlink_metadata().unwrap().file_type();
        assert_eq!(before, after, "{name}");
    }
    assert!(path("stale").exists() && !path("nothing").exists());
}

/// The socket has its mode before it is bound, so the file has it from the moment it exists;
/// nothing is done by path afterwards.
///
/// The server, started with a umask of 0, is held where it is about to listen.
/// Without the mask in `bind` the file of a socket whose file system gives it no mode has 0777 there;
/// without the `fchmod` a mask of the directory's own (an ACL) has the last word.
fn j09_nobody_can_connect_before_the_mode_is_set(world: &mut World) {
    let path = world.tempdir().join("socket");
    let mode = || path.symlink_metadata().unwrap().permissions().mode() & 0o777;
    let before = nix::sys::stat::umask(Mode::empty());
    let held = hold_at(world, &path, &[libc::SYS_listen]);
    nix::sys::stat::umask(before);
    let Some((server, held)) = held else {
        return;
    };
    assert_eq!(mode(), 0o660, "at the listen");
    held.release();
    ask(&server.address());
    assert_eq!(mode(), 0o660);
    stop(&server);
}

/// All children share one listening socket by the fork. SO_REUSEPORT is not set, so no queue is
/// lost with a child, and no other process of the same user can take a share of the connections.
fn j10_nobody_can_share_the_port(world: &mut World) {
    let host = private_loopback();
    let server = spawn_tcp(world, &host.to_string(), 0);
    let address = server.address();
    let flags = SockFlag::SOCK_CLOEXEC;
    let thief = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&thief, sockopt::ReusePort, &true).unwrap();
    setsockopt(&thief, sockopt::ReuseAddr, &true).unwrap();
    let [a, b, c, d] = host.octets();
    let place = SockaddrIn::new(a, b, c, d, address.port());
    let bound = socket::bind(thief.as_raw_fd(), &place);
    assert_eq!(bound, Err(Errno::EADDRINUSE));
    ask(&address);
    stop(&server);
}

/// `only_v6` decides whether `::` accepts IPv4 clients.
fn j12_ipv6_takes_ipv4_along_or_leaves_it_alone_as_told(world: &mut World) {
    if TcpListener::bind("[::]:0").is_err() {
        return eprintln!("skipped: this machine has no IPv6");
    }
    let host = private_loopback();
    let both = spawn_tcp(world, "::", 0);
    let port = both.address().port();
    ask(&Address::Tcp(SocketAddr::new(host.into(), port)));
    let refused_one = spawn_tcp(world, &host.to_string(), port);
    let error = refused(&refused_one);
    let expected = format!("bind {host}:{port}: address already in use");
    assert!(error.starts_with(&expected), "{error}");
    stop(&both);

    let v6 = world.spawn("listening_tcp", &["--address", "::", "--only-v6"]);
    let port = v6.address().port();
    let v4 = Address::Tcp(SocketAddr::new(host.into(), port));
    assert!(try_connect(&v4).is_err());
    let beside = spawn_tcp(world, &host.to_string(), port);
    assert_eq!(beside.address(), v4);
    ask(&v4);
    ask(&v6.address());
    stop(&beside);
    stop(&v6);
}

/// Asks the server at `--address` once, from within a network namespace.
fn client(args: Args) -> ExitCode {
    let address = Address::parse(args.value("--address").unwrap());
    match try_connect(&address) {
        Ok(mut client) => {
            println!("{}", client.ask("pid"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A listening socket outlives its interface; network errors that accept(2) returns are treated as
/// if no connection had come.
fn j13_a_network_interface_that_goes_and_comes_back_costs_nothing(world: &mut World) {
    let attempt = Command::new("unshare")
        .args(["-Urn", "ip", "link", "set", "lo", "up"])
        .output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        return eprintln!(
            "skipped: this machine lets nobody have a network of their own, or has no ip"
        );
    }
    let own = std::env::current_exe().unwrap();
    let script = r#"ip link set lo up && exec "$0" --program tcp"#;
    let launch = world.command("unshare").args(&["-Urn", "sh", "-c", script]);
    let server = launch.arg(&own).spawn();
    let address = server.address();
    let target = server.pid().to_string();
    let inside = |command: &[&str]| {
        let join = ["-t", &target, "-U", "-n", "--preserve-credentials", "--"];
        let mut nsenter = Command::new("nsenter");
        nsenter.args(join).args(command).spawn().unwrap()
    };
    let succeeds = |command: &[&str]| assert!(inside(command).wait().unwrap().success());
    let place = address.to_string();
    let ask = [
        own.to_str().unwrap(),
        "--program",
        "client",
        "--address",
        &place,
    ];
    let children = server.expect_children(2);
    succeeds(&ask);
    succeeds(&["ip", "link", "set", "lo", "down"]);
    let mut patient = inside(&ask);
    holds("nothing gets through", Duration::from_millis(300), || {
        patient.try_wait().unwrap().is_none()
    });
    succeeds(&["ip", "link", "set", "lo", "up"]);
    // TCP tries again after a second.
    assert!(patient.wait().unwrap().success());
    succeeds(&ask);
    assert_eq!(server.children(), children);
    stop(&server);
    assert!(!server.stderr().contains("accept"), "{}", server.stderr());
}
