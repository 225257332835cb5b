//! What it costs to look: a pool whose status is asked for ten times a second, and one that takes the
//! time in the queue of each connection besides, compared with one that does neither, in turn.

use crate::{
    Effort,
    common::{
        actor::Actor,
        load::Load,
        run::{Figures, Server},
        servers,
        stats::{median, ratio, table},
        verdict::{Target, hold},
    },
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

const EVERY: Duration = Duration::from_millis(100);
const CHILDREN: usize = 20;

/// One that looks at the status until it is dropped.
fn with_a_watcher<T>(socket: &Path, act: impl FnOnce() -> T) -> (T, u64) {
    thread::scope(|scope| {
        let (end, ended) = channel::<()>();
        let watcher = scope.spawn(move || watch(socket, &ended));
        let result = act();
        drop(end);
        (result, watcher.join().expect("the watcher"))
    })
}

fn watch(socket: &Path, ended: &Receiver<()>) -> u64 {
    let mut looks = 0;
    loop {
        let text = look(socket);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        looks += 1;
        if ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            return looks;
        }
    }
}

fn look(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).expect("the status socket");
    let request = b"GET /status.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("a question");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// A pool, and where its status is looked at.
struct Pool {
    name: &'static str,
    actor: Actor,
    port: u16,
    socket: Option<PathBuf>,
    figures: Figures,
    looks: u64,
}

impl Pool {
    fn start(name: &'static str, role: &str, socket: Option<PathBuf>) -> Self {
        let children = CHILDREN.to_string();
        let path = socket.as_deref().map(|path| path.to_str().expect("a path"));
        let words: Vec<&str> = [role, &children].into_iter().chain(path).collect();
        let mut actor = servers::own(&words);
        let port = actor.line().parse().expect("a port");
        // The process that tells the status is one more.
        actor.settle(CHILDREN + usize::from(socket.is_some()));
        Self {
            name,
            actor,
            port,
            socket,
            figures: Figures::default(),
            looks: 0,
        }
    }

    fn turn(&mut self, clients: usize, effort: Effort) {
        let load = Load {
            port: self.port,
            clients,
            time: 4 * effort.time,
            lead: Duration::ZERO,
            requests: 1,
            rate: 0,
            urgent: false,
        };
        let mut server = Server::Own(&mut self.actor, self.port, true);
        let mut run = || self.figures.add(&mut server, &load);
        match &self.socket {
            Some(socket) => self.looks += with_a_watcher(socket, run).1,
            None => drop(run()),
        }
    }

    fn row(&self, than: &Self) -> Vec<String> {
        let (own, other) = (&self.figures, &than.figures);
        vec![
            self.name.to_owned(),
            self.looks.to_string(),
            format!("{:.0}", median(&own.rate)),
            format!("{:.3}", ratio(&own.rate, &other.rate)),
            format!("{:.2}", median(&own.cpu)),
            format!("{:.3}", ratio(&own.cpu, &other.cpu)),
            format!("{:.0}", median(&own.p99)),
        ]
    }

    fn judge(&self, than: &Self, clients: usize) {
        let say = |what: &str, target, measured| {
            let name = self.name;
            hold(
                &format!("{name}, {clients} clients: {what}"),
                target,
                measured,
            );
        };
        let (own, other) = (&self.figures, &than.figures);
        say(
            "rate to that without a status",
            Target::AtLeast(0.99),
            ratio(&own.rate, &other.rate),
        );
        say(
            "CPU to that without a status",
            Target::AtMost(1.01),
            ratio(&own.cpu, &other.cpu),
        );
    }
}

pub(crate) fn compare(clients: usize, effort: Effort) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = |name: &str| Some(folder.path().join(name));
    let mut pools = [
        Pool::start("no status", "ours", None),
        Pool::start("status", "watched", socket("watched")),
        Pool::start("status and queue times", "timed", socket("timed")),
    ];
    for _ in 0..effort.rounds {
        for pool in &mut pools {
            pool.turn(clients, effort);
        }
    }
    let [without, others @ ..] = &pools;
    let title = format!("Status asked for ten times a second, {clients} clients");
    let head = [
        "pool",
        "looks",
        "conn/s",
        "ratio",
        "server CPU µs/conn",
        "ratio",
        "p99 µs",
    ];
    let rows: Vec<_> = pools.iter().map(|pool| pool.row(without)).collect();
    table(&title, &head, &rows);
    for pool in others {
        pool.judge(without, clients);
    }
}
