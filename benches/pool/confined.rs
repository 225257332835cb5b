//! What a confinement costs at each fork: the start of a pool whose children take every step that a
//! server of root takes, compared with one whose children take none, in turn.

use crate::common::{
    actor::Actor,
    from_env, numbers, pick, proc,
    stats::{median, table},
    verdict::{Target, hold},
};
use nix::unistd::Uid;
use prefork_server::{Confinement, Resource};

const CHILDREN: usize = 100;
const ROLES: [&str; 2] = ["ours", "confined"];

/// All the kinds of steps but a session of one's own, which costs what a process group costs.
pub(crate) fn confinement() -> Confinement {
    Confinement::new()
        .process_group()
        .limit(Resource::OpenFiles, 256, 256)
        .limit(Resource::CoreSize, 0, 0)
        .limit(Resource::CpuTime, 3600, 3600)
        .nice(1)
        .oom_score_adj(100)
        .umask(0o077)
        .chroot("/var")
        .directory("/")
        .user("nobody")
        .capabilities(["net_raw"])
        .no_new_privs()
}

#[derive(Default)]
struct Figures {
    start: Vec<f64>,
    cpu: Vec<f64>,
}

/// The time and the CPU time of a start, parent and children, both a child.
fn start(role: &str) -> (f64, f64) {
    let mut actor = Actor::spawn(&[role, &CHILDREN.to_string()]);
    let nanos = numbers(&actor.line())[0];
    actor.settle(CHILDREN);
    let tree = actor.tree();
    assert_eq!(tree.len(), CHILDREN + 1, "the children that were asked for");
    let spent: u64 = tree.iter().map(|&pid| proc::cpu(pid)).sum();
    actor.terminate();
    let a_child = |nanos: u64| nanos as f64 / 1e3 / CHILDREN as f64;
    (a_child(nanos), a_child(spent))
}

pub(crate) fn cost() {
    if !Uid::effective().is_root() {
        println!("confinement: skipped, it takes root to change users");
        return;
    }
    let mut figures: [Figures; 2] = Default::default();
    for _ in 0..from_env("BENCH_ROUNDS", pick(20, 5)) {
        for (role, figures) in ROLES.iter().zip(&mut figures) {
            let (start, cpu) = start(role);
            figures.start.push(start);
            figures.cpu.push(cpu);
        }
    }
    let [plain, confined] = &figures;
    let rows = [
        ("until all are ready", &plain.start, &confined.start),
        ("CPU time, parent and child", &plain.cpu, &confined.cpu),
    ];
    let rows = rows.map(|(what, plain, confined)| row(what, plain, confined));
    let head = ["µs a child", "without", "confined", "more by"];
    table(&format!("Confinement: {}", confinement()), &head, &rows);
    let more = added(&plain.cpu, &confined.cpu);
    hold(
        "CPU time that a confinement adds to a fork, µs",
        Target::AtMost(150.0),
        more,
    );
}

fn row(what: &str, plain: &[f64], confined: &[f64]) -> Vec<String> {
    let mut row = vec![what.to_owned()];
    let figures = [median(plain), median(confined), added(plain, confined)];
    row.extend(figures.map(|figure| format!("{figure:.0}")));
    row
}

/// The median of what each round says.
fn added(plain: &[f64], confined: &[f64]) -> f64 {
    let of_rounds = confined.iter().zip(plain);
    median(
        &of_rounds
            .map(|(more, less)| more - less)
            .collect::<Vec<_>>(),
    )
}
