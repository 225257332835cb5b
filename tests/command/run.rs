//! `prefork run`: programs that accept by themselves, told of their sockets in each of the ways.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{prefork, stop, text};
use crate::support::{
    Address, SOON, Scenarios, Server, Signal, World, connect, holds, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    perl_is_told_as_systemd_does,
    perl_is_told_as_server_starter_does,
    perl_is_told_as_einhorn_does,
    perl_is_told_at_its_stdin,
    python_is_told_as_systemd_does,
    the_number_of_workers_follows_the_load,
    a_killed_worker_is_replaced,
    a_reload_runs_the_new_version_of_the_program,
    a_worker_is_told_to_stop_by_the_signal_that_it_knows,
    a_worker_needs_no_socket,
    a_status_tells_what_workers_do_by_their_words,
    a_flag_is_stronger_than_a_variable_and_a_variable_than_a_file,
    a_worker_reopens_its_logs_by_the_signal_that_it_knows,
    a_stop_begins_after_its_delay,
    haproxy_is_told_of_free_workers,
    systemd_is_told_of_start_and_stop,
];

/// Takes one connection after the other, and answers each line with how it was told of its socket.
const PERL: &str = r#"
use strict; use warnings; use IO::Handle;
STDOUT->autoflush(1);
my %told = (
    systemd => sub { $ENV{LISTEN_PID} == $$ && $ENV{LISTEN_FDS} == 1 ? 3 : die },
    starter => sub { $ENV{SERVER_STARTER_PORT} =~ /^127\.0\.0\.1:\d+=(\d+)$/ or die; $1 },
    einhorn => sub { $ENV{EINHORN_FD_COUNT} == 1 or die; $ENV{EINHORN_FD_0} },
    stdin => sub { 0 },
);
my $fd = $told{$ARGV[0]}->();
open my $listener, '+<&=', $fd or die "descriptor $fd: $!";
print "\x06\n\x11\n";
while (accept my $client, $listener) {
    print "\x13\n";
    $client->autoflush(1);
    print $client "$ARGV[0] $$ $_" while <$client>;
    close $client;
    print "\x11\n";
}
"#;

const PYTHON: &str = r#"
import os, signal, socket, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
assert os.environ["LISTEN_FDS"] == "1" and int(os.environ["LISTEN_PID"]) == os.getpid()
listener = socket.socket(fileno=3)
def say(word):
    os.write(1, word + b"\n")
say(b"\x06"); say(b"\x11")
while True:
    client, _ = listener.accept()
    say(b"\x13")
    with client, client.makefile("rw") as file:
        for line in file:
            file.write(f"systemd {os.getpid()} {line}")
            file.flush()
    say(b"\x11")
"#;

/// Whether an interpreter is there; says so if it is not.
pub(super) fn has(interpreter: &str) -> bool {
    let asked = Command::new(interpreter)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let has = asked.is_ok_and(|status| status.success());
    if !has {
        println!("skipped: there is no {interpreter}");
    }
    has
}

/// A server with this program on a port of its own.
#[track_caller]
fn run(world: &mut World, flags: &[&str], program: &[&str]) -> Server {
    let command = ["run", "--listen", "127.0.0.1:0"];
    prefork(world, &[&command, flags, &["--"], program].concat()).spawn()
}

fn is_told(world: &mut World, protocol: &str, program: &[&str]) {
    if !has(program[0]) {
        return;
    }
    let server = run(world, &["--protocol", protocol], program);
    let address = server.address();
    for round in 0..3 {
        let mut client = connect(&address);
        let answer = client.ask(&format!("hello {round}"));
        assert!(answer.starts_with(&format!("{protocol} ")), "{answer}");
        assert!(answer.ends_with(&format!(" hello {round}")), "{answer}");
    }
    let report = stop(&server);
    assert!(report.contains(" 3 BUSY"), "{report}");
}

fn perl_is_told_as_systemd_does(world: &mut World) {
    is_told(world, "systemd", &["perl", "-e", PERL, "systemd"]);
}

fn perl_is_told_as_server_starter_does(world: &mut World) {
    is_told(world, "starter", &["perl", "-e", PERL, "starter"]);
}

fn perl_is_told_as_einhorn_does(world: &mut World) {
    is_told(world, "einhorn", &["perl", "-e", PERL, "einhorn"]);
}

