//! The access log: each connection has one line, whole and right, whatever becomes of its child, and
//! also when the file is renamed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use prefork_server::servers::{Access, AccessFormat, AccessLog, TcpConn, UnixConn};
use prefork_server::{ChildServer, Confinement, Error, PreFork, TcpServer, UnixServer};

use crate::subject::{ended, log_warnings, send};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, connect, pause, processes,
    programs, scenarios, try_connect, until,
};

mod lines;
mod program;

use self::lines::{converse, expect_lines, field, lines, log_file, stop, sum};
use self::program::{logged, logged_unix};

pub const PROGRAMS: Programs = programs![logged, logged_unix];

pub const SCENARIOS: Scenarios = scenarios![
    each_line_is_whole_and_the_sum_is_right,
    lines_in_a_pipe_are_whole_too,
    no_line_is_torn_or_made_up_where_children_are_killed,
    each_way_to_end_has_its_word,
    who_may_not_connect_and_who_comes_too_late_have_lines_as_well,
    a_client_of_a_unix_socket_is_told_by_its_user,
    what_a_client_sends_cannot_forge_a_line,
    a_renamed_file_is_left_by_parent_and_children,
    i13_children_that_may_not_open_the_file_are_replaced,
    a_pipe_that_nobody_reads_holds_nobody_up,
    a_file_that_cannot_be_opened_fails_the_start,
    hooks_are_told_without_a_log,
    hello_writes_an_access_log,
];

// The scenarios.

/// Children that come and go write to one file.
fn each_line_is_whole_and_the_sum_is_right(world: &mut World) {
    let (path, name) = log_file(world);
    let flags = [
        "--log",
        &name,
        "--json",
        "--children",
        "8",
        "--max-requests",
        "5",
    ];
    let server = world.spawn("logged", &flags);
    let bytes = converse_much(&server.address());
    stop(&server);
    let lines = lines(&path);
    assert_eq!(lines.len(), 400);
    assert_eq!(
        (sum(&lines, "received"), sum(&lines, "sent")),
        (bytes, bytes)
    );
    for line in &lines {
        assert_eq!(field(line, "outcome"), "\"served\"");
        assert!(field(line, "peer").starts_with("\"127.0.0.1:"), "{line}");
    }
    let children: BTreeMap<_, _> = lines.iter().map(|line| (field(line, "pid"), ())).collect();
    assert!(children.len() >= 400 / 6, "{} children", children.len());
}

/// Four clients, each with 100 connections. How many bytes went each way in all.
fn converse_much(address: &Address) -> u64 {
    let bytes = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..4_usize {
            let (address, bytes) = (&address, &bytes);
            scope.spawn(move || {
                for number in 0..100 {
                    let long = "x".repeat((client + number * 7) % 200);
                    let moved = converse(address, &["hello", &long]).expect("a connection");
                    bytes.fetch_add(moved, Ordering::Relaxed);
                }
            });
        }
    });
    bytes.into_inner()
}

fn lines_in_a_pipe_are_whole_too(world: &mut World) {
    let (read, write) = io::pipe().expect("a pipe");
    let flags = ["--log", "-", "--json", "--children", "6"];
    let server = world.program("logged").args(&flags).stdout(write).spawn();
    let mut reader = BufReader::new(read);
    let mut first = String::new();
    reader.read_line(&mut first).expect("the address");
    let address = first.trim().strip_prefix("listening on ").expect(&first);
    let address = Address::parse(address);
    // The pipe is read while it is written to: what it has no room for would be dropped.
    let all = thread::spawn(move || reader.lines().collect::<io::Result<Vec<_>>>());
    let bytes = converse_much(&address);
    stop(&server);
    let lines = all.join().expect("a reader").expect("text");
    assert_eq!(lines.len(), 400);
    assert_eq!(sum(&lines, "sent"), bytes);
}

/// Children are killed at any moment: what a connection lacks then is its line, and no more than
/// one for each child.
fn no_line_is_torn_or_made_up_where_children_are_killed(world: &mut World) {
    const KILLS: usize = 60;
    world.deadline(Duration::from_secs(60));
    let (path, name) = log_file(world);
    let server = world.spawn("logged", &["--log", &name, "--json", "--children", "6"]);
    let address = server.address();
    let (served, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    let killing = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while killing.load(Ordering::Relaxed) {
                    let count = match converse(&address, &["some", "lines"]) {
                        Ok(_) => &served,
                        Err(_) => &broken,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // A child that is killed has served some, so that the moments differ.
        let mut killed = 0;
        while killed < KILLS {
            let before = served.load(Ordering::Relaxed);
            until("more to be served", SOON, || {
                (served.load(Ordering::Relaxed) > before + killed as u64 % 5).then_some(())
            });
            let children = server.children();
            if let Some(child) = children.get(killed % children.len().max(1)) {
                send(*child, Signal::SIGKILL);
                killed += 1;
            }
        }
        killing.store(false, Ordering::Relaxed);
    });
    stop(&server);
    let lines = lines(&path);
    let words = sum(&lines, "number");
    assert!(words > 0);
    let (served, broken) = (served.into_inner(), broken.into_inner());
    let written = lines.len() as u64;
    println!("{served} served, {broken} broken, {KILLS} killed, {written} lines");
    assert!(
        written + KILLS as u64 >= served,
        "{written} lines of {served}"
    );
    assert!(
        written <= served + broken,
        "{written} lines of {served} and {broken}"
    );
}

fn outcomes(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| field(line, "outcome").trim_matches('"'))
        .collect()
}

