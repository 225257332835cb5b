//! The new program of an upgrade: its trial, with every outcome, and an exec that fails. Becomes no
//! program: the world has this one alone.

use super::{World, ms};
use crate::core::{
    error::{Error, Operation},
    time::Time,
    upgrade::Trial,
};
use std::{io, time::Duration};

/// A new program that is tried.
#[derive(Clone, Debug)]
pub(super) struct ModelTrial {
    /// What it answers, and when; it may hang.
    outcome: Trial,
    answers_at: Option<Time>,
    /// When it is gone, once it was told to end; it may stay.
    told: bool,
    gone_at: Option<Time>,
}

impl ModelTrial {
    fn at(&self, now: Time) -> Trial {
        let is_past = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if is_past(self.gone_at) {
            Trial::Gone
        } else if is_past(self.answers_at) {
            self.outcome.clone()
        } else {
            Trial::Runs
        }
    }

    /// When there is something new of it.
    pub(super) fn changes_at(&self) -> Option<Time> {
        if self.told {
            self.gone_at
        } else {
            self.answers_at
        }
    }
}

fn failed(reason: &str) -> Error {
    Error::new(Operation::Upgrade, "the program", io::Error::other(reason))
}

impl World {
    pub(super) fn begin_trial(&mut self) -> Result<(), Error> {
        if self.random.one_in(4) {
            return Err(failed("it cannot be executed"));
        }
        let outcome = match self.random.below(8) {
            0 => Trial::Refused("a later version".to_owned()),
            1 => Trial::Ended("by a signal".to_owned()),
            _ => Trial::Passed,
        };
        // Nobody would end one that hangs without a limit.
        let hangs = !self.upgrade_timeout.is_zero() && self.random.one_in(4);
        let takes = ms(self.random.below(1_000));
        self.trial = Some(ModelTrial {
            outcome,
            answers_at: (!hangs).then_some(self.now + takes),
            told: false,
            gone_at: None,
        });
        Ok(())
    }

    pub(super) fn trial(&self) -> Trial {
        let trial = self.trial.as_ref();
        trial.map_or(Trial::Gone, |trial| trial.at(self.now))
    }

    pub(super) fn end_trial(&mut self) {
        let stays = self.random.one_in(8);
        let gone_at = self.now + ms(self.random.below(20));
        if let Some(trial) = &mut self.trial {
            trial.told = true;
            trial.gone_at = (!stays).then_some(gone_at);
        }
    }

    pub(super) fn forget_trial(&mut self) {
        self.trial = None;
    }

    pub(super) fn save(&mut self) -> io::Result<()> {
        match self.random.one_in(4) {
            true => Err(io::Error::other("it has no room")),
            false => Ok(()),
        }
    }

    /// Fails in the end; before it now and then the state has become old.
    pub(super) fn become_program(&mut self) -> Option<Error> {
        (!self.random.one_in(3)).then(|| failed("it cannot be executed any more"))
    }

    /// For how long the parent has not run.
    pub(super) fn paused(&self) -> Duration {
        self.parent.paused
    }
}
