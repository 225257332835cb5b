//! One campaign: a server, rounds of load with a killer at work, calm after each, and the verdict.

use std::net::SocketAddr;
use std::time::Duration;

use super::book::Book;
use super::clock;
use super::dice::Dice;
use super::fault::{Fault, Menu};
use super::load::{Load, Plan, Tally};
use super::rampage::{Blow, Killer};
use super::verdict::{Verdict, compare_with_the_report, judge};
use crate::support::{Address, Server, Signal, World, patient, processes, until};

/// For waits that end at once on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(20);

/// How long a connection may take, children that are stuck and all.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is to be done to whom, for how long.
#[derive(Clone, Debug)]
pub struct Campaign {
    pub children: usize,
    /// The same for a pool of a fixed size.
    pub max_clients: usize,
    /// Connections a second.
    pub rate: u32,
    /// For how long a child has one in hand, on average.
    pub work: Duration,
    pub menu: Menu,
    pub every: Duration,
    pub rounds: u32,
    pub round: Duration,
    /// Whether the whole pool is killed at once at the end of each round as well.
    pub massacre: bool,
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub tally: Tally,
    pub verdict: Verdict,
    /// From the first of the blows that killed everybody to the first word of as many successors.
    pub recoveries: Vec<Duration>,
    pub most: usize,
    pub report: String,
}

impl Campaign {
    /// Does it all, and panics if the server has not come through it.
    #[track_caller]
    pub fn run(self, world: &mut World) -> Outcome {
        let server = self.spawn(world);
        let Address::Tcp(address) = server.address() else {
            panic!("a server on TCP");
        };
        let mut book = Book::open(&world.tempdir().join("journal"));
        let mut dice = Dice::new(self.seed);
        let mut menu = self.menu.clone();
        let mut killer = Killer {
            server: &server,
            book: &mut book,
            dice: &mut dice,
            menu: &mut menu,
            blows: Vec::new(),
            most: 0,
        };
        whole(killer.book, 0, self.children);
        let (mut tally, mut recoveries) = (Tally::default(), Vec::new());
        for _ in 0..self.rounds {
            let load = Load::start(self.plan(address, killer.dice.next()));
            killer.rage(&load, self.every, self.round);
            if self.massacre {
                recoveries.push(kill_all(&mut killer));
            }
            // No client comes any more: one that was left in the queue would stay there now.
            tally.add(load.finish());
            whole(killer.book, 0, self.children);
        }
        let (blows, most) = (killer.blows, killer.most);
        assert!(server.stop(Signal::SIGTERM, SOON).success());
        reap_daemons(world);
        book.update();
        let fixed = (self.children == self.max_clients).then_some(self.children);
        let outcome = Outcome {
            verdict: judge(&tally, &book, &blows, fixed),
            tally,
            recoveries,
            most,
            report: line(&server, "report ").to_owned(),
        };
        self.check(&outcome, &book, &server);
        outcome
    }

    fn spawn(&self, world: &mut World) -> Server {
        world.expect_panics();
        let files = ["hands", "journal"].map(|name| world.tempdir().join(name));
        let [hands, journal] = files.each_ref().map(|path| path.to_str().expect("a path"));
        let (start, limit) = (self.children.to_string(), self.max_clients.to_string());
        // In a fixed pool only the dead are followed by others.
        let spare = if self.children == self.max_clients {
            1
        } else {
            self.children / 4
        };
        let flags = [
            ["--hands", hands],
            ["--journal", journal],
            ["--start", &start],
            ["--max-clients", &limit],
            ["--min-spare", &spare.to_string()],
            ["--timeout", &milliseconds(1500)],
            ["--check", &milliseconds(150)],
            ["--kill-timeout", &milliseconds(1000)],
            ["--shutdown-timeout", &milliseconds(1000)],
        ];
        let program = world.program("chaos_server").args(flags.as_flattened());
        program.env("RUST_BACKTRACE", "0").spawn()
    }

    fn plan(&self, address: SocketAddr, seed: u64) -> Plan {
        Plan {
            address,
            rate: self.rate,
            work: self.work,
            deadline: patient(DEADLINE),
            seed,
        }
    }

    #[track_caller]
    fn check(&self, outcome: &Outcome, book: &Book, server: &Server) {
        let Outcome { tally, verdict, .. } = outcome;
        let none: &[String] = &[];
        assert_eq!(verdict.unexcused, none, "lost for no reason: {verdict:?}");
        assert_eq!(tally.stranded, none, "connections left behind");
        assert_eq!(tally.wrong, none, "answers that are not the right ones");
        assert_eq!(tally.refused, 0, "the port is open all the time");
        let lost = verdict.excused + verdict.excused_in_passing;
        assert_eq!(tally.connections, tally.answered + lost as u64);
        assert_eq!(verdict.unexplained, none, "deaths for no reason");
        assert_eq!(book.over, 0, "the server has seen too many children");
        assert!(
            outcome.most <= self.max_clients,
            "{} children",
            outcome.most
        );
        compare_with_the_report(&outcome.report, book);
        let heard: usize = line(server, "flooded ").parse().expect("a number of bytes");
        let flooded = tally.survived.contains(&Fault::Flood);
        assert!(heard > 0 || !flooded, "nothing came of a flood");
    }
}

/// The daemons are left to us when the children have ended that forked them. A child that the
/// server has not reaped would be left in the same way, and is a fault.
#[track_caller]
fn reap_daemons(world: &World) {
    let adopted = processes::children(std::process::id());
    let strangers: Vec<_> = adopted.iter().filter(|left| left.name != "sleep").collect();
    assert!(strangers.is_empty(), "the server has left {strangers:?}");
    until("the daemons to go", SOON, || {
        world.reap_orphans();
        world.orphans().is_empty().then_some(())
    });
}

/// A time that a child must keep, as this machine needs it: a healthy one that is not run for so
/// long is taken for a stuck one.
fn milliseconds(number: u64) -> String {
    patient(Duration::from_millis(number))
        .as_millis()
        .to_string()
}

/// Kills every child that lives; how long it takes until as many others have spoken.
pub fn kill_all(killer: &mut Killer<'_>) -> Duration {
    killer.book.update();
    let victims = killer.book.living();
    let known = killer.book.lives.len();
    let start = clock::now();
    for &pid in &victims {
        killer.strike(pid, Fault::Kill);
    }
    whole(killer.book, known, victims.len());
    let ups = killer.book.lives[known..].iter().filter_map(|life| life.up);
    let mut ups: Vec<Duration> = ups.collect();
    ups.sort_unstable();
    ups[victims.len() - 1].saturating_sub(start)
}

/// Waits until as many children live and have spoken, of those forked as the `from`th or later.
#[track_caller]
pub fn whole(book: &mut Book, from: usize, size: usize) {
    until("the pool to be whole", SOON, || {
        book.update();
        (book.up_since(from) >= size).then_some(())
    });
}

/// What the server has printed after `label`.
#[track_caller]
pub fn line(server: &Server, label: &str) -> String {
    let text = server.stdout();
    let found = text.lines().find_map(|line| line.strip_prefix(label));
    found
        .unwrap_or_else(|| panic!("no {label:?} in {text}"))
        .to_owned()
}
