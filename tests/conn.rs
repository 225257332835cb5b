//! Connection classes in real processes: one object for each client, and what clients do to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::servers::conn::{
    BlockFilter, ConnClass, LineFilter, Session, StreamFilter, defaults,
};
use prefork_server::{ChildServer, Error, Operation, PreFork, TcpServer, UnixServer};
use support::{Args, Client, Server, Signal, World, connect, programs, scenarios, until};

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(
        programs![obedient],
        scenarios![
            client_that_never_reads_is_disconnected,
            echo_over_tcp_and_unix,
            end_of_input_lets_the_answers_out,
            filter_is_exchanged_in_mid_stream,
            half_a_line_is_no_record,
            handler_that_blocks_is_killed,
            handler_that_blocks_and_says_so_is_not,
            handler_that_panics_hurts_nobody_else,
            d08_idle_client_is_sent_away_by_an_alarm,
            line_ends_of_the_client,
            line_that_is_too_long,
            many_lines_at_once_are_no_silence,
            objects_are_made_one_for_each_connection,
            output_larger_than_the_socket_takes,
            peers_are_known,
            reset_is_no_news,
            silent_client_is_not_killed,
            waiting_for_an_alarm_alone_costs_nothing,
        ],
    )
}

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

/// How much processor time a process has used, in clock ticks (of 10 ms).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living child");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let used = fields.split_whitespace().skip(11).take(2);
    used.map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

