//! One run: hosts, balancer and load; a steady part, then a host that is killed, then one that is
//! drained and replaced.

use std::time::Duration;

use super::HOSTS;
use super::asker::Asker;
use super::figures::{Sample, Share, quantile, shares};
use super::host::{self, Host};
use super::load::{Load, Request};
use super::network::Network;
use super::proxy::{Kind, Proxy};
use crate::support::{World, patient, pause};

/// How often hosts and balancer are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// More than are ever under way at a time, unless the hosts do too little.
const MOST_CLIENTS: usize = 250;

/// How a host is chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// In turn, with the weights of the agents: what the documents have.
    Agent,
    /// The fewest connections, with the weights of the agents.
    AgentAndLeastConnections,
    /// The fewest connections; the agents are not asked.
    LeastConnections,
    /// In turn; the agents are not asked.
    InTurn,
    /// Envoy, by the load that comes with each answer.
    Orca,
}

impl Policy {
    pub const ALL: [Self; 5] = [
        Self::Agent,
        Self::AgentAndLeastConnections,
        Self::LeastConnections,
        Self::InTurn,
        Self::Orca,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "roundrobin, agent",
            Self::AgentAndLeastConnections => "leastconn, agent",
            Self::LeastConnections => "leastconn",
            Self::InTurn => "roundrobin",
            Self::Orca => "Envoy, ORCA",
        }
    }

    fn proxy(self) -> Kind {
        match self {
            Self::Orca => Kind::Envoy,
            _ => Kind::HaProxy,
        }
    }

    fn edits(self) -> Vec<(&'static str, &'static str)> {
        let least = ("balance roundrobin", "balance leastconn");
        let unasked = (
            "    default-server agent-check",
            "    # default-server agent-check",
        );
        match self {
            Self::Agent | Self::Orca => vec![],
            Self::AgentAndLeastConnections => vec![least],
            Self::LeastConnections => vec![least, unasked],
            Self::InTurn => vec![unasked],
        }
    }
}

/// What is played.
#[derive(Clone, Debug)]
pub struct Experiment {
    pub policy: Policy,
    /// Requests a second.
    pub rate: f64,
    /// How long the agents' answers have to settle.
    pub settling: Duration,
    /// How long the part is in which shares are looked at.
    pub steady: Duration,
    /// How often HAProxy asks each host, if not as often as the documents have it.
    pub interval: Option<&'static str>,
    /// How long a host that is to stop goes on.
    pub pre_stop_delay: Duration,
}

/// What has come of it.
#[derive(Debug)]
pub struct Outcome {
    pub requests: Vec<Request>,
    /// How often the balancer has tried again.
    pub retries: usize,
    pub shares: Vec<Share>,
    steady: (Duration, Duration),
}

impl Outcome {
    /// What became of requests that were not answered.
    pub fn lost(&self) -> Vec<&str> {
        let lost = self
            .requests
            .iter()
            .filter_map(|request| request.by.as_ref().err());
        lost.map(String::as_str).collect()
    }

    /// In the steady part.
    pub fn quantile(&self, part: f64) -> Duration {
        quantile(&self.requests, part, self.steady)
    }

    /// Over all of it, faults included.
    pub fn quantile_of_all(&self, part: f64) -> Duration {
        quantile(&self.requests, part, (Duration::ZERO, Duration::MAX))
    }
}

/// What is there while it is played.
struct Stage {
    network: Network,
    asker: Asker,
    proxy: Proxy,
    load: Load,
    hosts: [Option<Host>; 3],
}

impl Experiment {
    /// Plays it; `None`, with a message, where this machine lacks what it needs.
    pub fn run(&self, world: &mut World) -> Option<Outcome> {
        let mut stage = self.begin(world)?;
        let (samples, steady) = self.look_on(&stage);
        self.kill_one(world, &mut stage);
        self.replace_one(world, &mut stage);
        let (requests, retries) = self.end(stage);
        Some(Outcome {
            shares: shares(&requests, &samples, steady),
            requests,
            retries,
            steady,
        })
    }

