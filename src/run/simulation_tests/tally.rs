//! What has come in the lives of some seeds: a law says nothing of what never comes.

use super::Simulation;
use crate::core::signal_policy::{Arrived, TABLE};

/// What has come, added up.
#[derive(Debug, Default)]
pub(super) struct SeedTally {
    pub(super) events: u64,
    seeds: u64,
    /// Signals, by the row of the table.
    signals: Arrived,
    announced_stops: u64,
    last_children: u64,
    states: u64,
    reloads: u64,
    failed_reloads: u64,
}

impl SeedTally {
    pub(super) fn of(simulation: &Simulation) -> Self {
        let (world, report) = (simulation.world.borrow(), simulation.monitor().report());
        Self {
            events: simulation.events(),
            seeds: 1,
            signals: world.signals.heeded(),
            announced_stops: world.signals.announced,
            last_children: world.last_child.tries,
            states: world.program.states,
            reloads: report.reloads,
            failed_reloads: report.failed_reloads,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.seeds += other.seeds;
        for (sum, count) in self.signals.iter_mut().zip(other.signals.iter()) {
            *sum += count;
        }
        self.announced_stops += other.announced_stops;
        self.last_children += other.last_children;
        self.states += other.states;
        self.reloads += other.reloads;
        self.failed_reloads += other.failed_reloads;
    }

    /// Fails if something has not come that is to be simulated: then the laws say nothing of it.
    pub(super) fn expect_everything(&self) {
        for (row, count) in TABLE.iter().zip(self.signals) {
            assert!(count > 0, "{:?} has never come: {self:?}", row.signal);
        }
        let others = [
            self.announced_stops,
            self.last_children,
            self.states,
            self.reloads,
            self.failed_reloads,
        ];
        assert!(others.iter().all(|count| *count > 0), "{self:?}");
    }
}