/// The most memory that a process ever had, in bytes.
fn peak(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a living child");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes
        .expect("a size")
        .parse::<usize>()
        .expect("a number")
        * 1024
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

fn silent_client_is_not_killed(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    assert!(client.is_silent(Duration::from_secs(4)));
    assert_eq!(pid(&mut client), child);
    stop_with(&server, client);
}

fn handler_that_blocks_is_killed(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut other = connect(&server.address());
    let mut client = connect(&server.address());
    let (bystander, child) = (pid(&mut other), pid(&mut client));
    client.send_line("hang");
    client.gone();
    until("the child to be replaced", SOON, || {
        let children = server.children();
        (!children.contains(&child) && children.len() > 1).then_some(())
    });
    assert_eq!(pid(&mut other), bystander);
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop_with(&server, other);
}

fn handler_that_blocks_and_says_so_is_not(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    assert_eq!(client.ask("work"), "done");
    assert_eq!(pid(&mut client), child);
    stop_with(&server, client);
}

fn many_lines_at_once_are_no_silence(world: &mut World) {
    let server = world.spawn("obedient", &["--timeout", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    // Three seconds' work that arrives in one piece.
    client.write_all(&b"slow\n".repeat(150)).unwrap();
    assert_eq!(pid(&mut client), child);
    stop_with(&server, client);
}

fn client_that_never_reads_is_disconnected(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    let before = peak(child);
    client.send_line("flood");
    let stderr = told(&server, "stopped 1");
    let line =
        "told of write None: what waits for the client exceeds the output limit of 1048576 bytes";
    assert!(stderr.contains(line), "{stderr}");
    assert!(stderr.contains("connection got write error 0"), "{stderr}");
    let grown = peak(child).saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more");
    client.gone();
    let mut next = connect(&server.address());
    assert_eq!(pid(&mut next), child, "the child serves on");
    stop_with(&server, next);
}

fn output_larger_than_the_socket_takes(world: &mut World) {
    let server = world.spawn("obedient", &[]);
    let mut client = connect(&server.address());
    for size in [1_000_000, 1_000_001, 999_999] {
        let answer = client.ask(&format!("big {size}"));
        assert_eq!(answer.len(), size);
    }
    stop_with(&server, client);
}

fn end_of_input_lets_the_answers_out(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    client.send_line("echo a\nbig 900000\necho b");
    client.close_write();
    told(&server, "told of read Some(0)");
    let answers = client.read_rest();
    assert_eq!(answers.len(), 900_005);
    assert!(answers.starts_with("a\nxx") && answers.ends_with("x\nb\n"));
    told(&server, "stopped 1");
    stop(&server);
    assert!(!warned(&server));
}

fn half_a_line_is_no_record(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    client.write_all(b"echo whole\necho ha").unwrap();
    assert_eq!(client.read_line(), "whole");
    drop(client);
    let stderr = told(&server, "stopped 1");
    assert!(stderr.contains("told of read Some(0)"), "{stderr}");
    assert!(stderr.contains("left \"echo ha\""), "{stderr}");
    assert!(!warned(&server));
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop(&server);
}

fn reset_is_no_news(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("echo a"), "a");
    client.reset();
    told(&server, "told of read Some(104)");
    told(&server, "stopped 1");
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop(&server);
    assert!(!warned(&server));
}

fn handler_that_panics_hurts_nobody_else(world: &mut World) {
    world.expect_panics();
    let server = world.spawn("obedient", &[]);
    let mut other = connect(&server.address());
    let mut client = connect(&server.address());
    let (bystander, child) = (pid(&mut other), pid(&mut client));
    client.send_line("panic");
    client.gone();
    until("the child to be replaced", SOON, || {
        let children = server.children();
        (!children.contains(&child) && children.len() > 1).then_some(())
    });
    assert_eq!(pid(&mut other), bystander);
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop_with(&server, other);
}

fn filter_is_exchanged_in_mid_stream(world: &mut World) {
    let server = world.spawn("obedient", &[]);
    let mut client = connect(&server.address());
    // At once, and byte by byte.
    client.write_all(b"block 7\n[12\n45]echo line\n").unwrap();
    assert_eq!(client.read_line(), "block [12");
    assert_eq!(client.read_line(), "45]");
    assert_eq!(client.read_line(), "line");
    for byte in b"block 4\n[\n\n]echo again\n" {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.read_line(), "block [");
    assert_eq!(client.read_line(), "");
    assert_eq!(client.read_line(), "]");
    assert_eq!(client.read_line(), "again");
    stop_with(&server, client);
    let server = world.spawn("obedient", &["--filter", "stream"]);
    let mut client = connect(&server.address());
    client.write_all(b"no\nlines\r\n").unwrap();
    client.close_write();
    assert_eq!(client.read_rest(), "no\nlines\r\n");
    stop(&server);
}

fn line_ends_of_the_client(world: &mut World) {
    for (filter, end) in [("crlf", "\r\n"), ("auto", "\r\n"), ("auto", "\n")] {
        let server = world.spawn("obedient", &["--filter", filter]);
        let mut client = connect(&server.address());
        for (at, order) in ["echo a", "echo b", "quit"].iter().enumerate() {
            let line = format!("{order}{end}");
            if at == 0 {
                // The two bytes of the line end arrive one by one.
                line.bytes()
                    .for_each(|byte| client.write_all(&[byte]).unwrap());
            } else {
                client.write_all(line.as_bytes()).unwrap();
            }
        }
        let expected = format!("a{end}b{end}bye{end}");
        assert_eq!(client.read_rest(), expected, "{filter}");
        stop(&server);
    }
}

fn line_that_is_too_long(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    // The server may be gone before all of it is sent.
    let _ = client.write_all(&vec![b'z'; 200_000]);
    let stderr = told(&server, "stopped 1");
    let line = "told of read None: a record exceeds the input limit of 65536 bytes; left \"zzz";
    assert!(stderr.contains(line), "{stderr}");
    assert!(warned(&server));
    client.gone();
    assert_eq!(connect(&server.address()).ask("echo on"), "on");
    stop(&server);
}

/// An object of a connection sends an idle client away by an alarm.
fn d08_idle_client_is_sent_away_by_an_alarm(world: &mut World) {
    let server = world.spawn("obedient", &[]);
    let mut client = connect(&server.address());
    client.send_line("idle");
    client.eof();
    stop(&server);
}

fn waiting_for_an_alarm_alone_costs_nothing(world: &mut World) {
    let server = world.spawn("obedient", &["--children", "1"]);
    let mut client = connect(&server.address());
    let child = pid(&mut client);
    client.send_line("stay");
    client.reset();
    // The system tells of a connection that is gone as often as it is asked.
    told(&server, "told of read");
    let before = ticks(child);
    told(&server, "stopped 1");
    let used = ticks(child) - before;
    assert!(used < 40, "{used} ticks");
    stop(&server);
}
