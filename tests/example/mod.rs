//! What holds for every example, in whichever package: its help, its refusals, its flags.
//!
//! It never knows what an example serves: that is for the scenarios of the example itself.

#![allow(dead_code, reason = "each package uses a part")]
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what the test files use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::support::{Client, Launch, Server, Signal, World, connect, holds, processes, until};

const SOON: Duration = Duration::from_secs(10);

// Exit codes of sysexits.
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;

/// An example, and in what it differs from the others.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    pub name: &'static str,
    /// Its executable; `None` for an example of the root package, which is beside the tests.
    pub executable: Option<&'static str>,
    /// The flags that it does not have in common with the others, but for `--path`.
    pub own_flags: &'static [&'static str],
    /// Whether it has a use for `--path`.
    pub takes_path: bool,
    /// What it says of how to talk to it; PORT stands for the port.
    pub hint: &'static str,
    pub defaults: Defaults,
    /// The flags with which a child has one connection in hand at a time.
    pub one_at_a_time: &'static [&'static str],
    /// How many idle children it keeps at most where four are allowed.
    pub most_spare_of_four: usize,
}

/// What the help says of the pool, the timeout and the requests.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub start_servers: usize,
    pub min_spare_servers: usize,
    pub max_spare_servers: usize,
    pub max_clients: usize,
    pub timeout: u64,
    pub max_requests: u64,
}

impl Defaults {
    /// Those of the framework.
    pub const FRAMEWORK: Self = Self {
        start_servers: 5,
        min_spare_servers: 1,
        max_spare_servers: 2,
        max_clients: 50,
        timeout: 0,
        max_requests: 25,
    };
}

impl Example {
    /// An example without anything of its own.
    pub const fn new(name: &'static str, hint: &'static str) -> Self {
        Self {
            name,
            executable: None,
            own_flags: &[],
            takes_path: false,
            hint,
            defaults: Defaults::FRAMEWORK,
            one_at_a_time: &[],
            most_spare_of_four: 4,
        }
    }

    /// The example, to be started with more than arguments.
    #[track_caller]
    pub fn launch<'w>(&self, world: &'w mut World) -> Launch<'w> {
        match self.executable {
            Some(path) => world.command(path),
            None => world.example(self.name),
        }
    }

    /// Starts it with these arguments alone.
    #[track_caller]
    pub fn run(&self, world: &mut World, arguments: &[&str]) -> Server {
        self.launch(world).args(arguments).spawn()
    }

    /// Starts it on a port of its own.
    #[track_caller]
    pub fn serve(&self, world: &mut World, flags: &[&str]) -> Server {
        self.run(world, &[&["--port", "0"], flags].concat())
    }
}

/// Ends an example in order, and returns the line of its report, which is the last.
#[track_caller]
pub fn stop(server: &Server) -> String {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
    let stdout = server.stdout();
    let report = stdout.lines().last().unwrap();
    assert!(
        report.contains(" forked, 0 failed forks, deaths:"),
        "{report}"
    );
    report.to_owned()
}

pub fn help_names_every_flag(world: &mut World, example: &Example) {
    const FLAGS: [&str; 8] = [
        "--address",
        "--port",
        "--start-servers",
        "--min-spare-servers",
        "--max-spare-servers",
        "--max-clients",
        "--timeout",
        "--max-requests",
    ];
    for flag in ["--help", "-h"] {
        let server = example.run(world, &[flag]);
        assert!(server.wait(SOON).success());
        let help = server.stdout();
        assert_eq!(server.stderr(), "");
        let all = FLAGS.iter().chain(example.own_flags);
        for flag in all {
            assert!(help.contains(&format!("\n  {flag} ")), "{flag}: {help}");
        }
        assert_eq!(help.contains("--path"), example.takes_path, "{help}");
    }
}

pub fn help_shows_the_defaults(world: &mut World, example: &Example) {
    let server = example.run(world, &["--help"]);
    assert!(server.wait(SOON).success());
    let help = server.stdout();
    let defaults = &example.defaults;
    for line in [
        format!("children to begin with ({})\n", defaults.start_servers),
        format!("fewest idle children ({})\n", defaults.min_spare_servers),
        format!("most idle children ({})\n", defaults.max_spare_servers),
        format!("most children ({})\n", defaults.max_clients),
        format!("0 for ever ({})\n", defaults.timeout),
        format!(" ({})\n", defaults.max_requests),
    ] {
        assert!(help.contains(&line), "{}: {line:?} in {help}", example.name);
    }
}

