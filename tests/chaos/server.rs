//! The server under fire: it answers, does to its children what a client asks for, and writes down
//! in the parent who was forked, who has spoken, and who died with what in hand.
//!
//! Its hooks call their defaults and decide nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::ppoll;
use prefork_server::servers::TcpConn;
use prefork_server::{
    Child, ChildId, Death, Error, Line, Monitor, PreFork, PreForkHooks, TcpServer, defaults,
};

use super::answer::answer;
use super::clock;
use super::fault::Fault;
use super::hands::{Hands, Own};
use crate::support::Args;

/// The program: serves until it is told to stop, then prints its report.
pub fn chaos_server(args: Args) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format_timestamp(None)
        .init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let hands = PathBuf::from(args.value("--hands").expect("--hands FILE"));
    let journal = args.value("--journal").expect("--journal FILE");
    let notes = Notes::open(&hands, Path::new(journal)).expect("files to write to");
    let number = |flag, default| args.parsed(flag).unwrap_or(default);
    let millis = |flag| Duration::from_millis(args.parsed(flag).unwrap_or(0));
    let server = TcpServer::per_child(move || Own::open(&hands)).serve(serve);
    let address = args.value("--address").unwrap_or("127.0.0.1");
    let server = server
        .address(address)
        .port(args.parsed("--port").unwrap_or(0))
        .max_requests(0);
    let children = number("--start", 8);
    let mut prefork = PreFork::builder(server)
        .hooks(notes)
        .start_servers(children)
        .min_spare_servers(number("--min-spare", 1))
        // Nobody is culled: a deaf child that is told to stop would keep its place forever.
        .max_spare_servers(number("--max-clients", children).max(2))
        .max_clients(number("--max-clients", children))
        .timeout(millis("--timeout"))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .kill_timeout(Duration::from_millis(number("--kill-timeout", 2000) as u64))
        .shutdown_timeout(Duration::from_millis(
            number("--shutdown-timeout", 2000) as u64
        ))
        .start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    let report = prefork.run()?;
    println!("report {report}");
    println!("flooded {}", prefork.hooks().heard);
    Ok(())
}

/// The handler. A request is `NONCE WORK FAULT`: work in microseconds.
fn serve(own: &mut Own, conn: TcpConn) -> io::Result<()> {
    own.has(conn.peer_addr()?.port())?;
    let mut line = String::new();
    BufReader::new(&conn).read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut word = || words.next().ok_or(io::ErrorKind::UnexpectedEof);
    let (nonce, work, fault) = (word()?, word()?, word()?);
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let nonce = u64::from_str_radix(nonce, 16).map_err(invalid)?;
    let work = Duration::from_micros(work.parse().map_err(invalid)?);
    if let Some(fault) = Fault::parse(fault) {
        let before = own.suffers(fault)?;
        fault.inflict(before)?;
    }
    // The connection is in hand for as long as that; a signal may end it early.
    let _ = ppoll(&mut [], Some(work.into()), None);
    (&conn).write_all(&answer(nonce, std::process::id()))?;
    own.is_empty()
}

/// The hooks: the journal, a line for each thing that happened to a child.
struct Notes {
    hands: Hands,
    journal: File,
    /// How many bytes of output came from children.
    heard: usize,
}

impl Notes {
    fn open(hands: &Path, journal: &Path) -> io::Result<Self> {
        let mut options = File::options();
        Ok(Self {
            hands: Hands::open(hands)?,
            journal: options.create(true).append(true).open(journal)?,
            heard: 0,
        })
    }

    fn note(&mut self, text: &str) {
        let line = format!("{} {text}\n", clock::now().as_nanos());
        self.journal
            .write_all(line.as_bytes())
            .expect("a journal that can be written");
    }
}

impl PreForkHooks for Notes {
    fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
        let pid = monitor.child(child).map_or(0, Child::pid);
        self.note(&format!("forked {pid}"));
        let live = monitor.children().count();
        if live > monitor.max_clients() {
            self.note(&format!("over {live}"));
        }
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        let first = |child: &&Child| !child.has_acked();
        if let Some(pid) = monitor.child(child).filter(first).map(Child::pid) {
            self.note(&format!("up {pid}"));
        }
        defaults::server_ack(self, monitor, child);
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        let hand = self.hands.take(child.pid()).expect("the file of hands");
        let number = |number: Option<i32>| number.map_or("-".to_owned(), |n| n.to_string());
        self.note(&format!(
            "exited {} {:?} {} {} {} {} {}",
            child.pid(),
            death.cause(),
            number(death.code()),
            number(death.signal()),
            hand.port,
            hand.since.as_nanos(),
            hand.faults.0,
        ));
        defaults::server_exited(self, monitor, child, death);
    }

    /// Counted and not printed: floods would fill the disk.
    fn server_stdout(&mut self, _: &mut Monitor, _: ChildId, line: &Line) {
        self.heard += line.bytes().len() + usize::from(line.is_last());
    }
}
