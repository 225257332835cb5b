//! `prefork inetd`: programs that know nothing of the framework, with real clients.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{prefork, stop, tell};
use crate::support::{
    Address, Client, SOON, Scenarios, Server, Signal, World, connect, holds, pause, processes,
    scenarios, until,
};

pub mod ends;

pub const SCENARIOS: Scenarios = scenarios![
    cat_answers,
    wc_counts_what_a_client_has_sent,
    many_clients_are_served_at_once_and_no_more_than_max_clients,
    a_program_is_told_who_its_client_is,
    a_program_is_told_of_a_client_of_a_unix_socket,
    an_answer_is_not_lost_to_what_was_not_read,
    a_silent_client_is_no_hang,
    settings_come_from_a_file_too,
    each_connection_has_a_line,
    children_are_confined,
    a_relative_program_is_one_of_the_directory_of_the_children,
    a_program_has_the_default_for_what_its_child_ignores,
    who_is_denied_or_too_late_costs_no_program,
    one_client_has_no_more_than_its_share,
    a_backlog_is_that_of_the_socket,
    a_default_that_gives_way_is_no_mistake,
    a_stop_says_for_whom_it_waits,
    none_empties_a_list,
];

/// A server with this program on a port of its own.
#[track_caller]
fn inetd(world: &mut World, flags: &[&str], program: &[&str]) -> Server {
    let command = ["inetd", "--listen", "127.0.0.1:0"];
    prefork(world, &[&command, flags, &["--"], program].concat()).spawn()
}

/// What a server answers to `request`, to its end.
#[track_caller]
fn answer(address: &Address, request: &[u8]) -> String {
    let mut client = connect(address);
    client.write_all(request).expect("the request to be taken");
    client.close_write();
    client.read_rest()
}

/// The pid that the program tells in its first line.
#[track_caller]
fn told_pid(client: &mut Client) -> u32 {
    client.read_line().parse().expect("a pid")
}

#[track_caller]
fn until_gone(pid: u32) {
    until(&format!("process {pid} to be gone"), SOON, || {
        (!processes::is_alive(pid)).then_some(())
    });
}

fn cat_answers(world: &mut World) {
    let server = inetd(world, &[], &["cat"]);
    let address = server.address();
    let mut client = connect(&address);
    assert_eq!(client.ask("hello"), "hello");
    assert_eq!(client.ask("again"), "again");
    client.close_write();
    client.eof();
    let report = stop(&server);
    assert!(!report.contains(" 0 BUSY"), "{report}");
    assert_eq!(server.stderr(), "");
}

fn wc_counts_what_a_client_has_sent(world: &mut World) {
    let server = inetd(world, &[], &["wc", "-l"]);
    let address = server.address();
    for count in [0, 1, 1000] {
        let lines = "a line\n".repeat(count);
        assert_eq!(answer(&address, lines.as_bytes()).trim(), count.to_string());
    }
    stop(&server);
}

fn many_clients_are_served_at_once_and_no_more_than_max_clients(world: &mut World) {
    let server = inetd(world, &["--max-clients", "12", "--spare", "1..3"], &["cat"]);
    let address = server.address();
    let mut clients: Vec<_> = (0..12).map(|_| connect(&address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&number.to_string()), number.to_string());
    }
    assert_eq!(server.expect_children(12).len(), 12);
    // The next one waits for a child, and is served when there is one.
    let mut next = connect(&address);
    next.send_line("next");
    holds("max_clients children", Duration::from_millis(300), || {
        server.children().len() == 12
    });
    drop(clients.pop());
    assert_eq!(next.read_line(), "next");
    drop((clients, next));
    stop(&server);
}

fn a_program_is_told_who_its_client_is(world: &mut World) {
    let server = inetd(world, &[], &["env"]);
    let address = server.address();
    let mut client = connect(&address);
    let from = client.local_address();
    let environment = client.read_rest();
    let Address::Tcp(to) = address else {
        panic!("{address} is no address of TCP")
    };
    for line in [
        "PROTO=TCP".to_owned(),
        format!("TCPREMOTEIP={}", from.ip()),
        format!("TCPREMOTEPORT={}", from.port()),
        format!("TCPLOCALIP={}", to.ip()),
        format!("TCPLOCALPORT={}", to.port()),
        format!("REMOTE_ADDR={}", from.ip()),
        format!("REMOTE_PORT={}", from.port()),
    ] {
        let is_there = environment.lines().any(|found| found == line);
        assert!(is_there, "no {line} in {environment}");
    }
    stop(&server);
}

