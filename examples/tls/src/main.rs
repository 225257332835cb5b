//! TLS: rustls over a connection of a stock server, which keeps sending ACKs however slow the
//! client is, even during the handshake.
//!
//! cargo run --release -p tls-example
//! curl -k https://127.0.0.1:8443/
//!
//! The certificate and the rest of the configuration are made once, in the parent: the children share
//! them by copy-on-write. Without --cert and --key, PEM files both, it signs one itself.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../common/http.rs"]
mod http;

use common::{Flags, Result, Usage};
use http::{Answer, Request, Requests, is_asked, linger};
use prefork_server::{TcpServer, servers::TcpConn};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

const ABOUT: &str = "HTTP over TLS: says which child has answered, and in what TLS.";
const OWN_FLAGS: &str = "  --cert FILE              the certificate, in PEM; without it one is made
  --key FILE               its key, in PEM
  --access-log PATH        write a line for each connection there, - for stdout
";
/// How long a client may be silent, before the handshake and before its request, and how long it may take for
/// each of them.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may still take for its request when its idle time is over.
const UNDER_WAY: Duration = Duration::from_millis(50);

type Tls = StreamOwned<ServerConnection, TcpConn>;

/// Answers one request.
fn serve(config: &Arc<ServerConfig>, conn: TcpConn) -> io::Result<()> {
    if !is_asked(&conn, false, PATIENCE)? {
        return Ok(());
    }
    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(session, conn);
    tls.conn.complete_io(&mut tls.sock)?;
    give_time(&tls)?;
    let mut requests = Requests::new(&mut tls);
    if let Some(request) = in_time(requests.next_request())? {
        let answer = Answer::new(http::OK, greeting(&requests.conn().conn));
        let conn = &requests.conn().sock;
        conn.describe(&request.described(&answer));
        requests.answer(&request, &answer, false)?;
    }
    tls.sock.set_deadline(Some(PATIENCE));
    tls.conn.send_close_notify();
    tls.flush()?;
    linger(&tls.sock);
    Ok(())
}

/// Waits for the request, which may have come with the end of the handshake. A client that was in
/// the handshake when the child was told to stop will send its request now.
fn give_time(tls: &Tls) -> io::Result<()> {
    let read = !tls.conn.wants_read();
    if !is_asked(&tls.sock, read, PATIENCE)? {
        tls.sock.set_deadline(Some(UNDER_WAY));
    }
    Ok(())
}

/// No request, if it has not come in time.
fn in_time(request: io::Result<Option<Request>>) -> io::Result<Option<Request>> {
    match request {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
        other => other,
    }
}

fn greeting(session: &ServerConnection) -> String {
    let version = session.protocol_version();
    let version = version.and_then(|version| version.as_str());
    let suite = session.negotiated_cipher_suite();
    let suite = suite.and_then(|suite| suite.suite().as_str());
    format!(
        "Hello from child {}, in {} with {}.\n",
        std::process::id(),
        version.unwrap_or("TLS"),
        suite.unwrap_or("some cipher"),
    )
}

/// Takes `--cert` and `--key`, which go together.
fn take_files(args: &mut Vec<OsString>) -> Result<Option<[PathBuf; 2]>> {
    let cert = common::take_value(args, "--cert")?;
    let key = common::take_value(args, "--key")?;
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some([cert.into(), key.into()])),
        (None, None) => Ok(None),
        _ => Err(io::Error::other("--cert and --key go together").into()),
    }
}

fn config(files: Option<[PathBuf; 2]>) -> Result<ServerConfig> {
    let (chain, key) = match files {
        Some(files) => load(&files)?,
        None => sign()?,
    };
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(config)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn load([cert, key]: &[PathBuf; 2]) -> Result<Identity> {
    let named = |file: &PathBuf, error: pem::Error| {
        io::Error::other(format!("{}: {error}", file.display()))
    };
    let chain: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|error| named(cert, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, error))?;
    Ok((chain, private))
}

/// A self-signed certificate.
fn sign() -> Result<Identity> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok((vec![made.cert.into()], made.signing_key.into()))
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let files = take_files(&mut args)?;
    let access_log = common::take_access_log(&mut args)?;
    let usage = Usage {
        own_flags: OWN_FLAGS,
        ..Usage::new(ABOUT, 8443)
    };
    let flags = Flags::parse_from(&usage, args)?;
    let config = Arc::new(config(files)?);
    let server = TcpServer::new(move |conn| serve(&config, conn))
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let server = match access_log {
        Some(log) => server.access_log(log),
        None => server,
    };
    let prefork = flags.builder(server).start()?;
    let addresses = prefork.server().local_addrs();
    let first = addresses
        .first()
        .ok_or_else(|| io::Error::other("no address"))?;
    let hint = format!("try: curl -k https://{first}/");
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint)
}
