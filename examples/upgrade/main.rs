//! A server that says its version, to be replaced by another version of itself while it serves.
//!
//! UPGRADE_VERSION=1 cargo build --release --example upgrade
//! target/release/examples/upgrade --port 7777
//!
//! Build it again with UPGRADE_VERSION=2, and then
//!
//! kill -USR2 PID
//!
//! `examples/upgrade/run.sh` does all of that: an upgrade, a downgrade, and a version that is broken.
//! Chapter "Upgrade" of docs/operations.md says what happens.

#[path = "../common/mod.rs"]
mod common;

use common::{Flags, Result, Usage};
use prefork_server::{Error, Launch, Monitor, PreForkHooks, Start, TcpServer, defaults};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    process::ExitCode,
};

/// What this build is: see above.
const VERSION: &str = match option_env!("UPGRADE_VERSION") {
    Some(version) => version,
    None => "1",
};
/// Whether the children of this build fail.
const IS_BROKEN: bool = option_env!("UPGRADE_BROKEN").is_some();

const ABOUT: &str = "A server that says its version, for upgrades by SIGUSR2.";

/// How many upgrades this server has been through: the one thing that this program hands on.
#[derive(Default)]
struct Hooks {
    upgrades: u32,
}

impl PreForkHooks for Hooks {
    fn save(&mut self, _: &mut Monitor) -> Vec<u8> {
        (self.upgrades + 1).to_string().into_bytes()
    }

    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(saved);
        self.upgrades = text.parse().map_err(io::Error::other)?;
        Ok(())
    }

    fn upgrade_failed(&mut self, _: &mut Monitor, error: &Error) {
        println!("version {VERSION} serves on: {error}");
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if IS_BROKEN {
            return Err(io::Error::other("this version is broken"));
        }
        defaults::server_start(self, start)
    }
}

/// Prints what a server answers, for the script.
fn ask(address: &str) -> Result {
    let mut answer = String::new();
    TcpStream::connect(address)?.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    let mut arguments = std::env::args().skip(1);
    if let (Some("--ask"), Some(address)) = (arguments.next().as_deref(), arguments.next()) {
        return ask(&address);
    }
    common::init_log();
    let flags = Flags::parse(&Usage::new(ABOUT, 7777))?;
    // A trial of this program must not say that it serves.
    if Launch::of_this_process() != Launch::Trial {
        println!("version {VERSION} in process {}", std::process::id());
    }
    let server = TcpServer::new(|conn| writeln!(&conn, "version {VERSION}"))
        .address(&flags.address)
        .port(flags.port)
        .max_requests(flags.max_requests);
    let prefork = flags.builder(server).hooks(Hooks::default()).start()?;
    println!("{} upgrades so far", prefork.hooks().upgrades);
    let addresses = prefork.server().local_addrs();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let hint = format!("try: kill -USR2 {}", std::process::id());
    common::run(prefork, &addresses, &hint)
}
