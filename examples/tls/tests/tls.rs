//! The TLS example, driven from outside by clients that verify, are slow, or do not speak TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

#[path = "../../../tests/example/mod.rs"]
mod example;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use example::{Example, stop};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{Address, Client, Server, World, connect, pause, programs, scenarios};

const SOON: Duration = Duration::from_secs(10);

const EXAMPLE: Example = Example {
    executable: Some(env!("CARGO_BIN_EXE_tls-example")),
    own_flags: &["--cert", "--key"],
    ..Example::new("tls-example", "try: curl -k https://127.0.0.1:PORT/")
};

fn main() -> ExitCode {
    support::main(
        programs![],
        scenarios![
            answers_a_client_that_verifies,
            asks_for_a_body_that_waits,
            command_lines_that_are_wrong_are_refused,
            flags_reach_the_server,
            help_is_complete,
            makes_a_certificate_of_its_own,
            max_requests_replaces_a_child,
            refuses_bad_files,
            refuses_what_is_ambiguous,
            says_how_to_talk_to_it,
            slow_client_is_not_killed,
            stops_at_once_with_idle_clients,
            survives_a_client_without_it,
        ],
    )
}

// What holds for every example.

fn help_is_complete(world: &mut World) {
    example::help_names_every_flag(world, &EXAMPLE);
    example::help_shows_the_defaults(world, &EXAMPLE);
    example::help_survives_a_closed_pipe(world, &EXAMPLE);
}

fn command_lines_that_are_wrong_are_refused(world: &mut World) {
    example::bad_flags_are_refused(world, &EXAMPLE);
    example::path_is_refused_without_a_use_for_it(world, &EXAMPLE);
    example::busy_address_is_refused(world, &EXAMPLE);
}

fn flags_reach_the_server(world: &mut World) {
    example::flags_reach_the_server(world, &EXAMPLE);
}

fn says_how_to_talk_to_it(world: &mut World) {
    example::says_how_to_talk_to_it(world, &EXAMPLE);
}

fn max_requests_replaces_a_child(world: &mut World) {
    example::max_requests_replaces_a_child(world, &EXAMPLE);
}

// TLS.

/// The number before `word` in a report; 0 if it does not occur.
fn count(report: &str, word: &str) -> u64 {
    let words: Vec<&str> = report.split([' ', ',', ';', ':']).collect();
    let at = words.iter().position(|candidate| *candidate == word);
    at.and_then(|at| words[at.checked_sub(1)?].parse().ok())
        .unwrap_or(0)
}

/// A certificate and its key, in files, and a client's configuration that trusts nothing else.
fn identity(world: &World) -> (PathBuf, PathBuf, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = world.tempdir();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (cert, key, Arc::new(config))
}

/// The example with that certificate.
fn serve(world: &mut World, flags: &[&str]) -> (Server, Arc<ClientConfig>) {
    let (cert, key, client) = identity(world);
    let files = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    (EXAMPLE.serve(world, &[&files, flags].concat()), client)
}

/// A client that thinks before it sends anything.
struct Slow(Client, Duration);

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        pause(self.1);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

type Tls = StreamOwned<ClientConnection, Slow>;

fn open(address: &Address, config: &Arc<ClientConfig>, slow: Duration) -> io::Result<Tls> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, Slow(connect(address), slow)))
}

