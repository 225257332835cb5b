//! The stock servers and their connections: addresses, limits, socket files, misbehaving clients
//! and handlers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, getpeername,
    shutdown,
};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use prefork_server::servers::{Conn, Domain, Stream, TcpConn};
use prefork_server::{
    Builder, ChildServer, DefaultHooks, PreFork, PreForkHooks, Start, TcpServer, UnixServer,
    defaults,
};
use support::{
    Address, Args, Server, Signal, World, connect, holds, processes, programs, scenarios,
    try_connect, until,
};

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(
        programs![tcp, unix],
        scenarios![
            acker_speaks_for_a_thread_that_works,
            j01_address_in_use_is_an_error_that_names_it,
            d17_addresses_of_one_server_are_served_in_turn,
            client_that_resets_is_no_news,
            j05_directory_that_is_locked_is_waited_for,
            error_of_a_handler_is_printed,
            j08_file_in_the_way_is_left_alone,
            j06_file_of_another_server_is_left_alone,
            j06_file_outlives_children_and_goes_with_the_server,
            host_name_and_domain_choose_the_address,
            d07_lost_listener_ends_the_server,
            d11_max_requests_one_under_load,
            max_requests_zero_is_no_limit,
            parts_wait_for_as_long_as_it_takes,
            j03_path_that_is_empty_is_an_error,
            j03_path_that_is_too_long_is_an_error,
            read_timeout_is_the_handlers_to_set,
            j04_server_that_lives_is_not_replaced,
            d01_shortage_of_descriptors_is_sat_out,
            j09_socket_file_has_the_mode,
            j04_stale_file_is_replaced,
            state_is_made_in_each_child,
            j04_stuck_server_with_a_full_backlog_is_not_replaced,
            write_timeout_is_the_handlers_to_set,
            tcp_over_ipv6,
            tcp_port_is_chosen_by_the_system,
            j05_fifty_at_once_on_one_path,
        ],
    )
}

// The programs.

fn tcp(args: Args) -> ExitCode {
    let mut server = TcpServer::per_child(|| Ok(std::process::id()))
        .serve(|made_in, conn: TcpConn| {
            let local = conn.local_addr()?;
            obey(*made_in, &local.to_string(), conn)
        })
        .port(args.parsed("--port").unwrap_or(0))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    if let Some(address) = args.value("--address") {
        server = server.address(address);
    }
    server = match args.value("--domain") {
        Some("inet") => server.domain(Domain::Inet),
        Some("inet6") => server.domain(Domain::Inet6),
        _ => server,
    };
    if let Some(address) = args.parsed("--also") {
        server = server.also(address);
    }
    let addresses = |server: &TcpServer| {
        let addresses = server.local_addrs().into_iter();
        addresses.map(|address| address.to_string()).collect()
    };
    run(&args, builder(&args, server), addresses)
}

fn unix(args: Args) -> ExitCode {
    let path = args.value("--path").unwrap();
    let mut server = UnixServer::per_child(path, || Ok(std::process::id()))
        .serve(|made_in, conn| obey(*made_in, "unix", conn))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    if let Some(mode) = args.value("--mode") {
        server = server.mode(u32::from_str_radix(mode, 8).unwrap());
    }
    let path = |server: &UnixServer| vec![server.path().display().to_string()];
    run(&args, builder(&args, server), path)
}

fn builder<S: ChildServer>(args: &Args, server: S) -> Builder<DefaultHooks, S> {
    let mut builder = PreFork::builder(server)
        .start_servers(args.parsed("--children").unwrap_or(2))
        .max_spare_servers(50);
    if let Some(children) = args.parsed("--max-clients") {
        builder = builder.max_clients(children);
    }
    if let Some(timeout) = args.parsed("--timeout") {
        builder = builder.timeout(Duration::from_millis(timeout));
    }
    builder
}

