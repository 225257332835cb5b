//! The units of `docs/deploy/systemd`, as systemd reads them.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use crate::ends_well;
use crate::socket::Notifications;
use crate::support::{SOON, World, until};

const UNITS: [&str; 2] = ["hello.service", "hello.socket"];

/// The program of the units, as they start it: it takes the socket, says when it is ready, and names the
/// end by an exit code.
pub fn the_program_of_the_units_is_started(world: &mut World) {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    let Some(hello) = hello_for_systemd().filter(|_| Path::new(ACTIVATE).exists()) else {
        return eprintln!(
            "skipped: there is no {ACTIVATE}, or no `cargo build --features systemd --example hello`"
        );
    };
    let mut told = Notifications::bind(&world.tempdir());
    let notify = format!("NOTIFY_SOCKET={}", told.name().to_string_lossy());
    // A loopback address of this process alone, so that the port is free.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address: SocketAddr = ([127, 8, high, low.max(1)], 8080).into();
    let launch = world.command(ACTIVATE).args(&["-l", &address.to_string()]);
    let launch = launch.args(&["-E", "PREFORK_SCENARIO", "-E", &notify]);
    let server = launch.arg(&hello).spawn();
    until("the socket", SOON, || TcpStream::connect(address).ok());
    told.expect("READY=1");
    ends_well(&server);
    told.expect("STOPPING=1");
    let unknown = world
        .command(&hello)
        .args(&["--user", "nobody-at-all"])
        .spawn();
    assert_eq!(unknown.wait(SOON).code(), Some(78), "{}", unknown.stderr());
}

/// The example, if it was built with the feature.
fn hello_for_systemd() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let hello = own.parent()?.parent()?.join("examples/hello");
    let bytes = fs::read(&hello).ok()?;
    let has_it = bytes.windows(17).any(|part| part == b"NOTIFY_SOCKET is ");
    has_it.then_some(hello)
}

/// The path of the program, which need not be installed here, is replaced by one that exists.
pub fn the_units_are_verified(world: &mut World) {
    const PROGRAM: &str = "/usr/bin/systemd-analyze";
    if !Path::new(PROGRAM).exists() {
        return eprintln!("skipped: there is no {PROGRAM}");
    }
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy/systemd");
    let to = world.tempdir();
    let own = std::env::current_exe().unwrap();
    for unit in UNITS {
        let text = fs::read_to_string(from.join(unit)).unwrap();
        let text = text.replace("/usr/local/bin/hello", own.to_str().unwrap());
        fs::write(to.join(unit), text).unwrap();
    }
    let drop_in = to.join("hello.service.d");
    fs::create_dir(&drop_in).unwrap();
    fs::copy(from.join("hardened.conf"), drop_in.join("hardened.conf")).unwrap();
    let launch = world.command(PROGRAM).args(&["--man=no", "verify"]);
    let launch = UNITS
        .iter()
        .fold(launch, |launch, unit| launch.arg(to.join(unit)));
    let verified = launch.spawn();
    let status = verified.wait(SOON);
    let stderr = verified.stderr();
    assert!(status.success(), "{status}\n{stderr}");
    for unit in UNITS.into_iter().chain(["hardened.conf"]) {
        assert!(!stderr.contains(unit), "{stderr}");
    }
}
