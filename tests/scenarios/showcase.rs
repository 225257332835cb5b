//! The examples that show what the framework is for: a custom server for datagrams, and a handler
//! that crashes.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use crate::support;
use crate::support::{
    Address, SOON, Scenarios, Server, Signal, World, connect, pause, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    crash_hurts_one_client_only,
    crash_bounds_every_connection,
    leak_ends_with_the_child,
    udp_answers_and_reports,
    udp_child_leaves_at_sigint,
    udp_child_that_blocks_is_killed,
    udp_datagram_wakes_one_child,
];

/// Ends a server in order, and returns the line of its report.
#[track_caller]
fn stop(server: &Server) -> String {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
    let stdout = server.stdout();
    let report = stdout.lines().find(|line| line.contains(" forked, "));
    report.expect("a report").to_owned()
}

/// The number before `word` in a report; 0 if it does not occur.
fn count(report: &str, word: &str) -> u64 {
    let words: Vec<&str> = report.split([' ', ',', ';', ':']).collect();
    let at = words.iter().position(|candidate| *candidate == word);
    at.and_then(|at| words[at.checked_sub(1)?].parse().ok())
        .unwrap_or(0)
}

#[track_caller]
fn until_gone(pid: u32) {
    until(&format!("process {pid} to be gone"), SOON, || {
        (!processes::is_alive(pid)).then_some(())
    });
}

// Datagrams.

/// A client of the server for datagrams.
struct Datagrams(UdpSocket);