    fn begin(&self, world: &mut World) -> Option<Stage> {
        let kind = self.policy.proxy();
        let executable = kind.executable()?;
        let network = Network::make(world)?;
        let asker = Asker::start(world, &network);
        let hosts = HOSTS.map(|name| Some(self.start(world, &network, name)));
        let proxy = Proxy::start(world, &network, (kind, &executable), &self.edits());
        HOSTS.iter().for_each(|host| proxy.shows(host, true));
        Some(Stage {
            load: Load::start(&proxy.front(), self.rate, MOST_CLIENTS),
            network,
            asker,
            proxy,
            hosts,
        })
    }

    /// What became of all requests, and how often the balancer has tried again.
    fn end(&self, stage: Stage) -> (Vec<Request>, usize) {
        let requests = stage.load.end();
        let retries = stage.proxy.retries();
        stage.proxy.end();
        stage.asker.end();
        for host in stage.hosts.into_iter().flatten() {
            host.drain();
            host.ends_well(patient(self.pre_stop_delay + Duration::from_secs(10)));
        }
        stage.network.end();
        (requests, retries)
    }

    fn edits(&self) -> Vec<(&'static str, &'static str)> {
        let mut edits = self.policy.edits();
        if let Some(interval) = self.interval {
            edits.push(("inter 1s", interval));
        }
        edits
    }

    /// The third is four times slower: it takes four times as long for a request, and has as many
    /// children. One with a quarter of the children would be smaller, which the administrator of a
    /// balancer knows and writes down as its weight; that a host is slow shows only under load.
    fn start(&self, world: &mut World, network: &Network, name: &'static str) -> Host {
        let kind = host::Kind {
            name,
            work: Duration::from_millis(if name == "three" { 200 } else { 50 }),
            children: 20,
            pre_stop_delay: self.pre_stop_delay,
        };
        Host::start(world, network, &kind)
    }

    /// Lets the balancer settle, and then looks at it and at the hosts for the length of the steady
    /// part.
    fn look_on(&self, stage: &Stage) -> (Vec<Sample>, (Duration, Duration)) {
        pause(self.settling);
        let load = &stage.load;
        let begin = load.now();
        let mut samples = Vec::new();
        while load.now() < begin + self.steady {
            for shown in stage.proxy.hosts() {
                let metrics = stage.asker.metrics(host::number(shown.name));
                let metrics = metrics.unwrap_or_default();
                samples.extend(free(&metrics).map(|free| Sample {
                    host: shown.name,
                    at: load.now(),
                    free,
                    weight: shown.weight,
                }));
            }
            pause(LOOK);
        }
        (samples, (begin, load.now()))
    }

    /// All processes of a host are killed; after a while it is there again.
    fn kill_one(&self, world: &mut World, stage: &mut Stage) {
        stage.hosts[1].take().expect("the host").kill();
        stage.proxy.shows("two", false);
        stage.load.reaches("one", 20);
        stage.hosts[1] = Some(self.start(world, &stage.network, "two"));
        stage.proxy.shows("two", true);
        stage.load.reaches("two", 20);
    }

    /// A host is told to stop, and another takes its place once it has gone.
    fn replace_one(&self, world: &mut World, stage: &mut Stage) {
        let old = stage.hosts[0].take().expect("the host");
        old.drain();
        old.ends_well(self.pre_stop_delay + Duration::from_secs(10));
        stage.hosts[0] = Some(self.start(world, &stage.network, "one"));
        stage.proxy.shows("one", true);
        stage.load.reaches("one", 20);
    }
}

/// How many children could take a request, by the metrics of a host.
fn free(metrics: &str) -> Option<f64> {
    let value = |name: &str| -> Option<f64> {
        let mut lines = metrics.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name))?;
        rest.trim().parse().ok()
    };
    let busy = value("prefork_children{state=\"busy\"}")?;
    Some(value("prefork_children_max")? - busy)
}
