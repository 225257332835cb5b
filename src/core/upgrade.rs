//! The course of an upgrade in the program that it begins in: the new program is tried first, and
//! executed when nothing is half done. Also what the new program waits for. Decides; starts, signals
//! and executes nothing.

mod failure;

pub use self::failure::UpgradeFailure;

use crate::core::time::Time;
use std::{any::Any, collections::VecDeque, path::PathBuf, time::Duration};

/// How long the new program must live on in its trial when it has read the state. Programs that cannot
/// run often end right after their start.
pub(crate) const PROBATION: Duration = Duration::from_millis(100);
/// How long a trial that was killed may take to end. On a busy machine it waits for a processor, and
/// the server serves on meanwhile.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How long the upgrade waits for a moment in which no task is queued and no output waits.
pub(crate) const CALM: Duration = Duration::from_secs(1);

/// What is known of the trial of the new program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Trial {
    /// It has not answered.
    Runs,
    /// It has read the state, and lives.
    Passed,
    /// It has read the state, and cannot use it.
    Refused(String),
    /// It has ended without an answer, or after it: so it is not to be executed.
    Ended(String),
    /// It was told to end, and was reaped.
    Gone,
}

/// What a step of the upgrade sees.
#[derive(Clone, Debug)]
pub(crate) struct UpgradeInput {
    pub(crate) now: Time,
    pub(crate) trial: Trial,
    /// No task is queued, and no output waits.
    pub(crate) is_calm: bool,
    /// A stop was announced or has begun.
    pub(crate) stops: bool,
    /// In the new program: when the first of its children will have been starting for too long.
    pub(crate) hangs_at: Option<Time>,
}

/// What an upgrade that is asked for depends on, while no other is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outset {
    /// A stop was announced or has begun.
    pub(crate) stops: bool,
    /// The children are other programs.
    pub(crate) programs: bool,
    /// Such children live on when this process becomes a new program.
    pub(crate) keeps_programs: bool,
}

impl Outset {
    /// Why the upgrade cannot begin, if that is so.
    pub(crate) fn refusal(self) -> Option<UpgradeFailure> {
        if self.stops {
            Some(UpgradeFailure::Stop)
        } else if self.programs && !self.keeps_programs {
            Some(UpgradeFailure::EndsPrograms)
        } else {
            None
        }
    }
}

/// What an upgrade is asked to be.
#[derive(Debug, Default)]
pub(crate) struct UpgradeRequest {
    /// The program to execute; `None` for the file of the running one.
    pub(crate) program: Option<PathBuf>,
    /// Where the outcome is told: a connection, opaque here.
    pub(crate) asker: Option<Box<dyn Any>>,
}

impl UpgradeRequest {
    /// Whether this one is redundant, since the other is the same.
    fn is_like(&self, other: &Self) -> bool {
        self.program == other.program && self.asker.is_none()
    }
}

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a step does nothing until it is performed"]
pub(crate) enum UpgradeStep {
    Wait,
    /// Kill the process of the trial.
    EndTrial,
    /// Execute the new program.
    Execute,
    Fail(UpgradeFailure),
    /// In the new program: give up the replacement of the children, and come back.
    GiveUp,
    /// Execute the program again that was here before.
    Return,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum UpgradePhase {
    /// The new program reads the state, for so long at most; zero is no limit.
    Trial { began: Time, limit: Duration },
    /// It has, and must live for some time more.
    Probation { until: Time },
    /// Its process was killed.
    Ending { until: Time },
    /// It can be executed at the next calm moment.
    Ready { until: Time },
    /// This is the new program: the children of the old one are being replaced.
    Proving { epoch: u32 },
    /// Its children have failed: the old program is to be executed again.
    Returning { until: Time },
}

/// How far the upgrade is by which this program has come, for the parent after this one.
#[cfg(feature = "holder")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum UpgradeNote {
    /// It has succeeded, or failed, or there was none.
    #[default]
    Over,
    /// The children of this program are replacing the others.
    Proving,
    /// They have failed: the program before is to be executed again.
    Returning,
}

