//! Runs a load against a server, and reads from the kernel what it cost there. Keeps the figures of
//! the rounds; prints none.

use super::{
    actor::Actor,
    load::{Load, Outcome},
    peers::Running,
    proc,
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

/// A server that can be put under load.
pub(crate) enum Server<'a> {
    /// Of this file's kind; whether it tells forks and words.
    Own(&'a mut Actor, u16, bool),
    Peer(&'a Running),
}

impl Server<'_> {
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Own(_, port, _) => *port,
            Self::Peer(running) => running.port(),
        }
    }

    fn roots(&self) -> Vec<u32> {
        match self {
            Self::Own(actor, ..) => vec![actor.pid()],
            Self::Peer(running) => running.roots(),
        }
    }

    fn ask(&mut self) -> Option<[u64; 2]> {
        match self {
            Self::Own(actor, _, true) => actor.ask().first_chunk().copied(),
            _ => None,
        }
    }
}

/// What the kernel has counted of a server so far.
#[derive(Default)]
struct Account {
    roots: Vec<u32>,
    tree: Vec<u32>,
    cpu: u64,
    of_roots: u64,
    slept: u64,
    roots_slept: u64,
    switches: u64,
}

impl Account {
    fn of(server: &Server<'_>) -> Self {
        let roots = server.roots();
        let tree: Vec<u32> = roots.iter().flat_map(|&root| proc::tree(root)).collect();
        let sum = |of: fn(u32) -> u64, pids: &[u32]| pids.iter().map(|&pid| of(pid)).sum::<u64>();
        let of_roots = sum(proc::cpu, &roots);
        let switches = tree.iter().map(|&pid| proc::switches(pid));
        let [slept, switches] =
            switches.fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
        let roots_slept = roots.iter().map(|&pid| proc::switches(pid)[0]).sum();
        Self {
            roots_slept,
            cpu: sum(proc::cpu, &tree) + sum(proc::cpu_of_reaped, &roots),
            of_roots,
            slept,
            switches,
            roots,
            tree,
        }
    }
}

/// The results of a load against one server, a value for each round.
#[derive(Default)]
pub(crate) struct Figures {
    /// Connections a second, or answers where a connection is kept.
    pub(crate) rate: Vec<f64>,
    /// CPU time of the whole tree, µs for each of them.
    pub(crate) cpu: Vec<f64>,
    /// The parent's CPU time, % of a core.
    pub(crate) parent: Vec<f64>,
    /// And of what the server has taken, %.
    pub(crate) share: Vec<f64>,
    pub(crate) switches: Vec<f64>,
    /// Switches because there was nothing to do; and the children's alone.
    pub(crate) sleeps: Vec<f64>,
    pub(crate) naps: Vec<f64>,
    pub(crate) p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
    pub(crate) p999: Vec<f64>,
    pub(crate) max: Vec<f64>,
    pub(crate) forks: Vec<f64>,
    pub(crate) words: Vec<f64>,
    pub(crate) client: Vec<f64>,
    pub(crate) children: Vec<f64>,
    /// Connections that wait to be accepted, the least of several looks.
    pub(crate) queue: Vec<f64>,
    /// Answers on a connection.
    pub(crate) kept: Vec<f64>,
    /// Children that gave an answer, and the busiest one's share in all, % (signed answers).
    pub(crate) served: Vec<f64>,
    pub(crate) busiest: Vec<f64>,
    pub(crate) failures: u64,
}

impl Figures {
    /// Runs the load once and adds the results.
    pub(crate) fn add(&mut self, server: &mut Server<'_>, load: &Load) -> Outcome {
        // Not during the load, which the question would disturb.
        let told = server.ask();
        let idle = Account::of(server);
        let mut generator = load.spawn();
        let measure = || {
            let before = if load.lead > Duration::ZERO {
                Outcome::begins(&mut generator);
                Account::of(server)
            } else {
                idle
            };
            let queue = least_queue(load);
            (before, queue, Outcome::of(&mut generator))
        };
        let (before, queue, outcome) = on_any_core(measure);
        let after = Account::of(server);
        self.note_told(told, server.ask(), &outcome);
        if matches!(server, Server::Own(..)) {
            assert_eq!(outcome.failures, 0, "connections without an answer");
        }
        self.failures += outcome.failures;
        self.queue.push(queue);
        self.note(&before, &after, &outcome);
        outcome
    }

