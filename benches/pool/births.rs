//! Starts many children and ends them, compared with the bare loop: time, CPU time, memory.

use crate::common::{
    actor::Actor,
    beside, from_env, list_from_env, numbers, pick, proc, servers,
    stats::{median, millis, quantile, ratio, table},
    verdict::{Target, hold},
};
use nix::sys::resource::{Resource, getrlimit};

#[derive(Default)]
struct Figures {
    start: Vec<f64>,
    stop: Vec<f64>,
    parent_cpu: Vec<f64>,
    child_cpu: Vec<f64>,
    memory: Vec<f64>,
}

/// More than the pool itself takes: what the benchmark and the machine have besides.
const SPARE_PROCESSES: usize = 300;
const SPARE_FILES: usize = 100;

/// Whether the limits of this process admit so many children; else, which one does not.
fn admitted(children: usize) -> Result<(), &'static str> {
    let most = |resource| getrlimit(resource).map_or(0, |(_, hard)| hard);
    let wanted = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    if most(Resource::RLIMIT_NOFILE) < wanted(3 * children + SPARE_FILES) {
        Err("ulimit -n")
    } else if most(Resource::RLIMIT_NPROC) < wanted(children + SPARE_PROCESSES) {
        Err("ulimit -u")
    } else {
        Ok(())
    }
}

pub(crate) fn start_and_stop() {
    let rounds = from_env("BENCH_ROUNDS", pick(7, 3));
    let own = servers::program();
    // With another build beside this one, that is the one to compare with.
    let programs = match beside().into_iter().next() {
        Some(other) => [("ours", other), ("ours", own)],
        None => [("bare", own.clone()), ("ours", own)],
    };
    let mut of_sizes = Vec::new();
    for size in list_from_env("BENCH_SIZES", pick(&[100, 1000, 2000, 5000], &[100, 1000])) {
        if let Err(limit) = admitted(size) {
            println!("{size} children: skipped, {limit} does not allow them");
            continue;
        }
        let mut figures: [Figures; 2] = Default::default();
        for _ in 0..rounds {
            for ((role, program), figures) in programs.iter().zip(&mut figures) {
                let mut actor = Actor::spawn_from(program, &[role, &size.to_string()]);
                figures.start.push(numbers(&actor.line())[0] as f64 / 1e6);
                actor.settle(size);
                let tree = actor.tree();
                assert_eq!(tree.len(), size + 1, "the children that were asked for");
                let spent = |pids: &[u32]| {
                    let nanos: u64 = pids.iter().map(|&pid| proc::cpu(pid)).sum();
                    nanos as f64 / 1000.0 / size as f64
                };
                figures.parent_cpu.push(spent(&tree[..1]));
                figures.child_cpu.push(spent(&tree[1..]));
                let memory: Vec<f64> = tree[1..]
                    .iter()
                    .take(50)
                    .map(|&pid| proc::private_memory(pid) as f64)
                    .collect();
                figures.memory.push(median(&memory));
                figures.stop.push(millis(actor.terminate()));
            }
        }
        of_sizes.push((size, figures));
    }
    if of_sizes.is_empty() {
        return;
    }
    starts(&of_sizes);
    cpu_times(&of_sizes);
    memory_and_stop(&of_sizes);
    if beside().is_empty() {
        judge(&of_sizes);
    }
}

fn per_child(of: &Figures, size: usize) -> f64 {
    median(&of.start) * 1000.0 / size as f64
}

fn starts(of_sizes: &[(usize, [Figures; 2])]) {
    let (smallest, first) = &of_sizes[0];
    let (bare_unit, unit) = (
        per_child(&first[0], *smallest),
        per_child(&first[1], *smallest),
    );
    let rows: Vec<_> = of_sizes
        .iter()
        .map(|(size, [bare, ours])| {
            vec![
                size.to_string(),
                format!("{:.1}", median(&bare.start)),
                format!("{:.1}", median(&ours.start)),
                format!("{:.2}", ratio(&ours.start, &bare.start)),
                format!("{:.1}", quantile(&bare.start, 0.0)),
                format!("{:.1}", quantile(&ours.start, 0.0)),
                format!(
                    "{:.2}",
                    quantile(&ours.start, 0.0) / quantile(&bare.start, 0.0)
                ),
                format!("{:.0}", per_child(bare, *size)),
                format!("{:.0}", per_child(ours, *size)),
                format!("{:.2}", per_child(bare, *size) / bare_unit),
                format!("{:.2}", per_child(ours, *size) / unit),
            ]
        })
        .collect();
    table(
        "Start, until all children have said their first word",
        &[
            "children",
            "bare, ms",
            "ours, ms",
            "ratio",
            "bare, best round",
            "ours, best round",
            "ratio",
            "bare, µs a child",
            "ours, µs a child",
            "bare, to the smallest",
            "ours, to the smallest",
        ],
        &rows,
    );
}

fn cpu_times(of_sizes: &[(usize, [Figures; 2])]) {
    let rows: Vec<_> = of_sizes
        .iter()
        .map(|(size, [bare, ours])| {
            let figures = [
                &bare.parent_cpu,
                &bare.child_cpu,
                &ours.parent_cpu,
                &ours.child_cpu,
            ];
            let mut row = vec![size.to_string()];
            row.extend(figures.map(|figures| format!("{:.0}", median(figures))));
            row.push(format!(
                "{:.2}",
                (median(&ours.parent_cpu) + median(&ours.child_cpu))
                    / (median(&bare.parent_cpu) + median(&bare.child_cpu))
            ));
            row
        })
        .collect();
    table(
        "CPU time of the start, µs a child",
        &[
            "children",
            "bare, in the parent",
            "bare, in the child",
            "ours, in the parent",
            "ours, in the child",
            "ratio of the sums",
        ],
        &rows,
    );
}

fn memory_and_stop(of_sizes: &[(usize, [Figures; 2])]) {
    let rows: Vec<_> = of_sizes
        .iter()
        .map(|(size, [bare, ours])| {
            vec![
                size.to_string(),
                format!("{:.0}", median(&bare.memory)),
                format!("{:.0}", median(&ours.memory)),
                format!("{:.1}", median(&bare.stop)),
                format!("{:.1}", median(&ours.stop)),
                format!("{:.2}", ratio(&ours.stop, &bare.stop)),
            ]
        })
        .collect();
    table(
        "Private memory of an idle child, and the shutdown of all (bare: SIGKILL to each)",
        &[
            "children",
            "bare child, KiB",
            "our child, KiB",
            "bare stop, ms",
            "our stop, ms",
            "ratio",
        ],
        &rows,
    );
}

fn judge(of_sizes: &[(usize, [Figures; 2])]) {
    let (smallest, [_, first]) = &of_sizes[0];
    for (size, [bare, ours]) in of_sizes {
        let say = |what: &str, target, measured| {
            hold(&format!("{size} children: {what}"), target, measured);
        };
        let start = ratio(&ours.start, &bare.start);
        say("start to the bare loop's", Target::AtMost(2.0), start);
        if size != smallest {
            let growth = per_child(ours, *size) / per_child(first, *smallest);
            let what = format!("a child's start to that of one among {smallest}");
            say(&what, Target::AtMost(2.5), growth);
        }
        let memory = median(&ours.memory) - median(&bare.memory);
        say(
            "private KiB a child above the bare one's",
            Target::AtMost(64.0),
            memory,
        );
    }
}
