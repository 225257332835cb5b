//! The wire between child and parent, over real pipes: words, lines, and what each becomes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use prefork_server::servers::TcpConn;
use prefork_server::{
    COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, ChildId, CommChannel, CommWords, Line, Monitor, PreFork,
    PreForkHooks, Start, TcpServer, Word, defaults,
};
use support::{Address, Args, Server, Signal, World, connect, programs, scenarios, until};

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(
        programs![printer],
        scenarios![
            broken_line_before_a_word_loses_neither,
            buffered_output_of_the_parent_appears_once,
            coalescing_saves_words_and_can_be_turned_off,
            c11_control_characters_are_escaped,
            c06_flood_keeps_nobody_waiting,
            last_words_before_an_exit_arrive,
            c03_line_without_an_end_comes_in_pieces,
            outputs_come_out_where_they_belong,
            output_is_passed_on_in_a_shutdown,
            poe_words_are_understood,
            printed_word_is_a_word,
            c07_private_channel_makes_all_print_output,
            b05_redirected_stdout_breaks_no_word,
            c01_tail_without_a_newline_is_output,
        ],
    )
}

// The program.

/// What a client orders, its child prints; the parent says which words it hears.
fn printer(args: Args) -> Result<(), Box<dyn Error>> {
    let begin = args.value("--begin").unwrap_or("").to_owned();
    let begin = move || {
        // After the first ACK, and before any other word.
        print!("{begin}");
        io::stdout().flush()
    };
    let server = TcpServer::per_child(begin)
        .serve(|(), conn| obey(&conn))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    let mut builder = PreFork::builder(server)
        .hooks(Hooks {
            ack_at_start: args.has("--ack-at-start"),
        })
        .start_servers(args.parsed("--children").unwrap_or(1))
        .max_spare_servers(50)
        .coalesce_words(!args.has("--every-word"));
    if args.has("--poe") {
        builder = builder.comm_words(CommWords::POE);
    }
    if args.has("--private") {
        builder = builder.comm_channel(CommChannel::Private);
    }
    if let Some(children) = args.parsed("--max-clients") {
        builder = builder.max_clients(children);
    }
    if let Some(timeout) = args.parsed("--timeout") {
        builder = builder.timeout(Duration::from_millis(timeout));
    }
    let mut prefork = builder.start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    if let Some(text) = args.value("--unflushed") {
        print!("{text}");
    }
    let report = prefork.run()?;
    println!("\n{report}");
    Ok(())
}

/// Does what each line says, and then says `done`.
fn obey(conn: &TcpConn) -> io::Result<()> {
    for line in BufReader::new(conn).lines() {
        let line = line?;
        let (order, text) = line.split_once(' ').unwrap_or((&line, ""));
        match order {
            "pid" => writeln!(&*conn, "{}", std::process::id())?,
            "acks" => println!("{COMM_ACK}"),
            "print" => println!("{text}"),
            "complain" => eprintln!("{text}"),
            "begin" => print!("{text}"),
            "controls" => raw(b"\x1b[31mred\x07 \x06\r\n\x00\t\x7f\xc2\x85caf\xc3\xa9\n")?,
            "all-words" => print!("1\n2\n3\n{COMM_ACK}\n{COMM_BUSY}\n{COMM_NOT_BUSY}\n"),
            "endless" => {
                let block = [b'x'; 1024 * 1024];
                for _ in 0..text.parse().unwrap() {
                    raw(&block)?;
                }
            }
            "flood" => {
                writeln!(&*conn, "done")?;
                // As much as a pipe holds, so that each read of the parent finds it full.
                let block = format!("flood{:58}\n", "").repeat(1024);
                while !conn.shutdown_requested() {
                    raw(block.as_bytes())?;
                }
            }
            "redirect" => {
                let null = fs::File::options().write(true).open("/dev/null")?;
                nix::unistd::dup2_stdout(null)?;
            }
            "last-words" => {
                for number in 0..1000 {
                    println!("out {number}");
                    eprintln!("err {number}");
                }
                print!("the end");
                std::process::exit(3);
            }
            _ => return Err(io::Error::other(format!("no such order: {order}"))),
        }
        if order != "pid" {
            writeln!(&*conn, "done")?;
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

struct Hooks {
    ack_at_start: bool,
}

impl PreForkHooks for Hooks {
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_ack(self, monitor, child);
        say(monitor, child, Word::Ack);
    }

    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_busy(self, monitor, child);
        say(monitor, child, Word::Busy);
    }

    fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_not_busy(self, monitor, child);
        say(monitor, child, Word::NotBusy);
    }

    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if line.bytes().starts_with(b"flood") {
            // The parent is slower than the child, so that the pipe is never empty.
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(50) {}
        } else {
            defaults::server_stdout(self, monitor, child, line);
        }
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if self.ack_at_start {
            println!("{COMM_ACK}");
        }
        defaults::server_start(self, start)
    }

    fn handler_shutdown(&mut self, monitor: &mut Monitor) {
        defaults::handler_shutdown(self, monitor);
        monitor.print_stdout("shutting down");
    }
}