fn run<S: ChildServer>(
    args: &Args,
    builder: Builder<DefaultHooks, S>,
    addresses: impl Fn(&S) -> Vec<String>,
) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Error)
        .init();
    let hooks = Hooks {
        starve: args.value("--starve").map(PathBuf::from),
    };
    let mut prefork = match builder.hooks(hooks).start() {
        Ok(prefork) => prefork,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    for address in addresses(prefork.server()) {
        println!("listening on {address}");
    }
    let report = prefork.run().unwrap();
    println!("{report}");
    ExitCode::SUCCESS
}

struct Hooks {
    /// A FIFO: without descriptors from the start of a child until a byte comes through it.
    starve: Option<PathBuf>,
}

impl PreForkHooks for Hooks {
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if let Some(path) = &self.starve {
            let mut fifo = File::open(path)?;
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard)?;
            thread::spawn(move || {
                fifo.read_exact(&mut [0]).unwrap();
                setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            });
        }
        defaults::server_start(self, start)
    }
}

/// Does what each line says.
fn obey<S: Stream + io::Read + io::Write>(
    made_in: u32,
    local: &str,
    conn: Conn<S>,
) -> io::Result<()> {
    let mut reader = BufReader::new(&conn);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let (order, text) = line.split_once(' ').unwrap_or((line, ""));
        match order {
            "pid" => writeln!(&conn, "{}", std::process::id())?,
            "state" => writeln!(&conn, "{made_in} {}", std::process::id())?,
            "number" => writeln!(&conn, "{}", conn.requests_handled())?,
            "local" => writeln!(&conn, "{} {local}", conn.requests_handled())?,
            "patience" => {
                conn.set_read_timeout(Some(Duration::from_millis(text.parse().unwrap())));
                let kind = (&conn).read(&mut [0]).unwrap_err().kind();
                conn.set_read_timeout(None);
                writeln!(&conn, "{kind:?}")?;
            }
            "flood" => {
                conn.set_write_timeout(Some(Duration::from_millis(text.parse().unwrap())));
                let kind = loop {
                    if let Err(error) = (&conn).write_all(&[b'x'; 65536]) {
                        break error.kind();
                    }
                };
                eprintln!("flooded");
                conn.set_write_timeout(None);
                writeln!(&conn, "\n{kind:?}")?;
            }
            "time-out" => {
                conn.set_read_timeout(Some(Duration::from_millis(10)));
                writeln!(&conn, "ok")?;
            }
            "fail" => return Err(io::Error::other("on purpose")),
            "shut" => {
                for listener in listeners() {
                    shutdown(listener, nix::sys::socket::Shutdown::Both)?;
                }
                writeln!(&conn, "shut")?;
            }
            "work" => {
                drop(reader);
                return work(conn, Duration::from_millis(text.parse().unwrap()));
            }
            "parts" => {
                writeln!(&conn, "in parts")?;
                drop(reader);
                let (mut stream, _) = conn.into_parts()?;
                let mut line = [0; 2];
                stream.read_exact(&mut line)?;
                return stream.write_all(&line);
            }
            "reset" => {
                // More than the client will ever read.
                let block = [b'x'; 64 * 1024];
                loop {
                    (&conn).write_all(&block)?;
                }
            }
            _ => return Err(io::Error::other(format!("no such order: {line}"))),
        }
    }
}

/// Computes for long, while a thread says that the child is alive.
fn work<S: Stream + io::Write>(conn: Conn<S>, time: Duration) -> io::Result<()> {
    let (mut stream, acker) = conn.into_parts()?;
    let flags = OFlag::from_bits_retain(fcntl(stream.as_fd(), FcntlArg::F_GETFL)?);
    static DONE: AtomicBool = AtomicBool::new(false);
    let thread = thread::spawn(move || {
        while !DONE.load(Ordering::Relaxed) {
            acker.ack().unwrap();
            thread::sleep(Duration::from_millis(50));
        }
    });
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    DONE.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    writeln!(stream, "blocking: {}", !flags.contains(OFlag::O_NONBLOCK))?;
    stream.end(Shutdown::Both)
}

