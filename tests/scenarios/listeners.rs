//! Listening sockets, after reports from the field: options, names, addresses in use, files that
//! stay behind, sockets that the program has opened, kinds that the crate does not know.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect as connect_to,
    getsockname, getsockopt, listen, recv, send, socket, sockopt,
};

use prefork_server::servers::conn::Peer;
use prefork_server::servers::{AcceptOrder, Conn, Listener, Stream, StreamServer};
use prefork_server::{ChildServer, Error, ExecServer, PreFork, TcpServer, UnixServer};

use crate::subject::{ended, ends_well, log_warnings, millis};
use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, programs, scenarios,
    until,
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
];

// The programs.

fn listeners_tcp(args: Args) -> ExitCode {
    log_warnings();
    ended(run_tcp(&args))
}

fn run_tcp(args: &Args) -> Result<(), Error> {
    let mut server = TcpServer::new(talk)
        .max_requests(0)
        .accept_order(AcceptOrder::InTurn)
        .no_delay(!args.has("--delay"))
        .port(args.parsed("--port").unwrap_or(0));
    if let Some(address) = args.value("--address") {
        server = server.address(address);
    }
    if args.has("--own") {
        server = server.socket(TcpListener::bind("127.0.0.1:0").unwrap());
    }
    if args.has("--own-deaf") {
        server = server.socket(unbound());
    }
    let children = args.parsed("--children").unwrap_or(2);
    run(server, args, children, |server| {
        server
            .local_addrs()
            .iter()
            .map(ToString::to_string)
            .collect()
    })
}

fn unbound() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
}

fn listeners_unix(args: Args) -> ExitCode {
    log_warnings();
    let path = args.value("--path").unwrap().replacen('@', "\0", 1);
    ended(run(UnixServer::new(path, talk), &args, 2, |server| {
        server
            .listeners()
            .iter()
            .map(|each| each.name.clone())
            .collect()
    }))
}

/// Runs a server, after a change of directory if asked for.
fn run<L: Listener<Stream: Stream>>(
    server: StreamServer<L>,
    args: &Args,
    children: usize,
    places: impl Fn(&mut StreamServer<L>) -> Vec<String>,
) -> Result<(), Error> {
    let mut prefork = PreFork::builder(server)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children)
        .timeout(millis(args, "--timeout", 0))
        .start()?;
    for place in places(prefork.server_mut()) {
        println!("listening on {place}");
    }
    if args.has("--chdir") {
        std::env::set_current_dir("/").unwrap();
    }
    println!("{}", prefork.run()?);
    Ok(())
}

/// Answers each line with two writes, as `writeln!` does; some with what is asked for.
fn talk<S: Stream>(conn: Conn<S>) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let answer = match line?.as_str() {
            "nodelay" => format!("{:?}", getsockopt(&conn, sockopt::TcpNoDelay)),
            "forget timeouts" => faulty::forget_timeouts().to_string(),
            other => other.to_owned(),
        };
        (&conn).write_all(answer.as_bytes())?;
        (&conn).write_all(b"\n")?;
    }
    Ok(())
}

/// What takes `unsafe`, as faults of this kind do.
#[allow(unsafe_code)]
mod faulty {
    use std::os::fd::BorrowedFd;

    use nix::sys::socket::{getsockopt, setsockopt, sockopt};
    use nix::sys::time::TimeVal;

    /// Acts like a library that gets wrong descriptors; returns how many listeners have lost their
    /// timeout.
    pub(super) fn forget_timeouts() -> usize {
        let forget = |number: &i32| {
            // SAFETY: a number that is not open is an error of the calls.
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            getsockopt(&fd, sockopt::AcceptConn) == Ok(true)
                && setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 0)).is_ok()
        };
        (3..64).filter(forget).count()
    }
}

/// SOCK_SEQPACKET, of which the crate knows nothing.
#[derive(Debug)]
struct SeqPacket {
    path: PathBuf,
}

impl Listener for SeqPacket {
    type Stream = Packets;

    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>> {
        let socket = seqpacket_socket()?;
        bind(socket.as_raw_fd(), &UnixAddr::new(&self.path)?)?;
        listen(&socket, Backlog::new(backlog)?)?;
        Ok(vec![socket])
    }

    fn fits(&self, socket: BorrowedFd<'_>) -> bool {
        getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket)
            && getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok()
    }

    fn name(&self, _: BorrowedFd<'_>) -> String {
        self.path.display().to_string()
    }

    fn clean_up(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// What a connection is there.
#[derive(Debug)]
struct Packets(OwnedFd);

impl Stream for Packets {
    fn block(&self) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(self, FcntlArg::F_GETFL)?);
        fcntl(self, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        Ok(())
    }

    fn end(&self, _: std::net::Shutdown) -> io::Result<()> {
        Ok(())
    }

    fn peer(&self, _: Option<std::net::SocketAddr>) -> Peer {
        Peer::default()
    }
}

impl From<OwnedFd> for Packets {
    fn from(connection: OwnedFd) -> Self {
        Self(connection)
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Packets {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn seqpacket_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Answers each packet with one that has the child's pid before it.
fn listeners_seqpacket(args: Args) -> ExitCode {
    let path = args.value("--path").unwrap().into();
    let server = StreamServer::on(SeqPacket { path }, |mut conn| {
        let mut packet = [0; 64];
        loop {
            let length = conn.read(&mut packet)?;
            if length == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&packet[..length]);
            let answer = format!("{} {text}", std::process::id());
            conn.write_all(answer.as_bytes())?;
        }
    });
    let server = server.max_requests(args.parsed("--max-requests").unwrap_or(0));
    ended(run(server, &args, 3, |server| {
        server
            .listeners()
            .iter()
            .map(|each| each.name.clone())
            .collect()
    }))
}

/// A program that finds its socket where FastCGI has it.
fn listeners_fastcgi(_: Args) -> ExitCode {
    log_warnings();
    let server = ExecServer::new(std::env::current_exe().unwrap())
        .args(["--program", "listeners_worker"])
        .listen("127.0.0.1:0")
        .socket_at_stdin(true);
    let run = || {
        let mut prefork = PreFork::builder(server).start_servers(1).start()?;
        println!("listening on {}", prefork.server().local_addrs()[0]);
        println!("{}", prefork.run()?);
        Ok(())
    };
    ended(run())
}

fn listeners_worker(_: Args) -> ExitCode {
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let listener = TcpListener::from(socket);
    loop {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"from stdin\n").unwrap();
    }
}

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

/// A program can implement a kind of socket that the crate does not know, with the public
/// interface: children accept, reach their limit and are replaced, a stop works, the file is
/// removed.
fn a_kind_of_socket_from_outside_is_served_by_the_same_rules(world: &mut World) {
    let path = world.tempdir().join("packets");
    let arguments = ["--path", path.to_str().unwrap(), "--max-requests", "2"];
    let server = world.spawn("listeners_seqpacket", &arguments);
    server.expect_stdout("where it listens", |text| text.contains("packets\n"));
    let mut pids = std::collections::BTreeSet::new();
    for number in 0..12 {
        let client = seqpacket_socket().unwrap();
        connect_to(client.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        for packet in ["one", "two"] {
            send(client.as_raw_fd(), packet.as_bytes(), MsgFlags::empty()).unwrap();
            let mut answer = [0; 64];
            let length = recv(client.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
            let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
            let (pid, text) = answer.split_once(' ').expect("a pid");
            assert_eq!(text, packet, "client {number}");
            pids.insert(pid.to_owned());
        }
    }
    // Two connections each.
    assert!(pids.len() >= 6, "{pids:?}");
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(!path.exists());
}
