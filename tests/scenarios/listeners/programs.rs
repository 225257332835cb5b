//! The programs with listeners of each kind, one of them from outside of the library. Judges nothing.

use super::*;

pub(super) fn listeners_tcp(args: Args) -> ExitCode {
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

pub(super) fn listeners_unix(args: Args) -> ExitCode {
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
        .observe(Teller)
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

/// Tells of upgrades.
struct Teller;

impl Observer for Teller {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        match event {
            Event::Upgraded { .. } => println!("upgraded"),
            Event::UpgradeFailed { .. } => println!("upgrade failed"),
            _ => {}
        }
    }
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
    file: Option<SocketFile>,
}

impl Listener for SeqPacket {
    type Stream = Packets;

    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>> {
        let socket = seqpacket_socket()?;
        bind(socket.as_raw_fd(), &UnixAddr::new(&self.path)?)?;
        self.file = Some(SocketFile::bound(&self.path, &socket)?);
        listen(&socket, Backlog::new(backlog)?)?;
        Ok(vec![socket])
    }

    fn fits(&self, socket: BorrowedFd<'_>) -> bool {
        getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket)
            && getsockname::<UnixAddr>(socket.as_raw_fd()).is_ok()
    }

    fn takes_over(&self, socket: BorrowedFd<'_>) -> bool {
        let address = getsockname::<UnixAddr>(socket.as_raw_fd());
        self.fits(socket) && address.is_ok_and(|it| it.path() == Some(&self.path))
    }

    fn adopt(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.file = SocketFile::of(socket);
        Ok(())
    }

    fn name(&self, _: BorrowedFd<'_>) -> String {
        self.path.display().to_string()
    }

    fn clean_up(&mut self) {
        self.file = None;
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

pub(super) fn seqpacket_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Answers each packet with one that has the child's pid before it.
pub(super) fn listeners_seqpacket(args: Args) -> ExitCode {
    log_warnings();
    let path = args.value("--path").unwrap().into();
    let kind = SeqPacket { path, file: None };
    let server = StreamServer::on(kind, |mut conn| {
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
pub(super) fn listeners_fastcgi(_: Args) -> ExitCode {
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

pub(super) fn listeners_worker(_: Args) -> ExitCode {
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let listener = TcpListener::from(socket);
    loop {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"from stdin\n").unwrap();
    }
}