/// The sockets of this process that are not connected.
fn listeners() -> Vec<RawFd> {
    let mut descriptors = processes::descriptors(std::process::id());
    descriptors.retain(|(fd, target)| {
        target.starts_with("socket:") && getpeername::<SockaddrStorage>(*fd).is_err()
    });
    descriptors.into_iter().map(|(fd, _)| fd).collect()
}

// What the scenarios share.

fn ask(address: &Address, order: &str) -> String {
    connect(address).ask(order)
}

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Waits until `server` has refused to start, and returns the error; the one before is logged.
fn refused(server: &Server) -> String {
    let status = server.wait(SOON);
    assert_eq!(status.code(), Some(3), "{}", server.stderr());
    server.stderr().lines().last().unwrap().to_owned()
}

/// Whether this machine has ::1.
fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this machine has no ::1");
    }
    has
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

// TCP.

fn tcp_port_is_chosen_by_the_system(world: &mut World) {
    let server = world.spawn("tcp", &[]);
    let address = server.address();
    assert_ne!(address.port(), 0);
    assert_eq!(ask(&address, "local"), format!("1 {address}"));
    stop(&server);
}

fn tcp_over_ipv6(world: &mut World) {
    if !has_ipv6() {
        return;
    }
    let server = world.spawn("tcp", &["--address", "::1"]);
    let address = server.address();
    assert!(address.to_string().starts_with("[::1]:"));
    assert_eq!(ask(&address, "local"), format!("1 {address}"));
    stop(&server);
}

fn host_name_and_domain_choose_the_address(world: &mut World) {
    let server = world.spawn("tcp", &["--address", "localhost", "--domain", "inet"]);
    let address = server.address();
    assert!(address.to_string().starts_with("127."), "{address}");
    ask(&address, "pid");
    stop(&server);
    let server = world.spawn("tcp", &["--address", "127.0.0.1", "--domain", "inet6"]);
    let error = "lookup 127.0.0.1:0: no address of that domain";
    assert_eq!(refused(&server), error);
    let server = world.spawn("tcp", &["--address", "no.such.host.invalid", "--port", "7"]);
    let error = refused(&server);
    assert!(
        error.starts_with("lookup no.such.host.invalid:7: "),
        "{error}"
    );
}

/// The listener after that which was served last is tried first: with a queue at each of two
/// addresses, neither waits until the other is empty.
fn d17_addresses_of_one_server_are_served_in_turn(world: &mut World) {
    let arguments = [
        "--also",
        "127.0.0.1:0",
        "--children",
        "1",
        "--max-clients",
        "1",
    ];
    let server = world.spawn("tcp", &arguments);
    let addresses = server.addresses(2);
    assert_ne!(addresses[0], addresses[1]);
    let mut first = connect(&addresses[0]);
    first.ask("pid");
    let mut waiting = Vec::new();
    for address in &addresses {
        for _ in 0..5 {
            let mut client = connect(address);
            client.send_line("local");
            client.close_write();
            waiting.push(client);
        }
    }
    drop(first);
    let mut served: Vec<(u64, String)> = waiting
        .iter_mut()
        .map(|client| {
            let answer = client.read_line();
            let (number, address) = answer.split_once(' ').unwrap();
            (number.parse().unwrap(), address.to_owned())
        })
        .collect();
    served.sort();
    for (index, (number, address)) in served.iter().enumerate() {
        assert_eq!(*number, index as u64 + 2);
        // The first connection of all was on the first address.
        assert_eq!(*address, addresses[(index + 1) % 2].to_string());
    }
    stop(&server);
}

