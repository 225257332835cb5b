//! The confinement of a child: names turned into numbers, the steps taken and read back, and the
//! forbidden tried. Decides nothing about the order, which is that of the description.

mod act;
mod capabilities;
mod rehearsal;
mod resolve;

use self::act::ResolvedStep;
use crate::core::{
    confinement::{Confinement, ConfinementStep},
    error::{Error, Operation},
};
use std::io;

/// What is wrong with a step that the system took without an error.
const NOT_KEPT: &str = "the step has no effect, or can be undone";

/// A confinement in numbers: what a child does, with the words for what fails.
#[derive(Debug, Default)]
pub(crate) struct ConfinementPlan(Vec<(ResolvedStep, String)>);

impl ConfinementPlan {
    /// That of a confinement. Fails if a name is unknown, or if one of the steps fails in a process
    /// made to try them, which leaves nothing behind.
    pub(crate) fn new(confinement: &Confinement) -> Result<Self, Error> {
        let steps = confinement.steps();
        let acts = steps.iter().map(|step| {
            let act = resolved(step).map_err(|error| failed(&step.to_string(), error))?;
            Ok((act, step.to_string()))
        });
        let plan = Self(acts.collect::<Result<_, Error>>()?);
        if !plan.is_empty() {
            rehearsal::rehearse(&plan)?;
        }
        Ok(plan)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the steps except for the limits of resources, in a process that is no child: it uses
    /// what it needs, however long it lives.
    #[cfg(feature = "status")]
    pub(crate) fn perform_without_limits(&self) -> Result<(), Error> {
        let is_limit = |act: &ResolvedStep| matches!(act, ResolvedStep::Limit(..));
        let mut steps = self.0.iter().filter(|(act, _)| !is_limit(act));
        steps.try_for_each(|(act, object)| act.perform().map_err(|error| failed(object, error)))
    }

    /// Takes the steps, and tries what they forbid. A process that has failed is half confined, and
    /// fit for nothing but its end.
    pub(crate) fn perform(&self) -> Result<(), Error> {
        self.attempt()
            .map_err(|(at, error)| failed(self.object(at), error))
    }

    /// The same, with the place of what has failed.
    fn attempt(&self) -> Result<(), (usize, io::Error)> {
        for (at, (act, _)) in self.0.iter().enumerate() {
            act.perform().map_err(|error| (at, error))?;
        }
        // An unprivileged user can be told from root by what fails; root may do all of it.
        if self.0.iter().any(|(act, _)| act.gives_up_root()) {
            for (at, (act, _)) in self.0.iter().enumerate() {
                act.expect_kept().map_err(|error| (at, error))?;
            }
        }
        Ok(())
    }

    fn object(&self, at: usize) -> &str {
        self.0.get(at).map_or("", |(_, object)| object)
    }
}

fn failed(object: &str, error: io::Error) -> Error {
    Error::new(Operation::Confine, object, error)
}

/// A step with numbers for names.
fn resolved(step: &ConfinementStep) -> io::Result<ResolvedStep> {
    Ok(match step {
        ConfinementStep::Session => ResolvedStep::Session,
        ConfinementStep::ProcessGroup => ResolvedStep::ProcessGroup,
        ConfinementStep::Limit(resource, soft, hard) => {
            ResolvedStep::Limit(*resource, *soft, *hard)
        }
        ConfinementStep::Nice(nice) => ResolvedStep::Nice(*nice),
        ConfinementStep::OomScoreAdj(score) => ResolvedStep::OomScoreAdj(*score),
        ConfinementStep::Umask(mask) => ResolvedStep::Umask(resolve::mask(*mask)?),
        ConfinementStep::Chroot(path) => ResolvedStep::Chroot(resolve::absolute(path)?),
        ConfinementStep::Directory(path) => ResolvedStep::Directory(resolve::absolute(path)?),
        ConfinementStep::Groups(groups) => ResolvedStep::Groups(resolve::groups(groups)?),
        ConfinementStep::Group(group) => ResolvedStep::Group(resolve::group(group)?),
        ConfinementStep::GroupOf(user) => ResolvedStep::Group(resolve::group_of(user)?),
        ConfinementStep::Capabilities(kept) => {
            ResolvedStep::Capabilities(capabilities::numbers(kept)?)
        }
        ConfinementStep::User(user) => ResolvedStep::User(resolve::user(user)?),
        ConfinementStep::NoNewPrivs => ResolvedStep::NoNewPrivs,
    })
}
