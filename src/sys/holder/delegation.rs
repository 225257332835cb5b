//! A parent that leaves an upgrade to its holder: it hands over what the next program gets, tells the
//! holder which program to become, and ends. The other side is in `process/succession`. Decides nothing.

use super::{
    handover::{HANDED, HolderOrders},
    link::HolderLink,
    messages::{self, Message, NONE, Part},
    process,
};
use crate::{
    core::{
        child::ChildId,
        error::Error,
        state::{EncodedList, FdRole, Snapshot},
        time::Time,
    },
    sys::{
        adopted,
        clock::Clock,
        unix::UnixSystem,
        upgrade::{self, LONGEST_INSTRUCTION, UpgradeInstruction, UpgradeTask},
        waiter::poll_any,
    },
};
use nix::poll::PollFlags;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

/// How long the holder has for its answer: one that is stopped does not hold up the parent.
const PATIENCE: Duration = Duration::from_secs(1);

/// For each number of this process the one that the same descriptor has in the holder.
type FdMap = BTreeMap<u32, u32>;

/// Why a parent has not left.
enum StayReason {
    Failed(io::Error),
    /// A child has ended that the state has as living.
    Outdated,
}

impl From<io::Error> for StayReason {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

fn refused(reason: &str) -> StayReason {
    StayReason::Failed(io::Error::other(format!("the holder: {reason}")))
}

impl UnixSystem {
    /// Has the holder become the program that was tried, or the one before. Returns only if that fails;
    /// `None` if the state is out of date.
    pub(crate) fn leave_to_holder(&self, state: &Snapshot) -> Option<Error> {
        let left = self.upgrades.program(state).map_err(StayReason::from);
        let left = left.and_then(|program| match self.holder.link() {
            Some(link) => link.leave(state, program, self.clock),
            None => Err(refused("there is none")),
        });
        match left {
            Err(StayReason::Outdated) => None,
            Err(StayReason::Failed(error)) => Some(self.upgrades.failed(error)),
            Ok(never) => match never {},
        }
    }
}

/// One attempt to leave.
struct HandoverAttempt {
    number: u32,
    clock: Clock,
    until: Time,
}

impl HandoverAttempt {
    /// The time that is left for the holder's answer.
    fn left(&self) -> Result<Duration, StayReason> {
        let left = self.until.since(self.clock.now());
        match left.is_zero() {
            true => Err(refused("it does not answer")),
            false => Ok(left),
        }
    }
}

impl HolderLink {
    fn leave(
        &self,
        state: &Snapshot,
        program: RawFd,
        clock: Clock,
    ) -> Result<Infallible, StayReason> {
        let attempt = HandoverAttempt {
            number: self.handover.open(),
            clock,
            until: clock.now() + PATIENCE,
        };
        let left = self.hand_over(state, program, &attempt);
        if left.is_err() {
            self.handover.close();
            self.say(Message::CallOff);
        }
        left
    }

    fn hand_over(
        &self,
        state: &Snapshot,
        program: RawFd,
        attempt: &HandoverAttempt,
    ) -> Result<Infallible, StayReason> {
        let mut handing = self.to_hand(state);
        handing.push(program);
        self.hand(attempt, 0, &handing)?;
        if self.deaths.are_new(&self.journal) {
            return Err(StayReason::Outdated);
        }
        let numbers = self.numbers(state, &handing)?;
        let there = state.clone().renumbered(|fd| numbers.get(&fd).copied());
        let mut there = there.ok_or_else(|| refused("it lacks a descriptor"))?;
        there.pool.orphans = EncodedList(orphans(state));
        let file = upgrade::sealed(&there.encode())?;
        self.hand(attempt, handing.len(), &[file.as_raw_fd()])?;
        let in_holder = |index| self.handed(index);
        let orders = HolderOrders {
            program: in_holder(handing.len() - 1)?,
            image: there
                .descriptor(FdRole::Image)
                .map_or(NONE, |it| it.fd.cast_signed()),
            state: in_holder(handing.len())?,
        };
        let listed = there.descriptors.iter().map(|it| it.fd.cast_signed());
        let keeps: Vec<_> = listed.chain([orders.state]).collect();
        upgrade::flush_outputs();
        self.journal.note_taken(&self.asked);
        match self
            .handover
            .announce_end(&orders, &keeps, &instruction(&there, orders))
        {
            true => process::exit(0),
            false => Err(refused("there is no room for so many descriptors")),
        }
    }

    /// Whether the holder keeps the pipes of this child.
    fn keeps(&self, child: ChildId) -> bool {
        let has_slot = child.slot() < self.journal.slots();
        has_slot && self.journal.record(child.slot()).serial == child.serial()
    }