impl Datagrams {
    fn to(server: &Server) -> Self {
        let Address::Tcp(address) = server.address() else {
            panic!("an address with a port");
        };
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    #[track_caller]
    fn ask(&self, text: &str) -> String {
        self.0.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 1024];
        let length = self.0.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

fn udp_answers_and_reports(world: &mut World) {
    let flags = [
        "--port",
        "0",
        "--start-servers",
        "3",
        "--max-requests",
        "10",
    ];
    let server = world.run_example("udp", &flags);
    let client = Datagrams::to(&server);
    for round in 0..100 {
        assert_eq!(
            client.ask(&format!("round {round}")),
            format!("ROUND {round}")
        );
    }
    let report = stop(&server);
    // One word for several datagrams, where the next had come before the child looked.
    assert!((1..=100).contains(&count(&report, "BUSY")), "{report}");
    // Once a child it is in the first ACK.
    let first = count(&report, "forked");
    assert!(count(&report, "NOT_BUSY") > first, "{report}");
    assert!(count(&report, "Finished") >= 1, "{report}");
    assert_eq!(count(&report, "FailedStart"), 0, "{report}");
    // Those that have left at their limit were in order, though they said no NOT_BUSY.
    assert!(report.contains("; 0 connections lost"), "{report}");
}

fn udp_child_leaves_at_sigint(world: &mut World) {
    let server = world.run_example("udp", &["--port", "0", "--start-servers", "1"]);
    let client = Datagrams::to(&server);
    let child = server.expect_children(1)[0];
    assert_eq!(client.ask("a"), "A");
    let pid = nix::unistd::Pid::from_raw(child.cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    until_gone(child);
    // A stop that came before the parent has seen the end would be taken for its cause.
    until("the parent to reap it", SOON, || {
        server.zombies().is_empty().then_some(())
    });
    assert_eq!(client.ask("b"), "B");
    let report = stop(&server);
    assert_eq!(count(&report, "Finished"), 1, "{report}");
}

fn udp_child_that_blocks_is_killed(world: &mut World) {
    let flags = ["--port", "0", "--start-servers", "1", "--timeout", "2"];
    let server = world.run_example("udp", &flags);
    let client = Datagrams::to(&server);
    let child = server.expect_children(1)[0];
    client.0.send(b"spin").unwrap();
    assert_eq!(client.ask("meanwhile"), "MEANWHILE");
    until_gone(child);
    assert_eq!(client.ask("after"), "AFTER");
    let report = stop(&server);
    assert_eq!(count(&report, "TimedOut"), 1, "{report}");
}

/// How often the children have gone to sleep, all in all.
fn sleeps(children: &[u32]) -> u64 {
    let one = |pid: &u32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = status.split_once("\nvoluntary_ctxt_switches:").unwrap().1;
        field.split_whitespace().next().unwrap().parse().unwrap()
    };
    children.iter().map(one).sum()
}

fn udp_datagram_wakes_one_child(world: &mut World) {
    const CHILDREN: usize = 12;
    const ROUNDS: u64 = 30;
    let flags = [
        "--port",
        "0",
        "--start-servers",
        "12",
        "--max-spare-servers",
        "20",
        "--max-requests",
        "0",
    ];
    let server = world.run_example("udp", &flags);
    let client = Datagrams::to(&server);
    let children = server.expect_children(CHILDREN);
    // All have started, and wait.
    let before = until("the children to be quiet", SOON, || {
        let before = sleeps(&children);
        pause(Duration::from_millis(50));
        let asleep = children
            .iter()
            .all(|pid| processes::state(*pid) == Some('S'));
        (asleep && sleeps(&children) == before).then_some(before)
    });
    for _ in 0..ROUNDS {
        assert_eq!(client.ask("a"), "A");
    }
    let woken = sleeps(&children) - before;
    // All of them each time would be 360.
    assert!(woken <= ROUNDS * 4, "{woken} for {ROUNDS} datagrams");
    stop(&server);
}

// Crashes.

/// Sends a request; the answer is still to be read.
fn request(address: &Address, path: &str) -> support::Client {
    let mut client = connect(address);
    client.send_line(&format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r"));
    client
}

fn crash_hurts_one_client_only(world: &mut World) {
    let server = world.run_example("crash", &["--port", "0", "--start-servers", "3"]);
    let address = server.address();
    let done = Arc::new(AtomicBool::new(false));
    let steady = thread::spawn({
        let (address, done) = (address.clone(), Arc::clone(&done));
        move || {
            let mut answers = 0;
            // A hundred, however long they take on a busy machine.
            while answers < 100 || !done.load(Ordering::Relaxed) {
                let answer = request(&address, "/").read_rest();
                assert!(answer.ends_with("is well.\n"), "{answer:?}");
                answers += 1;
                pause(Duration::from_millis(2));
            }
        }
    });
    for path in ["/segv", "/abort", "/exit", "/spin", "/segv"] {
        request(&address, path).eof();
    }
    let lost = request(&address, "/nowhere").read_rest();
    assert!(lost.starts_with("HTTP/1.1 404 "), "{lost:?}");
    done.store(true, Ordering::Relaxed);
    steady.join().unwrap();
    let report = stop(&server);
    assert_eq!(count(&report, "Killed"), 3, "{report}");
    assert_eq!(count(&report, "Failed"), 1, "{report}");
    assert_eq!(count(&report, "TimedOut"), 1, "{report}");
    assert_eq!(count(&report, "FailedStart"), 0, "{report}");
}

/// Without a `timeout`, so that only the clock of the connection can end the loop.
fn crash_bounds_every_connection(world: &mut World) {
    let flags = ["--port", "0", "--timeout", "0", "--start-timeout", "30"];
    let server = world.run_example("crash", &[&flags[..], &["--busy-timeout", "2"]].concat());
    let address = server.address();
    request(&address, "/spin").eof();
    let answer = request(&address, "/").read_rest();
    assert!(answer.ends_with("is well.\n"), "{answer:?}");
    let report = stop(&server);
    assert_eq!(count(&report, "Overtime"), 1, "{report}");
    for flag in ["--busy-timeout", "--start-timeout"] {
        let server = world.run_example("crash", &["--port", "0", flag, "soon"]);
        assert_eq!(server.wait(SOON).code(), Some(64));
    }
}

fn leak_ends_with_the_child(world: &mut World) {
    let flags = ["--port", "0", "--start-servers", "1", "--max-requests", "3"];
    let server = world.run_example("crash", &flags);
    let address = server.address();
    let leaked: Vec<u32> = (0..7)
        .map(|_| {
            let answer = request(&address, "/leak").read_rest();
            let (_, rest) = answer.split_once("has leaked ").expect("a number");
            rest.split_whitespace().next().unwrap().parse().unwrap()
        })
        .collect();
    assert!(leaked.contains(&48), "{leaked:?}");
    assert!(
        leaked.iter().all(|mebibytes| *mebibytes <= 48),
        "{leaked:?}"
    );
    stop(&server);
}
