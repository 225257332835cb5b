//! How many children, how many machines, what waiting: tables and plots of docs/sizing.md, from
//! Erlang's formulas and, where these say nothing, from a simulation. Starts no server.
//!
//! `cargo bench -p benchmarks --bench sizing` prints them; `-- RATE SERVICE WAIT` sizes one load:
//! connections a second, milliseconds that one takes, milliseconds that 99 % may wait at the most.

#[path = "../growth/chart.rs"]
mod chart;
mod erlang;
mod queue;
#[path = "../common/stats.rs"]
#[allow(dead_code, reason = "a table is all that is needed of it")]
mod stats;

use chart::{Line, Panel, Scale};
use erlang::Load;
use queue::{Balancer, Model, Service};
use stats::table;
use std::{env, error::Error, path::Path};

/// Of this many children a machine has in the tables.
const CHILDREN: u64 = 20;
/// How long a connection takes in the tables, in seconds.
const SERVICE: f64 = 0.02;
/// So many clients come in a simulation, or more where there are many children.
const CLIENTS: usize = 4_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Result<Vec<f64>, _> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .map(|word| word.parse())
        .collect();
    if let [rate, service, wait] = numbers?[..] {
        let service = service / 1e3;
        answer(Load { rate, service }, wait / 1e3);
        return Ok(());
    }
    answer(
        Load {
            rate: 400.0,
            service: SERVICE,
        },
        0.05,
    );
    pools();
    services();
    let machines = machines();
    draw()?;
    draw_machines(&machines)
}