#[cfg(feature = "holder")]
impl UpgradeNote {
    pub(crate) fn word(self) -> u64 {
        self as u64
    }

    pub(crate) fn read(word: u64) -> Self {
        match word {
            1 => Self::Proving,
            2 => Self::Returning,
            _ => Self::Over,
        }
    }
}

/// The upgrade of a server, if one is under way.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    phase: Option<UpgradePhase>,
    /// The upgrades that were asked for and have not begun.
    asked: VecDeque<UpgradeRequest>,
    began: Time,
    blind: Duration,
}

impl Upgrade {
    /// Whether an upgrade is under way, in the old program or in the new one.
    pub(crate) fn is_under_way(&self) -> bool {
        self.phase.is_some()
    }

    /// When the upgrade that is under way was asked for.
    pub(crate) fn began(&self) -> Time {
        self.began
    }

    /// For how long no process watched the children.
    pub(crate) fn blind(&self) -> Duration {
        self.blind
    }

    /// Notes what an upgrade is asked to be. False if the one before is the same.
    pub(crate) fn ask(&mut self, request: UpgradeRequest) -> bool {
        let is_new = !self.asked.back().is_some_and(|last| request.is_like(last));
        if is_new {
            self.asked.push_back(request);
        }
        is_new
    }

    /// What was asked for first. A program that posts the state by itself asks for nothing special.
    pub(crate) fn take_asked(&mut self) -> UpgradeRequest {
        self.asked.pop_front().unwrap_or_default()
    }

    /// The trial has begun, which may take so long; zero is no limit.
    pub(crate) fn begin(&mut self, now: Time, limit: Duration) {
        self.began = now;
        self.phase = Some(UpgradePhase::Trial { began: now, limit });
    }

    /// In the new program: its children, which are of this epoch, are to replace the others.
    ///
    /// It was asked for at `began`, and for the time `blind` no process watched the children.
    pub(crate) fn prove(&mut self, epoch: u32, began: Time, blind: Duration) {
        self.began = began;
        self.blind = blind;
        self.phase = Some(UpgradePhase::Proving { epoch });
    }

    /// Whether the reload of this epoch completes an upgrade: it is the reload that was a part of it, or
    /// a later one.
    pub(crate) fn take_proved(&mut self, epoch: u32) -> bool {
        let proves = match self.phase {
            Some(UpgradePhase::Proving { epoch: own }) => epoch.wrapping_sub(own) <= u32::MAX / 2,
            _ => false,
        };
        if proves {
            self.phase = None;
        }
        proves
    }

    /// Whether a reload that fails now is the last part of an upgrade.
    pub(crate) fn is_proving(&self) -> bool {
        self.proves().is_some()
    }

    /// In the new program: the epoch of its children, until they have replaced the others.
    pub(crate) fn proves(&self) -> Option<u32> {
        match self.phase {
            Some(UpgradePhase::Proving { epoch }) => Some(epoch),
            _ => None,
        }
    }

    /// Whether the old program is to be executed again.
    #[cfg(feature = "holder")]
    pub(crate) fn is_returning(&self) -> bool {
        matches!(self.phase, Some(UpgradePhase::Returning { .. }))
    }

    /// What a parent after this one is to know. An upgrade that is still tried ends with its parent.
    #[cfg(feature = "holder")]
    pub(crate) fn note(&self) -> UpgradeNote {
        match self.phase {
            Some(UpgradePhase::Proving { .. }) => UpgradeNote::Proving,
            Some(UpgradePhase::Returning { .. }) => UpgradeNote::Returning,
            _ => UpgradeNote::Over,
        }
    }

    /// The old program is to be executed again.
    pub(crate) fn come_back(&mut self, now: Time) {
        self.phase = Some(UpgradePhase::Returning { until: now + CALM });
    }

    /// The upgrade has ended.
    pub(crate) fn end(&mut self) {
        self.phase = None;
    }

