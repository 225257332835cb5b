//! The servers that are compared: those of `servers.rs`, and the peers that have been started. Puts
//! them under load one at a time and keeps their figures; starts no peer.

use super::{
    actor::Actor,
    beside,
    load::{Load, Outcome},
    peers::{Peer, Running},
    run::{BREATH, Figures, Server, memory},
    servers,
};
use std::{path::PathBuf, thread, time::Duration};

pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    kind: Kind<'a>,
    /// The server of `servers.rs`, once started, and its port.
    actor: Option<(Actor, u16)>,
    pub(crate) figures: Figures,
    /// Private memory of an idle child before the first load, KiB.
    pub(crate) memory: f64,
}

enum Kind<'a> {
    /// A role of this benchmark, or of another build of it; whether it tells forks and words.
    Own(&'static str, PathBuf, bool),
    Peer(&'a Running),
}

/// The name of the server that the targets apply to.
pub(crate) const OURS: &str = "ours";

/// All entries, the floor first.
pub(crate) fn entries<'a>(others: &'a [(&'static Peer, Running)]) -> Vec<Entry<'a>> {
    let entry = |name: &str, kind: Kind<'a>| Entry {
        name: name.to_owned(),
        kind,
        actor: None,
        figures: Figures::default(),
        memory: f64::NAN,
    };
    let own = |name, role, tells| entry(name, Kind::Own(role, servers::program(), tells));
    let mut entries = vec![own("floor", "floor", false), own(OURS, "ours", true)];
    let builds = beside();
    for (number, build) in builds.iter().enumerate() {
        let name = format!("ours, other build {}", number + 1);
        entries.push(entry(&name, Kind::Own("ours", build.clone(), true)));
    }
    if !builds.is_empty() {
        return entries;
    }
    entries.push(own("ours, private channel", "private", true));
    entries.push(own("crate prefork 0.6", "crate", false));
    for (peer, running) in others {
        entries.push(entry(peer.name, Kind::Peer(running)));
    }
    entries
}

impl Entry<'_> {
    pub(crate) fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Peer(_))
    }

    pub(crate) fn tells_words(&self) -> bool {
        matches!(self.kind, Kind::Own(_, _, true))
    }

    /// Ends a server of `servers.rs`: the next run starts another one.
    pub(crate) fn end(&mut self) {
        self.actor = None;
    }

    /// Runs the load once. A server of this file's kind that does not run is started, and warmed up, and
    /// ends with the entry; `yielding` leaves all of its time to others that want it.
    pub(crate) fn measure(&mut self, children: usize, yielding: bool, load: Load) {
        let is_new = self.actor.is_none() && (!self.is_peer() || self.memory.is_nan());
        let mut server = match &self.kind {
            Kind::Peer(running) => {
                thread::sleep(BREATH);
                Server::Peer(running)
            }
            Kind::Own(role, program, tells) => {
                let (actor, port) = self.actor.get_or_insert_with(|| {
                    let role = [role, &*children.to_string()];
                    let mut actor = if yielding {
                        Actor::spawn_nice(19, program, &role)
                    } else {
                        Actor::spawn_from(program, &role)
                    };
                    let port = actor.line().parse().expect("a port");
                    actor.settle(children);
                    (actor, port)
                });
                Server::Own(actor, *port, *tells)
            }
        };
        let port = server.port();
        let load = Load { port, ..load };
        if self.memory.is_nan() {
            self.memory = memory(&server);
        }
        if is_new {
            warm_up(&load);
        }
        self.figures.add(&mut server, &load);
    }
}

/// A forked child copies each page that it writes to for the first time: that is a part of its start,
/// and not of a connection.
pub(crate) fn warm_up(load: &Load) {
    const ENOUGH: Duration = Duration::from_millis(300);
    let time = load.time.max(ENOUGH);
    let lead = Duration::ZERO;
    Outcome::of(
        &mut Load {
            time,
            lead,
            ..*load
        }
        .spawn(),
    );
}