/// An address in use is an error that names it, and what was opened before it is given back.
fn j01_address_in_use_is_an_error_that_names_it(world: &mut World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = world.spawn("tcp", &["--port", &address.port().to_string()]);
    let error = refused(&server);
    let expected = format!("bind {address}: address already in use");
    assert!(error.starts_with(&expected), "{error}");
    // The first of two addresses is given back when the second cannot be had.
    let server = world.spawn("tcp", &["--also", &address.to_string()]);
    assert!(refused(&server).starts_with(&expected));
}

/// Children that reach `max_requests`, even all at once, are replaced as they leave, and what comes
/// meanwhile waits in the backlog: no connection is lost. (There is no jitter.)
fn d11_max_requests_one_under_load(world: &mut World) {
    const CLIENTS: usize = 6;
    const EACH: usize = 50;
    let server = world.spawn("tcp", &["--max-requests", "1", "--children", "5"]);
    let address = server.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || {
                let answers = (0..EACH).map(|_| {
                    let mut client = connect(&address);
                    assert_eq!(client.ask("number"), "1");
                    client.ask("pid")
                });
                answers.collect::<Vec<_>>()
            })
        })
        .collect();
    let pids = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap());
    let pids: BTreeSet<String> = pids.collect();
    assert_eq!(pids.len(), CLIENTS * EACH, "a child for each connection");
    stop(&server);
}

fn max_requests_zero_is_no_limit(world: &mut World) {
    let arguments = [
        "--max-requests",
        "0",
        "--children",
        "1",
        "--max-clients",
        "1",
    ];
    let server = world.spawn("tcp", &arguments);
    let address = server.address();
    for number in 1..=200 {
        assert_eq!(ask(&address, "number"), number.to_string());
    }
    stop(&server);
}

fn state_is_made_in_each_child(world: &mut World) {
    let path = world.tempdir().join("socket");
    let tcp = world.spawn("tcp", &["--max-requests", "2"]);
    let unix = world.spawn("unix", &["--max-requests", "2", "--path", text(&path)]);
    for server in [tcp, unix] {
        let address = server.address();
        let mut pids = BTreeSet::new();
        for _ in 0..8 {
            let answer = ask(&address, "state");
            let (made_in, pid) = answer.split_once(' ').unwrap();
            assert_eq!(made_in, pid);
            pids.insert(pid.to_owned());
        }
        assert!(pids.len() >= 4, "children leave after two connections");
        stop(&server);
    }
}

// UNIX sockets.

/// The socket file has the mode that was asked for, 0660 by default, whatever the umask.
fn j09_socket_file_has_the_mode(world: &mut World) {
    let path = world.tempdir().join("socket");
    for (arguments, mode) in [
        (&[][..], 0o660),
        (&["--mode", "600"][..], 0o600),
        (&["--mode", "777"][..], 0o777),
    ] {
        let arguments = [&["--path", text(&path)], arguments].concat();
        let server = world.spawn("unix", &arguments);
        ask(&server.address(), "pid");
        let metadata = path.symlink_metadata().unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        stop(&server);
        assert!(path.symlink_metadata().is_err(), "it goes with the server");
    }
}

/// A socket file at which nobody listens (connect: ECONNREFUSED) is replaced.
fn j04_stale_file_is_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--path", text(&path)];
    let killed = world.spawn("unix", &arguments);
    let address = killed.address();
    ask(&address, "pid");
    killed.kill9();
    until("nobody to listen", SOON, || try_connect(&address).err());
    let stale = path.symlink_metadata().unwrap().ino();
    let server = world.spawn("unix", &arguments);
    ask(&server.address(), "pid");
    let fresh = path.symlink_metadata().unwrap();
    eprintln!("inode {stale} before, {} now", fresh.ino());
    stop(&server);
    assert!(path.symlink_metadata().is_err());
}

