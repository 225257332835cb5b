//! Sockets of systemd's: the real systemd-socket-activate listens, and becomes the command at the first
//! connection.

use std::path::{Path, PathBuf};

use super::{PREFORK, prefork, run::has, stop, text};
use crate::support::{Address, Client, SOON, Scenarios, Server, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    inetd_serves_a_socket_of_systemds,
    a_worker_gets_the_socket_of_a_name,
    sockets_that_nobody_asks_for_are_an_error,
    sockets_that_are_not_there_are_an_error,
];

const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";

const CONFIG: i32 = 78;

/// Whether it is there; says so if it is not.
fn can_activate() -> bool {
    let can = Path::new(ACTIVATE).exists();
    if !can {
        println!("skipped: there is no {ACTIVATE}");
    }
    can
}

/// The command with these arguments behind sockets at these paths, which have these names.
#[track_caller]
fn activated(world: &mut World, sockets: &[&PathBuf], names: &str, arguments: &[&str]) -> Server {
    let mut launch = world.command(ACTIVATE);
    for socket in sockets {
        launch = launch.arg("-l").arg(socket);
    }
    let names = format!("--fdname={names}");
    let passed = [&names, "-E", "PREFORK_SCENARIO", "-E", "PATH", PREFORK];
    let server = launch.args(&passed).args(arguments).spawn();
    // A file is there a moment before anybody listens at it.
    server.expect_stderr("all sockets to listen", |text| {
        text.matches("Listening on ").count() == sockets.len()
    });
    server
}

fn client(path: &Path) -> Client {
    connect(&Address::from(path))
}

fn inetd_serves_a_socket_of_systemds(world: &mut World) {
    if !can_activate() {
        return;
    }
    let path = world.tempdir().join("x.sock");
    let listen = ["inetd", "--listen", "systemd"];
    let arguments = [&listen[..], &["--coalesce-words", "false", "--", "cat"]].concat();
    let server = activated(world, &[&path], "x", &arguments);
    for _ in 0..3 {
        let mut client = client(&path);
        assert_eq!(client.ask("hello"), "hello");
        client.close_write();
        client.eof();
    }
    let listening = format!("listening on {}\n", text(&path));
    server.expect_stdout("its name", |text| text.contains(&listening));
    // A child that finds the next client at once says BUSY once for both.
    let report = stop(&server);
    let busy = (1..=3).any(|times| report.contains(&format!(" {times} BUSY")));
    assert!(busy, "{report}");
    // It is systemd's to remove: clients wait there for the next start.
    assert!(path.exists());
}

/// Takes one connection after the other, and answers with the names of its sockets.
const NAMES: &str = r#"
use strict; use warnings; use IO::Handle;
STDOUT->autoflush(1);
open my $listener, '+<&=', 3 or die "descriptor 3: $!";
print "\x06\n\x11\n";
while (accept my $client, $listener) {
    print "\x13\n";
    print $client "$ENV{LISTEN_FDS} $ENV{LISTEN_FDNAMES}\n";
    close $client;
    print "\x11\n";
}
"#;

fn a_worker_gets_the_socket_of_a_name(world: &mut World) {
    if !can_activate() || !has("perl") {
        return;
    }
    let (web, admin) = (world.tempdir().join("web"), world.tempdir().join("admin"));
    for (listen, path, told) in [
        (&["--listen", "systemd:admin"][..], &admin, "1 admin"),
        (&["--listen", "systemd"], &web, "2 web:admin"),
        (
            &[
                "--listen",
                "systemd:web",
                "--listen",
                "127.0.0.1:0,name=own",
            ],
            &web,
            "2 web:own",
        ),
    ] {
        let arguments = [&["run"][..], listen, &["--", "perl", "-e", NAMES]].concat();
        let server = activated(world, &[&web, &admin], "web:admin", &arguments);
        assert_eq!(client(path).read_line(), told);
        assert_eq!(client(path).read_line(), told);
        stop(&server);
        std::fs::remove_file(&web).expect("a socket");
        std::fs::remove_file(&admin).expect("a socket");
    }
}

fn sockets_that_nobody_asks_for_are_an_error(world: &mut World) {
    for command in ["run", "inetd"] {
        let script = format!("LISTEN_FDS=1 LISTEN_PID=$$ exec {PREFORK} {command} -- cat");
        let command = world.command("/bin/sh").args(&["-c", &script]).spawn();
        assert_eq!(command.wait(SOON).code(), Some(CONFIG));
        let message = command.stderr();
        assert!(message.contains("add --listen systemd, or"), "{message}");
    }
}

fn sockets_that_are_not_there_are_an_error(world: &mut World) {
    let refused = |world: &mut World, listen: &[&str], code| {
        let words = [&["inetd"][..], listen, &["--", "cat"]].concat();
        let command = prefork(world, &words).spawn();
        assert_eq!(command.wait(SOON).code(), Some(code), "{words:?}");
        command.stderr()
    };
    let missing = refused(world, &["--listen", "systemd"], CONFIG);
    assert!(missing.contains("LISTEN_PID is not set"), "{missing}");
    let both = ["--listen", "systemd", "--listen", "127.0.0.1:0"];
    let mixed = refused(world, &both, CONFIG);
    assert!(mixed.contains("or addresses of its own"), "{mixed}");
}
