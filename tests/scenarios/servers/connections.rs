//! Connections of the stock servers: timeouts, handlers that fail, clients that reset, listeners
//! that fail.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{ask, stop, text};
use crate::support::{SOON, Scenarios, World, connect, holds, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    acker_speaks_for_a_thread_that_works,
    client_that_resets_is_no_news,
    error_of_a_handler_is_printed,
    d07_lost_listener_ends_the_server,
    parts_wait_for_as_long_as_it_takes,
    read_timeout_is_the_handlers_to_set,
    d01_shortage_of_descriptors_is_sat_out,
    write_timeout_is_the_handlers_to_set,
];

// Connections.

fn read_timeout_is_the_handlers_to_set(world: &mut World) {
    let server = world.spawn("tcp", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("patience 50"), "TimedOut");
    assert_eq!(client.ask("patience 1"), "TimedOut");
    // It is off again.
    assert!(client.is_silent(Duration::from_millis(100)));
    client.ask("pid");
    // One that the handler returns is the client's, and no news.
    client.ask("time-out");
    client.eof();
    stop(&server);
    assert_eq!(server.complaints(), "");
}

/// A write to a client that reads nothing ends with its timeout; without it the handler waited for
/// ever.
fn write_timeout_is_the_handlers_to_set(world: &mut World) {
    let path = world.tempdir().join("socket");
    let servers = [
        world.spawn("tcp", &[]),
        world.spawn("unix", &["--path", &path.to_string_lossy()]),
    ];
    for (server, patience) in servers.iter().zip([50, 1]) {
        let mut client = connect(&server.address());
        client.send_line(&format!("flood {patience}"));
        let flooded = |text: &str| text.contains(" STDERR: flooded\n");
        server.expect_stderr("the timeout", flooded);
        // It is off again: what is said last waits until there is room for it.
        client.close_write();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let flood = all.iter().take_while(|&&byte| byte == b'x').count();
        assert_eq!(String::from_utf8_lossy(&all[flood..]), "\nTimedOut\n");
        drop(client);
        stop(server);
    }
}

/// Without the last two lines of `Stream::block` the TCP stream gives up with `WouldBlock`.
fn parts_wait_for_as_long_as_it_takes(world: &mut World) {
    let path = world.tempdir().join("socket");
    let servers = [
        world.spawn("tcp", &[]),
        world.spawn("unix", &["--path", &path.to_string_lossy()]),
    ];
    for server in servers {
        let mut client = connect(&server.address());
        assert_eq!(client.ask("parts"), "in parts");
        assert!(client.is_silent(Duration::from_millis(200)));
        assert_eq!(client.ask("x"), "x");
        client.eof();
        stop(&server);
        assert_eq!(server.complaints(), "");
    }
}

fn acker_speaks_for_a_thread_that_works(world: &mut World) {
    let server = world.spawn("tcp", &["--timeout", "1000"]);
    let address = server.address();
    // Two checks of the timeout fall into that time.
    assert_eq!(ask(&address, "work 3200"), "blocking: true");
    stop(&server);
    assert!(!server.stdout().contains("TimedOut"), "{}", server.stdout());
}

fn client_that_resets_is_no_news(world: &mut World) {
    let arguments = ["--children", "1", "--max-clients", "1"];
    let server = world.spawn("tcp", &arguments);
    let address = server.address();
    for order in ["reset", "pid"] {
        let mut client = connect(&address);
        client.send_line(order);
        client.read_exact(&mut [0]).unwrap();
        client.reset();
    }
    let pid = ask(&address, "pid");
    assert_eq!(server.children(), [pid.parse::<u32>().unwrap()]);
    stop(&server);
    assert_eq!(server.complaints(), "");
}

fn error_of_a_handler_is_printed(world: &mut World) {
    let server = world.spawn("tcp", &["--children", "1", "--max-clients", "1"]);
    let address = server.address();
    let mut client = connect(&address);
    let pid = client.ask("pid");
    client.send_line("fail");
    client.eof();
    let error = format!("{pid} STDERR: connection failed: on purpose\n");
    server.expect_stderr("the error", |text| text == error);
    assert_eq!(ask(&address, "pid"), pid);
    stop(&server);
}

/// A child without a descriptor or memory for a connection logs it once, pauses for 10 ms, doubling
/// to 1 s, and tries again; it neither spins nor ends.
fn d01_shortage_of_descriptors_is_sat_out(world: &mut World) {
    // Without the pause (`back_off` in the accept loop) the child used 240 ms of a second, and more.
    let path = world.tempdir().join("relief");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let arguments = [
        "--children",
        "1",
        "--max-clients",
        "1",
        "--starve",
        text(&path),
    ];
    let server = world.spawn("tcp", &arguments);
    let mut relief = File::options().write(true).open(&path).unwrap();
    let address = server.address();
    let child = server.expect_children(1)[0];
    let mut client = connect(&address);
    client.send_line("pid");
    let complaints = |text: &str| text.matches("cannot accept for now").count();
    server.expect_stderr("the complaint", |text| complaints(text) == 1);
    let before = cpu_time(child);
    holds("it complains once", Duration::from_secs(1), || {
        complaints(&server.stderr()) == 1
    });
    let spent = cpu_time(child) - before;
    assert!(spent < Duration::from_millis(60), "{spent:?} in a second");
    relief.write_all(b"!").unwrap();
    assert_eq!(client.read_line(), child.to_string());
    drop(client);
    assert_eq!(ask(&address, "pid"), child.to_string());
    stop(&server);
}

/// The processor time that `pid` has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
    // A tick is a hundredth of a second wherever /proc is read.
    Duration::from_millis((ticks() + ticks()) * 10)
}

/// When a child has shut down the shared socket, its siblings leave with exit code 103, and the
/// parent finds the socket dead and shuts down: the clients in hand are served, and `run` returns.
fn d07_lost_listener_ends_the_server(world: &mut World) {
    // Without `lost` of the stock servers the parent would fork children that die at once, for
    // ever.
    let server = world.spawn("tcp", &[]);
    let address = server.address();
    let mut client = connect(&address);
    assert_eq!(client.ask("shut"), "shut");
    let error = format!("accept {address}: the listening socket has been shut down");
    server.expect_stderr("the reason", |text| {
        text.contains(&format!("the server has ended: {error}"))
    });
    // The client in hand is served to its end.
    client.ask("pid");
    drop(client);
    assert_eq!(server.wait(SOON).code(), Some(1), "run has failed");
    assert!(server.stderr().lines().any(|line| line == error));
}
