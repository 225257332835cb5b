//! Shows why a server preforks: the handler calls C code, which may crash or hang, and only the
//! client that asked for it is affected.
//!
//! cargo run --release --example crash
//! curl http://127.0.0.1:8081/segv
//! Other paths: /abort, /exit, /spin, /leak; / always works.
//!
//! A child that is stuck in /spin is silent, and is ended by `--timeout` (2 s). `--busy-timeout`
//! bounds every connection, also one whose child is not silent.

mod common;
#[path = "common/http.rs"]
mod http;

use common::{Flags, Result, Usage};
use http::{Answer, Requests, is_asked, linger};
use nix::libc;
use prefork_server::{TcpServer, servers::TcpConn};
use std::{ffi::OsString, io, process::ExitCode, time::Duration};

/// How long a client may be silent, and how long it may then take for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a child may be stuck, unless a flag says otherwise.
const TIMEOUT: Duration = Duration::from_secs(2);

const OWN_FLAGS: &str = "\
  --busy-timeout SECONDS   how long a connection may take in all, 0 for ever (0)
  --start-timeout SECONDS  how long a child may take to start, 0 for ever (0)
";

/// A C library with many faults.
#[allow(unsafe_code)]
mod library {
    use super::libc;

    const LEAK: usize = 16 * 1024 * 1024;

    /// Takes the length of a string at a bad address.
    pub(super) fn segv() -> usize {
        let bad = std::hint::black_box(8 as *const libc::c_char);
        // SAFETY: none, on purpose: this is the fault that other processes survive.
        unsafe { libc::strlen(bad) }
    }

    /// Aborts, as on a damaged heap.
    pub(super) fn abort() -> ! {
        // SAFETY: abort has no preconditions.
        unsafe { libc::abort() }
    }

    /// Ends the process, as some libraries do when a licence has expired.
    pub(super) fn exit() -> ! {
        // SAFETY: a child has one thread, so nobody uses what the exit handlers tear down.
        unsafe { libc::exit(3) }
    }

    /// Never returns.
    pub(super) fn spin() -> ! {
        loop {
            // SAFETY: getppid has no preconditions.
            std::hint::black_box(unsafe { libc::getppid() });
        }
    }

    /// Leaks memory that it has used. Returns how much, in bytes.
    pub(super) fn leak() -> usize {
        // SAFETY: malloc has no preconditions.
        let memory = unsafe { libc::malloc(LEAK) };
        if memory.is_null() {
            return 0;
        }
        // SAFETY: the block is as long as that, and nobody else knows it.
        unsafe { libc::memset(memory, 1, LEAK) };
        LEAK
    }
}

/// Answers one request.
fn serve(leaked: &mut usize, conn: TcpConn) -> io::Result<()> {
    if !is_asked(&conn, false, PATIENCE)? {
        return Ok(());
    }
    let mut requests = Requests::new(&conn);
    if let Some(request) = requests.next_request()? {
        let answer = answer(leaked, &request.path);
        requests.answer(&request, &answer, false)?;
    }
    linger(&conn);
    Ok(())
}

fn answer(leaked: &mut usize, path: &str) -> Answer {
    let pid = std::process::id();
    let text = match path {
        "/" => format!("Child {pid} is well.\n"),
        "/segv" => format!("The string has {} bytes.\n", library::segv()),
        "/abort" => library::abort(),
        "/exit" => library::exit(),
        "/spin" => library::spin(),
        "/leak" => {
            *leaked += library::leak();
            format!("Child {pid} has leaked {} MiB.\n", *leaked >> 20)
        }
        _ => {
            let text = "There are /, /segv, /abort, /exit, /spin and /leak.\n";
            return Answer::new(http::NOT_FOUND, text.to_owned());
        }
    };
    Answer::new(http::OK, text)
}

/// A time of the example's own from the command line; zero if it is not there.
fn seconds(args: &mut Vec<OsString>, flag: &str) -> Result<Duration> {
    let Some(value) = common::take_value(args, flag)? else {
        return Ok(Duration::ZERO);
    };
    Ok(Duration::try_from_secs_f64(
        value.to_string_lossy().parse()?,
    )?)
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let about = "A handler that crashes: asked for /segv, /abort, /exit, /spin or /leak.";
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let busy_timeout = seconds(&mut args, "--busy-timeout")?;
    let start_timeout = seconds(&mut args, "--start-timeout")?;
    let usage = Usage {
        timeout: TIMEOUT,
        own_flags: OWN_FLAGS,
        ..Usage::new(about, 8081)
    };
    let flags = Flags::parse_from(&usage, args)?;
    let server = TcpServer::per_child(|| Ok(0))
        .serve(serve)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let builder = flags
        .builder(server)
        .busy_timeout(busy_timeout)
        .start_timeout(start_timeout)
        .kill_timeout(Duration::from_secs(1));
    let prefork = builder.start()?;
    let addresses = prefork.server().local_addrs();
    let first = addresses
        .first()
        .ok_or_else(|| std::io::Error::other("no address"))?;
    let hint = format!("try: curl http://{first}/ and http://{first}/segv");
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint)
}
