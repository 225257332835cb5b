//! The units of `docs/deploy/systemd`, as systemd reads them.

use std::fs;
use std::path::Path;

use crate::support::{SOON, World};

const UNITS: [&str; 2] = ["hello.service", "hello.socket"];

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