    /// The descriptors that the holder does not have.
    fn to_hand(&self, state: &Snapshot) -> Vec<RawFd> {
        let kept = state.children.iter().filter(|it| self.keeps(it.id()));
        let kept = kept.flat_map(|child| &child.pipes.0);
        let kept: BTreeSet<_> = kept.filter_map(|pipe| pipe.fd).collect();
        let all = state.descriptors.iter().map(|it| it.fd);
        let handed = all.filter(|fd| !kept.contains(fd));
        handed.map(u32::cast_signed).collect()
    }

    fn handed(&self, index: usize) -> Result<RawFd, StayReason> {
        let number = self.handover.handed(index);
        number.ok_or_else(|| refused("it has no room for another descriptor"))
    }

    /// Sends descriptors, and waits until the holder has them.
    fn hand(
        &self,
        attempt: &HandoverAttempt,
        first: usize,
        fds: &[RawFd],
    ) -> Result<(), StayReason> {
        if first + fds.len() > HANDED {
            return Err(refused("there is no room for so many descriptors"));
        }
        for (at, fds) in (first..)
            .step_by(messages::PIPES)
            .zip(fds.chunks(messages::PIPES))
        {
            self.hand_part(attempt, at, fds)?;
        }
        while self.handover.received(attempt.number) < first + fds.len() {
            self.await_holder(PollFlags::POLLIN, attempt.left()?)?;
            // What else it has said is looked at in each turn.
            if !messages::drain(&self.channel) {
                return Err(refused("it is gone"));
            }
        }
        Ok(())
    }

    fn hand_part(
        &self,
        attempt: &HandoverAttempt,
        first: usize,
        fds: &[RawFd],
    ) -> Result<(), StayReason> {
        let part = Part {
            attempt: attempt.number,
            // OK to cast: there are no more than fit.
            first: first as u32,
            count: fds.len() as u32,
        };
        while let Err(error) = messages::send(&self.channel, Message::Hand(part), fds) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error.into());
            }
            self.await_holder(PollFlags::POLLOUT, attempt.left()?)?;
        }
        Ok(())
    }

    fn await_holder(&self, what: PollFlags, left: Duration) -> io::Result<()> {
        poll_any([(self.channel.as_fd(), what)], Some(left)).map(drop)
    }

    /// The numbers that all descriptors of a state have in the holder.
    fn numbers(&self, state: &Snapshot, handed: &[RawFd]) -> Result<FdMap, StayReason> {
        let mut numbers = FdMap::new();
        for (index, fd) in handed.iter().enumerate() {
            let number = self.handed(index)?;
            numbers.insert(fd.cast_unsigned(), number.cast_unsigned());
        }
        for child in state.children.iter().filter(|it| self.keeps(it.id())) {
            let kept = self.handover.kept(child.id());
            for (pipe, number) in child.pipes.0.iter().zip(kept) {
                if let (Some(fd), true) = (pipe.fd, number != NONE) {
                    numbers.insert(fd, number.cast_unsigned());
                }
            }
        }
        Ok(numbers)
    }
}

/// The processes that are the holder's when this one has ended, and none of the server's.
fn orphans(state: &Snapshot) -> Vec<u32> {
    let own = std::process::id();
    let helper = state.pool.status_helper;
    let is_known = |pid| state.children.iter().any(|it| it.pid == pid) || helper == Some(pid);
    let holders = adopted::children_of(super::holder().unwrap_or_default());
    let all = holders.into_iter().chain(adopted::children_of(own));
    all.filter(|pid| *pid != own && !is_known(*pid)).collect()
}

/// What the next program is told. The reason of a way back may be of any length.
fn instruction(state: &Snapshot, orders: HolderOrders) -> String {
    let task = match &state.program.back {
        None => UpgradeTask::TakeOver {
            image: orders.image,
        },
        Some(reason) => UpgradeTask::TakeBack {
            reason: beginning(reason).to_owned(),
        },
    };
    let instruction = UpgradeInstruction {
        state: orders.state,
        task,
    };
    instruction.text_for(super::holder().unwrap_or_default())
}

/// As much of a text as surely fits.
fn beginning(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_INSTRUCTION / 2);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_any_length_fits() {
        let state = |reason: &str| Snapshot {
            program: crate::core::state::Program {
                back: Some(reason.to_owned()),
                ..Default::default()
            },
            ..Snapshot::default()
        };
        let orders = HolderOrders {
            program: 5,
            image: 6,
            state: 7,
        };
        let short = instruction(&state("it fails"), orders);
        assert!(short.ends_with(" 7 it fails"), "{short}");
        let long = instruction(&state(&"\u{2026}".repeat(LONGEST_INSTRUCTION)), orders);
        assert!(long.len() <= LONGEST_INSTRUCTION && long.ends_with('\u{2026}'));
        let forth = instruction(&Snapshot::default(), orders);
        assert!(
            forth.starts_with("forth ") && forth.ends_with(" 7 6"),
            "{forth}"
        );
    }
}
