//! One table: the same load on each server in turn, again and again.

use crate::{
    Effort,
    common::{
        beside,
        entries::{Entry, OURS, entries},
        load::Load,
        peers::{self, Peer, Running},
        run::{Figures, on_one_core},
        stats::{median, quantile, ratio, table},
        verdict::{Target, hold},
    },
};
use std::time::Duration;

/// How the load goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// One request a connection, a connection for each client at any time.
    Closed,
    /// A hundred requests a connection.
    Kept,
    /// This many connections a second, however long the answers take.
    Open(u64),
    /// As `Closed`, on one core, and the server has of it what the load leaves: there are always
    /// connections that wait to be accepted.
    Saturated,
}

/// The requests on a connection that is kept.
const KEPT: u64 = 100;

/// Processes at nice 19 that have less of a core between them than one at nice 0: 1024 to 15 each.
const OUTWEIGHED: usize = 50;

/// How long a load runs before anything is counted: a pool that was idle has to find its pace.
const LEAD: Duration = Duration::from_millis(100);

/// How many servers of each kind take part, one after the other: where its processes have come to lie in
/// memory, and which of them are warm, makes one a few hundredths faster than the next.
const INSTANCES: u64 = 10;
/// And where the rounds are long and few.
const FEW_INSTANCES: u64 = 4;

pub(crate) struct Contest {
    children: usize,
    mode: Mode,
    clients: usize,
}

impl Contest {
    pub(crate) fn new(children: usize, mode: Mode, clients: usize) -> Self {
        Self {
            children,
            mode,
            clients,
        }
    }

