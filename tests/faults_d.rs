//! Accepting and connections, as the fault catalogue has it: errors of accept, interrupted calls, the
//! herd, mute clients, a full backlog, connections that are gone before or while they are served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod injection;
mod subject;
mod support;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrLike, UnixAddr,
};

use prefork_server::servers::{Conn, Stream};
use prefork_server::{Builder, ChildServer, Error, PreFork, TcpServer, UnixServer};

use injection::Strace;
use subject::{
    Held, Journal, SOON, count, ended, ends_well, expect_exit, expect_up, hold, log_warnings, send,
};
use support::{
    Address, Args, Client, Server, Signal, World, connect, holds, processes, programs, scenarios,
    until,
};

fn main() -> ExitCode {
    support::main(
        programs![shop],
        scenarios![
            d02_an_error_of_the_network_is_no_error_of_the_server,
            d02_who_is_forbidden_to_accept_tries_again_now_and_then,
            d03_interrupted_calls_lose_nothing,
            d04_a_connection_wakes_one_child,
            d08_mute_clients_are_sent_away_and_the_others_served,
            d12_what_a_full_backlog_holds_is_served,
            d12_a_backlog_that_cannot_be_had_is_said,
            d13_connections_that_are_gone_already_cost_nobody_else,
            d14_writing_to_a_client_that_has_gone_is_an_error_and_no_signal,
            d15_a_helper_does_not_keep_the_connection_open,
            d18_a_connection_can_be_refused_before_it_is_served,
        ],
    )
}

// The program.

/// Serves on a port, or on the path that `--path` names.
fn shop(args: Args) -> ExitCode {
    log_warnings();
    ended(match args.value("--path") {
        Some(path) => serve_path(&args, path),
        None => serve_port(&args),
    })
}

fn serve_path(args: &Args, path: &str) -> Result<(), Error> {
    let server = UnixServer::new(path, |conn| obey(conn, None))
        .backlog(args.parsed("--backlog").unwrap())
        .max_requests(0);
    let prefork = builder(args, server).start()?;
    println!("listening on {path}");
    run(prefork)
}

fn serve_port(args: &Args) -> Result<(), Error> {
    let patience = args.parsed("--patience").map(Duration::from_millis);
    let mut server = TcpServer::new(move |conn| obey(conn, patience)).max_requests(0);
    if let Some(backlog) = args.parsed("--backlog") {
        server = server.backlog(backlog);
    }
    if let Some(unwanted) = args.parsed::<Ipv4Addr>("--refuse") {
        server = server.handler_connection(move |conn, serve| {
            if conn.peer_addr()?.ip() == unwanted {
                return Ok(());
            }
            serve(conn)
        });
    }
    let prefork = builder(args, server).start()?;
    subject::announce(&prefork);
    run(prefork)
}

fn builder<S: ChildServer>(args: &Args, server: S) -> Builder<Journal, S> {
    PreFork::builder(server)
        .hooks(Journal::new(args))
        .start_servers(count(args, "--start", 2))
        .max_spare_servers(100)
        .max_clients(count(args, "--max-clients", 100))
}

fn run<S: ChildServer>(mut prefork: PreFork<Journal, S>) -> Result<(), Error> {
    println!("{}", prefork.run()?);
    Ok(())
}

/// Answers `who` as the subject does; the other orders end the connection.
fn obey<S: Stream + Write>(conn: Conn<S>, patience: Option<Duration>) -> io::Result<()> {
    conn.set_read_timeout(patience);
    let mut lines = BufReader::new(&conn).lines();
    while let Some(line) = lines.next().transpose()? {
        match line.as_str() {
            "who" => writeln!(&conn, "{} who", std::process::id())?,
            "print" => {
                println!("printed");
                writeln!(&conn, "done")?;
            }
            "helper" => {
                let helper = Command::new("sleep").arg("1000").spawn()?;
                writeln!(&conn, "{}", helper.id())?;
                return Ok(());
            }
            "pour" => {
                drop(lines);
                return pour(&conn.into_parts()?.0);
            }
            _ => return Err(io::Error::other(format!("no such order: {line}"))),
        }
    }
    Ok(())
}

