//! The examples, driven from outside as a user would: each flag, each kind of client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod example;
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use example::{Defaults, Example, stop};
use support::{
    Address, Client, Server, World, connect, port_is_free, processes, programs, scenarios, until,
};

const SOON: Duration = Duration::from_secs(10);

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
    Example::new("hello", "try: curl http://127.0.0.1:PORT/"),
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

fn main() -> ExitCode {
    support::main(
        programs![],
        scenarios![
            bad_flags_are_refused,
            every_example_replaces_children_after_max_requests,
            busy_address_is_refused,
            echo_over_a_path,
            echo_over_tcp,
            flags_reach_the_server_for_datagrams,
            flags_reach_the_server,
            hello_answers_bad_requests,
            hello_answers_nothing_from_the_body_of_a_bad_request,
            hello_answers_slow_clients_and_gives_up_on_silent_ones,
            hello_asks_for_a_body_that_waits,
            hello_keeps_connections_open,
            hello_knows_methods_and_paths,
            help_names_every_flag,
            help_is_not_upset_by_a_reader_that_has_gone,
            help_shows_the_defaults_of_the_example,
            hooks_show_their_effect,
            hooks_tell_of_a_timeout,
            max_requests_replaces_children,
            path_is_refused_where_it_is_of_no_use,
            policy_names_a_path_that_is_no_use,
            policy_replaces_its_own_stale_socket_only,
            servers_say_how_to_talk_to_them,
        ],
    )
}

/// Runs an example on a port of its own.
fn example(world: &mut World, name: &str, flags: &[&str]) -> Server {
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
        let server = example(world, "udp", &[&common[..], &flags].concat());
        server.address();
        server.expect_children(children);
        stop(&server);
    }
}

