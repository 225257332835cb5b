//! `hello`, as HTTP clients see it: requests that are valid, invalid, slow, or have no clear end.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::start;
use crate::example::stop;
use crate::support::{
    Address, Client, SOON, Scenarios, Signal, World, connect, holds, pause, processes, scenarios,
    until,
};

pub const SCENARIOS: Scenarios = scenarios![
    hello_answers_bad_requests,
    o23_hello_answers_nothing_from_the_body_of_a_bad_request,
    hello_answers_slow_clients_and_gives_up_on_silent_ones,
    o23_hello_asks_for_a_body_that_waits,
    hello_keeps_connections_open,
    hello_knows_methods_and_paths,
    hello_tells_how_loaded_it_is,
    hello_turns_away_who_has_waited_while_all_are_busy,
    hello_goes_on_for_a_while_after_a_signal_to_stop,
    hello_has_a_holder_only_where_there_can_be_one,
    o34_hello_stops_at_once_with_idle_clients,
    o36_hello_takes_its_children_back_from_slow_clients,
];

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
    let server = start(world, "hello", &[]);
    let address = server.address();
    let mut client = connect(&address);
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let first = request(&mut client, get);
    assert_eq!(first.status, "HTTP/1.1 200 OK");
    assert!(first.keeps_alive());
    let (pid, count) = first.child();
    assert!(server.children().contains(&pid));
    assert_eq!(request(&mut client, get).child(), (pid, count + 1));
    // Two at once, and a body that was not asked for.
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
    assert_eq!(server.complaints(), "");
}

