//! What the parent knows of children that write no words: it reads the board.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use prefork_server::servers::TcpConn;
use prefork_server::{PreFork, TcpServer};

use crate::subject::{BusyCount, expect_busy};
use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, pause,
    port_is_free, programs, scenarios, try_connect, until,
};

pub const PROGRAMS: Programs = programs![board];

pub const SCENARIOS: Scenarios = scenarios![
    the_books_follow_the_children_under_load,
    c09_a_parent_that_was_stopped_finds_what_was_noted,
    more_children_than_there_were_to_be_are_known_as_well,
    a_child_that_floods_is_known_to_be_busy,
    a_word_that_is_not_printed_ends_a_line_all_the_same,
    f01_children_that_were_promised_a_look_find_their_parent_gone,
    f01_a_child_that_is_never_idle_finds_its_parent_gone,
    a01_a_connection_that_only_the_board_tells_of_shows_that_the_start_has_held,
];

const CHILDREN: usize = 8;

// The program.

fn board(args: Args) -> Result<(), Box<dyn Error>> {
    let at_first = args.parsed("--max-clients").unwrap_or(CHILDREN);
    let path = args.value("--busy").expect("a file");
    ENOUGH
        .set(Path::new(path).with_extension("enough"))
        .unwrap();
    let counted = BusyCount::new(path)?.drop_stderr();
    let server = TcpServer::new(answer).max_requests(0);
    let is_alone = args.has("--alone");
    let mut prefork = PreFork::builder(server)
        .start_servers(if is_alone { 1 } else { CHILDREN })
        .min_spare_servers(1)
        .max_spare_servers(CHILDREN)
        .max_clients(if is_alone { 1 } else { at_first })
        .hooks(counted)
        .start()?;
    if at_first < CHILDREN {
        prefork.monitor_mut().set_max_clients(CHILDREN);
        prefork.monitor_mut().set_min_spare_servers(CHILDREN);
        prefork.monitor_mut().set_max_spare_servers(CHILDREN + 1);
    }
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run()?;
    Ok(())
}

fn answer(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        match line?.as_str() {
            "crash" => process::abort(),
            "flood" => flood()?,
            "begin" => {
                print!("begun");
                io::stdout().flush()?;
            }
            "untie" => set_pdeathsig(None)?,
            _ => {}
        }
        writeln!(&conn, "{}", process::id())?;
    }
    Ok(())
}

/// When this file is there, floods end.
static ENOUGH: OnceLock<PathBuf> = OnceLock::new();

/// Writes more than anybody reads.
fn flood() -> io::Result<()> {
    let lines = "a line that is of no use to anybody\n".repeat(2000);
    while !ENOUGH.get().unwrap().exists() {
        io::stderr().write_all(lines.as_bytes())?;
    }
    Ok(())
}

// The scenarios.

fn hold(address: &Address, count: usize) -> Vec<Client> {
    let ask = |mut client: Client| {
        client.ask("who?");
        client
    };
    (0..count).map(|_| ask(connect(address))).collect()
}

/// Connections one after the other from each of two clients, for as long as `work` takes.
fn under_load<R>(address: &Address, work: impl FnOnce() -> R) -> R {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    // A crash may take one with it, and a stopped parent none.
                    if let Ok(mut client) = try_connect(address) {
                        let _ = client.try_send_line("who?");
                        let _ = client.try_read_line();
                    }
                }
            });
        }
        let done = work();
        enough.store(true, Ordering::Relaxed);
        done
    })
}

fn pool(world: &mut World, arguments: &[&str]) -> (Server, Address, PathBuf) {
    let counted = world.tempdir().join("busy");
    let server = world
        .program("board")
        .args(arguments)
        .arg("--busy")
        .arg(&counted)
        .spawn();
    let address = server.address();
    server.expect_children(CHILDREN);
    (server, address, counted)
}

/// The children change state often; some words reach the parent by the pipe, others by the board.
/// When all is quiet its counts are right. (Without reading the board, or with reading it before
/// the pipes, they are not.)
fn the_books_follow_the_children_under_load(world: &mut World) {
    let (server, address, counted) = pool(world, &[]);
    for round in 0..24 {
        under_load(&address, || pause(Duration::from_millis(20 + round)));
        let busy = round as usize % (CHILDREN + 1);
        let held = hold(&address, busy);
        expect_busy(&counted, busy);
        drop(held);
        expect_busy(&counted, 0);
    }
    server.stop(Signal::SIGTERM, SOON);
}

