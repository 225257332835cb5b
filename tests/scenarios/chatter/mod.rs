//! What children write: parts of lines, odd bytes, floods, words out of order, into the wrong pipe,
//! to a parent that is stopped.

pub mod floods;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::servers::TcpConn;
use prefork_server::{Error, PreFork, TcpServer, Word};

use crate::injection::Strace;
use crate::subject::{
    Held, Journal, announce, count, deaths, ended, ends_well, expect_entry, expect_exit, expect_up,
    hold, journal, log_warnings, millis, pids,
};

use crate::support::{
    Args, Programs, SOON, Scenarios, Server, World, holds, pause, processes, programs, scenarios,
    until,
};

pub const PROGRAMS: Programs = programs![chatter];

pub const SCENARIOS: Scenarios = scenarios![
    c01_bytes_without_a_word_are_no_sign_of_life,
    c04_a_nul_byte_cuts_no_line_short,
    c05_bytes_that_are_no_text_are_passed_on,
    c07_printed_numbers_and_names_are_no_words,
    c08_words_out_of_order_break_nothing,
    c13_what_is_written_into_the_death_watch_ends_nobody,
    c14_a_read_error_costs_that_child_only,
    c14_a_read_error_ends_the_server_if_errors_are_to,
];

// The program.

/// Its handler prints what the client orders, and its parent keeps a journal.
fn chatter(args: Args) -> ExitCode {
    log_warnings();
    ended(run(&args))
}

fn run(args: &Args) -> Result<(), Error> {
    let server = TcpServer::new(obey).max_requests(0);
    let mut prefork = PreFork::builder(server)
        .hooks(Journal::new(args))
        .start_servers(count(args, "--start", 2))
        .max_spare_servers(100)
        .timeout(millis(args, "--timeout", 0))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .kill_timeout(millis(args, "--kill-timeout", 10_000))
        .shutdown_on_error(!args.has("--bear-errors"))
        .start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

/// Answers `who` as the subject does, and prints what the other orders say.
fn obey(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        let (order, text) = line.split_once(' ').unwrap_or((&line, ""));
        match order {
            "who" => writeln!(&conn, "{} who", std::process::id())?,
            "print" => println!("{text}"),
            "say" => raw(&bytes(text))?,
            "fill" => {
                for _ in 0..text.parse().unwrap() {
                    println!("{}", "x".repeat(1000));
                }
            }
            "drip" => loop {
                raw(b"x")?;
                pause(Duration::from_millis(20));
            },
            "flood" => {
                writeln!(&conn, "done")?;
                let block = "flood\n".repeat(5000);
                while !conn.shutdown_requested() {
                    raw(block.as_bytes())?;
                    io::stderr().write_all(block.as_bytes())?;
                }
            }
            _ => return Err(io::Error::other(format!("no such order: {order}"))),
        }
        if order != "who" {
            writeln!(&conn, "done")?;
        }
    }
    Ok(())
}

