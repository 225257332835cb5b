//! The examples, driven from outside as a user would: each flag, each kind of client.

pub mod hello;
pub mod lines;

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use crate::example;
use crate::example::{Defaults, Example, stop};
use crate::support::{SOON, Scenarios, Server, World, connect, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    bad_flags_are_refused,
    every_example_replaces_children_after_max_requests,
    busy_address_is_refused,
    flags_reach_the_server_for_datagrams,
    flags_reach_the_server: long,
    help_names_every_flag,
    help_is_not_upset_by_a_reader_that_has_gone,
    help_shows_the_defaults_of_the_example,
    max_requests_replaces_children,
    path_is_refused_where_it_is_of_no_use,
    servers_say_how_to_talk_to_them,
    the_script_of_the_upgrade_does_what_it_says,
];

const TIMES_OUT: Defaults = Defaults {
    timeout: 2,
    ..Defaults::FRAMEWORK
};

/// The examples of this package. Those of others have a package for their tests, too.
const ALL: [Example; 8] = [
    Example {
        defaults: TIMES_OUT,
        ..Example::new(
            "crash",
            "try: curl http://127.0.0.1:PORT/ and http://127.0.0.1:PORT/segv",
        )
    },
    Example {
        takes_path: true,
        ..Example::new("echo", "try: nc 127.0.0.1 PORT")
    },
    Example {
        own_flags: &["--words"],
        takes_path: true,
        ..Example::new("exec", "try: nc 127.0.0.1 PORT, and say spin")
    },
    Example {
        own_flags: &[
            "--user",
            "--group",
            "--chroot",
            "--work",
            "--max-queue-age",
            "--reserved-shedder",
            "--pre-stop-delay",
            "--access-log",
            "--endpoint-load",
        ],
        ..Example::new("hello", "try: curl http://127.0.0.1:PORT/")
    },
    Example {
        defaults: TIMES_OUT,
        ..Example::new("hooks", "try: nc 127.0.0.1 PORT, and say spin")
    },
    Example {
        takes_path: true,
        // It has an opinion of its own.
        most_spare_of_four: 3,
        ..Example::new("policy", "try: nc 127.0.0.1 PORT, many times")
    },
    Example {
        defaults: Defaults {
            min_spare_servers: 3,
            max_spare_servers: 10,
            max_clients: 15,
            timeout: 10,
            max_requests: 10,
            ..Defaults::FRAMEWORK
        },
        ..Example::new("prefork_echoserver", "try: nc 127.0.0.1 PORT")
    },
    Example::new("udp", "try: nc -u 127.0.0.1 PORT"),
];

/// Runs an example on a port of its own.
fn start(world: &mut World, name: &str, flags: &[&str]) -> Server {
    world.run_example(name, &[&["--port", "0"], flags].concat())
}

/// Those that serve connections.
fn with_connections() -> impl Iterator<Item = Example> {
    ALL.into_iter().filter(|example| example.name != "udp")
}

// What holds for each.

fn help_names_every_flag(world: &mut World) {
    for example in ALL {
        example::help_names_every_flag(world, &example);
    }
}

fn help_shows_the_defaults_of_the_example(world: &mut World) {
    for example in ALL {
        example::help_shows_the_defaults(world, &example);
    }
}

fn help_is_not_upset_by_a_reader_that_has_gone(world: &mut World) {
    for example in ALL {
        example::help_survives_a_closed_pipe(world, &example);
    }
}

fn path_is_refused_where_it_is_of_no_use(world: &mut World) {
    for example in ALL.into_iter().filter(|example| !example.takes_path) {
        example::path_is_refused_without_a_use_for_it(world, &example);
    }
}

fn bad_flags_are_refused(world: &mut World) {
    for example in ALL {
        example::bad_flags_are_refused(world, &example);
    }
}

fn busy_address_is_refused(world: &mut World) {
    for example in ALL {
        example::busy_address_is_refused(world, &example);
    }
}

fn servers_say_how_to_talk_to_them(world: &mut World) {
    // As its original does, that one says other things first.
    let others = ALL.iter().filter(|it| it.name != "prefork_echoserver");
    for example in others {
        example::says_how_to_talk_to_it(world, example);
    }
}

fn flags_reach_the_server(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    for example in with_connections() {
        example::flags_reach_the_server(world, &example);
    }
}

fn every_example_replaces_children_after_max_requests(world: &mut World) {
    for example in with_connections() {
        example::max_requests_replaces_a_child(world, &example);
    }
}

fn flags_reach_the_server_for_datagrams(world: &mut World) {
    for (flags, children) in [
        (
            [
                "--start-servers=3",
                "--min-spare-servers=1",
                "--max-spare-servers=4",
                "--max-clients=9",
            ],
            3,
        ),
        (
            [
                "--start-servers=1",
                "--min-spare-servers=3",
                "--max-spare-servers=4",
                "--max-clients=9",
            ],
            3,
        ),
        (
            [
                "--start-servers=6",
                "--min-spare-servers=1",
                "--max-spare-servers=4",
                "--max-clients=9",
            ],
            4,
        ),
        (
            [
                "--start-servers=3",
                "--min-spare-servers=1",
                "--max-spare-servers=4",
                "--max-clients=2",
            ],
            2,
        ),
    ] {
        let common = ["--address=localhost", "--timeout=30.5", "--max-requests=0"];
        let server = start(world, "udp", &[&common[..], &flags].concat());
        server.address();
        server.expect_children(children);
        stop(&server);
    }
}

fn max_requests_replaces_children(world: &mut World) {
    let server = start(world, "hooks", &["--max-requests", "1"]);
    let address = server.address();
    let mut before = String::new();
    for _ in 0..5 {
        let mut client = connect(&address);
        let greeting = client.read_line();
        assert_ne!(greeting, before);
        let pid: u32 = greeting.rsplit_once(' ').unwrap().1.parse().unwrap();
        drop(client);
        until("the child to leave", SOON, || {
            (!processes::is_alive(pid)).then_some(())
        });
        before = greeting;
    }
    stop(&server);
}

/// An upgrade, a downgrade, and a version that gives the place back: three builds of the example, which
/// take minutes.
fn the_script_of_the_upgrade_does_what_it_says(world: &mut World) {
    if std::env::var_os("EXAMPLE_BUILDS").is_none() {
        return eprintln!("skipped: it builds three programs; EXAMPLE_BUILDS=1 has it run");
    }
    world.deadline(SOON * 90);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/upgrade/run.sh");
    let script = Command::new("sh")
        .arg(script)
        .env("PORT", port.to_string())
        .env("CARGO_TARGET_DIR", world.tempdir().join("target"))
        .output()
        .expect("a shell");
    let stdout = String::from_utf8_lossy(&script.stdout);
    let stderr = String::from_utf8_lossy(&script.stderr);
    assert!(script.status.success(), "{stdout}{stderr}");
    assert!(stdout.ends_with("stopped\n"), "{stdout}{stderr}");
}