/// One at which somebody listens is left alone, and the start is refused.
fn j04_server_that_lives_is_not_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--path", text(&path)];
    let server = world.spawn("unix", &arguments);
    let address = server.address();
    let late = world.spawn("unix", &arguments);
    let error = format!("bind {}: another server is listening there", path.display());
    assert_eq!(refused(&late), error);
    ask(&address, "pid");
    stop(&server);
}

/// So is one whose backlog is full (EAGAIN): the question is asked by a connect that never waits.
fn j04_stuck_server_with_a_full_backlog_is_not_replaced(world: &mut World) {
    let path = world.tempdir().join("socket");
    let address = UnixAddr::new(&path).unwrap();
    let open = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()
    };
    // It accepts nothing.
    let stuck = open();
    socket::bind(stuck.as_raw_fd(), &address).unwrap();
    socket::listen(&stuck, Backlog::new(1).unwrap()).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = open();
        match socket::connect(client.as_raw_fd(), &address) {
            Ok(()) => clients.push(client),
            Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
        }
    }
    let late = world.spawn("unix", &["--path", text(&path)]);
    let error = format!("bind {}: another server is listening there", path.display());
    assert_eq!(refused(&late), error);
}

/// An empty path is an error: to the kernel it would be any free name, in no file system.
fn j03_path_that_is_empty_is_an_error(world: &mut World) {
    let server = world.spawn("unix", &["--path", ""]);
    assert_eq!(refused(&server), "bind: the path is empty");
}