/// Writes to stdout and leaves nothing in its buffer.
fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Bytes in hexadecimal digits, with blanks between them.
fn bytes(text: &str) -> Vec<u8> {
    let numbers = text.split_whitespace();
    numbers
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

// What the scenarios share.

#[track_caller]
fn order(held: &mut Held, order: &str) {
    assert_eq!(held.client.ask(order), "done");
}

#[track_caller]
fn expect_line(server: &Server, line: &str) {
    server.expect_stdout(&format!("{line:?}"), |text| {
        text.lines().any(|found| found == line)
    });
}

#[track_caller]
fn expect_moves(server: &Server, pid: u32, moves: &[&str]) {
    until("the moves of the child to be heard", SOON, || {
        (events(server, pid) == moves).then_some(())
    });
}

/// What the journal says of `pid`, once it was ready.
fn events(server: &Server, pid: u32) -> Vec<String> {
    const START: [&str; 3] = ["forked", "up", "ready"];
    let mut entries = journal(server);
    entries.retain(|entry| entry.pid == pid && !START.contains(&&*entry.event));
    entries.into_iter().map(|entry| entry.event).collect()
}

// The scenarios.

/// Only a whole word postpones the end of a silent child. An unfinished line is printed when the
/// child is dead, before its death is reported.
fn c01_bytes_without_a_word_are_no_sign_of_life(world: &mut World) {
    // When whatever was read counted as an ACK (`acknowledge` in `read_some`), the child was never
    // told to stop.
    let arguments = ["--timeout", "1000", "--kill-timeout", "200"];
    let server = world.spawn("chatter", &arguments);
    let address = server.address();
    let mut dripping = Held::new(&address);
    dripping.client.send_line("drip");
    expect_entry(&server, "silent-busy", dripping.pid);
    expect_exit(&server, dripping.pid, "TimedOut signal: 9 (SIGKILL)");
    let text = server.stdout();
    let tail = text.find(&format!("{} STDOUT: xxxx", dripping.pid));
    let death = text.find(&format!("exited {}", dripping.pid));
    assert!(tail.is_some() && tail < death, "{text}");
    dripping.client.gone();
    Held::new(&address).is_served();
    ends_well(&server);
}

/// A line is the bytes up to a newline, and NUL is an ordinary byte; it is printed as `\x00`.
fn c04_a_nul_byte_cuts_no_line_short(world: &mut World) {
    let server = world.spawn("chatter", &[]);
    let mut held = Held::new(&server.address());
    order(&mut held, "say 61 00 62 0a 00 0a 00 06 0a");
    for line in [r"a\x00b", r"\x00", r"\x00\x06"] {
        expect_line(&server, &format!("{} STDOUT: {line}", held.pid));
    }
    drop(held);
    ends_well(&server);
}

/// The parent does not decode what it reads: a line is passed on unchanged, UTF-8 or not.
fn c05_bytes_that_are_no_text_are_passed_on(world: &mut World) {
    let server = world.spawn("chatter", &[]);
    let mut held = Held::new(&server.address());
    let high: String = (0x80..=0xff).map(|byte| format!("{byte:x} ")).collect();
    order(
        &mut held,
        &format!("say {high} 0a e2 82 0a c3 a9 0a 6f 6b 0a"),
    );
    let prefix = format!("{} STDOUT: ", held.pid);
    expect_line(&server, &format!("{prefix}é"));
    expect_line(&server, &format!("{prefix}ok"));
    expect_line(&server, &format!("{prefix}\u{fffd}"));
    let text = server.stdout();
    let odd = text.lines().find(|line| line.contains("\u{fffd}\u{fffd}"));
    assert!(odd.is_some_and(|line| line.starts_with(&prefix)), "{text}");
    drop(held);
    ends_well(&server);
}

/// Words are control characters on lines of their own: what a program prints by accident, including
/// the original's words, is output.
fn c07_printed_numbers_and_names_are_no_words(world: &mut World) {
    // With `CommWords::POE` as the default, nothing of it was printed.
    let server = world.spawn("chatter", &[]);
    let address = server.address();
    let mut held = Held::new(&address);
    for text in ["1", "2", "3", "ACK", "BUSY", "NOT_BUSY"] {
        order(&mut held, &format!("print {text}"));
        expect_line(&server, &format!("{} STDOUT: {text}", held.pid));
    }
    assert_eq!(events(&server, held.pid), ["busy"]);
    drop(held);
    ends_well(&server);
}

/// An unexpected word does no harm: each child is in one list, a redundant word has no effect, and
/// the next true word corrects a forged one.
fn c08_words_out_of_order_break_nothing(world: &mut World) {
    // When `Pool::set_state` counted a child in its new list and left it in the old one, too, no fourth
    // child came.
    let server = world.spawn("chatter", &["--start", "3"]);
    let address = server.address();
    let children = expect_up(&server, 3);
    let mut held = Held::new(&address);
    let [ack, busy, free] = [Word::Ack, Word::Busy, Word::NotBusy].map(|word| {
        let byte = word.to_string().into_bytes()[0];
        format!("{byte:x} 0a ")
    });
    // BUSY is true and on the board. A lie that is printed before the parent has looked there undoes a
    // move that it has not made: no word is lost, and there and back are merged, as documented.
    expect_moves(&server, held.pid, &["busy"]);
    order(&mut held, &format!("say {}", ack.repeat(3)));
    order(&mut held, &format!("say {free}{free}{free}"));
    order(&mut held, &format!("say {busy}{busy}{ack}{busy}"));
    order(&mut held, &format!("say {free}{busy}"));
    order(&mut held, "say 06 06 0a 7f 0a");
    held.is_served();
    let pid = held.pid;
    drop(held);
    expect_line(&server, &format!(r"{pid} STDOUT: \x06\x06"));
    // The last of them is true: the client has gone.
    expect_moves(
        &server,
        pid,
        &["busy", "idle", "busy", "idle", "busy", "idle"],
    );
    // The counts are right: with all three busy there is none to spare, and one is forked.
    let held = hold(&address, 3);
    let now = server.expect_children(4);
    assert!(children.iter().all(|child| now.contains(child)));
    drop(held);
    ends_well(&server);
    assert_eq!(deaths(&server, "Shutdown"), 4);
}

/// The end of the death watch that a child holds: a pipe that it reads from and that its parent has,
/// too.
fn death_watch(server: &Server, child: u32) -> i32 {
    let parents = server.descriptors();
    let is_shared = |target: &String| parents.iter().any(|(_, known)| known == target);
    let reads = |fd: i32| {
        let info = fs::read_to_string(format!("/proc/{child}/fdinfo/{fd}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.unwrap().trim().ends_with('0')
    };
    let mut found = processes::descriptors(child);
    found.retain(|(fd, target)| target.starts_with("pipe:") && is_shared(target) && reads(*fd));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].0
}

/// Children have only the reading end, and react only to the end of the pipe. Bytes in it, which on
/// Linux any process of the same user can write through /proc, say nothing about the parent.
fn c13_what_is_written_into_the_death_watch_ends_nobody(world: &mut World) {
    // When children waited for it to be readable (EPOLLIN in the waiter), all idle ones left at once.
    let server = world.spawn("chatter", &["--start", "3", "--kill-timeout", "500"]);
    let address = server.address();
    let children = expect_up(&server, 3);
    let mut held = Held::new(&address);
    let fd = death_watch(&server, children[0]);
    let path = format!("/proc/{}/fd/{fd}", children[0]);
    let mut watch = File::options().write(true).open(path).unwrap();
    watch.write_all(b"the parent is dead").unwrap();
    holds("nobody leaves", Duration::from_millis(700), || {
        held.is_served();
        server.children() == children
    });
    Held::new(&address).is_served();
    drop(watch);
    drop(held);
    // They notice the end all the same.
    world.expect_orphans();
    server.kill9();
    until("all children to go", SOON, || {
        children
            .iter()
            .all(|&child| !processes::is_alive(child))
            .then_some(())
    });
}

/// A server with a child whose next line cannot be read, and that child. It prints one.
fn with_read_error(world: &mut World, arguments: &[&str]) -> Option<(Server, Held)> {
    let server = world.spawn("chatter", arguments);
    let mut held = Held::new(&server.address());
    // Its BUSY has been read, so that what cannot be read is what it prints, and not a word before that:
    // it would find no reader to print for, and panic.
    expect_entry(&server, "busy", held.pid);
    let descriptors = processes::descriptors(held.pid);
    let pipe = descriptors.iter().find(|(fd, _)| *fd == 1).unwrap();
    let inject = ["-P", &pipe.1, "-e", "inject=read:error=EIO:when=1"];
    let Some(strace) = Strace::attach(world, server.pid(), &inject) else {
        drop(held);
        ends_well(&server);
        return None;
    };
    held.client.send_line("print lost");
    strace.expect_injected(1);
    strace.detach();
    Some((server, held))
}

/// With `shutdown_on_error` off, a child whose output cannot be read is killed and replaced.
fn c14_a_read_error_costs_that_child_only(world: &mut World) {
    // Without the SIGKILL of `run_error_of` the child lives on, until the time of a child that was told to
    // stop is over, and no process would read it.
    let flags = ["--bear-errors", "--kill-timeout", "60000"];
    let Some((server, mut held)) = with_read_error(world, &flags) else {
        return;
    };
    expect_exit(&server, held.pid, "Faulty signal: 9 (SIGKILL)");
    held.client.gone();
    assert_eq!(pids(&server, "error").len(), 1);
    Held::new(&server.address()).is_served();
    server.expect_children(2);
    ends_well(&server);
}

/// By default an error of a child's output ends the server, as documented: in order, and the client
/// in hand is served.
fn c14_a_read_error_ends_the_server_if_errors_are_to(world: &mut World) {
    let Some((server, mut held)) = with_read_error(world, &[]) else {
        return;
    };
    expect_entry(&server, "shutdown", 0);
    assert_eq!(held.client.read_line(), "done");
    held.is_served();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(1), "run has failed");
}