/// The reader leaves at once, as `head` does.
pub fn help_survives_a_closed_pipe(world: &mut World, example: &Example) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let launch = example.launch(world).args(&["--help"]);
    let server = launch.stdout(writer).spawn();
    assert!(server.wait(SOON).success());
    assert_eq!(server.stderr(), "");
}

pub fn path_is_refused_without_a_use_for_it(world: &mut World, example: &Example) {
    let path = world.tempdir().join("of-no-use.sock");
    let server = example.serve(world, &["--path", path.to_str().unwrap()]);
    assert_eq!(server.wait(SOON).code(), Some(USAGE), "{}", example.name);
    let error = server.stderr();
    assert!(
        error.starts_with("Error: --path: "),
        "{}: {error}",
        example.name
    );
    assert_eq!(server.stdout(), "");
    assert!(!path.exists());
}

pub fn bad_flags_are_refused(world: &mut World, example: &Example) {
    let name = example.name;
    for (flags, named) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["argument"][..], "argument"),
        (&["--port", "many"][..], "many"),
        (&["--port", "65536"][..], "65536"),
        (&["--timeout", "-1"][..], "negative"),
        (&["--timeout", "soon"][..], "soon"),
        (&["--start-servers"][..], "--start-servers"),
        (&["--max-clients", "-5"][..], "-5"),
    ] {
        let server = example.run(world, flags);
        assert_eq!(server.wait(SOON).code(), Some(USAGE), "{name} {flags:?}");
        let error = server.stderr();
        assert!(error.contains(named), "{name} {flags:?}: {error}");
        assert_eq!(server.stdout(), "");
    }
}

pub fn busy_address_is_refused(world: &mut World, example: &Example) {
    let (listener, socket) = both_ports();
    let address = listener.local_addr().unwrap();
    let server = example.run(world, &["--port", &address.port().to_string()]);
    assert_eq!(server.wait(SOON).code(), Some(UNAVAILABLE));
    // Once, and nothing about a server that has ended: it never began.
    let whole = format!("Error: bind {address}: address already in use (os error 98)\n");
    assert_eq!(server.stderr(), whole, "{}", example.name);
    assert!(!server.stdout().contains("listening on"));
    drop(socket);
}

/// A listener, and a socket for datagrams with the same port.
fn both_ports() -> (TcpListener, UdpSocket) {
    until("a port that both can have", SOON, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind(listener.local_addr().unwrap()).ok()?;
        Some((listener, socket))
    })
}

pub fn says_how_to_talk_to_it(world: &mut World, example: &Example) {
    let server = example.serve(world, &[]);
    let port = server.address().port().to_string();
    let hint = example.hint.replace("PORT", &port);
    let expected = format!("listening on 127.0.0.1:{port}\n{hint}\n");
    server.expect_stdout("the address and the hint", |text| {
        text.starts_with(&expected)
    });
    // The document's default.
    server.expect_children(5);
    stop(&server);
}

pub fn flags_reach_the_server(world: &mut World, example: &Example) {
    const FLAGS: [&str; 7] = [
        "--address=localhost",
        "--start-servers=3",
        "--min-spare-servers=2",
        "--max-spare-servers=4",
        "--max-clients=6",
        "--timeout=30.5",
        "--max-requests=0",
    ];
    let server = example.serve(world, &[example.one_at_a_time, &FLAGS].concat());
    let address = server.address();
    server.expect_children(3);
    // Each that is busy calls for another, up to the limit; the clients that are too many wait.
    let clients: Vec<Client> = (0..8).map(|_| connect(&address)).collect();
    server.expect_children(6);
    holds("the limit is kept", Duration::from_millis(300), || {
        server.children().len() <= 6
    });
    drop(clients);
    // A surplus is culled down to the most.
    server.expect_children(example.most_spare_of_four);
    stop(&server);
}

/// A child that has served what it may leaves, and another takes its place.
pub fn max_requests_replaces_a_child(world: &mut World, example: &Example) {
    let flags = ["--start-servers=1", "--max-clients=1", "--max-requests=1"];
    let server = example.serve(world, &flags);
    let address = server.address();
    let child = server.expect_children(1)[0];
    connect(&address).close_write();
    let what = format!("the child of {} to leave", example.name);
    until(&what, SOON, || (!processes::is_alive(child)).then_some(()));
    server.expect_children(1);
    stop(&server);
}
