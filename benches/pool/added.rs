//! What something adds to each fork: the start of a pool that has it, compared with one that has it
//! not, in turn.

use crate::common::{
    actor::Actor,
    from_env, numbers, pick, proc,
    stats::{median, table},
};

const CHILDREN: usize = 100;

/// Two pools that are alike but for one thing.
pub(crate) struct Pools {
    pub(crate) title: String,
    /// The names of the roles, without it and with it.
    pub(crate) roles: [&'static str; 2],
    /// How many processes there are besides the children.
    pub(crate) others: [usize; 2],
    /// What the column of the second role is called.
    pub(crate) with: &'static str,
}

#[derive(Default)]
struct Figures {
    start: Vec<f64>,
    cpu: Vec<f64>,
}

/// The time and the CPU time of a start, of all processes, both a child.
fn start(role: &str, others: usize) -> (f64, f64) {
    let mut actor = Actor::spawn(&[role, &CHILDREN.to_string()]);
    let nanos = numbers(&actor.line())[0];
    actor.settle(CHILDREN + others - 1);
    let tree = actor.tree();
    let wanted = CHILDREN + others;
    assert_eq!(tree.len(), wanted, "the children that were asked for");
    let spent: u64 = tree.iter().map(|&pid| proc::cpu(pid)).sum();
    actor.terminate();
    let a_child = |nanos: u64| nanos as f64 / 1e3 / CHILDREN as f64;
    (a_child(nanos), a_child(spent))
}

/// Prints a table. Returns the CPU time that it adds to a fork, in µs.
pub(crate) fn compare(pools: &Pools) -> f64 {
    let mut figures: [Figures; 2] = Default::default();
    for _ in 0..from_env("BENCH_ROUNDS", pick(20, 5)) {
        for ((role, others), figures) in pools.roles.iter().zip(pools.others).zip(&mut figures) {
            let (start, cpu) = start(role, others);
            figures.start.push(start);
            figures.cpu.push(cpu);
        }
    }
    let [without, with] = &figures;
    let rows = [
        ("until all are ready", &without.start, &with.start),
        ("CPU time, parent and child", &without.cpu, &with.cpu),
    ];
    let rows = rows.map(|(what, without, with)| row(what, without, with));
    let head = ["µs a child", "without", pools.with, "more by"];
    table(&pools.title, &head, &rows);
    added(&without.cpu, &with.cpu)
}

fn row(what: &str, without: &[f64], with: &[f64]) -> Vec<String> {
    let mut row = vec![what.to_owned()];
    let figures = [median(without), median(with), added(without, with)];
    row.extend(figures.map(|figure| format!("{figure:.0}")));
    row
}

/// The median of what each round says.
fn added(without: &[f64], with: &[f64]) -> f64 {
    let of_rounds = with.iter().zip(without);
    let differences: Vec<_> = of_rounds.map(|(more, less)| more - less).collect();
    median(&differences)
}