/// Writes as C would, without MSG_NOSIGNAL, until that cannot be done twice.
fn pour(stream: &impl AsFd) -> io::Result<()> {
    let block = [b'x'; 64 * 1024];
    loop {
        match nix::unistd::write(stream, &block) {
            Ok(_) | Err(Errno::ECONNRESET) => {}
            Err(Errno::EPIPE) => {
                println!("broken pipe");
                return Err(Errno::EPIPE.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

// What the scenarios share.

const ALONE: [&str; 4] = ["--start", "1", "--max-clients", "1"];

/// A server of one child, and that child.
fn alone(world: &mut World, arguments: &[&str]) -> (Server, Address, u32) {
    let server = world.spawn("shop", &[&ALONE[..], arguments].concat());
    let address = server.address();
    let child = expect_up(&server, 1)[0];
    (server, address, child)
}

/// It was no news, and the same child goes on.
#[track_caller]
fn unimpressed(server: &Server, address: &Address, child: u32) {
    assert_eq!(Held::new(address).pid, child);
    assert_eq!(server.children(), [child]);
    nothing_said(server);
}

/// But for what is a fact of a machine that has too much to do.
#[track_caller]
fn nothing_said(server: &Server) {
    let stderr = server.stderr();
    let mut lines = stderr.lines();
    assert!(
        lines.all(|line| line.contains(" ms, in which the parent did nothing else")),
        "{stderr}"
    );
}

// The scenarios.

/// accept(2) tells of errors that are the new connection's; they are taken as if nothing had come.
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

/// A firewall may forbid a connection, a sandbox all of them: after many in a row the child says so once and
/// pauses, for longer each time, and serves when it may.
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

/// Every call that can be interrupted is made again, or its turn comes round again, in the parent as in
/// the children; and what a signal was sent for happens.
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

/// A handler gives its client a limit (`Conn::set_read_timeout`); the mute ones are gone after that, and
/// whoever waited behind them is served. The parent times nobody out for it.
fn d08_mute_clients_are_sent_away_and_the_others_served(world: &mut World) {
    let arguments = ["--max-clients", "3", "--patience", "300"];
    let server = world.spawn("shop", &arguments);
    let address = server.address();
    let mut mute: Vec<Client> = (0..12).map(|_| connect(&address)).collect();
    Held::new(&address).is_served();
    mute.iter_mut().for_each(Client::eof);
    assert!(server.children().len() <= 3);
    nothing_said(&server);
    ends_well(&server);
}

/// A connection that has a place in the backlog is served when its turn comes; the others are refused by
/// the system, and nobody here is any the worse for it.
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

/// The system cuts a backlog to its own limit without a word, so the server says it.
fn d12_a_backlog_that_cannot_be_had_is_said(world: &mut World) {
    let (server, address, child) = alone(world, &["--backlog", "2000000000"]);
    assert_eq!(Held::new(&address).pid, child);
    let stderr = server.stderr();
    let expected = "backlog 2000000000 is more than can be had, using ";
    assert!(stderr.contains(expected), "{stderr}");
    ends_well(&server);
}

/// Who has reset or closed before being accepted is an end or an error that is the client's: the child
/// says nothing and takes the next.
fn d13_connections_that_are_gone_already_cost_nobody_else(world: &mut World) {
    let (server, address, child) = alone(world, &[]);
    let held = Held::new(&address);
    let mut half_open = Vec::new();
    for _ in 0..10 {
        connect(&address).reset();
        drop(connect(&address));
        let client = connect(&address);
        client.close_write();
        half_open.push(client);
    }
    let mut last = connect(&address);
    last.send_line("who");
    drop(held);
    assert_eq!(last.read_line(), format!("{child} who"));
    drop(last);
    half_open.iter_mut().for_each(Client::eof);
    unimpressed(&server, &address, child);
    ends_well(&server);
}

/// SIGPIPE is ignored, in the parent and in the children: the handler gets EPIPE, and that is no news.
fn d14_writing_to_a_client_that_has_gone_is_an_error_and_no_signal(world: &mut World) {
    // With SIGPIPE at its default in a new child (`signals::become_child`) the child died of it.
    let (server, address, child) = alone(world, &[]);
    for _ in 0..3 {
        let mut client = connect(&address);
        client.send_line("pour");
        client.read_exact(&mut [0]).unwrap();
        drop(client);
    }
    server.expect_stdout("three errors", |text| {
        text.matches("STDOUT: broken pipe").count() == 3
    });
    unimpressed(&server, &address, child);
    ends_well(&server);
}

/// Connections are close-on-exec from the moment they are accepted, so a program that the handler starts
/// does not hold them.
fn d15_a_helper_does_not_keep_the_connection_open(world: &mut World) {
    // Without SOCK_CLOEXEC in `try_accept` the client waited for the helper.
    let (server, address, child) = alone(world, &[]);
    let mut client = connect(&address);
    let helper: u32 = client.ask("helper").parse().unwrap();
    client.eof();
    assert!(processes::is_alive(helper));
    unimpressed(&server, &address, child);
    send(helper, Signal::SIGKILL);
    world.expect_orphans();
    ends_well(&server);
}

/// There are no limits for a source of connections, but `handler_connection` sees each before it is
/// served and can refuse it: it is closed, and counts as a connection of that child.
fn d18_a_connection_can_be_refused_before_it_is_served(world: &mut World) {
    let (server, address, child) = alone(world, &["--refuse", "127.0.0.2"]);
    let port = address.port();
    for _ in 0..3 {
        let Some(mut refused) = connect_from([127, 0, 0, 2], port) else {
            eprintln!("skipped: this machine has no 127.0.0.2");
            break;
        };
        let mut rest = Vec::new();
        refused.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
    unimpressed(&server, &address, child);
    ends_well(&server);
}

fn connect_from(source: [u8; 4], port: u16) -> Option<TcpStream> {
    let any = SockaddrIn::from(SocketAddrV4::new(source.into(), 0));
    let there = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let flags = SockFlag::SOCK_CLOEXEC;
    let client = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    socket::bind(client.as_raw_fd(), &any as &dyn SockaddrLike).ok()?;
    socket::connect(client.as_raw_fd(), &there).unwrap();
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(SOON)).unwrap();
    Some(client)
}