fn a_program_is_told_of_a_client_of_a_unix_socket(world: &mut World) {
    let path = world.tempdir().join("x.sock");
    let listen = format!("{},mode=600", path.display());
    let flags = ["inetd", "--listen", &listen, "--", "env"];
    let server = prefork(world, &flags).spawn();
    let mut client = connect(&server.address());
    let environment = client.read_rest();
    for line in [
        "PROTO=UNIX".to_owned(),
        format!("UNIXLOCALPATH={}", path.display()),
        format!("UNIXREMOTEPID={}", std::process::id()),
    ] {
        let is_there = environment.lines().any(|found| found == line);
        assert!(is_there, "no {line} in {environment}");
    }
    stop(&server);
    assert!(!path.exists());
}

/// A script that answers before it has read the request, as most first scripts do.
fn an_answer_is_not_lost_to_what_was_not_read(world: &mut World) {
    let script = "read line; echo \"you said $line\"";
    let server = inetd(world, &[], &["sh", "-c", script]);
    let address = server.address();
    for _ in 0..5 {
        let mut client = connect(&address);
        client.write_all(b"hello\n").unwrap();
        client.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(client.read_rest(), "you said hello\n");
    }
    stop(&server);
}

/// The child that waits for its program goes on saying ACK.
fn a_silent_client_is_no_hang(world: &mut World) {
    let server = inetd(world, &["--timeout", "2s"], &["cat"]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    holds("the client is served", Duration::from_secs(5), || {
        !server.children().is_empty()
    });
    assert_eq!(client.ask("still here"), "still here");
    drop(client);
    let report = stop(&server);
    assert!(!report.contains("TimedOut"), "{report}");
}

fn settings_come_from_a_file_too(world: &mut World) {
    let file = world.tempdir().join("prefork.toml");
    let text = "listen = '127.0.0.1:0'\nprogram = ['sh', '-c', 'cat; echo $0', 'end']\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let server = prefork(world, &["inetd", "--config", file]).spawn();
    assert_eq!(answer(&server.address(), b"hello\n"), "hello\nend\n");
    stop(&server);
}

fn children_are_confined(world: &mut World) {
    if !nix::unistd::geteuid().is_root() || !Path::new("/etc/passwd").exists() {
        println!("skipped: only root may become another user");
        return;
    }
    let nobody = Command::new("id").args(["-u", "nobody"]).output();
    let Some(nobody) = nobody.ok().filter(|output| output.status.success()) else {
        println!("skipped: there is no user nobody");
        return;
    };
    let flags = [
        "--user",
        "nobody",
        "--limit-open-files",
        "40:64",
        "--no-new-privs",
    ];
    let script = "id -u; ulimit -n; grep NoNewPrivs /proc/self/status";
    let server = inetd(world, &flags, &["sh", "-c", script]);
    let told = answer(&server.address(), b"");
    let nobody = String::from_utf8(nobody.stdout).unwrap();
    assert_eq!(told, format!("{nobody}40\nNoNewPrivs:\t1\n"));
    stop(&server);
}

/// A client of a denied address, and one that has waited for longer than it may.
fn a_relative_program_is_one_of_the_directory_of_the_children(world: &mut World) {
    let directory = world.tempdir();
    let script = directory.join("answer.sh");
    fs::write(&script, "#!/bin/sh\necho hello\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    let directory = directory.to_str().unwrap();
    let server = inetd(world, &["--directory", directory], &["./answer.sh"]);
    assert_eq!(connect(&server.address()).read_line(), "hello");
    stop(&server);
    // One that is only here is none.
    let flags = ["inetd", "--listen", "127.0.0.1:0", "--directory", "/"];
    let nowhere = tell(world, &[&flags[..], &["--", "./Cargo.toml"]].concat(), 69);
    assert!(
        nowhere.starts_with("prefork: /./Cargo.toml: there is no"),
        "{nowhere}"
    );
}

/// A child ignores SIGTTIN and SIGTTOU; a shell with job control would not work with that.
fn a_program_has_the_default_for_what_its_child_ignores(world: &mut World) {
    let server = inetd(world, &[], &["grep", "SigIgn", "/proc/self/status"]);
    let program = connect(&server.address()).read_rest();
    let mask = program.strip_prefix("SigIgn:").expect("a mask");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
    // What the process that has started this test ignores is no matter of the server's.
    for signal in [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGPIPE] {
        assert_eq!(mask & 1 << (signal as u64 - 1), 0, "{signal}: {program}");
    }
    stop(&server);
}

fn who_is_denied_or_too_late_costs_no_program(world: &mut World) {
    let server = inetd(world, &["--deny", "127.0.0.0/8"], &["echo", "hello"]);
    assert_eq!(connect(&server.address()).read_rest(), "");
    let report = stop(&server);
    let denied = "; 1 connections refused: the client may not connect";
    assert!(report.ends_with(denied), "{report}");
    let pool = ["--max-clients", "1", "--start-servers", "1"];
    let rules = ["--allow", "127.0.0.0/8", "--max-queue-age", "500ms"];
    let server = inetd(world, &[&pool[..], &rules].concat(), &["cat"]);
    let mut first = connect(&server.address());
    assert_eq!(first.ask("hello"), "hello");
    let mut late = connect(&server.address());
    assert!(late.is_silent(Duration::from_millis(700)));
    drop(first);
    assert_eq!(late.read_rest(), "");
    let report = stop(&server);
    let late = "; 1 connections refused: it was queued for too long";
    assert!(report.ends_with(late), "{report}");
}

fn each_connection_has_a_line(world: &mut World) {
    let path = world.tempdir().join("access.log");
    let name = path.to_str().expect("a path in UTF-8");
    let flags = ["--access-log", name, "--access-log-format", "json"];
    let program = ["sh", "-c", "read line; exit $line"];
    let server = inetd(world, &flags, &program);
    let address = server.address();
    for (code, text) in [("0", "\"\""), ("7", "\"exit status: 7\"")] {
        assert_eq!(answer(&address, format!("{code}\n").as_bytes()), "");
        let expected =
            format!("\"received\":null,\"sent\":null,\"outcome\":\"served\",\"text\":{text},");
        until("its line", SOON, || {
            fs::read_to_string(&path)
                .ok()?
                .contains(&expected)
                .then_some(())
        });
    }
    stop(&server);
    let text = fs::read_to_string(&path).expect("a log");
    assert_eq!(text.lines().count(), 2);
}

fn one_client_has_no_more_than_its_share(world: &mut World) {
    let server = inetd(world, &["--max-per-peer", "2"], &["cat"]);
    let address = server.address();
    let mut held = [connect(&address), connect(&address)];
    for client in &mut held {
        assert_eq!(client.ask("hello"), "hello");
    }
    connect(&address).gone();
    drop(held);
    until("room", SOON, || {
        let mut client = connect(&address);
        client.try_send_line("again").ok()?;
        (client.try_read_line().ok()?? == "again").then_some(())
    });
    stop(&server);
}

/// As the system tells it of a listening socket.
fn a_backlog_is_that_of_the_socket(world: &mut World) {
    let server = inetd(world, &["--backlog", "3", "--max-clients", "1"], &["cat"]);
    let address = server.address();
    let mut held = connect(&address);
    assert_eq!(held.ask("hello"), "hello");
    // As many as that and one more are queued; others do not get through.
    let connects = || {
        let Address::Tcp(address) = &address else {
            panic!("{address} is no address of TCP")
        };
        std::net::TcpStream::connect_timeout(address, Duration::from_millis(300))
    };
    let queued: Vec<_> = (0..8).map(|_| connects()).filter_map(Result::ok).collect();
    assert_eq!(queued.len(), 4);
    drop((held, queued));
    stop(&server);
}

fn a_default_that_gives_way_is_no_mistake(world: &mut World) {
    let server = inetd(world, &["--max-clients", "2"], &["cat"]);
    let address = server.address();
    assert_eq!(connect(&address).ask("hello"), "hello");
    stop(&server);
    assert_eq!(server.stderr(), "");
    let server = inetd(
        world,
        &["--max-clients", "2", "--start-servers", "7"],
        &["cat"],
    );
    server.expect_stderr("what is wrong", |text| {
        text.contains("start_servers 7 makes no sense, using 2")
    });
    server.address();
    stop(&server);
}

fn a_stop_says_for_whom_it_waits(world: &mut World) {
    let server = inetd(world, &[], &["cat"]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("hello"), "hello");
    // One that it has had for a moment only is not worth a line.
    pause(Duration::from_secs(1));
    server.signal(Signal::SIGTERM);
    let line = "prefork: stopping: 1 child still serves; a second Ctrl-C ends it\n";
    server.expect_stderr("for whom", |text| text == line);
    drop(client);
    assert!(server.wait(SOON).success());
}

/// Also one that a file has filled.
fn none_empties_a_list(world: &mut World) {
    let file = world.tempdir().join("x.toml");
    let text = "listen = '127.0.0.1:0'\nprogram = 'cat'\ndeny = '127.0.0.0/8'\n";
    fs::write(&file, text).unwrap();
    let arguments = [
        "inetd",
        "--config",
        file.to_str().unwrap(),
        "--deny",
        "none",
    ];
    let server = prefork(world, &arguments).spawn();
    assert_eq!(connect(&server.address()).ask("hello"), "hello");
    stop(&server);
}
