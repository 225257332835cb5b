//! The end of children: killed and replaced, culled, reaped.

use crate::common::{
    actor::Actor,
    from_env, numbers, pick,
    stats::{median, quantile, ratio, table},
    verdict::{Target, hold},
};

pub(crate) fn replacement() {
    let (children, kills) = (100, pick(1000, 30));
    let mut actor = Actor::spawn(&["killing", &children.to_string(), &kills.to_string()]);
    let (mut reaped, mut replaced) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let line = numbers(&actor.line());
        reaped.push(line[0] as f64 / 1e6);
        replaced.push(line[1] as f64 / 1e6);
    }
    drop(actor);
    let row = |name: &str, values: &[f64]| {
        let mut row = vec![name.to_owned()];
        row.extend([0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.2}", quantile(values, share))));
        row
    };
    table(
        &format!("Replacement of a killed child, {kills} kills among {children} children, ms"),
        &["from the kill to", "p50", "p90", "p99", "max"],
        &[
            row("the death known to the hooks", &reaped),
            row("the successor's first word", &replaced),
        ],
    );
    let what = "replacement of a killed child, ms, p50";
    hold(what, Target::AtMost(1.0), median(&replaced));
}

/// A surplus of children that is told to stop, and what each costs the parent, compared with
/// children of the bare loop that are killed and reaped.
pub(crate) fn cull() {
    let keep = 10;
    let mut rows = Vec::new();
    for surplus in [90, 990] {
        let (mut bare, mut ours): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
        for _ in 0..from_env("BENCH_ROUNDS", pick(7, 3)) {
            let all = (surplus + keep).to_string();
            let roles: [&[&str]; 2] = [
                &["reaping", &surplus.to_string()],
                &["culling", &all, &keep.to_string()],
            ];
            for (role, figures) in roles.iter().zip([&mut bare, &mut ours]) {
                let line = numbers(&Actor::spawn(role).line());
                figures[0].push(line[0] as f64 / 1e6);
                figures[1].push(line[1] as f64 / 1e3 / f64::from(surplus));
            }
        }
        rows.push(vec![
            surplus.to_string(),
            format!("{:.1}", median(&bare[0])),
            format!("{:.1}", median(&ours[0])),
            format!("{:.1}", median(&bare[1])),
            format!("{:.1}", median(&ours[1])),
            format!("{:.2}", ratio(&ours[1], &bare[1])),
        ]);
    }
    table(
        &format!("Culling down to {keep} children (bare: SIGKILL to each, and a wait)"),
        &[
            "children culled",
            "bare, ms",
            "ours, first to last, ms",
            "bare, parent's CPU µs a reaped child",
            "ours",
            "ratio",
        ],
        &rows,
    );
}
