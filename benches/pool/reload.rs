//! What a reload costs those who are served meanwhile: the rate of a closed loop beside a server that
//! reloads again and again, compared with one that does not, in turn.

use crate::common::{
    actor::Actor,
    from_env,
    load::{Load, Outcome},
    pick,
    stats::{median, ratio, table},
    verdict::{Target, hold},
};
use std::time::Duration;

const CHILDREN: usize = 20;
/// The least time between two reloads, in milliseconds; 0 for the next as soon as one is complete.
const PAUSES: [u64; 2] = [100, 0];

pub(crate) fn reload() {
    let rounds = from_env("BENCH_ROUNDS", pick(9, 3));
    let mut rows = Vec::new();
    for clients in [1, 16, 64] {
        let mut steady = Vec::new();
        let mut reloading: [Vec<f64>; 2] = Default::default();
        let mut reloads = [0; 2];
        for _ in 0..rounds {
            steady.push(rate(None, clients).0);
            for ((pause, rates), count) in PAUSES.iter().zip(&mut reloading).zip(&mut reloads) {
                let (rate, done) = rate(Some(*pause), clients);
                rates.push(rate);
                *count += done;
            }
        }
        for ((pause, rates), count) in PAUSES.iter().zip(&reloading).zip(reloads) {
            let ratio = ratio(rates, &steady);
            rows.push(vec![
                clients.to_string(),
                pause.to_string(),
                (count / rounds).to_string(),
                format!("{:.0}", median(&steady)),
                format!("{:.0}", median(rates)),
                format!("{ratio:.2}"),
            ]);
            if *pause > 0 {
                let what = format!("rate during reloads, {clients} clients, of the rate without");
                hold(&what, Target::AtLeast(0.9), ratio);
            }
        }
    }
    table(
        &format!("Reloads of {CHILDREN} children under a closed loop"),
        &[
            "clients",
            "pause between reloads, ms",
            "reloads in a round",
            "without, answers/s",
            "with",
            "ratio",
        ],
        &rows,
    );
}

/// The rate of answers, and how many reloads were complete. No answer may be lost.
fn rate(pause: Option<u64>, clients: usize) -> (f64, u64) {
    let pause = pause.map_or("never".to_owned(), |pause| pause.to_string());
    let mut server = Actor::spawn(&["reloading", &CHILDREN.to_string(), &pause]);
    let port = server.line().parse().expect("a port");
    server.settle(CHILDREN);
    let load = Load {
        port,
        clients,
        time: pick(Duration::from_secs(2), Duration::from_millis(300)),
        lead: Duration::from_millis(200),
        requests: 1,
        rate: 0,
        urgent: false,
    };
    let mut actor = load.spawn();
    Outcome::begins(&mut actor);
    let outcome = Outcome::of(&mut actor);
    assert_eq!(outcome.failures, 0, "clients were lost");
    let reloads = server.ask()[0];
    (outcome.answers / outcome.seconds, reloads)
}
