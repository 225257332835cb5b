//! How many children a connection wakes when all of them are idle. One is the minimum.

use crate::{
    Effort,
    common::{
        load::Load,
        run::{Figures, Server},
        servers,
        stats::{median, table},
        verdict::{Target, hold},
    },
};
use std::time::Duration;

/// Connections that arrive one by one. The server answers without being asked, so that a child sleeps
/// for nothing but a connection, and each time it goes back to sleep counts as one wake-up.
pub(crate) fn count(children: usize, effort: Effort) {
    let servers = [("floor", false), ("ours", true)];
    let mut figures: [Figures; 2] = Default::default();
    for _ in 0..effort.rounds {
        for ((role, tells), figures) in servers.iter().zip(&mut figures) {
            let mut actor = servers::own(&[role, &children.to_string(), "greet"]);
            let port = actor.line().parse().expect("a port");
            actor.settle(children);
            let load = Load {
                port,
                clients: 64,
                time: effort.time,
                lead: Duration::ZERO,
                requests: 0,
                rate: 1000,
                urgent: false,
            };
            figures.add(&mut Server::Own(&mut actor, port, *tells), &load);
        }
    }
    let rows: Vec<_> = servers
        .iter()
        .zip(&figures)
        .map(|((name, _), own)| {
            vec![
                (*name).to_owned(),
                format!("{:.0}", median(&own.rate)),
                format!("{:.3}", median(&own.naps)),
                format!("{:.3}", median(&own.sleeps)),
                format!("{:.1}", median(&own.cpu)),
            ]
        })
        .collect();
    table(
        &format!("Wake-ups, {children} idle children, 1,000 connections/s arrive"),
        &[
            "server",
            "conn/s",
            "children's wake-ups/conn",
            "with the parent's",
            "server CPU µs/conn",
        ],
        &rows,
    );
    let what = format!("wake-ups a connection, {children} idle children");
    hold(&what, Target::AtMost(1.1), median(&figures[1].naps));
}
