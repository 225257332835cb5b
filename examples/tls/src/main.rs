//! TLS: rustls over a connection of a stock server, which goes on sending ACKs however slow the
//! client is, be it in the midst of the handshake.
//!
//! cargo run --release -p tls-example
//! curl -k https://127.0.0.1:8443/
//!
//! The certificate and the rest of the configuration are made once, in the parent: the children share
//! them by copy-on-write. Without --cert and --key, PEM files both, it signs one itself.

#[path = "../../common/mod.rs"]
mod common;

use common::{Flags, Result, Usage};

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
    io::{self, Read, Write},
    net::Shutdown,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

const ABOUT: &str = "HTTP over TLS: says which child has answered, and in what TLS.
Takes --cert FILE and --key FILE too, both in PEM; without them it makes a certificate of its own.";
/// How large the head of a request may be.
const HEAD: usize = 8 * 1024;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

type Tls = StreamOwned<ServerConnection, TcpConn>;

/// Answers one request.
fn serve(config: &Arc<ServerConfig>, conn: TcpConn) -> io::Result<()> {
    conn.set_read_timeout(Some(PATIENCE));
    conn.set_write_timeout(Some(PATIENCE));
    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(session, conn);
    // The first read does the handshake.
    let (status, text) = if read_request(&mut tls)? {
        ("200 OK", answer(&tls.conn))
    } else {
        ("400 Bad Request", "That is no request.\n".to_owned())
    };
    write!(
        tls,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )?;
    tls.conn.send_close_notify();
    tls.flush()?;
    linger(&tls.sock)
}

fn answer(session: &ServerConnection) -> String {
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

/// Reads the head of a request. False if it is none.
fn read_request(tls: &mut Tls) -> io::Result<bool> {
    let mut buffer = Vec::new();
    let mut chunk = [0; 1024];
    while buffer.len() < HEAD {
        let count = tls.read(&mut chunk)?;
        buffer.extend_from_slice(&chunk[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        match httparse::Request::new(&mut headers).parse(&buffer) {
            Ok(httparse::Status::Complete(_)) => return Ok(true),
            Ok(httparse::Status::Partial) if count > 0 => {}
            _ => break,
        }
    }
    Ok(false)
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

/// A certificate that nobody has reason to trust.
fn sign() -> Result<Identity> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok((vec![made.cert.into()], made.signing_key.into()))
}

fn main() -> Result {
    common::init_log();
    let mut args: Vec<_> = std::env::args_os().skip(1).collect();
    let files = take_files(&mut args)?;
    let flags = Flags::parse_from(&Usage::new(ABOUT, 8443), args)?;
    let config = Arc::new(config(files)?);
    let server = TcpServer::new(move |conn| serve(&config, conn))
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let prefork = flags.builder(server).start()?;
    let addresses = prefork.server().local_addrs();
    let first = addresses
        .first()
        .ok_or_else(|| io::Error::other("no address"))?;
    let hint = format!("try: curl -k https://{first}/");
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint)
}
