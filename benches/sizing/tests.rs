//! The simulation beside the formulas, wherever both apply: within 5 %.
#![allow(dead_code, reason = "the tables and the plot use the rest")]

mod erlang;
mod queue;

use erlang::Load;
use queue::{Balancer, Model, Service};

/// Enough for the busiest of the queues below to settle.
const CLIENTS: usize = 3_000_000;
const SERVICE: f64 = 0.02;

fn close(what: &str, found: f64, expected: f64) {
    let off = (found - expected).abs() / expected;
    assert!(off < 0.05, "{what}: {found} instead of {expected}");
}

/// A load that keeps so many children busy for a share of their time.
fn load(children: usize, utilisation: f64) -> Load {
    Load {
        rate: children as f64 * utilisation / SERVICE,
        service: SERVICE,
    }
}

fn model(children: usize, utilisation: f64) -> Model {
    Model {
        load: load(children, utilisation),
        machines: 1,
        children,
        service: Service::Exponential,
        balancer: Balancer::HoldsTheQueue,
    }
}

#[test]
fn the_simulation_waits_as_erlang_says() {
    for (children, utilisation) in [(1, 0.5), (1, 0.8), (5, 0.8), (20, 0.9), (100, 0.95)] {
        let model = model(children, utilisation);
        let what = format!("{children} children at {utilisation}");
        let mut waits = model.run(CLIENTS);
        let expected = model.load.mean_wait(children as u64);
        close(&what, waits.mean(), expected);
        let expected = model.load.wait_of(0.99, children as u64);
        close(&format!("{what}, p99"), waits.quantile(0.99), expected);
    }
}

/// The mean of the square of services of which the mean is one.
fn second_moment(service: Service) -> f64 {
    match service {
        Service::Constant => 1.0,
        Service::Exponential => 2.0,
        // Nine of 1/1.9, and one of 10/1.9.
        Service::Mixed => (0.9 + 0.1 * 100.0) / (1.9 * 1.9),
    }
}

/// For one child there is a formula for services of any kind (Pollaczek and Khinchine).
#[test]
fn services_of_other_kinds_wait_as_pollaczek_and_khinchine_say() {
    let utilisation = 0.7;
    for service in [Service::Constant, Service::Exponential, Service::Mixed] {
        let model = Model {
            service,
            ..model(1, utilisation)
        };
        let waiting = utilisation * second_moment(service) / 2.0 / (1.0 - utilisation);
        close(
            &format!("{service:?}"),
            model.run(CLIENTS).mean(),
            waiting * SERVICE,
        );
    }
}

/// Many machines: a queue in the balancer is one large machine, and a random choice as many small ones.
/// The fewest connections are in between.
#[test]
fn balancers_are_between_one_machine_and_many() {
    let (machines, children, utilisation) = (10, 5, 0.8);
    let behind = |balancer| {
        let model = Model {
            load: load(machines * children, utilisation),
            machines,
            children,
            service: Service::Exponential,
            balancer,
        };
        model.run(CLIENTS).mean()
    };
    let one = load(machines * children, utilisation).mean_wait((machines * children) as u64);
    let many = load(children, utilisation).mean_wait(children as u64);
    close(
        "a queue in the balancer",
        behind(Balancer::HoldsTheQueue),
        one,
    );
    close("a random choice", behind(Balancer::Random), many);
    let least = behind(Balancer::LeastConnections);
    assert!(one < least && least < many / 2.0, "{one} {least} {many}");
}

/// The numbers of tables that are printed in every book.
#[test]
fn erlang_is_that_of_the_books() {
    let offered = |erlangs: f64| Load {
        rate: erlangs,
        service: 1.0,
    };
    close("C(10, 8)", offered(8.0).waits(10), 0.4092);
    close("C(2, 1)", offered(1.0).waits(2), 0.3333);
    close("M/M/1", offered(0.5).mean_wait(1), 1.0);
    assert_eq!(offered(8.0).waits(8), 1.0);
    assert_eq!(offered(8.0).mean_wait(8), f64::INFINITY);
    // The least that is enough: one child fewer is not.
    let load = load(20, 0.9);
    let children = load.children_for(0.99, 0.05);
    assert!(load.wait_of(0.99, children) <= 0.05);
    assert!(load.wait_of(0.99, children - 1) > 0.05);
}
