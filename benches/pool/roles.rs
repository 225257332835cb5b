//! The roles of this benchmark's processes: the bare loop of pipes and forks, and pools of this crate
//! that tell when something has come about. Prints figures for the benchmark to read, no tables.

use crate::{
    common::{self, proc, wire},
    confined,
};
use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use prefork_server::{
    Builder, Child, ChildId, ChildServer, Death, Event, ExecServer, Monitor, Observer, PreFork,
    PreForkHooks, State, States, TcpServer, defaults, servers::TcpConn,
};
use std::{
    cell::Cell,
    io::{self, PipeReader, Read, Write},
    process,
    rc::Rc,
    time::{Duration, Instant},
};

/// False for a role of another module.
pub(crate) fn play(role: &[&str]) -> bool {
    let count = |at: usize| role[at].parse::<usize>().expect("a count");
    match role[0] {
        "bare" => bare(count(1)),
        "reaping" => reaping(count(1)),
        "ours" => ours(count(1), answering(), |pool| pool),
        "confined" => ours(count(1), answering(), |pool| {
            pool.confinement(confined::confinement())
        }),
        "held" => ours(count(1), answering(), Builder::holder),
        "programs" => ours(count(1), programs(), |pool| pool),
        "held-programs" => ours(count(1), programs(), Builder::holder),
        "program" => program(),
        "holding" => holding(count(1), count(2)),
        "killing" => killing(count(1), count(2)),
        "reloading" => reloading(count(1), role[2].parse().ok().map(Duration::from_millis)),
        "culling" => culling(count(1), count(2)),
        _ => return false,
    }
    true
}

// ---- The bare loop ----

/// Two pipes, for stdout and stderr, and a fork for each child, which writes one byte; then the end
/// of all. Nothing else of what a supervisor does: siblings' pipes stay open, nobody is watched.
fn bare(children: usize) {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block().expect("mask");
    let start = Instant::now();
    let born: Vec<_> = (0..children).map(|_| bare_child()).collect();
    for (_, [stdout, _]) in &born {
        let mut pipe = stdout;
        pipe.read_exact(&mut [0]).expect("the child's byte");
    }
    println!("{}", start.elapsed().as_nanos());
    stop.wait().expect("SIGTERM");
    for (child, _) in &born {
        kill(*child, Signal::SIGKILL).expect("kill");
    }
    for (child, _) in born {
        waitpid(child, None).expect("wait");
    }
}

fn bare_child() -> (Pid, [PipeReader; 2]) {
    let (stdout, mut stdout_write) = io::pipe().expect("pipe");
    let (stderr, stderr_write) = io::pipe().expect("pipe");
    let child = common::bare_fork(|| {
        nix::unistd::dup2_stdout(&stdout_write).expect("dup2");
        nix::unistd::dup2_stderr(&stderr_write).expect("dup2");
        stdout_write.write_all(b"!").expect("write");
        loop {
            nix::unistd::pause();
        }
    });
    (child, [stdout, stderr])
}

/// Kills so many children and reaps them: prints the time and the CPU time, in nanoseconds.
fn reaping(children: usize) {
    let born: Vec<_> = (0..children).map(|_| bare_child()).collect();
    for (_, [stdout, _]) in &born {
        let mut pipe = stdout;
        pipe.read_exact(&mut [0]).expect("the child's byte");
    }
    let (start, cpu) = (Instant::now(), proc::cpu(process::id()));
    for (child, _) in &born {
        kill(*child, Signal::SIGKILL).expect("kill");
    }
    for (child, pipes) in born {
        waitpid(child, None).expect("wait");
        drop(pipes);
    }
    let cpu = proc::cpu(process::id()) - cpu;
    println!("{} {cpu}", start.elapsed().as_nanos());
}

// ---- Ours ----

fn answering() -> impl ChildServer {
    TcpServer::new(wire::answer).max_requests(0)
}

/// Children that become this benchmark again.
fn programs() -> impl ChildServer {
    ExecServer::new(common::servers::program()).args(["--role", "program"])
}

/// Says that it has started, and waits for its end.
fn program() {
    // ACK, as a line.
    println!("\x06");
    loop {
        nix::unistd::pause();
    }
}

/// Prints how long it took until every child of a fixed pool had sent its first word.
fn ours<S: ChildServer>(
    children: usize,
    server: S,
    with: impl FnOnce(Builder<Firsts, S>) -> Builder<Firsts, S>,
) {
    let hooks = Firsts {
        wanted: children,
        start: Instant::now(),
    };
    let pool = PreFork::builder(server)
        .hooks(hooks)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children);
    let mut prefork = with(pool).start().expect("start");
    prefork.hooks_mut().start = Instant::now();
    prefork.run().expect("run");
}

struct Firsts {
    wanted: usize,
    start: Instant,
}

impl PreForkHooks for Firsts {
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if is_first(monitor, child) {
            self.wanted = self.wanted.saturating_sub(1);
            if self.wanted == 0 {
                let nanos = self.start.elapsed().as_nanos();
                monitor.print_stdout(nanos.to_string());
            }
        }
        defaults::server_ack(self, monitor, child);
    }
}

fn is_first(monitor: &Monitor, child: ChildId) -> bool {
    monitor.child(child).is_some_and(|child| !child.has_acked())
}

