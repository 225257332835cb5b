//! A server with a holder, as a scenario sees it: who its parent is, which children there are, what has
//! been said. Kills what it is told to kill.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::support::{Address, SOON, Server, Signal, World, connect, processes, until};

/// The server; the process that the scenario has started is the holder.
pub struct Watched {
    pub server: Server,
}

impl Watched {
    /// Starts it, and waits until the first parent has completed a turn.
    #[track_caller]
    pub fn new(world: &mut World, flags: &[&str]) -> Self {
        Self::of(world.spawn("held", flags))
    }

    #[track_caller]
    pub fn of(server: Server) -> Self {
        let watched = Self { server };
        watched.expect("parent ", 1);
        watched
    }

    pub fn address(&self) -> Address {
        self.server.address()
    }

    pub fn said(&self, text: &str) -> usize {
        self.server.stdout().matches(text).count()
    }

    #[track_caller]
    pub fn expect(&self, text: &str, times: usize) {
        until(
            &format!("{times} times {text:?}"),
            SOON * 2,
            || match self.server.try_wait() {
                Some(status) => panic!("{status}: {}", self.server.stderr()),
                None => (self.said(text) >= times).then_some(()),
            },
        );
    }

    /// The parent that has told of itself last.
    #[track_caller]
    pub fn parent(&self) -> u32 {
        let stdout = self.server.stdout();
        let mut told = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("parent "));
        told.next_back().expect("a parent").parse().expect("a pid")
    }

    /// The children of the server, whatever process their parent is.
    pub fn children(&self) -> BTreeSet<u32> {
        let all = processes::descendants(self.server.pid()).into_iter();
        let parents = self.parents();
        all.filter(|process| process.is_alive() && !parents.contains(&process.pid))
            .map(|process| process.pid)
            .collect()
    }

    /// All parents that there have been.
    fn parents(&self) -> BTreeSet<u32> {
        let stdout = self.server.stdout();
        let told = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("parent "));
        told.filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The children that the parent knows, by what it has told.
    pub fn known(&self) -> BTreeSet<u32> {
        let stdout = self.server.stdout();
        let mut known = BTreeSet::new();
        for line in stdout.lines() {
            let mut words = line.split(' ');
            let pid = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
            match (words.next(), pid(words.next())) {
                (Some("forked" | "adopted"), Some(pid)) => _ = known.insert(pid),
                (Some("exited"), Some(pid)) => _ = known.remove(&pid),
                _ => {}
            }
        }
        known
    }

    #[track_caller]
    pub fn expect_children(&self, count: usize) -> BTreeSet<u32> {
        until(&format!("{count} children"), SOON, || {
            Some(self.children()).filter(|children| children.len() == count)
        })
    }

    /// The same of those that are this program.
    #[track_caller]
    pub fn expect_children_of_name(&self, name: &str, count: usize) -> BTreeSet<u32> {
        let named = |pid: &u32| processes::Process::read(*pid).is_some_and(|it| it.name == name);
        until(&format!("{count} children {name}"), SOON, || {
            let found: BTreeSet<u32> = self.children().into_iter().filter(named).collect();
            Some(found).filter(|found| found.len() == count)
        })
    }

    /// Waits until that many children have been ready, as the parent knows: one that is not is told to
    /// leave in a reload, and leaves by itself if it comes to run after the end of its parent.
    #[track_caller]
    pub fn expect_ready(&self, count: usize) -> BTreeSet<u32> {
        self.expect("ready ", count);
        self.expect_children(count)
    }

    /// Kills the parent, and waits for another one.
    #[track_caller]
    pub fn kill_parent(&self) {
        let times = self.said("parent ");
        send(self.parent(), Signal::SIGKILL);
        self.expect("parent ", times + 1);
    }

    /// Stops it in order, and returns what it has printed.
    #[track_caller]
    pub fn stop(&self) -> String {
        self.server.signal(Signal::SIGTERM);
        let status = self.server.wait(SOON);
        assert_eq!(status.code(), Some(0), "{}", self.server.stderr());
        self.server.stdout()
    }
}

#[track_caller]
pub fn send(pid: u32, signal: Signal) {
    assert!(try_send(pid, signal), "{signal} to {pid}");
}

/// The same to a process that may be gone.
pub fn try_send(pid: u32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), signal).is_ok()
}

#[track_caller]
pub fn expect_gone(all: impl IntoIterator<Item = u32>) {
    let all: Vec<u32> = all.into_iter().collect();
    until("all of them to be gone", SOON, || {
        let alive = |pid: &&u32| processes::is_alive(**pid);
        all.iter().find(alive).is_none().then_some(())
    });
}

/// The child that answers a new connection.
#[track_caller]
pub fn who(address: &Address) -> u32 {
    connect(address).ask("who").parse().expect("a pid")
}

/// Numbers that look random, from a seed that is said.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = std::env::var("HOLDER_SEED").ok();
        let seed = seed.map_or(now.unwrap().as_nanos() as u64, |seed| {
            seed.parse().expect("a number")
        });
        eprintln!("HOLDER_SEED={seed}");
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub fn time_below(&mut self, limit: Duration) -> Duration {
        let limit = u64::try_from(limit.as_micros()).unwrap();
        Duration::from_micros(self.below(limit))
    }
}
