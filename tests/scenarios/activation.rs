//! Sockets that another process has opened and passes as systemd does: served if they fit, refused
//! if anything is doubtful, and left to their owner after the end.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use prefork_server::servers::has_listen_fds;
use prefork_server::{ChildServer, Error, PreFork, TcpServer, UnixServer};

use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, connect, processes, programs,
    scenarios, until,
};

pub const PROGRAMS: Programs = programs![activated];

pub const SCENARIOS: Scenarios = scenarios![
    a_tcp_socket_is_served_and_stays_the_givers,
    a_unix_socket_is_served_and_its_file_stays,
    a_killed_parent_leaves_the_giver_its_socket,
    each_server_takes_its_family,
    i09_what_is_no_listening_socket_is_refused,
    i09_what_is_not_for_this_process_is_refused,
    i09_children_find_neither_variables_nor_copies,
    only_those_of_a_name_are_taken,
    taken_again_by_a_second_start,
];

// The program.

/// A server that takes over what it is given and answers a line: with its variables, its descriptors,
/// or the line itself.
fn activated(args: Args) -> ExitCode {
    let rounds = args.parsed("--rounds").unwrap_or(1);
    for _ in 0..rounds {
        if let Err(error) = run(&args) {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(args: &Args) -> Result<(), Error> {
    println!("handed over: {}", has_listen_fds());
    if args.has("--unix") {
        // A path that nothing is bound to: with what was handed over it means nothing.
        let server = UnixServer::new("/nonexistent/socket", |conn| answer(&conn, &conn));
        let server = match args.value("--name") {
            Some(name) => server.listen_fds_named(name),
            None => server.listen_fds(),
        };
        let mut prefork = small(server).start()?;
        println!("listening on unix:{}", prefork.server().path().display());
        return prefork.run().map(drop);
    }
    let server = TcpServer::new(|conn| answer(&conn, &conn));
    let server = match args.value("--name") {
        Some(name) => server.listen_fds_named(name),
        None => server.listen_fds(),
    };
    let mut prefork = small(server).start()?;
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    prefork.run().map(drop)
}

fn small<S: ChildServer>(server: S) -> prefork_server::Builder<prefork_server::DefaultHooks, S> {
    PreFork::builder(server)
        .start_servers(2)
        .max_spare_servers(4)
        .kill_timeout(Duration::from_secs(5))
}

fn answer(input: impl Read, mut output: impl Write) -> io::Result<()> {
    for line in BufReader::new(input).lines() {
        let answer = match line?.as_str() {
            "variables" => [
                "LISTEN_PID",
                "LISTEN_FDS",
                "LISTEN_FDNAMES",
                "LISTEN_PIDFDID",
            ]
            .map(|name| env::var(name).unwrap_or_else(|_| "-".to_owned()))
            .join(" "),
            "pid" => std::process::id().to_string(),
            other => other.to_owned(),
        };
        writeln!(output, "{answer}")?;
    }
    Ok(())
}

// What a giver does.

/// Starts the program with `given` as 3, 4 and so on, the variables set by `variables`, which is shell
/// and finds the program's pid in `$$`.
fn give(world: &mut World, variables: &str, given: &[BorrowedFd<'_>], args: &[&str]) -> Server {
    // Inheritable copies above the numbers that they are for. A shell knows numbers of one digit.
    let copies: Vec<i32> = given
        .iter()
        .map(|fd| fcntl(fd, FcntlArg::F_DUPFD(6)).unwrap())
        .collect();
    let moves: Vec<String> = (3..)
        .zip(&copies)
        .map(|(to, from)| format!("{to}<&{from} {from}<&-"))
        .collect();
    assert!(copies.iter().all(|copy| *copy <= 9), "{copies:?}");
    // The shell becomes the program, so its pid is the program's.
    let script = format!("exec {}; {variables} exec \"$0\" \"$@\"", moves.join(" "));
    let own = env::current_exe().unwrap();
    let launch = world.command("/bin/sh").args(&["-c", &script]).arg(own);
    let server = launch.args(&["--program", "activated"]).args(args).spawn();
    for copy in copies {
        nix::unistd::close(copy).unwrap();
    }
    server
}

const ONE: &str = "LISTEN_PID=$$ LISTEN_FDS=1";

fn tcp() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    (listener, address)
}

/// The process that passed the socket accepts on it again.
fn accepts(listener: &TcpListener, address: &Address) {
    let mut client = connect(address);
    // The server has set it for all processes that share the socket.
    listener.set_nonblocking(false).unwrap();
    let (mut conn, _) = listener.accept().unwrap();
    conn.write_all(b"the giver\n").unwrap();
    assert_eq!(client.read_line(), "the giver");
}

fn ends_well(server: &Server) {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
}

// The scenarios.

fn a_tcp_socket_is_served_and_stays_the_givers(world: &mut World) {
    let (listener, address) = tcp();
    let server = give(world, ONE, &[listener.as_fd()], &[]);
    assert_eq!(server.address(), address);
    assert!(server.stdout().contains("handed over: true"));
    let pid: u32 = connect(&address).ask("pid").parse().unwrap();
    assert_ne!(pid, server.pid(), "the parent has served");
    ends_well(&server);
    accepts(&listener, &address);
}

fn a_unix_socket_is_served_and_its_file_stays(world: &mut World) {
    let path = world.tempdir().join("given");
    let listener = UnixListener::bind(&path).unwrap();
    let server = give(world, ONE, &[listener.as_fd()], &["--unix"]);
    assert_eq!(server.address(), Address::from(path.as_path()));
    let address = server.address();
    assert_eq!(connect(&address).ask("hello"), "hello");
    ends_well(&server);
    assert!(path.exists(), "the giver's file was removed");
    let _client = connect(&address);
    listener.set_nonblocking(false).unwrap();
    assert!(listener.accept().is_ok());
    std::fs::remove_file(&path).unwrap();
}

fn a_killed_parent_leaves_the_giver_its_socket(world: &mut World) {
    world.expect_orphans();
    let (listener, address) = tcp();
    let server = give(world, ONE, &[listener.as_fd()], &[]);
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    let children = server.expect_children(2);
    server.kill9();
    until("the children to leave", SOON, || {
        world.reap_orphans();
        let gone = !children.iter().any(|child| processes::is_alive(*child));
        gone.then_some(())
    });
    accepts(&listener, &address);
}

fn each_server_takes_its_family(world: &mut World) {
    let path = world.tempdir().join("given");
    let unix = UnixListener::bind(&path).unwrap();
    let (listener, address) = tcp();
    let file = File::open("/dev/null").unwrap();
    let given = [file.as_fd(), unix.as_fd(), listener.as_fd()];
    let three = "LISTEN_PID=$$ LISTEN_FDS=3";
    let server = give(world, three, &given, &[]);
    assert_eq!(server.addresses(1), std::slice::from_ref(&address));
    assert_eq!(connect(&address).ask("hello"), "hello");
    ends_well(&server);
    let server = give(world, three, &given, &["--unix"]);
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    ends_well(&server);
    std::fs::remove_file(&path).unwrap();
}

/// Variables that are for another process, or invalid, are not used: the start fails with an error
/// that names the variable and the reason, and binds nothing instead.
fn i09_what_is_not_for_this_process_is_refused(world: &mut World) {
    let (listener, _) = tcp();
    for (variables, why) in [
        ("", "take over LISTEN_FDS: LISTEN_PID is not set"),
        ("LISTEN_FDS=1", "LISTEN_PID is not set"),
        ("LISTEN_PID=$$", "LISTEN_FDS is not set"),
        ("LISTEN_PID=1 LISTEN_FDS=1", "they are for process 1"),
        ("LISTEN_PID=$PPID LISTEN_FDS=1", "they are for process"),
        ("LISTEN_PID=-$$ LISTEN_FDS=1", "which is no number"),
        ("LISTEN_PID=$$ LISTEN_FDS=0", "there are none"),
        (
            "LISTEN_PID=$$ LISTEN_FDS=-1",
            "LISTEN_FDS is \"-1\", which is no number",
        ),
        (
            "LISTEN_PID=$$ LISTEN_FDS=3x",
            "LISTEN_FDS is \"3x\", which is no number",
        ),
        (
            "LISTEN_PID=$$ LISTEN_FDS=1000000",
            "there cannot be 1000000",
        ),
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b",
            "there are 2 names for 1 sockets",
        ),
    ] {
        refused(world, variables, &[listener.as_fd()], &[], why);
    }
}

/// Each descriptor is checked before use: it must be open, a stream socket, of the server's family,
/// and listening.
fn i09_what_is_no_listening_socket_is_refused(world: &mut World) {
    let file = File::open("/dev/null").unwrap();
    let stream = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let mute: OwnedFd = stream(AddressFamily::Inet);
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (listener, _) = tcp();
    let named = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web";
    let by_name = ["--name", "web"];
    let none = "none of them is a listening socket of that kind";
    refused(world, ONE, &[file.as_fd()], &[], none);
    refused(world, ONE, &[datagrams.as_fd()], &[], none);
    refused(world, ONE, &[listener.as_fd()], &["--unix"], none);
    let silent = "take over descriptor 3: descriptor 3 does not listen";
    refused(world, ONE, &[mute.as_fd()], &[], silent);
    let no_socket = "take over descriptor 3 (web): descriptor 3 is no socket";
    refused(world, named, &[file.as_fd()], &by_name, no_socket);
    let other = "descriptor 3 is a socket of another kind";
    refused(world, named, &[datagrams.as_fd()], &by_name, other);
    let unnamed = "take over web in LISTEN_FDNAMES: none of them";
    refused(world, ONE, &[listener.as_fd()], &by_name, unnamed);
    // More are promised than were given.
    let two = "LISTEN_PID=$$ LISTEN_FDS=2";
    let closed = "take over descriptor 4: bad file descriptor";
    refused(world, two, &[listener.as_fd()], &[], closed);
}

fn refused(world: &mut World, variables: &str, given: &[BorrowedFd<'_>], args: &[&str], why: &str) {
    let server = give(world, variables, given, args);
    assert_eq!(server.wait(SOON).code(), Some(1), "{variables}");
    let said = server.stderr();
    assert!(said.contains(why), "{variables}: {said}");
    assert!(!server.stdout().contains("listening"), "{variables}");
}

/// Children have the server's duplicate of the socket, not the descriptor that was passed, and no
/// variable that a program which they run could use. The parent's descriptors are close-on-exec.
fn i09_children_find_neither_variables_nor_copies(world: &mut World) {
    let (listener, address) = tcp();
    let named = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PIDFDID=7";
    let server = give(world, named, &[listener.as_fd()], &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("variables"), "- - - -");
    let pid: u32 = client.ask("pid").parse().unwrap();
    let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
    let link = link.to_string_lossy();
    let count = |pid| {
        let open = processes::descriptors(pid);
        open.iter().filter(|(_, to)| *to == link).count()
    };
    assert_eq!(count(pid), 1, "{:?}", processes::descriptors(pid));
    assert_eq!(count(server.pid()), 2, "what was given, and the duplicate");
    for (fd, _) in processes::descriptors(server.pid())
        .iter()
        .filter(|(_, to)| *to == link)
    {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", server.pid())).unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i64::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & 0o2_000_000, 0, "{fd} is not close-on-exec");
    }
    drop(client);
    assert_eq!(server.address(), address);
    ends_well(&server);
}

fn only_those_of_a_name_are_taken(world: &mut World) {
    let ((web, _), (admin, address)) = (tcp(), tcp());
    let named = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin";
    let given = [web.as_fd(), admin.as_fd()];
    let server = give(world, named, &given, &["--name", "admin"]);
    server.expect_children(2);
    assert_eq!(server.address(), address);
    let listening = server.stdout().matches("listening on").count();
    assert_eq!(listening, 1, "{}", server.stdout());
    assert_eq!(connect(&address).ask("hello"), "hello");
    ends_well(&server);
}

fn taken_again_by_a_second_start(world: &mut World) {
    let (listener, address) = tcp();
    let server = give(world, ONE, &[listener.as_fd()], &["--rounds", "2"]);
    assert_eq!(server.address(), address);
    assert_eq!(connect(&address).ask("hello"), "hello");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.addresses(2), [address.clone(), address.clone()]);
    assert_eq!(connect(&address).ask("again"), "again");
    ends_well(&server);
}