/// Everything that is still to come from the server.
fn rest(mut tls: Tls) -> io::Result<String> {
    let mut answer = String::new();
    // Without the close_notify of the server this is an error.
    tls.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Everything the server sends for a request.
fn ask_tls(address: &Address, config: &Arc<ClientConfig>, slow: Duration) -> io::Result<String> {
    let mut tls = open(address, config, slow)?;
    tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n")?;
    tls.flush()?;
    tls.write_all(b"\r\n")?;
    rest(tls)
}

fn answers_a_client_that_verifies(world: &mut World) {
    // No third one, though the second may be found busy before the first has said that it is not
    // any more.
    let flags = ["--start-servers", "2", "--max-clients", "2"];
    let (server, config) = serve(world, &flags);
    let children = server.expect_children(2);
    let address = server.address();
    for _ in 0..20 {
        let answer = ask_tls(&address, &config, Duration::ZERO).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let (_, rest) = answer.split_once("from child ").unwrap();
        let (pid, how) = rest.split_once(',').unwrap();
        assert!(children.contains(&pid.parse().unwrap()), "{answer}");
        assert!(how.contains("TLSv1_3"), "{answer}");
    }
    let report = stop(&server);
    assert!(count(&report, "BUSY") >= 1, "{report}");
}

/// The table of `examples/common/http.rs` has the other cases.
fn refuses_what_is_ambiguous(world: &mut World) {
    let (server, config) = serve(world, &[]);
    let address = server.address();
    let next = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for fields in [
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nContent-Length: +5\r\n",
        "Host: localhost\r\nTransfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n{next}");
        let mut tls = open(&address, &config, Duration::ZERO).unwrap();
        tls.write_all(text.as_bytes()).unwrap();
        let answer = rest(tls).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    stop(&server);
}

fn asks_for_a_body_that_waits(world: &mut World) {
    let (server, config) = serve(world, &[]);
    let head = "PUT / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                Content-Length: 4\r\n\r\n";
    let mut tls = open(&server.address(), &config, Duration::ZERO).unwrap();
    tls.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; 25];
    tls.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    tls.write_all(b"body").unwrap();
    let answer = rest(tls).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    stop(&server);
}

fn slow_client_is_not_killed(world: &mut World) {
    let flags = [
        "--start-servers",
        "1",
        "--max-clients",
        "1",
        "--timeout",
        "1",
    ];
    let (server, config) = serve(world, &flags);
    let child = server.expect_children(1)[0];
    let answer = ask_tls(&server.address(), &config, Duration::from_millis(1200)).unwrap();
    assert!(answer.contains(&format!("from child {child},")), "{answer}");
    let report = stop(&server);
    assert_eq!(count(&report, "TimedOut"), 0, "{report}");
    assert!(count(&report, "ACK") >= 5, "{report}");
}

/// Clients that are idle, before the handshake or after it, do not hold a stop: `Conn::wait_for_request`.
fn stops_at_once_with_idle_clients(world: &mut World) {
    let (server, config) = serve(world, &[]);
    let address = server.address();
    let mut new = connect(&address);
    let mut shaken = open(&address, &config, Duration::ZERO).unwrap();
    shaken.conn.complete_io(&mut shaken.sock).unwrap();
    let begun = Instant::now();
    stop(&server);
    // Twice 50 ms, in which something could come from it; the rest is for a busy machine.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    new.eof();
    assert_eq!(rest(shaken).unwrap(), "");
}

fn survives_a_client_without_it(world: &mut World) {
    let (server, config) = serve(world, &["--start-servers", "1", "--max-clients", "1"]);
    let child = server.expect_children(1)[0];
    let address = server.address();
    let mut plain = connect(&address);
    plain.send_line("GET / HTTP/1.1\r\nHost: here\r\n\r");
    plain.gone();
    // One that leaves in the midst of the handshake.
    connect(&address).write_all(b"\x16\x03\x01").unwrap();
    let answer = ask_tls(&address, &config, Duration::ZERO).unwrap();
    assert!(answer.contains(&format!("from child {child},")), "{answer}");
    stop(&server);
}

fn makes_a_certificate_of_its_own(world: &mut World) {
    let server = EXAMPLE.serve(world, &["--start-servers", "1"]);
    let (.., trusts_another) = identity(world);
    let error = ask_tls(&server.address(), &trusts_another, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    stop(&server);
}

fn refuses_bad_files(world: &mut World) {
    let (cert, key, _) = identity(world);
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    for (flags, named) in [
        (&["--cert", cert][..], "--key"),
        (&["--cert"][..], "--cert"),
        (&["--cert", "/no/such", "--key", key][..], "/no/such"),
        (&["--cert", cert, "--key", cert][..], cert),
        (&["--cert", key, "--key", key][..], "ertificate"),
    ] {
        let server = EXAMPLE.serve(world, flags);
        assert_eq!(server.wait(SOON).code(), Some(64), "{flags:?}");
        let error = server.stderr();
        assert!(error.contains(named), "{flags:?}: {error}");
        assert_eq!(server.stdout(), "");
    }
}