fn perl_is_told_at_its_stdin(world: &mut World) {
    is_told(world, "stdin", &["perl", "-e", PERL, "stdin"]);
}

fn python_is_told_as_systemd_does(world: &mut World) {
    // The interpreter itself, past whatever chooses one.
    let question = "import sys; sys.stdout.write(sys.executable)";
    let answer = Command::new("python3").args(["-c", question]).output();
    let Some(answer) = answer.ok().filter(|answer| answer.status.success()) else {
        println!("skipped: there is no python3");
        return;
    };
    let interpreter = String::from_utf8(answer.stdout).unwrap();
    is_told(world, "systemd", &[&interpreter, "-c", PYTHON]);
}

/// Programs that say when they are busy are as many as are needed.
fn the_number_of_workers_follows_the_load(world: &mut World) {
    if !has("perl") {
        return;
    }
    let flags = [
        "--start-servers",
        "2",
        "--spare",
        "2..4",
        "--max-clients",
        "7",
    ];
    let server = run(world, &flags, &["perl", "-e", PERL, "systemd"]);
    let address = server.address();
    server.expect_children(2);
    let mut clients: Vec<_> = (0..4).map(|_| connect(&address)).collect();
    for client in &mut clients {
        client.ask("hello");
    }
    server.expect_children(6);
    drop(clients);
    server.expect_children(4);
    stop(&server);
}

fn a_killed_worker_is_replaced(world: &mut World) {
    if !has("perl") {
        return;
    }
    let server = run(
        world,
        &["--start-servers", "1"],
        &["perl", "-e", PERL, "systemd"],
    );
    let address = server.address();
    let mut client = connect(&address);
    let answer = client.ask("hello");
    let pid: i32 = answer.split(' ').nth(1).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    client.gone();
    assert!(connect(&address).ask("again").ends_with(" again"));
    let report = stop(&server);
    assert!(report.contains(" 1 Killed"), "{report}");
}

/// SIGHUP after the program's file has changed.
fn a_reload_runs_the_new_version_of_the_program(world: &mut World) {
    if !has("perl") {
        return;
    }
    let file = world.tempdir().join("worker.pl");
    std::fs::write(&file, PERL).unwrap();
    let program = ["perl", file.to_str().unwrap(), "systemd"];
    let server = run(world, &["--start-servers", "2"], &program);
    let address = server.address();
    assert!(connect(&address).ask("hello").starts_with("systemd "));
    std::fs::write(&file, PERL.replace("$ARGV[0] $$", "anew $$")).unwrap();
    let old = server.children();
    server.signal(Signal::SIGHUP);
    until("the old workers to be gone", SOON, || {
        let children = server.children();
        (!children.is_empty() && old.iter().all(|pid| !children.contains(pid))).then_some(())
    });
    assert!(connect(&address).ask("hello").starts_with("anew "));
    stop(&server);
}

fn a_worker_is_told_to_stop_by_the_signal_that_it_knows(world: &mut World) {
    let script = "trap 'echo stopped; exit 0' TERM; trap '' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let flags = ["--stop-signal", "TERM", "--start-servers", "2"];
    let server = run(world, &flags, &["sh", "-c", script]);
    server.expect_stdout("both workers", |text| text.matches(" ready\n").count() == 2);
    stop(&server);
    assert_eq!(server.stdout().matches(" stopped\n").count(), 2);
}

fn a_worker_needs_no_socket(world: &mut World) {
    let script = "test -z \"$LISTEN_FDS\" && echo works; exec sleep 1000";
    let arguments = ["run", "--start-servers", "1", "--", "sh", "-c", script];
    let server = prefork(world, &arguments).spawn();
    server.expect_stdout("the worker", |text| text.contains(" works\n"));
    stop(&server);
}

fn a_flag_is_stronger_than_a_variable_and_a_variable_than_a_file(world: &mut World) {
    let file = world.tempdir().join("prefork.toml");
    std::fs::write(&file, "start_servers = 1\nprogram = ['sleep', '1000']\n").unwrap();
    let file = file.to_str().unwrap();
    let both = ["run", "--config", file];
    let server = prefork(world, &both).spawn();
    has_children(&server, 1);
    ends(&server);
    let variable = ("PREFORK_START_SERVERS", "2");
    let server = prefork(world, &both).env(variable.0, variable.1).spawn();
    has_children(&server, 2);
    ends(&server);
    let all = [&both[..], &["--start-servers", "3"]].concat();
    let server = prefork(world, &all).env(variable.0, variable.1).spawn();
    has_children(&server, 3);
    ends(&server);
}

