//! Many connections at once on few idle children, each of them held: how long the last one waits
//! for its answer, compared with the bare loop's time for as many forks, and with other servers
//! that fork on demand.

use crate::common::{
    actor::Actor,
    from_env, numbers,
    peers::{self, Pool},
    pick,
    stats::{median, millis, quantile, ratio, table},
    verdict::{Target, hold},
    wire::{BODY, REQUEST},
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

const IDLE: usize = 5;
/// Those that take longer than that are told from each other no more.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn bursts() {
    for connections in [200, 1000] {
        burst(connections);
    }
}

fn burst(connections: usize) {
    let rounds = from_env("BENCH_ROUNDS", pick(15, 3));
    let (mut bare, mut last, mut half) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut actor = Actor::spawn(&["bare", &connections.to_string()]);
        bare.push(numbers(&actor.line())[0] as f64 / 1e6);
        drop(actor);
        let most = (connections + 100).to_string();
        let mut server = Actor::spawn(&["holding", &IDLE.to_string(), &most]);
        let port = server.line().parse().expect("a port");
        server.settle(IDLE);
        let times = hold_open(port, connections);
        half.push(times[connections / 2]);
        last.push(*times.get(connections - 1).expect("all are answered"));
    }
    let row = |name: &str, values: &[f64], ratio: f64| {
        let mut row = vec![name.to_owned()];
        row.extend([0.5, 0.9, 1.0].map(|share| format!("{:.1}", quantile(values, share))));
        row.push(format!("{ratio:.2}"));
        row
    };
    let mut rows = vec![
        row("bare loop, as many forks", &bare, 1.0),
        row("ours, half of them answered", &half, ratio(&half, &bare)),
        row("ours, all answered", &last, ratio(&last, &bare)),
    ];
    rows.extend(others(connections, median(&bare)));
    table(
        &format!("A burst of {connections} held connections on {IDLE} idle children, ms"),
        &["", "p50", "p90", "max", "to the bare loop"],
        &rows,
    );
    let what = format!("burst of {connections}: the last answer to the bare loop's forks");
    hold(&what, Target::AtMost(2.0), ratio(&last, &bare));
}

/// Once each: their times are seconds, and hardly scatter.
fn others(connections: usize, bare: f64) -> Vec<Vec<String>> {
    let pool = Pool::Elastic {
        idle: IDLE,
        most: connections + 100,
    };
    let mut rows = Vec::new();
    for peer in peers::wanted().into_iter().filter(|peer| peer.elastic) {
        let running = match peer.start(pool, false) {
            Ok(running) => running,
            Err(reason) => {
                println!("- {}, a burst: left out ({reason})", peer.name);
                continue;
            }
        };
        let times = hold_open(running.port(), connections);
        let mut row = vec![peer.name.to_owned()];
        if let Some(last) = times.get(connections - 1) {
            row.extend(vec![format!("{last:.1}"); 3]);
            row.push(format!("{:.2}", last / bare));
        } else {
            let answered = format!("{} answered in {} s", times.len(), PATIENCE.as_secs());
            row.extend([answered, String::new(), String::new(), String::new()]);
        }
        rows.push(row);
    }
    rows
}

/// Opens so many connections at once and keeps them: when each was answered, in order, in
/// milliseconds; those that were not in time are missing.
fn hold_open(port: u16, connections: usize) -> Vec<f64> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let start = Instant::now();
    let streams: Vec<TcpStream> = (0..connections)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            stream.write_all(REQUEST).expect("write");
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, number as u64);
            epoll.add(&stream, event).expect("add");
            stream.set_nonblocking(true).expect("non-blocking");
            stream
        })
        .collect();
    let mut times = Vec::with_capacity(connections);
    let mut events = vec![EpollEvent::empty(); connections];
    let mut answers = vec![Vec::new(); connections];
    while times.len() < connections && start.elapsed() < PATIENCE {
        let count = epoll
            .wait(&mut events, EpollTimeout::from(1000_u16))
            .expect("wait");
        let now = millis(start.elapsed());
        for event in &events[..count] {
            let number = usize::try_from(event.data()).expect("a number");
            // Until there is nothing more to read for now.
            let _ = (&streams[number]).read_to_end(&mut answers[number]);
            if answers[number].ends_with(BODY.as_bytes()) {
                answers[number].clear();
                times.push(now);
            }
        }
    }
    drop(streams);
    // Until the children have seen the ends.
    thread::sleep(Duration::from_millis(50));
    times
}