fn millis(seconds: f64) -> String {
    match seconds * 1e3 {
        wait if wait < 0.05 => "0".to_owned(),
        wait if wait < 10.0 => format!("{wait:.1}"),
        wait => format!("{wait:.0}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// A load of so many children that are busy, each for a share of the time.
fn busy(children: u64, utilisation: f64) -> Load {
    Load {
        rate: children as f64 * utilisation / SERVICE,
        service: SERVICE,
    }
}

/// How a load waits with few children, with enough, and with more.
fn answer(load: Load, wait: f64) {
    let enough = load.children_for(0.99, wait);
    let least = load.offered().floor() as u64 + 1;
    let mut tried: Vec<u64> = (least..=enough + 2).collect();
    tried.extend([enough * 3 / 2, enough * 2]);
    tried.dedup();
    let row = |&children: &u64| {
        let enough = if children == enough {
            " ← enough"
        } else {
            ""
        };
        vec![
            format!("{children}{enough}"),
            percent(load.utilisation(children)),
            percent(load.waits(children)),
            millis(load.mean_wait(children)),
            millis(load.wait_of(0.99, children)),
        ]
    };
    let rows: Vec<_> = tried.iter().map(row).collect();
    let title = format!(
        "{} connections/s of {} ms, of which 99 % are to wait no longer than {} ms",
        load.rate,
        load.service * 1e3,
        wait * 1e3
    );
    let head = [
        "children",
        "busy, %",
        "wait at all, %",
        "wait, ms",
        "p99, ms",
    ];
    table(&title, &head, &rows);
}

/// How many children loads of any size need.
fn pools() {
    let row = |offered: f64| {
        let load = Load {
            rate: offered / SERVICE,
            service: SERVICE,
        };
        let services = [0.0, 0.1, 1.0, 5.0];
        let needed = services.map(|services| load.children_for(0.99, services * SERVICE));
        let needed = needed
            .map(|children| format!("{children} ({} %)", percent(load.utilisation(children))));
        [vec![format!("{offered}")], needed.into()].concat()
    };
    let rows = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0].map(row);
    let head = [
        "children busy on average",
        "nobody waits",
        "0.1 services",
        "1 service",
        "5 services",
    ];
    let title = "Children (and how busy they are) with which 99 % wait no longer than";
    table(title, &head, &rows);
}

/// What services that vary less or more do.
fn services() {
    let mut rows = Vec::new();
    for utilisation in [0.7, 0.8, 0.9, 0.95] {
        let mut row = vec![format!("{:.0}", utilisation * 100.0)];
        for service in [Service::Constant, Service::Exponential, Service::Mixed] {
            let model = Model {
                load: busy(CHILDREN, utilisation),
                machines: 1,
                children: CHILDREN as usize,
                service,
                balancer: Balancer::HoldsTheQueue,
            };
            row.push(millis(model.run(CLIENTS).quantile(0.99)));
        }
        row.push(millis(busy(CHILDREN, utilisation).wait_of(0.99, CHILDREN)));
        rows.push(row);
    }
    let head = [
        "busy, %",
        "all alike",
        "exponential",
        "1 of 10 is 10 × as long",
        "Erlang C",
    ];
    let title = "20 children, 20 ms on average: p99 of the wait, ms, simulated";
    table(title, &head, &rows);
}

/// How clients wait behind one balancer, in seconds: with one queue for all, by fewest connections, and
/// with any.
struct Machines {
    count: u64,
    p99: [f64; 3],
    mean: [f64; 3],
}

/// What many machines behind one balancer do.
fn machines() -> Vec<Machines> {
    let utilisation = 0.9;
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    for count in [1, 2, 5, 10, 20, 50, 100, 1000, 10_000] {
        let all = count * CHILDREN;
        let load = busy(all, utilisation);
        let behind = |balancer| {
            let model = Model {
                load,
                machines: count as usize,
                children: CHILDREN as usize,
                service: Service::Exponential,
                balancer,
            };
            // Queues of many children take long to fill.
            model.run(CLIENTS.max(60 * all as usize))
        };
        let mut least = behind(Balancer::LeastConnections);
        let mut any = behind(Balancer::Random);
        let p99 = [
            load.wait_of(0.99, all),
            least.quantile(0.99),
            any.quantile(0.99),
        ];
        let mean = [load.mean_wait(all), least.mean(), any.mean()];
        let names = [count.to_string(), format!("{:.0}", load.rate)];
        let times = p99.into_iter().chain([mean[1]]).map(millis);
        rows.push(names.into_iter().chain(times).collect());
        found.push(Machines { count, p99, mean });
    }
    let head = [
        "machines",
        "connections/s",
        "the queue is in the balancer",
        "fewest connections",
        "any",
        "fewest connections, mean",
    ];
    let title = "Machines of 20 children, 90 % busy, 20 ms on average: p99 of the wait, ms";
    table(title, &head, &rows);
    found
}

/// The waits behind one balancer, as far as there are any.
fn draw_machines(found: &[Machines]) -> Result<(), Box<dyn Error>> {
    const NAMES: [&str; 3] = ["one queue, in the balancer", "fewest connections", "any"];
    let panel = |title, wait: fn(&Machines) -> [f64; 3]| {
        let line = |(at, name): (usize, &str)| {
            let points = found.iter().map(|machines| {
                let wait = wait(machines)[at];
                (machines.count as f64, wait * 1e3)
            });
            Line {
                name: name.to_owned(),
                points: points.filter(|point| point.1 >= 0.05).collect(),
            }
        };
        Panel {
            title,
            unit: "ms",
            scale: Scale::Logarithmic,
            lines: NAMES.into_iter().enumerate().map(line).collect(),
        }
    };
    let panels = [
        panel("p99 of the wait", |machines| machines.p99),
        panel("mean of the wait", |machines| machines.mean),
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img/sizing-machines.svg");
    let title = "Machines of 20 children behind one balancer, 90 % busy, services of 20 ms";
    chart::draw(&path, title, "machines", &panels)?;
    println!("\nDrawn: {}", path.display());
    Ok(())
}

fn draw() -> Result<(), Box<dyn Error>> {
    let utilisations = [0.99, 0.95, 0.9, 0.8, 0.7, 0.5];
    let panel = |title, unit, figure: fn(Load, u64) -> f64, least: f64| {
        let line = |utilisation: f64| {
            let sizes = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
            let points = sizes.map(|children| {
                let load = busy(children, utilisation);
                (children as f64, figure(load, children))
            });
            Line {
                name: format!("{:.0} % busy", utilisation * 100.0),
                points: points
                    .into_iter()
                    .filter(|point| point.1 >= least)
                    .collect(),
            }
        };
        Panel {
            title,
            unit,
            scale: Scale::Logarithmic,
            lines: utilisations.map(line).into(),
        }
    };
    let panels = [
        panel(
            "Clients that wait for a child",
            "%",
            |load, children| load.waits(children) * 100.0,
            1.0,
        ),
        panel(
            "p99 of the wait, for services of 100 ms",
            "ms",
            |load, children| load.wait_of(0.99, children) / load.service * 100.0,
            1.0,
        ),
    ];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img/sizing.svg");
    chart::draw(
        &path,
        "Clients that wait in one queue (Erlang C)",
        "children",
        &panels,
    )?;
    println!("\nDrawn: {}", path.display());
    Ok(())
}
