//! Parents killed at random moments of their lives, under load: what is left of their children,
//! whether they left a client in the lurch, and whether the next server can take the port.
//!
//! It never helps the children to end.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use super::clock;
use super::dice::Dice;
use super::hands::Hands;
use super::load::{Load, Plan, Tally};
use super::rampage::pause_until;
use crate::support::{Address, Server, Signal, World, connect, patient, pause};

const SOON: Duration = Duration::from_secs(20);

/// Within that time of its exec a parent is killed.
const PRIME: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Murders {
    pub parents: usize,
    /// From the kill to the end of the last child, for those who had begun to fork.
    pub orphaned: Vec<Duration>,
    pub tally: Tally,
}

/// Kills `count` parents, one after the other, on one port.
#[track_caller]
pub fn murder_parents(world: &mut World, count: usize, seed: u64) -> Murders {
    let mut dice = Dice::new(seed);
    // An address of our own, so that no client of others is given the port between two servers.
    let octets = [0; 3].map(|_| 1 + dice.below(250));
    let ip = format!("127.{}.{}.{}", octets[0], octets[1], octets[2]);
    let first = spawn(world, &ip, 0);
    let Address::Tcp(address) = first.address() else {
        panic!("a server on TCP");
    };
    assert!(first.stop(Signal::SIGTERM, SOON).success());
    let load = Load::start(Plan {
        address,
        rate: 200,
        work: Duration::from_millis(2),
        deadline: patient(SOON),
        seed: dice.next(),
    });
    let mut murders = Murders::default();
    for _ in 0..count {
        let server = spawn(world, &ip, address.port());
        pause_until(clock::now() + dice.duration(PRIME));
        murders.kill(world, &server, address);
    }
    // The next one takes over as if nothing had been.
    let last = spawn(world, &ip, address.port());
    let before = last.address();
    let mut client = connect(&before);
    client.send_line("1 0 -");
    let answer = client.read_rest();
    let pid = answer.split(' ').next().and_then(|pid| pid.parse().ok());
    assert_eq!(
        answer.as_bytes(),
        super::answer::answer(1, pid.expect("a pid"))
    );
    murders.tally = load.finish();
    assert_eq!(murders.tally.stranded, [""; 0], "connections left behind");
    assert_eq!(
        murders.tally.wrong, [""; 0],
        "answers that are not the right ones"
    );
    assert!(last.stop(Signal::SIGTERM, SOON).success());
    murders
}

impl Murders {
    #[track_caller]
    fn kill(&mut self, world: &World, server: &Server, address: SocketAddr) {
        let killed = clock::now();
        // It panics if the server has ended by itself, as one does that cannot have the port.
        server.signal(Signal::SIGKILL);
        let status = wait("the end", killed, || server.try_wait());
        assert_eq!(
            status.signal(),
            Some(Signal::SIGKILL as i32),
            "{}",
            server.stderr()
        );
        wait("the end of all children", killed, || {
            world.orphans().is_empty().then_some(())
        });
        let gone = clock::now() - killed;
        world.reap_orphans();
        let bound = TcpListener::bind(address);
        assert!(bound.is_ok(), "{address} after {server}: {bound:?}");
        self.parents += 1;
        let children = children(world);
        if !children.is_empty() {
            self.orphaned.push(gone);
        }
        let hands = Hands::open(&hands(world)).expect("the file of hands");
        for pid in children {
            let hand = hands.take(pid).expect("a slot");
            assert_eq!(hand.port, 0, "orphan {pid} has left a client: {hand:?}");
        }
    }
}

/// The pids of all children that the server has had time to write down.
fn children(world: &World) -> Vec<u32> {
    let journal = fs::read_to_string(journal(world)).expect("a journal");
    let pids = journal
        .lines()
        .filter_map(|line| line.split_once(" forked ")?.1.parse().ok());
    pids.collect()
}

/// As the harness's `until`, and more often: to scan all processes takes longer than the pause.
#[track_caller]
fn wait<T>(what: &str, since: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    loop {
        let late = clock::now() - since > patient(SOON);
        if let Some(found) = fact() {
            return found;
        }
        assert!(!late, "waited in vain for {what}");
        pause(Duration::from_micros(500));
    }
}

fn hands(world: &World) -> PathBuf {
    world.tempdir().join("hands")
}

fn journal(world: &World) -> PathBuf {
    world.tempdir().join("journal")
}

fn spawn(world: &mut World, ip: &str, port: u16) -> Server {
    let files = [hands(world), journal(world)];
    // Each begins its own.
    fs::write(&files[1], "").expect("an empty journal");
    let [hands, journal] = files.each_ref().map(|path| path.to_str().expect("a path"));
    let flags = [
        ["--hands", hands],
        ["--journal", journal],
        ["--address", ip],
        ["--port", &port.to_string()],
        ["--start", "8"],
        ["--max-clients", "16"],
        ["--timeout", "2000"],
    ];
    world.spawn("chaos_server", flags.as_flattened())
}
