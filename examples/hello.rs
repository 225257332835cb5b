//! A small HTTP/1.1 server that says which child has answered, and how many requests that child has
//! answered before.
//!
//! cargo run --release --example hello
//! curl http://127.0.0.1:8080/
//!
//! As root, on a port for which that is needed, with children that are somebody else:
//!
//! hello --port 80 --user nobody --chroot /var/empty
//!
//! Requests that take half a second, and answers of 503 to clients that have waited for more than
//! one:
//!
//! hello --work 0.5 --max-queue-age 1
//!
//! The same answers while all children are busy for long, from a child that is kept for that:
//!
//! hello --work 5 --max-queue-age 1 --reserved-shedder

mod common;
#[path = "common/http.rs"]
mod http;

use common::{Flags, Result, Usage};
use http::{Answer, Request, Requests, is_asked, linger};
use prefork_server::{
    Confinement, TcpServer,
    servers::{EndpointLoad, Reply, TcpConn, has_listen_fds},
};
use std::{ffi::OsString, io, process::ExitCode, thread, time::Duration};

/// How long a client may be idle between two requests, and how long each may take, and its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a request may take to come while all children are busy and others wait, from the moment at
/// which the client has connected; and the least that it gets then. While it was queued it had the
/// time to send its request.
const PATIENCE_WHEN_CROWDED: Duration = Duration::from_millis(400);
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

/// When a client that is not served is to come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const ABOUT: &str = "A small HTTP server that says which child has answered.";

const OWN_FLAGS: &str =
    "  --user USER              children are this user, by name or number, without groups
  --group GROUP            and of this group, not of the user's own
  --chroot PATH            children see this directory as the root of all paths
  --work SECONDS           how long each request takes (0)
  --max-queue-age SECONDS  clients that have waited for longer get a 503, 0 for no limit (0)
  --reserved-shedder       keep one child that only answers those, for when all others are busy
  --pre-stop-delay SECONDS how long all goes on after a signal to stop (0)
  --access-log PATH        write a line for each connection there, - for stdout
  --endpoint-load          tell a balancer how loaded this server is (ORCA), with each answer
";

/// Answers requests until the client has no more, or this child was told to stop.
fn serve(answered: &mut u64, conn: TcpConn, work: Duration, tells_load: bool) -> io::Result<()> {
    let mut requests = Requests::new(&conn);
    let queued = conn.queued_for().unwrap_or_default();
    let mut patience = PATIENCE_WHEN_CROWDED.saturating_sub(queued);
    loop {
        conn.set_deadline_when_crowded(Some(patience.max(LEAST_PATIENCE)));
        patience = PATIENCE_WHEN_CROWDED;
        if !is_asked(&conn, requests.has_unread(), PATIENCE)? {
            break;
        }
        let Some(request) = requests.next_request()? else {
            linger(&conn);
            break;
        };
        conn.set_deadline_when_crowded(None);
        *answered += 1;
        thread::sleep(work);
        conn.set_deadline(Some(PATIENCE));
        let keep = !conn.shutdown_requested() && !conn.is_crowded();
        let mut answer = answer(&request, *answered);
        if tells_load {
            let load = conn.endpoint_load();
            let field = format!("{}: {load}\r\n", EndpointLoad::HEADER);
            answer.fields.to_mut().push_str(&field);
        }
        conn.describe(&request.described(&answer));
        requests.answer(&request, &answer, keep)?;
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
            fields: "Allow: GET, HEAD\r\n".into(),
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

/// The time that a flag names, which is taken from the command line; zero without it.
fn take_time(args: &mut Vec<OsString>, flag: &str) -> Result<Duration> {
    let Some(value) = common::take_value(args, flag)? else {
        return Ok(Duration::ZERO);
    };
    let seconds = value.to_string_lossy().parse()?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let confinement = confinement(&mut args)?;
    let work = take_time(&mut args, "--work")?;
    let max_queue_age = take_time(&mut args, "--max-queue-age")?;
    let pre_stop_delay = take_time(&mut args, "--pre-stop-delay")?;
    let reserved_shedder = common::take_flag(&mut args, "--reserved-shedder");
    let access_log = common::take_access_log(&mut args)?;
    let tells_load = common::take_flag(&mut args, "--endpoint-load");
    let usage = Usage {
        own_flags: OWN_FLAGS,
        ..Usage::new(ABOUT, 8080)
    };
    let flags = Flags::parse_from(&usage, args)?;
    let server = TcpServer::per_child(|| Ok(0))
        .serve(move |answered, conn| serve(answered, conn, work, tells_load))
        .queue_time(true)
        .max_queue_age(max_queue_age)
        .overloaded(Reply::http_503(RETRY_AFTER).into_hook())
        .max_requests(flags.max_requests);
    // A socket unit has opened it, or we do.
    let server = match has_listen_fds() {
        true => server.listen_fds(),
        false => server.address(&flags.address).port(flags.port),
    };
    let server = match access_log {
        Some(log) => server.access_log(log),
        None => server,
    };
    let builder = flags
        .builder(server)
        .confinement(confinement)
        .pre_stop_delay(pre_stop_delay)
        .reserved_shedder(reserved_shedder);
    let prefork = builder.start()?;
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
