//! Children whose start computes for 200 ms, and a burst that makes the server fork them: how long
//! clients of the children that are there wait meanwhile, with the fork brake and without it.

use super::common::{
    actor::Actor,
    from_env,
    stats::{median, quantile, table},
};
use nix::time::{ClockId, clock_gettime};
use prefork_server::{PreFork, TcpServer, servers::TcpConn};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

const START: Duration = Duration::from_millis(200);
const WORK: Duration = Duration::from_millis(2);
const SPARE: usize = 8;
/// So many clients come at the same time and stay.
const BURST: usize = 24;
/// So many come again and again.
const STEADY: usize = 2;

// The server.

pub(super) fn serve(brake: &str) {
    let server = TcpServer::per_child(|| {
        compute(START);
        Ok(())
    });
    let server = server.serve(|(), conn| answer(&conn)).max_requests(0);
    let mut prefork = PreFork::builder(server)
        .start_servers(SPARE)
        .min_spare_servers(SPARE)
        .max_spare_servers(4 * SPARE)
        .max_clients(2 * BURST)
        .fork_brake(brake == "on")
        .start()
        .expect("a server");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("a run");
}

/// Keeps a processor busy for that long, without the time in which it has none.
fn compute(time: Duration) {
    let begin = processor_time();
    while processor_time() - begin < time {}
}

fn processor_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).expect("a clock").into()
}

fn answer(conn: &TcpConn) -> io::Result<()> {
    let mut word = [0];
    while (&*conn).read(&mut word)? > 0 {
        compute(WORK);
        (&*conn).write_all(b"!")?;
    }
    Ok(())
}

// The measurement.

struct Round {
    /// How long the steady clients waited, each time, while the burst was there in vain.
    waited: Vec<f64>,
    /// When the clients of the burst got their answers.
    answered: Vec<f64>,
}

pub(super) fn bench() {
    let rounds = from_env("BENCH_ROUNDS", 3);
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (which, rounds) in ["off", "on"].iter().zip(&mut all) {
            rounds.push(round(which));
        }
    }
    let rows = ["off", "on"].iter().zip(&all);
    let rows: Vec<_> = rows.map(|(which, rounds)| row(which, rounds)).collect();
    let head = [
        "fork_brake",
        "steady clients, p50 ms",
        "p99 ms",
        "the burst's clients, p50 ms",
        "the last ms",
    ];
    table("a burst on children that start slowly", &head, &rows);
}

fn row(which: &str, rounds: &[Round]) -> Vec<String> {
    let of = |values: fn(&Round) -> &Vec<f64>, share| {
        let each = rounds.iter().map(|round| quantile(values(round), share));
        format!("{:.0}", median(&each.collect::<Vec<_>>()))
    };
    vec![
        which.to_owned(),
        of(|round| &round.waited, 0.5),
        of(|round| &round.waited, 0.99),
        of(|round| &round.answered, 0.5),
        of(|round| &round.answered, 1.0),
    ]
}

fn round(brake: &str) -> Round {
    let mut actor = Actor::spawn(&["brake", brake]);
    let port = actor.line().parse().expect("a port");
    actor.settle(SPARE);
    let over = AtomicBool::new(false);
    let round = thread::scope(|scope| {
        let steady = || ask_again_and_again(port, &over);
        let steady: Vec<_> = (0..STEADY).map(|_| scope.spawn(steady)).collect();
        thread::sleep(Duration::from_millis(300));
        let answered = burst(port);
        over.store(true, Relaxed);
        let waited = steady.into_iter().map(|it| it.join().expect("a client"));
        let waited = waited.flatten().collect();
        Round { waited, answered }
    });
    actor.terminate();
    round
}

fn ask(stream: &mut TcpStream) -> f64 {
    let begin = Instant::now();
    stream.write_all(b"?").expect("written");
    stream.read_exact(&mut [0]).expect("an answer");
    begin.elapsed().as_secs_f64() * 1e3
}

/// On a connection that has a child already.
fn ask_again_and_again(port: u16, over: &AtomicBool) -> Vec<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    ask(&mut stream);
    thread::sleep(Duration::from_millis(300));
    let mut waited = Vec::new();
    while !over.load(Relaxed) {
        waited.push(ask(&mut stream));
        thread::sleep(Duration::from_millis(5));
    }
    waited
}

/// All come at once, and stay until the last has its answer.
fn burst(port: u16) -> Vec<f64> {
    let begin = Instant::now();
    let client = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        ask(&mut stream);
        (begin.elapsed().as_secs_f64() * 1e3, stream)
    };
    let clients: Vec<_> = (0..BURST).map(|_| thread::spawn(client)).collect();
    let clients = clients.into_iter().map(|it| it.join().expect("a client"));
    let (answered, _streams): (Vec<_>, Vec<_>) = clients.unzip();
    answered
}
