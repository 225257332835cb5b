//! The program: a server that tells its clients who they are.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::servers::conn::{ConnClass, Session};
use prefork_server::servers::proxy::{Proxied, ProxyProtocol};
use prefork_server::servers::{Cidr, Conn, Listener, Stream, StreamServer};
use prefork_server::{Error, Event, Monitor, Observer, PreFork, TcpServer, UnixServer};

use crate::support::{Args, Programs, programs};

pub const PROGRAMS: Programs = programs![behind];

/// Serves behind the proxies that the arguments trust.
fn behind(args: Args) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Debug)
        .init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    if let Some(path) = args.value("--path") {
        let server = match args.has("--class") {
            true => UnixServer::conn_class(path, || Classy),
            false => UnixServer::new(path, |conn| answer(&conn, "-")),
        };
        return serve(args, server);
    }
    let server = match args.has("--class") {
        true => TcpServer::conn_class(|| Classy),
        false => TcpServer::new(|conn| {
            let ends = format!("{} {}", conn.peer_addr()?, conn.local_addr()?);
            answer(&conn, &ends)
        }),
    };
    let address = args.value("--address").unwrap_or("127.0.0.1");
    serve(args, server.address(address))
}

fn serve<L>(args: &Args, server: StreamServer<L>) -> Result<(), Error>
where
    L: Listener<Stream: Stream>,
{
    let server = server.max_requests(args.parsed("--max-requests").unwrap_or(0));
    let server = match args.has("--off") {
        true => server,
        false => server.proxy_protocol(protocol(args)),
    };
    let timeout = args.parsed("--timeout").unwrap_or(0);
    let children = args.parsed("--children").unwrap_or(1);
    let mut prefork = PreFork::builder(server)
        .observe(Announced)
        .start_servers(children)
        .max_clients(children)
        .timeout(Duration::from_millis(timeout))
        .start()?;
    prefork.run()?;
    println!("{}", prefork.server().header_refusals());
    Ok(())
}

fn protocol(args: &Args) -> ProxyProtocol {
    let protocol = networks(args, "--trust")
        .into_iter()
        .fold(ProxyProtocol::new(), ProxyProtocol::trust);
    let protocol = networks(args, "--direct")
        .into_iter()
        .fold(protocol, ProxyProtocol::direct);
    let protocol = match args.has("--trust-unix-peers") {
        true => protocol.trust_unix_peers(),
        false => protocol,
    };
    let time = args.parsed("--header-timeout").unwrap_or(30_000);
    protocol.timeout(Duration::from_millis(time))
}

fn networks(args: &Args, option: &str) -> Vec<Cidr> {
    let list = args.value(option).unwrap_or("");
    let networks = list.split(',').filter(|network| !network.is_empty());
    networks.map(|network| network.parse().unwrap()).collect()
}

/// Says where the server listens, as the scenarios expect it.
struct Announced;

impl Observer for Announced {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if let Event::ListenerOpened { name, .. } = event {
            println!("listening on {name}");
        }
    }
}

/// Answers each line; what is no question is sent back.
fn answer<S: Stream>(conn: &Conn<S>, ends: &str) -> io::Result<()>
where
    for<'a> &'a Conn<S>: Read + Write,
{
    let mut reader = BufReader::new(conn);
    let mut output = conn;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        match &line[..] {
            b"pid\n" => writeln!(output, "{}", std::process::id())?,
            b"ends\n" => writeln!(output, "{ends}")?,
            b"proxied\n" => writeln!(output, "{}", in_words(conn.proxied()))?,
            b"number\n" => writeln!(output, "{}", conn.requests_handled())?,
            other => output.write_all(other)?,
        }
        line.clear();
    }
    Ok(())
}

/// An object for each connection, which does the same.
struct Classy;

impl ConnClass for Classy {
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        let answer = match input {
            b"ends" => [session.remote_address(), session.local_address()]
                .map(of)
                .join(" "),
            b"proxied" => in_words(session.proxied()),
            other => String::from_utf8_lossy(other).into_owned(),
        };
        session.put(answer);
    }
}

fn of(address: Option<SocketAddr>) -> String {
    address.map_or("-".to_owned(), |address| address.to_string())
}

fn in_words(proxied: Option<&Proxied>) -> String {
    let Some(proxied) = proxied else {
        return "direct".to_owned();
    };
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or("-".to_owned(), |bytes| {
            String::from_utf8_lossy(bytes).into_owned()
        })
    };
    let tls = proxied.tls().map(|tls| {
        let version = tls.version.unwrap_or_default();
        format!("{version} verified={}", tls.is_verified)
    });
    format!(
        "v{} local={} proxy={} from={} to={} authority={} alpn={} id={} tls={} 0xEA={}",
        proxied.version(),
        proxied.is_local(),
        of(proxied.proxy_addr()),
        of(proxied.source()),
        of(proxied.destination()),
        proxied.authority().unwrap_or("-"),
        text(proxied.alpn()),
        text(proxied.unique_id()),
        tls.unwrap_or("-".to_owned()),
        text(proxied.tlv(0xEA)),
    )
}