fn hello_knows_methods_and_paths(world: &mut World) {
    let server = start(world, "hello", &[]);
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

/// The header of ORCA: the share of busy children at once, the rate after a second.
fn hello_tells_how_loaded_it_is(world: &mut World) {
    let server = start(world, "hello", &["--endpoint-load", "--max-clients", "4"]);
    let address = server.address();
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = connect(&address);
    let half = "endpoint-load-metrics: text cpu_utilization=0.250, application_utilization=0.250";
    let answer = request(&mut first, get);
    assert!(answer.head.contains(&format!("{half}\r\n")), "{answer:?}");
    let mut second = connect(&address);
    let answer = request(&mut second, get);
    assert!(
        answer.head.contains("application_utilization=0.500\r\n"),
        "{answer:?}"
    );
    for _ in 0..3 {
        last(&address, "GET / HTTP/1.0\r\n\r\n");
    }
    let answer = until("a rate", SOON, || {
        let answer = request(&mut first, get);
        answer.head.contains("rps_fractional=").then_some(answer)
    });
    let (_, rate) = answer.head.split_once(", rps_fractional=").unwrap();
    let rate: f64 = rate.lines().next().unwrap().parse().unwrap();
    assert!(rate > 0.0 && rate <= 4.0, "{rate} of 4 connections");
    drop((first, second));
    stop(&server);
}

/// Of two children one is kept for that: who has waited for too long hears so at once, and not when
/// the other child is free.
fn hello_turns_away_who_has_waited_while_all_are_busy(world: &mut World) {
    let flags = ["--work", "5", "--max-queue-age", "1", "--max-clients", "2"];
    let server = start(
        world,
        "hello",
        &[&flags[..], &["--reserved-shedder"]].concat(),
    );
    server.expect_children(2);
    let address = server.address();
    let get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut served = connect(&address);
    served.write_all(get.as_bytes()).unwrap();
    assert!(served.is_silent(Duration::from_millis(200)));
    let answer = last(&address, get);
    assert_eq!(answer.status, "HTTP/1.1 503 Service Unavailable");
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    assert!(served.is_silent(Duration::from_millis(1)), "it is not busy");
    assert_eq!(Answer::read(&mut served, false).status, "HTTP/1.1 200 OK");
    drop(served);
    stop(&server);
}

/// With `--pre-stop-delay` clients are served after SIGTERM; a second one ends the delay.
fn hello_goes_on_for_a_while_after_a_signal_to_stop(world: &mut World) {
    let server = start(world, "hello", &["--pre-stop-delay", "600"]);
    let address = server.address();
    server.signal(Signal::SIGTERM);
    holds("clients are served", Duration::from_millis(300), || {
        last(&address, "GET / HTTP/1.0\r\n\r\n").status == "HTTP/1.1 200 OK"
    });
    stop(&server);
}

fn hello_answers_bad_requests(world: &mut World) {
    let server = start(world, "hello", &["--max-requests", "0"]);
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
    assert_eq!(server.complaints(), "");
}

/// A refused request whose end is unclear is the last one of its connection: no Host or two, a
/// length that is given twice or is no number, an unknown encoding. The tests of
/// `examples/common/http.rs` have the other refusals.
fn o23_hello_answers_nothing_from_the_body_of_a_bad_request(world: &mut World) {
    let server = start(world, "hello", &["--max-requests", "0"]);
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
    assert_eq!(server.complaints(), "");
}

/// A client that expects 100-continue gets it when its body is waited for.
fn o23_hello_asks_for_a_body_that_waits(world: &mut World) {
    let server = start(world, "hello", &[]);
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
    let server = start(world, "hello", &["--timeout", "1"]);
    let address = server.address();
    let mut silent = connect(&address);
    silent.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut slow = connect(&address);
    for byte in b"GET / HTTP/1.1\r\nHost: slow\r\n\r\n" {
        slow.write_all(&[*byte]).unwrap();
        // In all, longer than the timeout of the children: it is the client that is slow.
        pause(Duration::from_millis(50));
    }
    let answer = Answer::read(&mut slow, false);
    assert!(server.children().contains(&answer.child().0));
    // After the patience of the example.
    silent.eof();
    drop(slow);
    stop(&server);
    assert!(!server.stdout().contains("TimedOut"));
}

/// A client that has had its first answer, and whose connection is kept open.
fn kept(address: &Address) -> Client {
    let mut client = connect(address);
    let answer = request(&mut client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.keeps_alive(), "{answer:?}");
    client
}

/// In `hello` clients that send one byte a second have the time of one request, and less than half a
/// second while others wait. Then their children are free.
fn o36_hello_takes_its_children_back_from_slow_clients(world: &mut World) {
    let flags = ["--start-servers", "4", "--max-clients", "4"];
    let server = start(world, "hello", &flags);
    let address = server.address();
    server.expect_children(4);
    // Each has a child of its own.
    let mut slow: Vec<_> = (0..4).map(|_| kept(&address)).collect();
    let mut send = || {
        // Those whose time was over are gone.
        let sent = slow.iter_mut().map(|client| client.write_all(b"G"));
        sent.filter(Result::is_ok).count()
    };
    assert_eq!(send(), 4);
    let begun = Instant::now();
    let mut honest = connect(&address);
    let get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    honest.write_all(get.as_bytes()).unwrap();
    while honest.is_silent(Duration::from_millis(100)) {
        send();
        // What a busy machine adds is in it. A request has 5 s.
        assert!(begun.elapsed() < Duration::from_secs(4), "the slow have it");
    }
    assert_eq!(Answer::read(&mut honest, false).status, "HTTP/1.1 200 OK");
    drop(honest);
    stop(&server);
    assert_eq!(server.complaints(), "");
}

/// A client of `hello` that is idle, before its first request or after one, does not hold a stop.
fn o34_hello_stops_at_once_with_idle_clients(world: &mut World) {
    let server = start(world, "hello", &[]);
    let address = server.address();
    let mut new = connect(&address);
    let mut kept: Vec<_> = (0..3).map(|_| connect(&address)).collect();
    for client in &mut kept {
        let answer = request(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.keeps_alive());
    }
    let begun = Instant::now();
    stop(&server);
    // 50 ms for the new one, in which its request could come; the rest is for a busy machine. A
    // request has 5 s.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    kept.iter_mut().for_each(Client::eof);
    new.eof();
    assert_eq!(server.complaints(), "");
}

/// An example with the feature `holder` has one more process above the children, and one without it
/// says so. Which one it is it tells itself: what was built last need not be built as this test is.
fn hello_has_a_holder_only_where_there_can_be_one(world: &mut World) {
    let flags = ["--start-servers", "2", "--max-clients", "2"];
    let flags = [&["--port", "0", "--holder"], &flags[..]].concat();
    let server = world.run_example("hello", &flags);
    let refused = until("the example to refuse or to listen", SOON, || {
        let status = server.try_wait();
        let listens = server.stdout().contains("listening on ");
        (status.is_some() || listens).then_some(status)
    });
    if let Some(status) = refused {
        let refusal = "Error: --holder: build the example with --features holder\n";
        assert_eq!((status.code(), &*server.stderr()), (Some(64), refusal));
        let was_built = Some("without").filter(|_| !cfg!(feature = "holder"));
        assert_eq!(was_built, Some("without"), "as this test was");
        return;
    }
    let address = server.address();
    let mut children = Vec::new();
    let parent = until("two children below a parent", SOON, || {
        let parents = server.children();
        let [parent] = parents[..] else { return None };
        children = processes::children(parent);
        (children.len() == 2).then_some(parent)
    });
    // Both run: one that comes to run after the death of its parent leaves.
    until("both children to answer", SOON, || {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut both = [connect(&address), connect(&address)];
        let [one, other] = both.each_mut().map(|client| request(client, get).child());
        (one.0 != other.0).then_some(())
    });
    kill(Pid::from_raw(parent.cast_signed()), Signal::SIGKILL).unwrap();
    server.expect_stderr("a parent that has taken over", |text| {
        text.contains("another took over 2 children")
    });
    assert!(children.iter().all(|child| processes::is_alive(child.pid)));
    let mut client = connect(&address);
    client.send_line("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r");
    assert!(client.read_rest().contains("Hello from child"));
    stop(&server);
}
