//! Counters of what a server did: the result of `run`. Counts; decides nothing.

use crate::core::{
    accept::refusal::{Refusal, Refusals},
    child::Cause,
    wire::Word,
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Counters from the start of a server to its end.
///
/// [`Monitor::report`](crate::Monitor::report) returns them while the server runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Children forked.
    pub forks: u64,
    /// Forks that failed.
    pub failed_forks: u64,
    /// ACKs received.
    pub acks: u64,
    /// BUSYs received.
    pub busy: u64,
    /// NOT_BUSYs received.
    pub not_busy: u64,
    /// Bytes of the children's output that the parent could not pass on.
    ///
    /// Its own stdout or stderr was full or closed.
    pub output_dropped: u64,
    /// Connections that were lost, as far as the parent knows.
    ///
    /// Those in the hands of children that were killed or crashed, and those still queued when a
    /// stop closed the sockets.
    pub lost_connections: u64,
    /// Hooks and observers that panicked in the parent.
    pub hook_panics: u64,
    /// Calls of hooks and observers in the parent that took 250 ms or more.
    ///
    /// The parent did nothing else meanwhile.
    pub slow_hooks: u64,
    /// How often the server was saturated: see [`Saturation`](crate::Saturation).
    pub saturations: u64,
    /// How long the server was saturated in all, with the episode that lasts.
    pub saturated_for: Duration,
    /// Clients of the control socket that were refused because of their user.
    ///
    /// See [`Builder::control`](crate::Builder::control).
    pub control_refusals: u64,
    /// Connections that children have accepted and not served.
    pub refusals: Refusals,
    /// The connections of children that have ended.
    pub(crate) ended_connections: u64,
    pub(crate) reloads: u64,
    pub(crate) failed_reloads: u64,
    /// How often a parent has taken over the children of one that was gone.
    ///
    /// Each is an `Event::TookOver`. Zero without a holder.
    pub takeovers: u64,
    /// Upgrades that are complete: see [`Upgraded`](crate::Event::Upgraded).
    pub upgrades: u64,
    deaths: BTreeMap<Cause, u64>,
}

impl Report {
    /// How many children ended for `cause`.
    pub fn deaths(&self, cause: Cause) -> u64 {
        self.deaths.get(&cause).copied().unwrap_or(0)
    }

    /// How many children ended.
    pub fn all_deaths(&self) -> u64 {
        self.deaths.values().sum()
    }

    pub(crate) fn count_death(&mut self, cause: Cause) {
        *self.deaths.entry(cause).or_default() += 1;
    }

    /// Counts the connections of a child that has ended.
    pub(crate) fn count_connections(&mut self, taken: u64) {
        self.ended_connections = self.ended_connections.saturating_add(taken);
    }

    pub(crate) fn count_word(&mut self, word: Word) {
        *match word {
            Word::Ack => &mut self.acks,
            Word::Busy => &mut self.busy,
            Word::NotBusy => &mut self.not_busy,
        } += 1;
    }
}

/// The counters that are numbers, by name.
macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// For the program after an upgrade.
        impl Report {
            /// All counters, by name.
            pub(crate) fn counters(&self) -> Vec<(String, u64)> {
                let numbers = [$((stringify!($name), self.$name)),*];
                let numbers = numbers.into_iter().map(|(name, count)| (name.to_owned(), count));
                let saturated = u64::try_from(self.saturated_for.as_nanos()).unwrap_or(u64::MAX);
                let refusals = Refusal::ALL.into_iter();
                numbers
                    .chain([("saturated_for".to_owned(), saturated)])
                    .chain(refusals.map(|why| (format!("refused.{why:?}"), self.refusals[why])))
                    .chain(self.deaths.iter().map(|(cause, n)| (format!("deaths.{cause:?}"), *n)))
                    .collect()
            }

            /// Sets a counter; one that is not known here is left out.
            pub(crate) fn restore(&mut self, name: &str, count: u64) {
                match name {
                    $(stringify!($name) => self.$name = count,)*
                    "saturated_for" => self.saturated_for = Duration::from_nanos(count),
                    _ => self.restore_part(name, count),
                }
            }
        }
    };
}
counters!(
    forks,
    failed_forks,
    acks,
    busy,
    not_busy,
    output_dropped,
    lost_connections,
    hook_panics,
    slow_hooks,
    saturations,
    ended_connections,
    reloads,
    failed_reloads,
    takeovers,
    upgrades,
);

impl Report {
    fn restore_part(&mut self, name: &str, count: u64) {
        let Some((group, part)) = name.split_once('.') else {
            return;
        };
        let cause = Cause::ALL
            .into_iter()
            .find(|cause| format!("{cause:?}") == part);
        match (group, cause) {
            ("deaths", Some(cause)) => _ = self.deaths.insert(cause, count),
            ("refused", _) => {
                let known = |why: &Refusal| format!("{why:?}") == part;
                let counts = Refusal::ALL.map(|why| match known(&why) {
                    true => count,
                    false => self.refusals[why],
                });
                self.refusals = Refusals::new(counts);
            }
            _ => {}
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} forked, {} failed forks, deaths:",
            self.forks, self.failed_forks
        )?;
        for (cause, count) in &self.deaths {
            write!(f, " {count} {cause:?}")?;
        }
        write!(
            f,
            "; words: {} ACK, {} BUSY, {} NOT_BUSY; {} connections lost, {} bytes of output \
             dropped, {} slow hooks, {} hook panics",
            self.acks,
            self.busy,
            self.not_busy,
            self.lost_connections,
            self.output_dropped,
            self.slow_hooks,
            self.hook_panics
        )?;
        if self.saturations > 0 {
            let seconds = self.saturated_for.as_secs_f64();
            write!(f, "; saturated {} times, {seconds:.1} s", self.saturations)?;
        }
        for (count, what) in [(self.takeovers, "takeovers"), (self.upgrades, "upgrades")] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        if self.control_refusals > 0 {
            write!(f, "; {} control clients refused", self.control_refusals)?;
        }
        for (reason, count) in self.refusals.since(Refusals::default()) {
            write!(f, "; {count} connections refused: {reason}")?;
        }
        Ok(())
    }
}
