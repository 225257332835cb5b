//! A small HTTP/1.1 server that says which child has answered, and how many requests that child has
//! answered before.
//!
//! cargo run --release --example hello
//! curl http://127.0.0.1:8080/

mod common;
#[path = "common/http.rs"]
mod http;

use common::{Flags, Result, Usage};
use http::{Answer, Request, Requests, is_asked, linger};
use prefork_server::{TcpServer, servers::TcpConn};
use std::{io, time::Duration};

/// How long a client may be idle between two requests, and how long each may take with its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers requests until the client has no more, or this child was told to stop.
fn serve(answered: &mut u64, conn: TcpConn) -> io::Result<()> {
    let mut requests = Requests::new(&conn);
    while is_asked(&conn, requests.has_unread(), PATIENCE)? {
        let Some(request) = requests.next_request()? else {
            linger(&conn);
            break;
        };
        *answered += 1;
        let keep = !conn.shutdown_requested();
        requests.answer(&request, &answer(&request, *answered), keep)?;
        if !(keep && request.keep_alive) {
            linger(&conn);
            break;
        }
    }
    Ok(())
}

fn answer(request: &Request, answered: u64) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => {
            let pid = std::process::id();
            let text = format!("Hello from child {pid}, which has answered {answered}.\n");
            Answer::new(http::OK, text)
        }
        ("GET" | "HEAD", _) => Answer::new(http::NOT_FOUND, "There is only / here.\n".to_owned()),
        _ => Answer {
            fields: "Allow: GET, HEAD\r\n",
            ..Answer::new(
                http::METHOD_NOT_ALLOWED,
                "Only GET and HEAD, please.\n".to_owned(),
            )
        },
    }
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