    /// When the next step is due if nothing happens before.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        match self.phase? {
            UpgradePhase::Trial { began, limit } => (!limit.is_zero()).then(|| began + limit),
            UpgradePhase::Probation { until }
            | UpgradePhase::Ending { until }
            | UpgradePhase::Ready { until }
            | UpgradePhase::Returning { until } => Some(until),
            UpgradePhase::Proving { .. } => None,
        }
    }

    /// What to do now.
    pub(crate) fn step(&mut self, seen: &UpgradeInput) -> UpgradeStep {
        let step = match self.phase {
            None => return UpgradeStep::Wait,
            Some(UpgradePhase::Proving { .. }) => return proving(seen),
            Some(_) if seen.stops => UpgradeStep::Fail(UpgradeFailure::Stop),
            Some(UpgradePhase::Returning { until }) => return returning(seen, until),
            Some(UpgradePhase::Trial { began, limit }) => self.in_trial(seen, began, limit),
            Some(UpgradePhase::Probation { until }) => self.in_probation(seen, until),
            Some(UpgradePhase::Ending { until }) => self.ending(seen, until),
            Some(UpgradePhase::Ready { until }) => ready(seen, until),
        };
        if matches!(step, UpgradeStep::Fail(_)) {
            self.phase = None;
        }
        step
    }

    fn in_trial(&mut self, seen: &UpgradeInput, began: Time, limit: Duration) -> UpgradeStep {
        match &seen.trial {
            Trial::Passed => {
                let until = seen.now + PROBATION;
                self.phase = Some(UpgradePhase::Probation { until });
                UpgradeStep::Wait
            }
            Trial::Runs if !limit.is_zero() && began + limit <= seen.now => {
                UpgradeStep::Fail(UpgradeFailure::Hangs(limit))
            }
            Trial::Runs => UpgradeStep::Wait,
            other => failed(other),
        }
    }

    fn in_probation(&mut self, seen: &UpgradeInput, until: Time) -> UpgradeStep {
        match &seen.trial {
            Trial::Passed | Trial::Runs if seen.now < until => UpgradeStep::Wait,
            Trial::Passed | Trial::Runs => {
                let until = seen.now + ENDS_WITHIN;
                self.phase = Some(UpgradePhase::Ending { until });
                UpgradeStep::EndTrial
            }
            other => failed(other),
        }
    }

    fn ending(&mut self, seen: &UpgradeInput, until: Time) -> UpgradeStep {
        if seen.trial == Trial::Gone {
            let until = seen.now + CALM;
            self.phase = Some(UpgradePhase::Ready { until });
            return ready(seen, until);
        }
        match until <= seen.now {
            true => UpgradeStep::Fail(UpgradeFailure::Stays),
            false => UpgradeStep::Wait,
        }
    }
}

/// A stop ends children that hang by its own means.
fn proving(seen: &UpgradeInput) -> UpgradeStep {
    match seen.hangs_at.is_some_and(|at| at <= seen.now) && !seen.stops {
        true => UpgradeStep::GiveUp,
        false => UpgradeStep::Wait,
    }
}

fn ready(seen: &UpgradeInput, until: Time) -> UpgradeStep {
    match (seen.is_calm, until <= seen.now) {
        (true, _) => UpgradeStep::Execute,
        (false, true) => UpgradeStep::Fail(UpgradeFailure::NeverCalm),
        (false, false) => UpgradeStep::Wait,
    }
}

/// The old program is needed even if some tasks of this one are never done.
fn returning(seen: &UpgradeInput, until: Time) -> UpgradeStep {
    match seen.is_calm || until <= seen.now {
        true => UpgradeStep::Return,
        false => UpgradeStep::Wait,
    }
}

fn failed(trial: &Trial) -> UpgradeStep {
    UpgradeStep::Fail(match trial {
        Trial::Refused(reason) => UpgradeFailure::Refused(reason.clone()),
        Trial::Ended(how) => UpgradeFailure::Ended(how.clone()),
        Trial::Runs | Trial::Passed | Trial::Gone => UpgradeFailure::Ended("it is gone".to_owned()),
    })
}

#[cfg(test)]
mod tests;
