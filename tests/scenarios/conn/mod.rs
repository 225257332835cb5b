//! Connection classes in real processes: one object for each client, and what clients do to it.

pub mod blocking;
pub mod records;

use std::io::{self};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use prefork_server::servers::conn::{
    BlockFilter, ConnClass, LineFilter, Session, StreamFilter, defaults,
};
use prefork_server::{ChildServer, Error, Operation, PreFork, TcpServer, UnixServer};

use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, programs, scenarios,
};

pub const PROGRAMS: Programs = programs![obedient];

pub const SCENARIOS: Scenarios = scenarios![
    echo_over_tcp_and_unix,
    objects_are_made_one_for_each_connection,
    peers_are_known,
];

// The program.

/// Does what the client says, and says on stderr what it is told.
#[derive(Default)]
struct Obedient {
    filter: String,
    said: u32,
    stays: bool,
}

impl Obedient {
    fn obey(&mut self, session: &mut Session, order: &str, rest: &str) {
        match order {
            "echo" => session.put(rest),
            "pid" => session.put(std::process::id().to_string()),
            "count" => session.put(self.said.to_string()),
            "quit" => {
                session.put("bye");
                session.shutdown();
            }
            "big" => session.put("x".repeat(rest.parse().expect("a number"))),
            "flood" => session.post("flood"),
            "slow" => std::thread::sleep(Duration::from_millis(20)),
            "work" => {
                for _ in 0..30 {
                    std::thread::sleep(Duration::from_millis(100));
                    session.ack().expect("a parent");
                }
                session.put("done");
            }
            "hang" => loop {
                std::hint::spin_loop();
            },
            "panic" => panic!("on purpose"),
            "block" => session.set_filter(BlockFilter::new(rest.parse().expect("a number"))),
            "idle" => {
                session.delay_set("idle", Duration::from_millis(200));
            }
            "stay" => self.stays = true,
            "peer" => session.put(format!(
                "{:?} {:?} {:?} {:?} {:?}",
                session.remote_address(),
                session.remote_ip(),
                session.remote_port(),
                session.local_address(),
                session.path(),
            )),
            "credentials" => {
                let found = session.peer_credentials().expect("credentials");
                session.put(format!("{:?} {} {}", found.pid, found.uid, found.gid));
            }
            _ => session.put(format!("what is {order:?}?")),
        }
    }
}

impl ConnClass for Obedient {
    fn handler_start(&mut self, session: &mut Session) {
        match &*self.filter {
            "crlf" => session.set_filter(LineFilter::crlf()),
            "auto" => session.set_filter(LineFilter::autodetect()),
            "stream" => session.set_filter(StreamFilter),
            _ => {}
        }
        defaults::handler_start(self, session);
    }

    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        self.said += 1;
        let text = String::from_utf8_lossy(input).into_owned();
        match (&*self.filter, text.split_once(' ')) {
            ("stream", _) => session.put(input),
            _ if text.starts_with('[') => {
                session.put(format!("block {text}"));
                session.set_filter(LineFilter::lf());
                session.put("");
            }
            (_, Some((order, rest))) => self.obey(session, order, rest),
            (_, None) => self.obey(session, &text, ""),
        }
    }

    fn handler_error(&mut self, session: &mut Session, operation: Operation, error: &io::Error) {
        let left = String::from_utf8_lossy(session.pending_input()).into_owned();
        let left = left.chars().take(20).collect::<String>();
        eprintln!(
            "told of {operation} {:?}: {error}; left {left:?}",
            error.raw_os_error()
        );
        if self.stays {
            session.delay_set("idle", Duration::from_millis(1500));
            return;
        }
        defaults::handler_error(self, session, operation, error);
    }

    fn handler_state(&mut self, session: &mut Session, state: &str) {
        match state {
            "flood" => {
                session.put("y".repeat(64 * 1024));
                session.post("flood");
            }
            _ => session.shutdown(),
        }
    }

    fn handler_stop(&mut self, session: &mut Session) {
        eprintln!("stopped {}", session.id());
        defaults::handler_stop(self, session);
    }
}