fn say(monitor: &mut Monitor, child: ChildId, word: Word) {
    let pid = monitor.child(child).unwrap().pid();
    monitor.print_stdout(format!("{pid} says {word:?}"));
}

// What the scenarios share.

/// Has one child do `orders`, and returns its pid.
fn order(address: &Address, orders: &[&str]) -> u32 {
    let mut client = connect(address);
    let pid = client.ask("pid").parse().unwrap();
    for order in orders {
        assert_eq!(client.ask(order), "done");
    }
    pid
}

/// The address of a server whose only child has said its first NOT_BUSY: one that finds a connection
/// before it ever waits says BUSY at once.
#[track_caller]
fn idle_address(server: &Server) -> Address {
    let address = server.address();
    server.expect_stdout("the first NOT_BUSY", |text| {
        text.lines().any(|line| line.ends_with(" says NotBusy"))
    });
    address
}

/// Waits until `line` stands on stdout exactly `count` times.
#[track_caller]
fn expect_lines(server: &Server, line: &str, count: usize) {
    server.expect_stdout(&format!("{count} times {line:?}"), |text| {
        lines(text, line) == count
    });
}

fn lines(text: &str, line: &str) -> usize {
    text.lines().filter(|&found| found == line).count()
}

fn stop(server: &Server) -> Report {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    Report(server.stdout())
}

/// What the parent has written to the end.
struct Report(String);

impl Report {
    /// The number in the report that stands before `name`.
    fn number(&self, name: &str) -> u64 {
        let words: Vec<&str> = self
            .0
            .lines()
            .last()
            .unwrap()
            .split([' ', ',', ';'])
            .collect();
        let at = words.iter().position(|&word| word == name);
        at.map_or(0, |at| words[at - 1].parse().unwrap())
    }
}

/// A field of /proc/PID/status, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value
        .unwrap()
        .trim_start_matches(':')
        .trim_end_matches("kB");
    value.trim().parse().unwrap()
}

// The scenarios.

fn printed_word_is_a_word(world: &mut World) {
    let server = world.spawn("printer", &["--ack-at-start"]);
    let pid = order(&server.address(), &["acks"]);
    // From `server_start`, from the framework before it accepts, from the handler.
    expect_lines(&server, &format!("{pid} says Ack"), 3);
    let report = stop(&server);
    assert!(!report.0.contains("STDOUT"), "{}", report.0);
    assert_eq!(report.number("ACK"), 2 * report.number("forked") + 1);
}

/// Without the newline that begins each message (`Channel::say`) the word is a part of the line.
fn broken_line_before_a_word_loses_neither(world: &mut World) {
    let server = world.spawn("printer", &["--begin", "begun", "--max-clients", "1"]);
    let pid = order(&idle_address(&server), &[]);
    expect_lines(&server, &format!("{pid} STDOUT: begun"), 1);
    expect_lines(&server, &format!("{pid} says Busy"), 1);
    // One before it waited for the connection, one after it.
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    let report = stop(&server);
    // The newline before a word is no line.
    assert_eq!(report.0.matches("STDOUT").count(), 1, "{}", report.0);
}

/// A line is kept up to 64 KiB and handed on in marked pieces of that size: its length costs the
/// parent no memory, and no output is lost.
fn c03_line_without_an_end_comes_in_pieces(world: &mut World) {
    // Without the cut in `Framer::line` (no limit in place of `Line::MAX`) the parent grew by 96
    // MiB for 32.
    const MIB: usize = 32;
    world.deadline(Duration::from_secs(60));
    let server = world.spawn("printer", &["--max-clients", "1"]);
    let address = server.address();
    order(&address, &[]);
    let before = memory(server.pid(), "VmHWM");
    let pid = order(
        &address,
        &[&format!("endless {MIB}"), "print ", "print short"],
    );
    expect_lines(&server, &format!("{pid} STDOUT: short"), 1);
    let grown = memory(server.pid(), "VmHWM") - before;
    assert!(grown < 4096, "the parent has grown by {grown} KiB");
    let prefix = format!("{pid} STDOUT: x");
    let stdout = server.stdout();
    let pieces = stdout.lines().filter(|line| line.starts_with(&prefix));
    let sizes: Vec<usize> = pieces.map(|line| line.len() - prefix.len() + 1).collect();
    assert_eq!(sizes, vec![Line::MAX; MIB * 16]);
    order(&address, &[]);
    let report = stop(&server);
    assert_eq!(report.number("bytes"), 0);
}

