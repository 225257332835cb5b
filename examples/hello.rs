//! A small HTTP/1.1 server that says which child has answered, and how many requests that child has
//! answered before.
//!
//! cargo run --release --example hello
//! curl http://127.0.0.1:8080/
//!
//! As root, on a port for which that is needed, with children that are somebody else:
//!
//! hello --port 80 --user nobody --chroot /var/empty

mod common;
#[path = "common/http.rs"]
mod http;

use common::{Flags, Result, Usage};
use http::{Answer, Request, Requests, is_asked, linger};
use prefork_server::{Confinement, TcpServer, servers::TcpConn};
use std::{ffi::OsString, io, time::Duration};

/// How long a client may be idle between two requests, and how long each may take with its answer.
const PATIENCE: Duration = Duration::from_secs(5);

const ABOUT: &str = "A small HTTP server that says which child has answered.";

const OWN_FLAGS: &str =
    "  --user USER              children are this user, by name or number, without groups
  --group GROUP            and of this group, not of the user's own
  --chroot PATH            children see this directory as the root of all paths
";

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

/// What the command line asks for; the flags are taken from it.
fn confinement(args: &mut Vec<OsString>) -> Result<Confinement> {
    let mut confinement = Confinement::new();
    if let Some(user) = common::take_value(args, "--user")? {
        confinement = confinement.user(user.to_string_lossy()).no_new_privs();
    }
    if let Some(group) = common::take_value(args, "--group")? {
        confinement = confinement.group(group.to_string_lossy());
    }
    if let Some(path) = common::take_value(args, "--chroot")? {
        confinement = confinement.chroot(path);
    }
    Ok(confinement)
}

fn main() -> Result {
    common::init_log();
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let confinement = confinement(&mut args)?;
    let usage = Usage {
        own_flags: OWN_FLAGS,
        ..Usage::new(ABOUT, 8080)
    };
    let flags = Flags::parse_from(&usage, args)?;
    let server = TcpServer::per_child(|| Ok(0))
        .serve(serve)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let prefork = flags.builder(server).confinement(confinement).start()?;
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
