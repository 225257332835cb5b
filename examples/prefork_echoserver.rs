//! The example of the Perl original, POE::Class::Server::PreFork, line by line: an echo service
//! with an object for each connection.
//!
//! cargo run --release --example prefork_echoserver
//!
//! Different from the original: the port (the service `echo` is port 7, which needs root), and ids:
//! a server object has none, so its address is printed; the session of the original is the process.

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{
    TcpServer,
    servers::conn::{ConnClass, Session, defaults},
};
use std::{process::ExitCode, time::Duration};

/// A simple preforked echo server: `package My::EchoServer`.
struct EchoServer;

impl ConnClass for EchoServer {
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        if session.is_shutdown() {
            return; // as in Perl; here it does not happen
        }
        println!("<< {}", input.escape_ascii());
        session.put(input);
    }

    fn handler_start(&mut self, session: &mut Session) {
        defaults::handler_start(self, session);
        println!("Conn session {} started", session.id());
    }

    // Not in the original: a stop does not wait for a client that is idle.
    fn handler_stopping(&mut self, session: &mut Session) {
        session.shutdown();
    }

    fn handler_stop(&mut self, session: &mut Session) {
        defaults::handler_stop(self, session);
        println!("Conn session {} stopped", session.id());
    }
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    // What the original passes to `new`, here the defaults of the flags.
    let flags = Flags::parse(&Usage {
        max_clients: 15,
        min_spare_servers: 3,
        max_spare_servers: 10,
        start_servers: 5,
        timeout: Duration::from_secs(10),
        max_requests: 10,
        ..Usage::new("The echo server of the Perl original.", 7007)
    })?;
    let server = TcpServer::conn_class(|| EchoServer)
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    println!("Created server for {}:{}", flags.address, flags.port);

    let prefork = flags.builder(server).start()?;
    println!("Created prefork server with ID {}", prefork.id());
    println!("Created prefork session with ID {}", std::process::id());

    let addresses = prefork.server().local_addrs();
    let hint = addresses
        .first()
        .map(|address| format!("try: nc {} {}", address.ip(), address.port()));
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    common::run(prefork, &addresses, &hint.unwrap_or_default())
}