/// What is passed on has its control characters escaped, so that a child can neither command a
/// terminal nor forge the line of another.
fn c11_control_characters_are_escaped(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let pid = order(&server.address(), &["controls"]);
    expect_lines(
        &server,
        &format!(r"{pid} STDOUT: \x1b[31mred\x07 \x06\r"),
        1,
    );
    expect_lines(
        &server,
        &format!(r"{pid} STDOUT: \x00\t\x7f\u{{85}}café"),
        1,
    );
    stop(&server);
}

/// What a child had begun and not ended is passed on when its output ends, and is never taken for a
/// word, be it the same byte.
fn c01_tail_without_a_newline_is_output(world: &mut World) {
    let server = world.spawn("printer", &["--max-requests", "1"]);
    let address = server.address();
    let pid = order(&address, &["begin not finished"]);
    expect_lines(&server, &format!("{pid} STDOUT: not finished"), 1);
    let pid = order(&address, &["begin \u{6}"]);
    expect_lines(&server, &format!(r"{pid} STDOUT: \x06"), 1);
    let report = stop(&server);
    assert_eq!(report.number("ACK"), report.number("forked"));
}

fn poe_words_are_understood(world: &mut World) {
    let server = world.spawn("printer", &["--poe", "--max-clients", "1"]);
    let pid = order(&idle_address(&server), &["print 1", "acks"]);
    expect_lines(&server, &format!("{pid} says Ack"), 2);
    expect_lines(&server, &format!("{pid} says Busy"), 1);
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    expect_lines(&server, &format!(r"{pid} STDOUT: \x06"), 1);
    stop(&server);
}

/// For handlers that print what others wrote there is `CommChannel::Private`, a pipe of its own for
/// the words: nothing that is printed is a word then, and nothing breaks when stdout is replaced.
fn c07_private_channel_makes_all_print_output(world: &mut World) {
    // With the words looked for in stdout all the same, the bytes that are words were not printed.
    let server = world.spawn("printer", &["--private", "--max-clients", "1"]);
    let address = idle_address(&server);
    let pid = order(&address, &["all-words", "redirect", "print lost"]);
    for printed in ["1", "2", "3", r"\x06", r"\x13", r"\x11"] {
        expect_lines(&server, &format!("{pid} STDOUT: {printed}"), 1);
    }
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    order(&address, &[]);
    expect_lines(&server, &format!("{pid} says NotBusy"), 3);
    let report = stop(&server);
    assert_eq!((report.number("ACK"), report.number("BUSY")), (1, 2));
    assert!(!report.0.contains("lost"));
}

/// Words go through a descriptor of their own, not through number 1.
///
/// When words are written to descriptor 1: the NOT_BUSY after the redirection never comes.
fn b05_redirected_stdout_breaks_no_word(world: &mut World) {
    let server = world.spawn("printer", &["--max-clients", "1"]);
    let address = idle_address(&server);
    let pid = order(&address, &["redirect", "print lost"]);
    expect_lines(&server, &format!("{pid} says NotBusy"), 2);
    order(&address, &[]);
    expect_lines(&server, &format!("{pid} says Busy"), 2);
    expect_lines(&server, &format!("{pid} says NotBusy"), 3);
    assert!(!stop(&server).0.contains("lost"));
}

/// Ten connections that follow each other without a pause.
fn coalescing_saves_words_and_can_be_turned_off(world: &mut World) {
    for (arguments, words) in [(&[][..], 1), (&["--every-word"][..], 10)] {
        let arguments = [&["--max-clients", "1"], arguments].concat();
        let server = world.spawn("printer", &arguments);
        let address = idle_address(&server);
        let mut first = connect(&address);
        let pid = first.ask("pid");
        // They wait in the backlog, since the only child is busy.
        let mut others: Vec<_> = (1..10).map(|_| connect(&address)).collect();
        for other in &mut others {
            other.send_line("pid");
            other.close_write();
        }
        drop(first);
        for other in &mut others {
            assert_eq!(other.read_rest(), format!("{pid}\n"));
        }
        // One more came before the first wait.
        expect_lines(&server, &format!("{pid} says NotBusy"), words + 1);
        expect_lines(&server, &format!("{pid} says Busy"), words);
        let report = stop(&server);
        let counted = (report.number("BUSY"), report.number("NOT_BUSY"));
        assert_eq!(counted, (words as u64, words as u64 + 1));
    }
}