    /// Held with servers of others that have been started for it.
    pub(crate) fn run(&self, others: &[(&'static Peer, Running)], effort: Effort) {
        let mut entries = entries(others);
        let rounds = match self.mode {
            Mode::Closed | Mode::Kept => effort.rounds,
            // Longer ones: see `load`.
            Mode::Open(_) | Mode::Saturated => effort.rounds.div_ceil(4),
        };
        let instances = match self.mode {
            Mode::Closed | Mode::Kept => INSTANCES,
            Mode::Open(_) | Mode::Saturated => FEW_INSTANCES,
        };
        for round in 0..rounds {
            if round % rounds.div_ceil(instances) == 0 {
                entries.iter_mut().for_each(Entry::end);
            }
            // Nobody always comes after the same one.
            let first = usize::try_from(round).expect("a count") % entries.len();
            let (late, early) = entries.split_at_mut(first);
            for entry in early.iter_mut().chain(late) {
                if !entry.is_peer() || round < effort.peer_rounds {
                    let yielding = self.mode == Mode::Saturated;
                    entry.measure(self.children, yielding, self.load(effort));
                }
            }
        }
        self.report(&entries);
        self.judge(&entries);
    }

    /// Held with all servers on one core, behind the load.
    pub(crate) fn run_alone(&self, effort: Effort) {
        on_one_core(|| {
            let others = if beside().is_empty() {
                peers::start(self.children, true)
            } else {
                Vec::new()
            };
            self.run(&others, effort);
        });
    }

    fn load(&self, effort: Effort) -> Load {
        Load {
            port: 0,
            clients: self.clients,
            time: match self.mode {
                Mode::Closed | Mode::Kept => effort.time,
                Mode::Saturated => effort.time * 8,
                // Of few connections a second there are to be many all the same.
                Mode::Open(_) => effort.time * 5,
            },
            lead: match self.mode {
                Mode::Closed | Mode::Kept => LEAD,
                // A burst of first connections wakes all of them, and they have one core between them.
                Mode::Saturated => LEAD * 20,
                Mode::Open(_) => Duration::ZERO,
            },
            requests: if self.mode == Mode::Kept { KEPT } else { 1 },
            rate: match self.mode {
                Mode::Open(rate) => rate,
                _ => 0,
            },
            // So many servers outweigh the load, be they as nice as they may. Where they do not, it
            // had better not interrupt them for each answer.
            urgent: self.mode == Mode::Saturated && self.children > OUTWEIGHED,
        }
    }

    fn title(&self) -> String {
        let Self {
            children, clients, ..
        } = self;
        match self.mode {
            Mode::Closed => format!("{children} children, {clients} clients"),
            Mode::Kept => {
                format!("{children} children, {clients} clients, {KEPT} requests a connection")
            }
            Mode::Open(rate) => format!("{children} children, {rate} connections/s arrive"),
            Mode::Saturated => format!("{children} children, {clients} clients, saturated"),
        }
    }

    fn report(&self, entries: &[Entry<'_>]) {
        let floor = &entries[0].figures;
        let mut head = HEAD.to_vec();
        let mut rows: Vec<_> = entries.iter().map(|entry| self.row(entry, floor)).collect();
        let mut column = head.len();
        while column > 0 {
            column -= 1;
            if rows.iter().all(|row| row[column].is_empty()) {
                head.remove(column);
                for row in &mut rows {
                    row.remove(column);
                }
            }
        }
        table(&self.title(), &head, &rows);
        if self.mode == Mode::Saturated {
            println!(
                "\nServers at nice 19 on the one core of the load. Saturated if `queue, least` \
                 is above 0, and `sleeps` and `words` near 0."
            );
        }
    }

    fn row(&self, entry: &Entry<'_>, floor: &Figures) -> Vec<String> {
        let own = &entry.figures;
        let tells = entry.tells_words();
        let when = |shown: bool, text: String| if shown { text } else { String::new() };
        let saturated = self.mode == Mode::Saturated;
        let open = matches!(self.mode, Mode::Open(_));
        vec![
            entry.name.clone(),
            format!("{:.0}", median(&own.rate)),
            when(!open, format!("{:.3}", ratio(&own.rate, &floor.rate))),
            when(!open, format!("{:.0}", best(&own.rate))),
            when(!open, format!("{:.3}", best(&own.rate) / best(&floor.rate))),
            format!("{:.1}", median(&own.cpu)),
            format!("{:.3}", ratio(&own.cpu, &floor.cpu)),
            format!("{:.1}", median(&own.client)),
            format!("{:.2}", median(&own.parent)),
            format!("{:.1}", median(&own.share)),
            format!("{:.2}", median(&own.switches)),
            when(saturated, format!("{:.3}", median(&own.sleeps))),
            when(tells, format!("{:.3}", median(&own.words))),
            when(saturated, format!("{:.0}", median(&own.queue))),
            when(self.mode == Mode::Kept, format!("{:.0}", median(&own.kept))),
            format!("{:.0}", median(&own.p50)),
            format!("{:.0}", median(&own.p99)),
            format!("{:.0}", median(&own.p999)),
            format!("{:.0}", entry.memory),
            when(own.failures > 0, own.failures.to_string()),
        ]
    }

    fn judge(&self, entries: &[Entry<'_>]) {
        let floor = &entries[0].figures;
        let Some(ours) = entries.iter().find(|entry| entry.name == OURS) else {
            return;
        };
        let ours = &ours.figures;
        let say = |what: &str, target, measured| {
            hold(&format!("{}: {what}", self.title()), target, measured);
        };
        let cpu = ratio(&ours.cpu, &floor.cpu);
        let rate = ratio(&ours.rate, &floor.rate);
        match self.mode {
            Mode::Closed => {
                let least = if self.children < 1000 { 0.98 } else { 0.95 };
                say("rate to the floor's", Target::AtLeast(least), rate);
                say("CPU to the floor's", Target::AtMost(1.15), cpu);
            }
            Mode::Saturated => {
                say("CPU to the floor's", Target::AtMost(1.03), cpu);
                let words = median(&ours.words);
                say(
                    "words a connection (is it saturated?)",
                    Target::AtMost(0.1),
                    words,
                );
            }
            Mode::Open(15_000) => {
                // The load may not have come up to it: as if it had.
                let parent: Vec<f64> = ours
                    .parent
                    .iter()
                    .zip(&ours.rate)
                    .map(|(parent, rate)| parent * 15_000.0 / rate)
                    .collect();
                let came = median(&ours.rate);
                let what = format!("parent, % of a core at 15,000/s ({came:.0}/s came)");
                say(&what, Target::AtMost(1.5), median(&parent));
            }
            Mode::Open(_) | Mode::Kept => {}
        }
    }
}

/// The round that was disturbed least: the machine may have other work.
fn best(rates: &[f64]) -> f64 {
    quantile(rates, 1.0)
}

const HEAD: &[&str] = &[
    "server",
    "answers/s",
    "ratio",
    "best",
    "ratio",
    "server CPU µs/answer",
    "ratio",
    "client CPU µs/answer",
    "parent, % of a core",
    "parent, % of the CPU",
    "switches/answer",
    "sleeps/answer",
    "words/answer",
    "queue, least",
    "answers/conn",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "private KiB/child",
    "failures",
];
