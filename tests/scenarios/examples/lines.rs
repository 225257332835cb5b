//! `echo`, `policy` and `hooks`, as clients that send lines see them.

use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::start;
use crate::example::stop;
use crate::support::{
    Address, SOON, Scenarios, World, connect, port_is_free, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    echo_over_a_path,
    echo_over_tcp,
    hooks_show_their_effect,
    hooks_tell_of_a_timeout,
    policy_names_a_path_that_is_no_use,
    policy_replaces_its_own_stale_socket_only,
];

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
    let server = start(world, "echo", &[]);
    let address = server.address();
    talk_to_echo(&address);
    stop(&server);
    assert!(port_is_free(&address));
    assert_eq!(server.complaints(), "");
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
    let server = start(world, "policy", &["--path", path.to_str().unwrap()]);
    assert_eq!(server.wait(SOON).code(), Some(69));
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
    let killed = start(world, "policy", &flags);
    let child = killed.expect_children(1)[0];
    killed.address();
    // While it lives no other takes its place.
    let busy = format!("Error: bind {text}: address already in use (os error 98)\n");
    assert_eq!(refusal_of_policy(world, &path), busy);
    killed.kill9();
    until("nobody to have the socket", SOON, || {
        (!processes::is_alive(child)).then_some(())
    });
    assert!(path.exists());
    let next = start(world, "policy", &flags);
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

// Hooks.

fn hooks_show_their_effect(world: &mut World) {
    let server = start(
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
    let server = start(world, "hooks", &["--timeout", "1"]);
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
