//! How the rate and the CPU time per connection change with the size of the pool and the number of
//! clients: tables, and charts in `docs/img` (or in `BENCH_IMG`). Measures like the benchmark
//! `serve`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

mod chart;
#[path = "../common/mod.rs"]
mod common;

use chart::{Line, Panel, Scale};
use common::{
    entries::{Entry, entries},
    from_env, list_from_env,
    load::{self, Load},
    peers, pick, servers,
    stats::{median, table},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

fn main() {
    common::start(bench, |role| match role {
        ["load", rest @ ..] => load::play(rest),
        _ => assert!(servers::play(role), "no role {role:?}"),
    });
}

fn bench() {
    let start = Instant::now();
    let all = [1, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    let sizes = list_from_env("BENCH_SIZES", pick(&all, &[1, 20, 100]));
    let all = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    let clients = list_from_env("BENCH_CLIENTS", pick(&all, &[1, 16, 64]));
    peers::introduce();
    let few = 16;
    let mut growth = Growth::new("children");
    for &children in &sizes {
        let others = peers::start(children, false);
        growth.measure(children, children, few, &others);
    }
    growth.finish(&format!("{few} clients"), "growth-children.svg");
    let children = from_env("BENCH_CHILDREN", 200);
    let children = usize::try_from(children).expect("a count");
    let others = peers::start(children, false);
    let mut growth = Growth::new("clients");
    for &clients in &clients {
        growth.measure(clients, children, clients, &others);
    }
    growth.finish(&format!("{children} children"), "growth-clients.svg");
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
}

/// The figures against what grows.
struct Growth {
    /// What grows.
    of: &'static str,
    /// Names in the order of the drawing.
    names: Vec<String>,
    /// By name: what has grown to how much, connections a second, µs of CPU time for each.
    points: BTreeMap<String, Vec<[f64; 3]>>,
}

impl Growth {
    fn new(of: &'static str) -> Self {
        Self {
            of,
            names: Vec::new(),
            points: BTreeMap::new(),
        }
    }

    fn measure(
        &mut self,
        grown: usize,
        children: usize,
        clients: usize,
        others: &[(&'static peers::Peer, peers::Running)],
    ) {
        let load = Load {
            port: 0,
            clients,
            time: Duration::from_millis(from_env("BENCH_MILLIS", pick(500, 200))),
            lead: Duration::ZERO,
            requests: 1,
            rate: 0,
            urgent: false,
        };
        let mut entries = entries(others);
        // The lines of the two channels lie on each other.
        entries.retain(|entry| !entry.name.contains("private"));
        for _ in 0..from_env("BENCH_ROUNDS", pick(3, 1)) {
            for entry in &mut entries {
                entry.measure(children, false, load);
            }
        }
        for entry in &entries {
            self.note(grown, entry);
        }
    }

    fn note(&mut self, grown: usize, entry: &Entry<'_>) {
        if !self.names.contains(&entry.name) {
            self.names.push(entry.name.clone());
        }
        let figures = &entry.figures;
        let point = [grown as f64, median(&figures.rate), median(&figures.cpu)];
        let points = self.points.entry(entry.name.clone()).or_default();
        points.push(point);
    }

    /// Prints the tables and draws them.
    fn finish(&self, beside: &str, file: &str) {
        for (figure, what) in [(1, "connections/s"), (2, "server CPU µs/connection")] {
            self.print(figure, &format!("{what}, {beside}"));
        }
        let caption = format!("One request a connection, {beside}");
        let panel = |figure: usize, title: &'static str, unit: &'static str| Panel {
            title,
            unit,
            scale: Scale::Logarithmic,
            lines: self.lines(figure),
        };
        let panels = [
            panel(1, "Connections a second", "connections/s"),
            panel(2, "CPU time of the server, all processes", "µs/connection"),
        ];
        let path = directory().join(file);
        chart::draw(&path, &caption, self.of, &panels).expect("draw");
        println!("\nDrawn: {}", path.display());
    }

    fn print(&self, figure: usize, title: &str) {
        let mut grown: Vec<f64> = self
            .points
            .values()
            .flatten()
            .map(|point| point[0])
            .collect();
        grown.sort_by(f64::total_cmp);
        grown.dedup();
        let mut head = vec![self.of];
        head.extend(self.names.iter().map(String::as_str));
        let cell = |name: &String, at: f64| {
            let point = self.points[name].iter().find(|point| point[0] == at);
            point.map_or(String::new(), |point| format!("{:.0}", point[figure]))
        };
        let row = |&at: &f64| {
            let mut row = vec![format!("{at:.0}")];
            row.extend(self.names.iter().map(|name| cell(name, at)));
            row
        };
        let rows: Vec<_> = grown.iter().map(row).collect();
        table(title, &head, &rows);
    }

    fn lines(&self, figure: usize) -> Vec<Line> {
        let line = |name: &String| Line {
            name: name.clone(),
            points: self.points[name]
                .iter()
                .map(|point| (point[0], point[figure]))
                .collect(),
        };
        self.names.iter().map(line).collect()
    }
}

fn directory() -> PathBuf {
    let directory = match env::var_os("BENCH_IMG") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/img"),
    };
    fs::create_dir_all(&directory).expect("a directory for the drawings");
    directory
}
