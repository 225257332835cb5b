//! A small HTTP/1.1 server that says which child has answered, and how many requests that child has
//! answered before.
//!
//! cargo run --release --example hello
//! curl http://127.0.0.1:8080/

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{TcpServer, servers::TcpConn};
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    time::Duration,
};

/// How large the head of a request may be.
const HEAD: usize = 8 * 1024;
/// How long a client may take for the next request on a connection that is kept open.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of a request matters here.
struct Request {
    method: String,
    path: String,
    keep_alive: bool,
    /// Bytes of a body that follow the head.
    body: u64,
    chunked: bool,
}

/// Answers requests until the client has no more, or this child was told to stop.
fn serve(answered: &mut u64, conn: TcpConn) -> io::Result<()> {
    conn.set_read_timeout(Some(PATIENCE));
    let mut buffer = Vec::new();
    loop {
        let request = match read_head(&conn, &mut buffer)? {
            Head::End => return Ok(()),
            Head::Bad(status) => {
                respond(&conn, status, "bad request\n", false, false)?;
                return linger(&conn);
            }
            Head::Request(request) => request,
        };
        *answered += 1;
        let drained = !request.chunked && skip_body(&conn, &mut buffer, request.body)?;
        let keep_alive = request.keep_alive && drained && !conn.shutdown_requested();
        let (status, text) = answer(&request, *answered);
        let head_only = request.method == "HEAD";
        respond(&conn, status, &text, keep_alive, head_only)?;
        if !keep_alive {
            return linger(&conn);
        }
    }
}

fn answer(request: &Request, answered: u64) -> (&'static str, String) {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => {
            let pid = std::process::id();
            (
                "200 OK",
                format!("Hello from child {pid}, which has answered {answered}.\n"),
            )
        }
        ("GET" | "HEAD", _) => ("404 Not Found", "There is only / here.\n".to_owned()),
        _ => (
            "405 Method Not Allowed",
            "Only GET and HEAD, please.\n".to_owned(),
        ),
    }
}

enum Head {
    Request(Request),
    /// The client has closed, between two requests.
    End,
    Bad(&'static str),
}

/// Reads up to the end of a head and takes it out of the buffer.
fn read_head(mut conn: &TcpConn, buffer: &mut Vec<u8>) -> io::Result<Head> {
    loop {
        match parse_head(buffer) {
            Ok(Some((request, length))) => {
                buffer.drain(..length);
                return Ok(Head::Request(request));
            }
            Ok(None) if buffer.len() >= HEAD => {
                return Ok(Head::Bad("431 Request Header Fields Too Large"));
            }
            Ok(None) => {}
            Err(_) => return Ok(Head::Bad("400 Bad Request")),
        }
        let mut chunk = [0; 4096];
        match conn.read(&mut chunk)? {
            0 if buffer.is_empty() => return Ok(Head::End),
            0 => return Ok(Head::Bad("400 Bad Request")),
            count => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The request in `bytes` and the length of its head, if it is complete.
fn parse_head(bytes: &[u8]) -> std::result::Result<Option<(Request, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(bytes)? else {
        return Ok(None);
    };
    let value = |name: &str| {
        let header = parsed
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        header
            .and_then(|header| std::str::from_utf8(header.value).ok())
            .unwrap_or("")
    };
    let connection = value("connection");
    let keep_alive = match parsed.version {
        Some(1) => !connection.eq_ignore_ascii_case("close"),
        _ => connection.eq_ignore_ascii_case("keep-alive"),
    };
    let body = match value("content-length") {
        "" => 0,
        length => length.parse().map_err(|_| httparse::Error::HeaderValue)?,
    };
    let request = Request {
        method: parsed.method.unwrap_or("").to_owned(),
        path: parsed.path.unwrap_or("").to_owned(),
        keep_alive,
        body,
        chunked: !value("transfer-encoding").is_empty(),
    };
    Ok(Some((request, length)))
}

/// Passes over a body of `length` bytes. False if it is too long for that.
fn skip_body(mut conn: &TcpConn, buffer: &mut Vec<u8>, length: u64) -> io::Result<bool> {
    const LONGEST: u64 = 1024 * 1024;
    let buffered = length.min(buffer.len() as u64);
    // OK because it is no more than the length of the buffer.
    buffer.drain(..buffered as usize);
    if length > LONGEST {
        return Ok(false);
    }
    let skipped = io::copy(
        &mut Read::by_ref(&mut conn).take(length - buffered),
        &mut io::sink(),
    )?;
    Ok(skipped == length - buffered)
}

fn respond(
    mut conn: &TcpConn,
    status: &str,
    text: &str,
    keep_alive: bool,
    head_only: bool,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let body = if head_only { "" } else { text };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        text.len(),
    );
    conn.write_all(response.as_bytes())
}

/// Lets the client read the answer before the connection goes: closing it with bytes unread would
/// reset it.
fn linger(mut conn: &TcpConn) -> io::Result<()> {
    conn.shutdown(Shutdown::Write)?;
    conn.set_read_timeout(Some(Duration::from_millis(200)));
    let mut sink = [0; 4096];
    for _ in 0..16 {
        if !matches!(conn.read(&mut sink), Ok(count) if count > 0) {
            break;
        }
    }
    Ok(())
}

fn main() -> Result {
    common::init_log();
    let about = "A small HTTP server that says which child has answered.";
    let flags = Flags::parse(&Usage::new(about, 8080))?;
    let server = TcpServer::per_child(|| Ok(0))
        .serve(serve)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let prefork = flags.builder(server).start()?;
    let addresses: Vec<_> = prefork
        .server()
        .local_addrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    let hint = addresses
        .first()
        .map(|address| format!("try: curl http://{address}/"));
    common::run(prefork, &addresses, &hint.unwrap_or_default())
}