fn each_way_to_end_has_its_word(world: &mut World) {
    world.expect_panics();
    let (path, name) = log_file(world);
    let server = world.spawn("logged", &["--log", &name, "--json", "--children", "1"]);
    let address = server.address();
    let mut expected = Vec::new();
    for (said, outcome, received, sent) in [
        (&["describe GET /", "x"][..], "served", "17", "17"),
        (&["hello", "fail"], "failed", "11", "6"),
        (&["panic"], "panicked", "6", "0"),
        (&["four", "die"], "", "", ""),
        (&["apart"], "served", "null", "null"),
    ] {
        let mut client = connect(&address);
        for line in said {
            client.send_line(line);
        }
        client.close_write();
        client.gone();
        if !outcome.is_empty() {
            expected.push((outcome, received, sent));
        }
        expect_lines(&path, expected.len());
    }
    // A client that resets the connection.
    let mut client = connect(&address);
    client.ask("hello");
    client.send_line("unread");
    client.reset();
    let lines = expect_lines(&path, expected.len() + 1);
    assert_eq!(outcomes(&lines)[expected.len()], "lost");
    for (line, (outcome, received, sent)) in lines.iter().zip(expected) {
        assert_eq!(field(line, "outcome"), format!("\"{outcome}\""), "{line}");
        assert_eq!(
            (field(line, "received"), field(line, "sent")),
            (received, sent),
            "{line}"
        );
        assert_ne!(field(line, "queued"), "null", "{line}");
    }
    assert_eq!(field(&lines[0], "text"), "\"GET /\"");
    stop(&server);
}

fn who_may_not_connect_and_who_comes_too_late_have_lines_as_well(world: &mut World) {
    let (path, name) = log_file(world);
    let server = world.spawn("logged", &["--log", &name, "--json", "--deny"]);
    connect(&server.address()).gone();
    assert_eq!(outcomes(&expect_lines(&path, 1)), ["denied"]);
    assert_eq!(field(&lines(&path)[0], "number"), "0");
    stop(&server);

    // A child that was woken for it does not look whether the client is still there.
    let word = behind_another(world, &[], true);
    assert!(["gone", "lost"].contains(&&*word), "{word}");
    assert_eq!(behind_another(world, &["--max-age", "500"], false), "shed");
}

/// The outcome of a client that has waited for 700 ms while another one was served.
fn behind_another(world: &mut World, flags: &[&str], resets: bool) -> String {
    let (path, name) = log_file(world);
    fs::remove_file(&path).expect("a log");
    let all = [&["--log", &name, "--json", "--children", "1"], flags].concat();
    let server = world.spawn("logged", &all);
    let address = server.address();
    // A new child does not know yet how long a connection takes.
    converse(&address, &["hello"]).expect("a connection");
    let mut first = connect(&address);
    first.ask("hello");
    let mut behind = Some(connect(&address));
    if resets && let Some(behind) = behind.take() {
        behind.reset();
    }
    pause(Duration::from_millis(700));
    drop(first);
    let lines = expect_lines(&path, 3);
    stop(&server);
    assert_eq!(outcomes(&lines)[..2], ["served"; 2]);
    outcomes(&lines)[2].to_owned()
}

fn a_client_of_a_unix_socket_is_told_by_its_user(world: &mut World) {
    let (path, name) = log_file(world);
    let socket = world.tempdir().join("socket");
    let socket = socket.to_str().expect("a path in UTF-8");
    let server = world.spawn("logged_unix", &["--log", &name, "--path", socket]);
    converse(&server.address(), &["hello"]).expect("a connection");
    let line = expect_lines(&path, 1).remove(0);
    let user = format!("unix - {} [", nix::unistd::getuid());
    assert!(line.starts_with(&user), "{line}");
    assert!(
        line.contains("] \"\" served 6 received=6 queued=- took=0."),
        "{line}"
    );
    stop(&server);
}

fn what_a_client_sends_cannot_forge_a_line(world: &mut World) {
    let (path, name) = log_file(world);
    let server = world.spawn("logged", &["--log", &name]);
    let forged = "x\" served 1|192.0.2.9 - - [01/Jan/2027:00:00:00 +0000] \"GET /\\";
    let long = "\u{1}".repeat(5_000);
    converse(&server.address(), &[&format!("describe {forged}")]).expect("a connection");
    converse(&server.address(), &[&format!("describe {long}")]).expect("a connection");
    let lines = expect_lines(&path, 2);
    let escaped =
        "\"x\\x22 served 1\\x0A192.0.2.9 - - [01/Jan/2027:00:00:00 +0000] \\x22GET /\\x5C\" served";
    assert!(lines.iter().any(|line| line.contains(escaped)), "{lines:?}");
    assert!(lines.iter().all(|line| line.len() < 4096));
    stop(&server);
}