/// As many as that, and no more.
#[track_caller]
fn has_children(server: &Server, count: usize) {
    let children = server.expect_children(count);
    holds("there are no more", Duration::from_millis(200), || {
        server.children() == children
    });
}

/// Ends a server that said no address.
#[track_caller]
fn ends(server: &Server) {
    server.signal(Signal::SIGTERM);
    let status = until("the server to end", SOON, || server.try_wait());
    assert!(status.success(), "{status}\n{}", server.stderr());
}

/// A program notes nothing in shared memory: its words count.
fn a_status_tells_what_workers_do_by_their_words(world: &mut World) {
    if !has("perl") {
        return;
    }
    let path = world.tempdir().join("status");
    let flags = ["--start-servers", "2", "--status", path.to_str().unwrap()];
    let server = run(world, &flags, &["perl", "-e", PERL, "systemd"]);
    let mut client = connect(&server.address());
    client.ask("hello");
    let status = Address::Unix(path.clone());
    let told = |what: &str| {
        let mut asked = connect(&status);
        asked.send_line("GET /status.json HTTP/1.0\r\n\r");
        asked.read_rest().contains(what)
    };
    until("a busy worker", SOON, || {
        let busy = told("\"free\":1,\"busy\":1,") && told("\"state\":\"busy\"");
        (busy && told("\"counters\":{\"connections\":1,")).then_some(())
    });
    drop(client);
    until("two free workers", SOON, || {
        told("\"free\":2,\"busy\":0,").then_some(())
    });
    stop(&server);
    assert!(!path.exists());
}

fn a_worker_reopens_its_logs_by_the_signal_that_it_knows(world: &mut World) {
    let script = "trap 'echo reopened' WINCH; trap 'exit 0' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let flags = ["--reopen-signal", "WINCH", "--start-servers", "1"];
    let server = run(world, &flags, &["sh", "-c", script]);
    server.expect_stdout("the worker", |text| text.contains(" ready\n"));
    server.signal(Signal::SIGUSR1);
    server.expect_stdout("the signal", |text| text.contains(" reopened\n"));
    stop(&server);
}

/// So that a balancer can learn of it first.
fn a_stop_begins_after_its_delay(world: &mut World) {
    if !has("perl") {
        return;
    }
    let flags = ["--pre-stop-delay", "2s"];
    let server = run(world, &flags, &["perl", "-e", PERL, "systemd"]);
    let address = server.address();
    connect(&address).ask("hello");
    let asked = Instant::now();
    server.signal(Signal::SIGTERM);
    connect(&address).ask("still there");
    assert!(server.wait(SOON).success());
    assert!(asked.elapsed() >= Duration::from_secs(2));
}

fn haproxy_is_told_of_free_workers(world: &mut World) {
    if !has("perl") {
        return;
    }
    let path = world.tempdir().join("agent");
    let flags = ["--agent-check", text(&path), "--start-servers", "2"];
    let server = run(world, &flags, &["perl", "-e", PERL, "systemd"]);
    let agent = Address::Unix(path.clone());
    let mut client = connect(&server.address());
    client.ask("hello");
    until("a share of free workers", SOON, || {
        let told = connect(&agent).read_rest();
        (told.starts_with("up ready ") && told.ends_with("%\n")).then_some(())
    });
    drop(client);
    stop(&server);
}

/// The messages of a service of `Type=notify`, at a socket of ours.
fn systemd_is_told_of_start_and_stop(world: &mut World) {
    if !has("perl") {
        return;
    }
    let path = world.tempdir().join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(SOON)).unwrap();
    let expect = |line: &str| {
        let mut message = [0; 4096];
        until(line, SOON, || {
            let length = told.recv(&mut message).expect("a message");
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            message.lines().any(|one| one == line).then_some(())
        });
    };
    let flags = ["run", "--listen", "127.0.0.1:0", "--", "perl", "-e", PERL];
    let launch = prefork(world, &[&flags[..], &["systemd"]].concat());
    let server = launch.env("NOTIFY_SOCKET", &path).spawn();
    expect("READY=1");
    connect(&server.address()).ask("hello");
    server.signal(Signal::SIGTERM);
    expect("STOPPING=1");
    assert!(server.wait(SOON).success());
}