/// Answers, and holds the connection until the client closes it.
fn holding(spare: usize, most: usize) {
    let server = TcpServer::new(|conn: TcpConn| {
        wire::answer(&conn)?;
        io::copy(&mut &conn, &mut io::sink()).map(drop)
    });
    let mut prefork = PreFork::builder(server.max_requests(0))
        .start_servers(spare)
        .min_spare_servers(spare)
        .max_spare_servers(2 * spare)
        .max_clients(most)
        .start()
        .expect("start");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("run");
}

/// Kills its oldest child every now and then, without a word to the monitor, and prints the times
/// from the kill to the reaping and to the first word of the successor, in nanoseconds.
fn killing(children: usize, kills: usize) {
    let hooks = Killer {
        left: kills,
        killed: None,
        exited: None,
    };
    PreFork::builder(TcpServer::new(wire::answer).max_requests(0))
        .hooks(hooks)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children)
        .run()
        .expect("run");
}

struct Killer {
    left: usize,
    killed: Option<Instant>,
    exited: Option<Instant>,
}

impl Killer {
    /// Every child has to be a second old when its turn comes: one that dies younger is taken for
    /// a start that has failed, and forking is slowed down.
    const FIRST: Duration = Duration::from_millis(1100);
    const EVERY: Duration = Duration::from_millis(25);
}

impl PreForkHooks for Killer {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.add("kill");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _state: &str) {
        let free = monitor
            .free_servers()
            .filter(|child| child.state() == State::Free);
        let Some(oldest) = free.min_by_key(|child| (child.start_time(), child.id())) else {
            return;
        };
        let victim = common::pid(oldest.pid());
        self.killed = Some(Instant::now());
        kill(victim, Signal::SIGKILL).expect("kill");
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        self.exited = Some(Instant::now());
        defaults::server_exited(self, monitor, child, death);
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if is_first(monitor, child) {
            match (self.killed.take(), self.exited.take()) {
                (Some(killed), Some(exited)) => {
                    let reaped = exited.duration_since(killed).as_nanos();
                    let replaced = killed.elapsed().as_nanos();
                    monitor.print_stdout(format!("{reaped} {replaced}"));
                    self.left = self.left.saturating_sub(1);
                    if self.left > 0 {
                        monitor.delay_set("kill", Self::EVERY);
                    }
                }
                // The last of those that the pool begins with sets the clock anew.
                _ => {
                    monitor.alarm_remove_all();
                    monitor.delay_set("kill", Self::FIRST);
                }
            }
        }
        defaults::server_ack(self, monitor, child);
    }
}

/// Reloads again and again, with a pause after each; without one it never reloads. It answers each
/// byte on stdin with the number of complete reloads.
fn reloading(children: usize, pause: Option<Duration>) {
    let done = Rc::new(Cell::new(0));
    let hooks = Reloader {
        pause,
        done: Rc::clone(&done),
    };
    let mut prefork = PreFork::builder(TcpServer::new(wire::answer).max_requests(0))
        .hooks(hooks)
        .observe(Reloads(done))
        .start_servers(children)
        .min_spare_servers(1)
        .max_spare_servers(2 * children)
        .max_clients(2 * children)
        .start()
        .expect("start");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("run");
}

struct Reloader {
    pause: Option<Duration>,
    done: Rc<Cell<u64>>,
}

impl PreForkHooks for Reloader {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.add("begin");
        states.select_read(io::stdin(), "asked").expect("a watch");
    }

    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_start(self, monitor, server)?;
        if self.pause.is_some() {
            monitor.delay_set("begin", Duration::from_millis(50));
        }
        Ok(())
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        match (state, self.pause) {
            ("asked", _) => {
                let _ = io::stdin().read(&mut [0; 16]).expect("a byte");
                monitor.print_stdout(self.done.get().to_string());
            }
            (_, Some(pause)) => {
                if !monitor.is_reloading() {
                    monitor.reload();
                }
                monitor.delay_set("begin", pause.max(Duration::from_millis(1)));
            }
            _ => {}
        }
    }
}

struct Reloads(Rc<Cell<u64>>);

impl Observer for Reloads {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if let Event::Reloaded { .. } = event {
            self.0.set(self.0.get() + 1);
        }
    }
}

/// Begins with more children than it may keep, and prints when the surplus had gone: the time since
/// the first of them went and the parent's CPU time since all were there, in nanoseconds.
fn culling(children: usize, keep: usize) {
    let hooks = Culler {
        to_come: children,
        to_go: children - keep,
        first: None,
        cpu: 0,
    };
    PreFork::builder(TcpServer::new(wire::answer).max_requests(0))
        .hooks(hooks)
        .start_servers(children)
        .min_spare_servers(keep - 1)
        .max_spare_servers(keep)
        .max_clients(children)
        .run()
        .expect("run");
}

struct Culler {
    to_come: usize,
    to_go: usize,
    first: Option<Instant>,
    cpu: u64,
}

impl PreForkHooks for Culler {
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if is_first(monitor, child) {
            self.to_come = self.to_come.saturating_sub(1);
            if self.to_come == 0 {
                self.cpu = proc::cpu(process::id());
            }
        }
        defaults::server_ack(self, monitor, child);
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        let first = *self.first.get_or_insert_with(Instant::now);
        self.to_go = self.to_go.saturating_sub(1);
        defaults::server_exited(self, monitor, child, death);
        if self.to_go == 0 {
            let cpu = proc::cpu(process::id()) - self.cpu;
            monitor.print_stdout(format!("{} {cpu}", first.elapsed().as_nanos()));
            self.to_go = usize::MAX;
        }
    }
}