    /// What the server counts itself, the lead included.
    fn note_told(&mut self, before: Option<[u64; 2]>, after: Option<[u64; 2]>, outcome: &Outcome) {
        let [forks, words] = match (before, after) {
            (Some(before), Some(after)) => [0, 1].map(|at| (after[at] - before[at]) as f64),
            _ => [0.0, 0.0],
        };
        self.forks.push(forks / outcome.all_seconds);
        self.words.push(words / outcome.all_answers);
    }

    fn note(&mut self, before: &Account, after: &Account, outcome: &Outcome) {
        let Outcome {
            answers, seconds, ..
        } = *outcome;
        let spent = |of: fn(&Account) -> u64| of(after).saturating_sub(of(before)) as f64;
        let (cpu, of_roots) = (
            spent(|account| account.cpu),
            spent(|account| account.of_roots),
        );
        self.rate.push(answers / seconds);
        self.cpu.push(cpu / 1000.0 / answers);
        self.parent.push(of_roots / 1e7 / seconds);
        self.share.push(of_roots / cpu * 100.0);
        self.switches
            .push(spent(|account| account.switches) / answers);
        let slept = spent(|account| account.slept);
        self.sleeps.push(slept / answers);
        let of_roots = spent(|account| account.roots_slept);
        self.naps.push((slept - of_roots) / answers);
        self.client.push(outcome.client_cpu_micros / answers);
        self.p50.push(outcome.p50);
        self.p99.push(outcome.p99);
        self.p999.push(outcome.p999);
        self.max.push(outcome.max);
        self.children
            .push((after.tree.len() - after.roots.len()) as f64);
        self.kept.push(answers / outcome.connections);
        self.served.push(outcome.children as f64);
        self.busiest.push(outcome.busiest / answers * 100.0);
    }
}

/// Looks at the queue of the listener while the load runs, and not in its first and last parts.
fn least_queue(load: &Load) -> f64 {
    let start = Instant::now();
    thread::sleep(load.time / 4);
    let mut least = f64::NAN;
    while start.elapsed() < load.time * 3 / 4 {
        least = least.min(proc::queued(load.port).unwrap_or(0) as f64);
        thread::sleep(load.time / 40);
    }
    least
}

/// Private memory of the idle children, in KiB: the median of some of them.
pub(crate) fn memory(server: &Server<'_>) -> f64 {
    let roots = server.roots();
    let tree: Vec<u32> = roots.iter().flat_map(|&root| proc::tree(root)).collect();
    let children = tree.iter().filter(|pid| !roots.contains(pid));
    let memory: Vec<f64> = children
        .take(50)
        .map(|&pid| proc::private_memory(pid) as f64)
        .collect();
    super::stats::median(&memory)
}

thread_local! {
    /// Where this process may run, while it starts others that are kept to one core.
    static ALL_CORES: Cell<Option<CpuSet>> = const { Cell::new(None) };
}

/// Keeps this process, and those that it starts meanwhile, to one core.
pub(crate) fn on_one_core<T>(act: impl FnOnce() -> T) -> T {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this).expect("the cores");
    let mut one = CpuSet::new();
    let last = (0..CpuSet::count()).rfind(|&core| all.is_set(core) == Ok(true));
    one.set(last.expect("a core")).expect("a core");
    sched_setaffinity(this, &one).expect("one core");
    ALL_CORES.set(Some(all));
    let result = act();
    ALL_CORES.set(None);
    sched_setaffinity(this, &all).expect("all cores");
    result
}

/// Lets this process look on from another core than that to which it keeps others.
fn on_any_core<T>(look: impl FnOnce() -> T) -> T {
    let Some(all) = ALL_CORES.get() else {
        return look();
    };
    let this = Pid::from_raw(0);
    let one = sched_getaffinity(this).expect("the core");
    sched_setaffinity(this, &all).expect("all cores");
    let result = look();
    sched_setaffinity(this, &one).expect("one core");
    result
}

/// A child's time to settle before the next load.
pub(crate) const BREATH: Duration = Duration::from_millis(50);