/// What is no socket is never removed: the start is refused.
fn j08_file_in_the_way_is_left_alone(world: &mut World) {
    let path = world.tempdir().join("notes");
    fs::write(&path, "mine").unwrap();
    let server = world.spawn("unix", &["--path", text(&path)]);
    let error = format!(
        "bind {}: there is a file that is not a socket",
        path.display()
    );
    assert_eq!(refused(&server), error);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

/// A path that a socket address has no room for is an error of the bind, and the longest one that it
/// has room for is served.
fn j03_path_that_is_too_long_is_an_error(world: &mut World) {
    const LONGEST: usize = 107;
    let directory = world.tempdir();
    let of_length = |length: usize| {
        let name = length - text(&directory).len() - 1;
        directory.join("x".repeat(name))
    };
    for length in [LONGEST + 1, LONGEST + 2, 200] {
        let path = of_length(length);
        let server = world.spawn("unix", &["--path", text(&path)]);
        let error = refused(&server);
        let expected = format!("bind {}: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.contains("name too long"), "{error}");
    }
    let server = world.spawn("unix", &["--path", text(&of_length(LONGEST))]);
    ask(&server.address(), "pid");
    stop(&server);
}

/// The file is removed by the process that bound it, never by a child.
fn j06_file_outlives_children_and_goes_with_the_server(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = world.spawn("unix", &["--path", text(&path), "--max-requests", "1"]);
    let address = server.address();
    let file = path.symlink_metadata().unwrap().ino();
    for _ in 0..5 {
        let pid: u32 = ask(&address, "pid").parse().unwrap();
        until("the child to leave", SOON, || {
            (!processes::is_alive(pid)).then_some(())
        });
        assert_eq!(path.symlink_metadata().unwrap().ino(), file);
    }
    stop(&server);
    assert!(path.symlink_metadata().is_err());
}

/// The file is removed only if device and inode are those that were bound.
///
/// Without the comparison in `remove_socket_file` the first server takes the file of the second.
fn j06_file_of_another_server_is_left_alone(world: &mut World) {
    let path = world.tempdir().join("socket");
    let arguments = ["--path", text(&path)];
    let first = world.spawn("unix", &arguments);
    ask(&first.address(), "pid");
    // A name of its own keeps the inode from being used again.
    fs::rename(&path, path.with_extension("old")).unwrap();
    let second = world.spawn("unix", &arguments);
    let address = second.address();
    let file = path.symlink_metadata().unwrap().ino();

    stop(&first);
    assert_eq!(path.symlink_metadata().unwrap().ino(), file);
    ask(&address, "pid");
    stop(&second);
}

/// A lock on the directory keeps apart two instances that start at once: it is held from the look at
/// the file to the listen.
///
/// Without `lock_directory` the server is there before the lock has been given back.
fn j05_directory_that_is_locked_is_waited_for(world: &mut World) {
    let directory = world.tempdir();
    let path = directory.join("socket");
    let lock = || {
        let directory = File::open(&directory).unwrap();
        Flock::lock(directory, FlockArg::LockExclusive).unwrap()
    };
    let locked = lock();
    let server = world.spawn("unix", &["--path", text(&path)]);
    holds("it waits", Duration::from_millis(300), || {
        path.symlink_metadata().is_err() && server.try_wait().is_none()
    });
    drop(locked);
    ask(&server.address(), "pid");
    stop(&server);
    // Not for ever, and it starts then: see a_directory_that_cannot_be_locked_is_a_warning.
    let _locked = lock();
    let server = world.spawn("unix", &["--path", text(&path)]);
    ask(&server.address(), "pid");
    stop(&server);
}

/// Of fifty that start at once on one path, with a stale file in the way, exactly one wins.
///
/// Without the question whether somebody listens there (`try_connect` in `remove_stale`) all fifty
/// run.
fn j05_fifty_at_once_on_one_path(world: &mut World) {
    let path = world.tempdir().join("socket");
    // A stale file is in their way, which each of them wants to replace.
    drop(UnixListener::bind(&path).unwrap());
    let servers: Vec<Server> = (0..50)
        .map(|_| world.spawn("unix", &["--path", text(&path)]))
        .collect();
    let winner = until("all but one to give up", SOON, || {
        let mut running = servers.iter().filter(|server| server.try_wait().is_none());
        running.next().filter(|_| running.next().is_none())
    });
    ask(&winner.address(), "pid");
    stop(winner);
    let codes = servers.iter().map(|server| server.wait(SOON).code());
    assert_eq!(codes.filter(|code| *code == Some(0)).count(), 1);
}

// Connections.

fn read_timeout_is_the_handlers_to_set(world: &mut World) {
    let server = world.spawn("tcp", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("patience 50"), "TimedOut");
    assert_eq!(client.ask("patience 1"), "TimedOut");
    // It is off again.
    assert!(client.is_silent(Duration::from_millis(100)));
    client.ask("pid");
    // One that the handler returns is the client's, and no news.
    client.ask("time-out");
    client.eof();
    stop(&server);
    assert_eq!(server.stderr(), "");
}

/// A client that reads nothing: with the timeout ignored the handler waited for ever.
fn write_timeout_is_the_handlers_to_set(world: &mut World) {
    let path = world.tempdir().join("socket");
    let servers = [
        world.spawn("tcp", &[]),
        world.spawn("unix", &["--path", &path.to_string_lossy()]),
    ];
    for (server, patience) in servers.iter().zip([50, 1]) {
        let mut client = connect(&server.address());
        client.send_line(&format!("flood {patience}"));
        let flooded = |text: &str| text.contains(" STDERR: flooded\n");
        server.expect_stderr("the timeout", flooded);
        // It is off again: what is said last waits until there is room for it.
        client.close_write();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let flood = all.iter().take_while(|&&byte| byte == b'x').count();
        assert_eq!(String::from_utf8_lossy(&all[flood..]), "\nTimedOut\n");
        drop(client);
        stop(server);
    }
}

/// Without the last two lines of `Stream::block` the TCP stream gives up with `WouldBlock`.
fn parts_wait_for_as_long_as_it_takes(world: &mut World) {
    let path = world.tempdir().join("socket");
    let servers = [
        world.spawn("tcp", &[]),
        world.spawn("unix", &["--path", &path.to_string_lossy()]),
    ];
    for server in servers {
        let mut client = connect(&server.address());
        assert_eq!(client.ask("parts"), "in parts");
        assert!(client.is_silent(Duration::from_millis(200)));
        assert_eq!(client.ask("x"), "x");
        client.eof();
        stop(&server);
        assert_eq!(server.stderr(), "");
    }
}

fn acker_speaks_for_a_thread_that_works(world: &mut World) {
    let server = world.spawn("tcp", &["--timeout", "1000"]);
    let address = server.address();
    // Two checks of the timeout fall into that time.
    assert_eq!(ask(&address, "work 3200"), "blocking: true");
    stop(&server);
    assert!(!server.stdout().contains("TimedOut"), "{}", server.stdout());
}

fn client_that_resets_is_no_news(world: &mut World) {
    let arguments = ["--children", "1", "--max-clients", "1"];
    let server = world.spawn("tcp", &arguments);
    let address = server.address();
    for order in ["reset", "pid"] {
        let mut client = connect(&address);
        client.send_line(order);
        client.read_exact(&mut [0]).unwrap();
        client.reset();
    }
    let pid = ask(&address, "pid");
    assert_eq!(server.children(), [pid.parse::<u32>().unwrap()]);
    stop(&server);
    assert_eq!(server.stderr(), "");
}

fn error_of_a_handler_is_printed(world: &mut World) {
    let server = world.spawn("tcp", &["--children", "1", "--max-clients", "1"]);
    let address = server.address();
    let mut client = connect(&address);
    let pid = client.ask("pid");
    client.send_line("fail");
    client.eof();
    let error = format!("{pid} STDERR: connection failed: on purpose\n");
    server.expect_stderr("the error", |text| text == error);
    assert_eq!(ask(&address, "pid"), pid);
    stop(&server);
}

/// A child that has no descriptor or memory for a connection says so once, pauses for 10 ms,
/// doubling to 1 s, and tries again; it neither spins nor ends.
fn d01_shortage_of_descriptors_is_sat_out(world: &mut World) {
    // Without the pause (`sit_out` in the accept loop) the child used 240 ms of a second, and more.
    let path = world.tempdir().join("relief");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let arguments = [
        "--children",
        "1",
        "--max-clients",
        "1",
        "--starve",
        text(&path),
    ];
    let server = world.spawn("tcp", &arguments);
    let mut relief = File::options().write(true).open(&path).unwrap();
    let address = server.address();
    let child = server.expect_children(1)[0];
    let mut client = connect(&address);
    client.send_line("pid");
    let complaints = |text: &str| text.matches("cannot accept for now").count();
    server.expect_stderr("the complaint", |text| complaints(text) == 1);
    let before = cpu_time(child);
    holds("it complains once", Duration::from_secs(1), || {
        complaints(&server.stderr()) == 1
    });
    let spent = cpu_time(child) - before;
    assert!(spent < Duration::from_millis(60), "{spent:?} in a second");
    relief.write_all(b"!").unwrap();
    assert_eq!(client.read_line(), child.to_string());
    drop(client);
    assert_eq!(ask(&address, "pid"), child.to_string());
    stop(&server);
}

/// The processor time that `pid` has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
    // A tick is a hundredth of a second wherever /proc is read.
    Duration::from_millis((ticks() + ticks()) * 10)
}

/// When a child has shut down the socket that all share, its siblings leave with a code of their
/// own, the parent finds the socket dead and shuts down: the clients in hand are served, and `run`
/// returns.
fn d07_lost_listener_ends_the_server(world: &mut World) {
    // Without `lost` of the stock servers the parent would fork children that die at once, for
    // ever.
    let server = world.spawn("tcp", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("shut"), "shut");
    server.expect_stderr("the reason", |text| {
        text.contains("the server has ended: a listening socket has been shut down")
    });
    // The client in hand is served to its end.
    client.ask("pid");
    drop(client);
    assert!(server.wait(SOON).success());
}