/// Of each output a turn of the loop reads 64 KiB at the most, so that a parent slower than the
/// child that floods it still comes to all others.
fn c06_flood_keeps_nobody_waiting(world: &mut World) {
    // Without the budget of a turn (`BUDGET` in the wires) the parent never came to the others: the
    // line of the first was waited for in vain.
    let server = world.spawn("printer", &["--children", "4", "--timeout", "1000"]);
    let address = server.address();
    server.expect_children(4);
    let mut flooder = connect(&address);
    let flooding: u32 = flooder.ask("pid").parse().unwrap();
    assert_eq!(flooder.ask("flood"), "done");
    let healthy = || {
        let mut children = server.children();
        children.retain(|&child| child != flooding);
        children
    };
    let before = healthy();
    let start = Instant::now();
    let mut printed = 0;
    while start.elapsed() < Duration::from_secs(3) {
        printed += 1;
        let pid = order(&address, &[&format!("print line {printed}")]);
        expect_lines(&server, &format!("{pid} STDOUT: line {printed}"), 1);
    }
    for child in &before {
        let says = format!("{child} says Ack");
        // One at the start, and one every 500 ms.
        server.expect_stdout("their ACKs", |text| lines(text, &says) >= 4);
    }
    let after = healthy();
    assert!(before.iter().all(|child| after.contains(child)));
    drop(flooder);
    let report = stop(&server);
    assert!(report.number("TimedOut") <= 1, "but for the flooder nobody");
}

fn outputs_come_out_where_they_belong(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let pid = order(&server.address(), &["print hello", "complain ouch"]);
    expect_lines(&server, &format!("{pid} STDOUT: hello"), 1);
    let complaint = format!("{pid} STDERR: ouch\n");
    server.expect_stderr("the complaint", |text| text == complaint);
    assert!(!stop(&server).0.contains("ouch"));
}

fn last_words_before_an_exit_arrive(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let address = server.address();
    let mut client = connect(&address);
    let pid = client.ask("pid");
    client.send_line("last-words");
    client.gone();
    expect_lines(&server, &format!("{pid} STDOUT: the end"), 1);
    let expected = |stream, which| {
        let lines = (0..1000).map(|number| format!("{pid} {stream}: {which} {number}\n"));
        lines.collect::<String>()
    };
    let stderr = expected("STDERR", "err");
    server.expect_stderr("the last words", |text| text.starts_with(&stderr));
    let stdout = server.stdout();
    let printed = stdout.lines().filter(|line| line.contains("STDOUT: out "));
    let printed: String = printed.map(|line| format!("{line}\n")).collect();
    assert_eq!(printed, expected("STDOUT", "out"));
    stop(&server);
}

fn output_is_passed_on_in_a_shutdown(world: &mut World) {
    let server = world.spawn("printer", &[]);
    let mut client = connect(&server.address());
    let pid = client.ask("pid");
    server.signal(Signal::SIGTERM);
    server.expect_stdout("the shutdown", |text| text.contains("shutting down"));
    assert_eq!(client.ask("print late"), "done");
    assert_eq!(client.ask("complain later"), "done");
    expect_lines(&server, &format!("{pid} STDOUT: late"), 1);
    server.expect_stderr("the complaint", |text| text.contains("STDERR: later"));
    client.send_line("begin latest");
    drop(client);
    assert!(server.wait(SOON).success());
    expect_lines(&server, &format!("{pid} STDOUT: latest"), 1);
}

/// Children end in every way that flushes what they inherited.
fn buffered_output_of_the_parent_appears_once(world: &mut World) {
    let server = world.spawn(
        "printer",
        &[
            "--unflushed",
            "<once>",
            "--max-requests",
            "1",
            "--children",
            "3",
        ],
    );
    let address = server.address();
    let mut last = 0;
    for orders in [&["print x"][..], &[]] {
        last = order(&address, orders);
    }
    until("the child to leave", SOON, || {
        (!server.children().contains(&last)).then_some(())
    });
    let mut client = connect(&address);
    client.send_line("last-words");
    client.gone();
    server.expect_stdout("the end", |text| text.contains("the end"));
    let report = stop(&server);
    assert_eq!(report.0.matches("<once>").count(), 1);
}
