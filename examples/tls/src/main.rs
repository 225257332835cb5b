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
#[path = "../../common/http.rs"]
mod http;

use common::{Flags, Result, Usage};
use http::{Answer, Requests, linger};
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
    sync::Arc,
    time::Duration,
};

const ABOUT: &str = "HTTP over TLS: says which child has answered, and in what TLS.
Takes --cert FILE and --key FILE too, both in PEM; without them it makes a certificate of its own.";
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers one request.
fn serve(config: &Arc<ServerConfig>, conn: TcpConn) -> io::Result<()> {
    conn.set_read_timeout(Some(PATIENCE));
    conn.set_write_timeout(Some(PATIENCE));
    let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(session, conn);
    let mut requests = Requests::new(&mut tls);
    // The first read does the handshake.
    if let Some(request) = requests.next_request()? {
        let answer = Answer::new(http::OK, greeting(&requests.conn().conn));
        requests.answer(&request, &answer, false)?;
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    linger(&tls.sock);
    Ok(())
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
