//! What a reload costs the clients of a program under this one, and of gunicorn: SIGHUP again and again
//! while clients ask, one connection a request.

use crate::common::{
    peers::{self, Running},
    pid,
    stats::{quantile, table},
};
use nix::sys::signal::{Signal, kill};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const CHILDREN: usize = 8;
const CLIENTS: usize = 8;
/// Between two reloads: an interpreter has to start.
const EVERY: Duration = Duration::from_secs(2);
/// Those that take SIGHUP for a reload of their program.
const RELOAD: [&str; 3] = ["gunicorn", "ours-wsgi", "ours-psgi"];

/// What became of the requests.
#[derive(Default)]
struct Tally {
    milliseconds: Vec<f64>,
    lost: usize,
}

/// Reloads each of them so often, after as long without a reload.
pub(crate) fn reloads(times: u32) {
    let mut rows = Vec::new();
    for (peer, running) in &peers::start(CHILDREN, false) {
        if RELOAD.contains(&peer.name) {
            let without = load(running, || thread::sleep(EVERY * times));
            let with = load(running, || reload(running, times));
            for (what, tally) in [("without", without), (&*format!("{times} reloads"), with)] {
                rows.push(row(peer.name, what, &tally));
            }
        }
    }
    let title = format!("Reloads under load: {CHILDREN} children, {CLIENTS} clients");
    let head = [
        "server", "", "answered", "lost", "p50, ms", "p99, ms", "max, ms",
    ];
    table(&title, &head, &rows);
}

fn row(name: &str, what: &str, tally: &Tally) -> Vec<String> {
    let counts = [tally.milliseconds.len(), tally.lost].map(|count| count.to_string());
    let times =
        [0.5, 0.99, 1.0].map(|share| format!("{:.1}", quantile(&tally.milliseconds, share)));
    let names = [name.to_owned(), what.to_owned()];
    names.into_iter().chain(counts).chain(times).collect()
}

fn reload(running: &Running, times: u32) {
    for _ in 0..times {
        for root in running.roots() {
            kill(pid(root), Signal::SIGHUP).expect("a server that runs");
        }
        thread::sleep(EVERY);
    }
}

/// Has clients ask for as long as `meanwhile` takes.
fn load(running: &Running, meanwhile: impl FnOnce()) -> Tally {
    let ends = AtomicBool::new(false);
    let client = || {
        let mut tally = Tally::default();
        while !ends.load(Ordering::Relaxed) {
            let begun = Instant::now();
            match ask(running.port()) {
                Ok(()) => tally.milliseconds.push(begun.elapsed().as_secs_f64() * 1e3),
                Err(_) => tally.lost += 1,
            }
        }
        tally
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        meanwhile();
        ends.store(true, Ordering::Relaxed);
        let tallies = clients
            .into_iter()
            .map(|client| client.join().expect("a client"));
        tallies.fold(Tally::default(), |mut sum, tally| {
            sum.milliseconds.extend(tally.milliseconds);
            sum.lost += tally.lost;
            sum
        })
    })
}

/// Asks once, on a connection of its own.
fn ask(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let is_good = answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200");
    is_good
        .then_some(())
        .ok_or_else(|| io::Error::other("no good answer"))
}