/// The parent was stopped, with or without WILL_LOOK set: it knows what the children did meanwhile
/// when it continues.
fn c09_a_parent_that_was_stopped_finds_what_was_noted(world: &mut World) {
    let (server, address, counted) = pool(world, &[]);
    for round in 0..8 {
        let held = under_load(&address, || {
            pause(Duration::from_millis(30 + round));
            server.signal(Signal::SIGSTOP);
            hold(&address, 3)
        });
        server.signal(Signal::SIGCONT);
        expect_busy(&counted, 3);
        server.signal(Signal::SIGSTOP);
        drop(held);
        server.signal(Signal::SIGCONT);
        expect_busy(&counted, 0);
    }
    server.stop(Signal::SIGTERM, SOON);
}

/// The board has room for the `max_clients` of the start. Further children write words to the pipe.
fn more_children_than_there_were_to_be_are_known_as_well(world: &mut World) {
    let (server, address, counted) = pool(world, &["--max-clients", "2"]);
    for _ in 0..4 {
        under_load(&address, || pause(Duration::from_millis(30)));
        let held = hold(&address, CHILDREN);
        expect_busy(&counted, CHILDREN);
        drop(held);
        expect_busy(&counted, 0);
    }
    server.stop(Signal::SIGTERM, SOON);
}

/// Its pipe is hardly ever read to the end, but the board is read all the same.
fn a_child_that_floods_is_known_to_be_busy(world: &mut World) {
    let (server, address, counted) = pool(world, &[]);
    under_load(&address, || pause(Duration::from_millis(50)));
    let mut client = connect(&address);
    client.send_line("flood");
    expect_busy(&counted, 1);
    assert!(client.is_silent(Duration::from_millis(100)), "it floods");
    File::create(counted.with_extension("enough")).unwrap();
    client.read_line();
    drop(client);
    expect_busy(&counted, 0);
    server.stop(Signal::SIGTERM, SOON);
}

/// A line without a newline is passed on when the connection ends, even if no word follows.
/// (Otherwise it would wait for the next word in the pipe, which may never come.)
fn a_word_that_is_not_printed_ends_a_line_all_the_same(world: &mut World) {
    let (server, address, _) = pool(world, &[]);
    for round in 1..=8 {
        let pid = under_load(&address, || connect(&address).ask("begin"));
        let line = format!("{pid} STDOUT: begun\n");
        server.expect_stdout("the line", |text| {
            text.contains(&line) && text.matches("STDOUT: begun\n").count() == round
        });
    }
    server.stop(Signal::SIGTERM, SOON);
}

/// A parent that is killed leaves WILL_LOOK set, and children that take turns under load watch
/// nothing. They still write a word now and then, and find that the pipe has no reader. (Without
/// that, children that had lost PDEATHSIG by a change of user served on.)
fn f01_children_that_were_promised_a_look_find_their_parent_gone(world: &mut World) {
    world.expect_orphans();
    let (server, address, _) = pool(world, &[]);
    let mut untied = BTreeSet::new();
    until("every child to be untied", SOON, || {
        untied.insert(connect(&address).ask("untie"));
        (untied.len() == CHILDREN).then_some(())
    });
    under_load(&address, || {
        pause(Duration::from_millis(100));
        server.kill9();
        until("the children to leave", SOON, || {
            world.reap_orphans();
            world.orphans().is_empty().then_some(())
        });
    });
    assert!(port_is_free(&address));
}

/// A child that always finds another connection says no word for long, and waits for nothing.
///
/// Without the look at each 64th connection it serves on.
fn f01_a_child_that_is_never_idle_finds_its_parent_gone(world: &mut World) {
    world.expect_orphans();
    let counted = world.tempdir().join("busy");
    let server = world.program("board").args(&["--alone", "--busy"]);
    let server = server.arg(&counted).spawn();
    let address = server.address();
    server.expect_children(1);
    connect(&address).ask("untie");
    // So many that some are always queued.
    under_load(&address, || {
        under_load(&address, || {
            under_load(&address, || {
                pause(Duration::from_millis(100));
                server.kill9();
                until("the child to leave", SOON, || {
                    world.reap_orphans();
                    world.orphans().is_empty().then_some(())
                });
            });
        });
    });
    assert!(port_is_free(&address));
}

/// A child that has said BUSY only on the board, and crashes, has not failed to start: forking does
/// not slow down. (If the board is not read when a child is removed, some such children count as
/// failed starts.)
fn a01_a_connection_that_only_the_board_tells_of_shows_that_the_start_has_held(world: &mut World) {
    const CRASHES: usize = 40;
    let (server, address, counted) = pool(world, &[]);
    under_load(&address, || {
        for crash in 1..=CRASHES {
            let mut client = connect(&address);
            client.send_line("crash");
            client.gone();
            server.expect_stdout("the death", |text| {
                text.matches("death of").count() >= crash
            });
        }
    });
    server.expect_children(CHILDREN);
    expect_busy(&counted, 0);
    server.stop(Signal::SIGTERM, SOON);
    let told = server.stdout();
    let crashed = told.matches(": Killed").count();
    assert_eq!(crashed, CRASHES, "{told}");
}
