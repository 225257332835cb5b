//! The wire between child and parent, over real pipes: words, lines, and their effects.

pub mod lines;
pub mod words;

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use prefork_server::servers::TcpConn;
use prefork_server::{
    COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, ChildId, CommChannel, CommWords, Line, Monitor, PreFork,
    PreForkHooks, Start, TcpServer, Word, defaults,
};

use crate::support::{Address, Args, Programs, SOON, Server, Signal, connect, programs};

pub const PROGRAMS: Programs = programs![printer];

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