fn obedient(args: Args) -> Result<(), Error> {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .init();
    let filter = args.value("--filter").unwrap_or("").to_owned();
    let factory = move || Obedient {
        filter: filter.clone(),
        ..Obedient::default()
    };
    if let Some(path) = args.value("--unix") {
        let server = UnixServer::conn_class(path, factory);
        return run(&args, server, |_| vec![path.to_owned()]);
    }
    let server = TcpServer::conn_class(factory).max_requests(0);
    run(&args, server, |server| {
        let addresses = server.local_addrs().into_iter();
        addresses.map(|address| address.to_string()).collect()
    })
}

fn run<S: ChildServer>(
    args: &Args,
    server: S,
    addresses: impl FnOnce(&S) -> Vec<String>,
) -> Result<(), Error> {
    let children = args.parsed("--children").unwrap_or(2);
    let timeout = args.parsed("--timeout").unwrap_or(0.0);
    let mut prefork = PreFork::builder(server)
        .start_servers(children)
        // One child means that one child: a spare one would take the next client.
        .max_clients(if children == 1 { 1 } else { 50 })
        .min_spare_servers(1)
        .max_spare_servers(children.max(2))
        .timeout(Duration::from_secs_f64(timeout))
        .server_check_ack((timeout > 0.0).then(|| Duration::from_millis(200)))
        .kill_timeout(Duration::from_millis(300))
        .start()?;
    for address in addresses(prefork.server()) {
        println!("listening on {address}");
    }
    prefork.run()?;
    Ok(())
}

// What scenarios have in common.

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn told(server: &Server, what: &str) -> String {
    server.expect_stderr(what, |text| text.contains(what))
}

fn warned(server: &Server) -> bool {
    server.stderr().contains("WARN")
}

fn pid(client: &mut Client) -> u32 {
    client.ask("pid").parse().expect("a pid")
}

// Scenarios.

fn echo_over_tcp_and_unix(world: &mut World) {
    let path = world.tempdir().join("s").display().to_string();
    for arguments in [&["--children", "1"][..], &["--unix", &path]] {
        let server = world.spawn("obedient", arguments);
        let mut client = connect(&server.address());
        assert_eq!(client.ask("echo hello"), "hello");
        assert_eq!(client.ask("echo"), "");
        client.send_line("echo a\necho b");
        assert_eq!(
            (client.read_line(), client.read_line()),
            ("a".into(), "b".into())
        );
        client.send_line("quit\necho never");
        assert_eq!(client.read_rest(), "bye\n");
        told(&server, "stopped 1");
        stop(&server);
        assert!(!warned(&server));
    }
}

fn objects_are_made_one_for_each_connection(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    for number in 1..=3 {
        let mut client = connect(&server.address());
        assert_eq!(client.ask("count"), "1");
        assert_eq!(client.ask("count"), "2");
        drop(client);
        told(&server, &format!("stopped {number}"));
    }
    stop(&server);
}

fn peers_are_known(world: &mut World) {
    let path = world.tempdir().join("s").display().to_string();
    let tcp = world.spawn("obedient", &[]);
    let mut client = connect(&tcp.address());
    let seen = client.ask("peer");
    assert!(seen.starts_with("Some(127.0.0.1:"), "{seen}");
    assert!(seen.contains(" Some(127.0.0.1) Some("), "{seen}");
    let own = format!("Some({}) None", tcp.address());
    assert!(seen.ends_with(&own), "{seen}");
    stop_with(&tcp, client);
    let unix = world.spawn("obedient", &["--unix", &path]);
    let mut client = connect(&unix.address());
    assert_eq!(
        client.ask("peer"),
        format!("None None None None Some({path:?})")
    );
    let own = std::fs::metadata("/proc/self").unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    let own = format!("Some({}) {uid} {gid}", std::process::id());
    assert_eq!(client.ask("credentials"), own);
    stop_with(&unix, client);
}

fn stop_with(server: &Server, client: Client) {
    drop(client);
    stop(server);
}