fn a_renamed_file_is_left_by_parent_and_children(world: &mut World) {
    let (path, name) = log_file(world);
    let server = world.spawn(
        "logged",
        &["--log", &name, "--children", "3", "--max-requests", "0"],
    );
    let address = server.address();
    let mut clients: Vec<_> = (0..3).map(|_| connect(&address)).collect();
    clients
        .iter_mut()
        .for_each(|client| drop(client.ask("hello")));
    let children = server.children();
    let old = path.with_extension("1");
    fs::rename(&path, &old).expect("a log");
    server.signal(Signal::SIGUSR1);
    until("all to have the new file", SOON, || {
        let path = path.to_str()?;
        let has_it = |pid: &u32| leads_to(*pid, path);
        let all = [server.pid()].iter().chain(&children).all(has_it);
        all.then_some(())
    });
    drop(clients);
    expect_lines(&path, 3);
    assert_eq!(lines(&old), [""; 0]);
    // A newcomer has the new one from the parent.
    send(children[0], Signal::SIGKILL);
    until("a successor", SOON, || {
        let now = server.children();
        let new = now.iter().find(|pid| !children.contains(pid))?;
        leads_to(*new, &name).then_some(())
    });
    assert_eq!(server.children().len(), 3);
    stop(&server);
}

fn leads_to(pid: u32, path: &str) -> bool {
    let descriptors = processes::descriptors(pid);
    descriptors.iter().any(|(_, target)| target == path)
}

/// The directory is for root alone. The file was opened before the children became somebody else.
fn i13_children_that_may_not_open_the_file_are_replaced(world: &mut World) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = world.tempdir().join("closed");
    fs::create_dir(&directory).expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&directory, mode).expect("a mode");
    let path = directory.join("access.log");
    let name = path.to_str().expect("a path in UTF-8");
    let flags = ["--log", name, "--children", "2", "--user", "nobody"];
    let server = world.spawn("logged", &flags);
    let address = server.address();
    converse(&address, &["hello"]).expect("a connection");
    expect_lines(&path, 1);
    let before = server.expect_children(2);
    let old = directory.join("old");
    fs::rename(&path, &old).expect("a log");
    server.signal(Signal::SIGUSR1);
    until("successors", SOON, || {
        let now = server.children();
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    });
    converse(&address, &["again"]).expect("a connection");
    expect_lines(&path, 1);
    assert_eq!(lines(&old).len(), 1);
    stop(&server);
}

fn a_pipe_that_nobody_reads_holds_nobody_up(world: &mut World) {
    let (read, write) = io::pipe().expect("a pipe");
    let flags = ["--log", "-", "--children", "1"];
    let server = world.program("logged").args(&flags).stdout(write).spawn();
    let mut reader = BufReader::new(read);
    let mut first = String::new();
    reader.read_line(&mut first).expect("the address");
    let address = Address::parse(first.trim().strip_prefix("listening on ").expect(&first));
    // Far more than a pipe takes.
    let text = format!("describe {}", "x".repeat(500));
    for _ in 0..200 {
        converse(&address, &[&text]).expect("a connection");
    }
    let mut read = 0;
    while read < 50 {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        read += usize::from(line.ends_with('\n') && line.contains(" served "));
    }
    converse(&address, &["now there is room"]).expect("a connection");
    server.expect_stderr("the number of lines that were dropped", |text| {
        text.contains(" lines of the access log were dropped: it had no room")
    });
    // It would wait for the end of the pipe otherwise.
    drop(reader);
    stop(&server);
}

fn a_file_that_cannot_be_opened_fails_the_start(world: &mut World) {
    let path = world.tempdir().join("nowhere/access.log");
    let name = path.to_str().expect("a path in UTF-8");
    let server = world.spawn("logged", &["--log", name]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let stderr = server.stderr();
    let expected = format!("the access log {name}: No such file or directory");
    assert!(stderr.contains(&expected), "{stderr}");
}

fn hooks_are_told_without_a_log(world: &mut World) {
    let server = world.spawn("logged", &["--hooks", "--children", "1"]);
    let address = server.address();
    for _ in 0..2 {
        converse(&address, &["hello"]).expect("a connection");
    }
    let pid = server.children()[0];
    let stdout = server.expect_stdout("two connections", |text| text.contains("hook 2 2"));
    let expected = format!("{pid} STDOUT: hook 1 1 served\n{pid} STDOUT: second {pid}\n");
    assert!(stdout.contains(&expected), "{stdout}");
    stop(&server);
}

fn hello_writes_an_access_log(world: &mut World) {
    let (path, name) = log_file(world);
    let server = world.run_example("hello", &["--port", "0", "--access-log", &name]);
    let mut client = connect(&server.address());
    client.send_line("GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r");
    let answer = client.read_rest();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    drop(client);
    let line = expect_lines(&path, 1).remove(0);
    let expected = format!("] \"GET /none 404\" served {} received=", answer.len());
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.contains(&expected),
        "{line}"
    );
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}