fn max_requests_replaces_children(world: &mut World) {
    let server = example(world, "hooks", &["--max-requests", "1"]);
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

// Echo.

fn talk_to_echo(address: &Address) {
    let mut one = connect(address);
    let mut other = connect(address);
    assert_eq!(one.ask("hello"), "hello");
    assert_eq!(other.ask("there"), "there");
    assert_eq!(one.ask(""), "");
    let long = "x".repeat(300_000);
    assert_eq!(other.ask(&long), long);
    // Bytes that are no text, and a last line without an end.
    let bytes = b"\xff\x00\x06\n\x13\nend";
    one.write_all(bytes).unwrap();
    one.close_write();
    let mut back = Vec::new();
    one.read_to_end(&mut back).unwrap();
    assert_eq!(back, bytes);
    other.close_write();
    other.eof();
}

fn echo_over_tcp(world: &mut World) {
    let server = example(world, "echo", &[]);
    let address = server.address();
    talk_to_echo(&address);
    stop(&server);
    assert!(port_is_free(&address));
    assert_eq!(server.stderr(), "");
}

fn echo_over_a_path(world: &mut World) {
    let path = world.tempdir().join("echo.sock");
    let server = world.run_example("echo", &["--path", path.to_str().unwrap()]);
    let address = server.address();
    assert_eq!(address, Address::Unix(path.clone()));
    talk_to_echo(&address);
    stop(&server);
    assert!(!path.exists());
}

// The policy's socket for orders.

/// Runs `policy` to its end with that path, and returns what it says.
#[track_caller]
fn refusal_of_policy(world: &mut World, path: &Path) -> String {
    let server = example(world, "policy", &["--path", path.to_str().unwrap()]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    server.stderr()
}

fn policy_names_a_path_that_is_no_use(world: &mut World) {
    let path = world.tempdir().join("nowhere").join("orders");
    let error = refusal_of_policy(world, &path);
    let expected = format!(
        "Error: bind {}: no such file or directory (os error 2)\n",
        path.display()
    );
    assert_eq!(error, expected);
}

fn policy_replaces_its_own_stale_socket_only(world: &mut World) {
    let path = world.tempdir().join("orders");
    let text = path.to_str().unwrap().to_owned();
    let flags = ["--path", &text, "--start-servers=1"];
    let killed = example(world, "policy", &flags);
    killed.expect_children(1);
    killed.address();
    // While it lives nobody takes its place.
    let busy = format!("Error: bind {text}: address already in use (os error 98)\n");
    assert_eq!(refusal_of_policy(world, &path), busy);
    killed.kill9();
    assert!(path.exists());
    let next = example(world, "policy", &flags);
    next.expect_stdout("how to give orders", |out| {
        out.contains(&format!("; for orders: echo -n 50 | nc -uUN {text}\n"))
    });
    let orders = UnixDatagram::unbound().unwrap();
    orders.send_to(b"50", &path).unwrap();
    next.expect_stdout("the order", |out| out.contains("policy: Percent(50)\n"));
    stop(&next);
    assert!(!path.exists());
    // A file that is no socket is somebody's.
    std::fs::write(&path, "a letter").unwrap();
    assert_eq!(refusal_of_policy(world, &path), busy);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a letter");
}

// Hello.

/// One answer.
#[derive(Debug)]
struct Answer {
    status: String,
    head: String,
    body: String,
}

impl Answer {
    /// Reads one; to a HEAD there is no body, whatever the length says.
    fn read(client: &mut Client, to_head: bool) -> Self {
        let status = client.read_line();
        let mut head = String::new();
        loop {
            let line = client.read_line();
            if line.trim_end().is_empty() {
                break;
            }
            head += &line.to_ascii_lowercase();
            head.push('\n');
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().trim_end().parse().unwrap();
        let mut body = vec![0; if to_head { 0 } else { length }];
        client.read_exact(&mut body).unwrap();
        assert!(length > 0);
        Self {
            status: status.trim_end().to_owned(),
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    fn keeps_alive(&self) -> bool {
        self.head.contains("connection: keep-alive")
    }

    /// The child that has answered, and how many it has answered so far.
    fn child(&self) -> (u32, u64) {
        let rest = self.body.strip_prefix("Hello from child ").unwrap();
        let rest = rest.strip_suffix(".\n").unwrap();
        let (pid, count) = rest.split_once(", which has answered ").unwrap();
        (pid.parse().unwrap(), count.parse().unwrap())
    }
}

fn request(client: &mut Client, text: &str) -> Answer {
    client.write_all(text.as_bytes()).unwrap();
    Answer::read(client, text.starts_with("HEAD"))
}

/// An answer that ends its connection.
fn last(address: &Address, text: &str) -> Answer {
    let mut client = connect(address);
    let answer = request(&mut client, text);
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    client.eof();
    answer
}

fn hello_keeps_connections_open(world: &mut World) {
    let server = example(world, "hello", &[]);
    let address = server.address();
    let mut client = connect(&address);
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let first = request(&mut client, get);
    assert_eq!(first.status, "HTTP/1.1 200 OK");
    assert!(first.keeps_alive());
    let (pid, count) = first.child();
    assert!(server.children().contains(&pid));
    assert_eq!(request(&mut client, get).child(), (pid, count + 1));
    // Two at once, and a body that nobody asked for.
    let with_body = "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345";
    client
        .write_all(format!("{with_body}{get}").as_bytes())
        .unwrap();
    for number in 2..4 {
        let answer = Answer::read(&mut client, false);
        assert_eq!(answer.child(), (pid, count + number));
    }
    // One child has one connection: this is another.
    let answer = last(
        &address,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert_ne!(answer.child().0, pid);
    client.close_write();
    client.eof();
    stop(&server);
    assert_eq!(server.stderr(), "");
}

fn hello_knows_methods_and_paths(world: &mut World) {
    let server = example(world, "hello", &[]);
    let address = server.address();
    let mut client = connect(&address);
    for (text, status) in [
        ("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        ("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
            "405 Method Not Allowed",
        ),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 OK"),
        ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
    ] {
        let answer = request(&mut client, text);
        assert_eq!(answer.status, format!("HTTP/1.1 {status}"), "{text:?}");
        assert!(answer.keeps_alive(), "{text:?}");
    }
    last(&address, "GET / HTTP/1.0\r\n\r\n");
    stop(&server);
}

fn hello_answers_bad_requests(world: &mut World) {
    let server = example(world, "hello", &["--max-requests", "0"]);
    let address = server.address();
    for text in [
        "\x16\x03\x01 this is no HTTP\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
    ] {
        assert_eq!(last(&address, text).status, "HTTP/1.1 400 Bad Request");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(16 * 1024));
    let status = "HTTP/1.1 431 Request Header Fields Too Large";
    assert_eq!(last(&address, &long).status, status);
    // A head that ends before it is complete.
    let mut client = connect(&address);
    client.write_all(b"GET / HT").unwrap();
    client.close_write();
    let answer = Answer::read(&mut client, false);
    assert_eq!(answer.status, "HTTP/1.1 400 Bad Request");
    client.eof();
    // A body that is too long or without a length is not waited for.
    let body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n";
    let status = "HTTP/1.1 405 Method Not Allowed";
    assert_eq!(last(&address, body).status, status);
    let body = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(last(&address, body).status, status);
    stop(&server);
    assert_eq!(server.stderr(), "");
}

/// What is refused, and cannot be told from its body, is followed by no other answer.
fn hello_answers_nothing_from_the_body_of_a_bad_request(world: &mut World) {
    let server = example(world, "hello", &["--max-requests", "0"]);
    let address = server.address();
    let body = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        "",
        "Host: x\r\nHost: x\r\n",
        "Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
        "Host: x\r\nContent-Length: +5\r\n",
        "Host: x\r\nTransfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n{body}");
        let answer = last(&address, &text);
        assert_eq!(answer.status, "HTTP/1.1 400 Bad Request", "{fields:?}");
    }
    let mut client = connect(&address);
    let head = b"GET / HTTP/1.1\r\nHost: x\r\nX: \xff\r\n\r\n";
    client.write_all(&[head, body.as_bytes()].concat()).unwrap();
    let answer = Answer::read(&mut client, false);
    assert_eq!(answer.status, "HTTP/1.1 400 Bad Request");
    client.eof();
    let close = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close, x\r\n\r\n{body}");
    assert_eq!(last(&address, &close).status, "HTTP/1.1 200 OK");
    stop(&server);
    assert_eq!(server.stderr(), "");
}

fn hello_asks_for_a_body_that_waits(world: &mut World) {
    let server = example(world, "hello", &[]);
    let mut client = connect(&server.address());
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    assert_eq!(client.read_line().trim_end(), "HTTP/1.1 100 Continue");
    assert_eq!(client.read_line().trim_end(), "");
    client.write_all(b"body").unwrap();
    let answer = Answer::read(&mut client, false);
    assert_eq!(answer.status, "HTTP/1.1 405 Method Not Allowed");
    assert!(answer.head.contains("allow: get, head\r\n"), "{answer:?}");
    assert!(answer.keeps_alive());
    drop(client);
    stop(&server);
}

fn hello_answers_slow_clients_and_gives_up_on_silent_ones(world: &mut World) {
    let server = example(world, "hello", &["--timeout", "0.5"]);
    let address = server.address();
    let mut silent = connect(&address);
    silent.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut slow = connect(&address);
    for byte in b"GET / HTTP/1.1\r\nHost: slow\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
        // In all, longer than the timeout of the children: it is the client that is slow.
        support::pause(Duration::from_millis(50));
    }
    let answer = Answer::read(&mut slow, false);
    assert!(server.children().contains(&answer.child().0));
    // After the patience of the example.
    silent.eof();
    drop(slow);
    stop(&server);
    assert!(!server.stdout().contains("TimedOut"));
}

// Hooks.

fn hooks_show_their_effect(world: &mut World) {
    let server = example(
        world,
        "hooks",
        &["--start-servers=3", "--max-spare-servers=3"],
    );
    let address = server.address();
    for number in 1..4 {
        let mut client = connect(&address);
        let greeting = client.read_line();
        let pid = greeting.strip_prefix("you talk to child ").unwrap();
        assert_eq!(client.ask("hello there"), "ok");
        let busy = format!("busy: child {pid} (number {number})\n");
        let heard = format!("{pid} STDOUT: HEARD HELLO THERE!\n");
        server.expect_stdout("both hooks", |text| {
            text.contains(&busy) && text.matches(&heard).count() >= 1
        });
        server.expect_stdout("forkoff", |text| text.contains(" 1 busy, 0 retiring"));
        drop(client);
        until("the child to be free", SOON, || {
            let stdout = server.stdout();
            let mut pools = stdout.lines().filter(|line| line.starts_with("forkoff: "));
            pools.next_back()?.contains(" 0 busy").then_some(())
        });
    }
    stop(&server);
}

fn hooks_tell_of_a_timeout(world: &mut World) {
    let server = example(world, "hooks", &["--timeout", "0.5"]);
    let address = server.address();
    let mut client = connect(&address);
    let greeting = client.read_line();
    let pid = greeting.strip_prefix("you talk to child ").unwrap();
    client.send_line("spin");
    let told = format!("timeout: child {pid} was silent for ");
    server.expect_stdout("the timeout", |text| text.contains(&told));
    // Deaf to SIGINT while it spins, it is killed.
    client.gone();
    assert!(connect(&address).read_line() != greeting);
    stop(&server);
    assert!(
        server.stdout().contains("1 TimedOut"),
        "{}",
        server.stdout()
    );
}
