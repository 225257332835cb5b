//! The operating system for one server's loop: what the parent holds of it, made and watched here.
//! `system` is what the loop sees of it. Decides nothing.

mod forking;
mod system;
mod upgrading;
mod watches;

pub(crate) use self::forking::NewChild;

use self::{upgrading::death_watch, watches::Watches};
use super::{
    adopted::Adoption,
    board::Board,
    clock::Clock,
    confine::ConfinementPlan,
    control::ControlSocket,
    fd_registry::{PreForkId, Registered},
    fork::Tie,
    holder::HolderRelation,
    limits::Threads,
    null,
    out_of_memory::OutOfMemory,
    output::Outputs,
    poller::Poller,
    signals::Subscription,
    stacks::Stacks,
    stop_board::StopBoard,
    title::ParentTitle,
    upgrade::{self, Upgrades},
};
#[cfg(all(feature = "holder", target_os = "linux"))]
use crate::core::child::ChildId;
use crate::core::{
    error::{Error, Operation},
    say::say,
    signal_policy::TakenSignals,
    state::Snapshot,
    system::EventSource,
};
use mio::Interest;
#[cfg(all(feature = "holder", target_os = "linux"))]
use std::collections::BTreeMap;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

/// Everything of the operating system that one server holds in the parent, except for the children.
#[derive(Debug)]
pub(crate) struct UnixSystem {
    pub(crate) id: PreForkId,
    pub(crate) clock: Clock,
    /// For how many children there are slots on the boards.
    pub(super) slots: usize,
    pub(crate) board: Board,
    pub(crate) stops: Rc<StopBoard>,
    /// Where children of earlier programs are told to stop.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(super) earlier_stops: BTreeMap<ChildId, Rc<StopBoard>>,
    pub(crate) stacks: Stacks,
    pub(super) out_of_memory: Rc<OutOfMemory>,
    pub(crate) null: Registered<OwnedFd>,
    /// What children do before they serve.
    pub(crate) confinement: ConfinementPlan,
    /// The read end of the death watch, for children; a child takes it.
    pub(crate) death_read: Option<Registered<OwnedFd>>,
    /// The write end. Nothing is written to it. It is open for as long as the parent lives, and in
    /// no other process.
    pub(super) death_write: Option<Registered<OwnedFd>>,
    pub(super) poller: Poller,
    outputs: Outputs,
    threads: Threads,
    pub(super) signals: Option<Subscription>,
    pub(super) watches: Watches,
    pub(super) control: Option<ControlSocket>,
    owner: u32,
    is_settled: bool,
    pub(crate) adoption: Adoption,
    pub(crate) upgrades: Upgrades,
    pub(crate) holder: HolderRelation,
    title: ParentTitle,
}

impl UnixSystem {
    /// The system for a server that has at most this many children, for now.
    ///
    /// With the state of an earlier program of this process, its clock and its tie to the children go
    /// on. Nothing that the state names is closed if this fails.
    pub(crate) fn new(
        id: PreForkId,
        takes: TakenSignals,
        children: usize,
        state: Option<&Snapshot>,
    ) -> Result<Self, Error> {
        let null = null::open()?;
        // The buffer is allocated here once, and not in each child.
        let _ = io::stdout();
        let poller = Poller::new().map_err(|error| Error::new(Operation::Poll, "set-up", error))?;
        let signals = subscribe(takes, &poller)?;
        let clock = state.map_or_else(Clock::new, |state| Clock::since(state.pool.clock_start));
        let slots = children.max(state.map_or(0, taken_slots));
        let (board, stops) = first_boards(slots, &clock, state)?;
        let (death_read, death_write) = death_watch(state)?;
        Ok(Self {
            id,
            clock,
            slots,
            board,
            stops,
            #[cfg(all(feature = "holder", target_os = "linux"))]
            earlier_stops: BTreeMap::new(),
            stacks: Stacks::new(slots),
            out_of_memory: Rc::default(),
            null: Registered::childrens(null, id),
            confinement: ConfinementPlan::default(),
            death_read: Some(Registered::childrens(death_read, id)),
            death_write: Some(Registered::parents(death_write)),
            poller,
            outputs: Outputs::new(),
            threads: Threads::open(),
            signals: Some(signals),
            watches: Watches::default(),
            control: None,
            owner: std::process::id(),
            is_settled: false,
            adoption: Adoption::default(),
            upgrades: Upgrades::new(state),
            holder: HolderRelation::default(),
            title: ParentTitle::default(),
        })
    }

    /// Whether a turn has been made.
    #[cfg(feature = "holder")]
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// To whose lives this child is tied.
    pub(crate) fn tie(&self) -> Tie {
        self.holder.tie_of_child(self.owner)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    /// Watches a socket on which clients give commands; children close it.
    pub(crate) fn watch_control(&mut self, listener: OwnedFd) -> io::Result<()> {
        self.control = Some(ControlSocket::new(listener, &self.poller)?);
        Ok(())
    }

    /// Whether there is a control socket.
    pub(crate) fn listens_for_control(&self) -> bool {
        let control = self.control.as_ref();
        control.is_some_and(|control| control.listener().is_some())
    }

    /// A program that has become a daemon since the start has lost what only the process that made
    /// the boards can write.
    pub(super) fn own_boards(&mut self) {
        if self.board.is_ours() {
            return;
        }
        match boards(self.slots, &self.clock) {
            Ok((board, stops)) => (self.board, self.stops) = (board, stops),
            Err(error) => say!(Warn, "children have no place to note what they do: {error}"),
        }
    }
}

/// The signals that this server acts on, watched by its poller.
fn subscribe(takes: TakenSignals, poller: &Poller) -> Result<Subscription, Error> {
    let signal = |error| Error::new(Operation::Signal, "set-up", error);
    let signals = Subscription::new(takes).map_err(signal)?;
    let pipe = signals.as_fd().as_raw_fd();
    poller
        .add_urgent(pipe, EventSource::Signals, Interest::READABLE)
        .map_err(|error| Error::new(Operation::Register, "signal pipe", error))?;
    Ok(signals)
}

/// How many slots the children of an earlier program need.
fn taken_slots(state: &Snapshot) -> usize {
    let ends = state.children.iter().map(|child| child.slot as usize + 1);
    ends.max().unwrap_or(0)
}

/// The memory that parent and children share.
fn boards(children: usize, clock: &Clock) -> io::Result<(Board, Rc<StopBoard>)> {
    let board = Board::new(children, clock.started())?;
    Ok((board, Rc::new(StopBoard::new(children)?)))
}

/// The same, and what the children of an earlier program have noted.
fn first_boards(
    slots: usize,
    clock: &Clock,
    state: Option<&Snapshot>,
) -> Result<(Board, Rc<StopBoard>), Error> {
    let map = |error| Error::new(Operation::Map, "the board", error);
    let (mut board, stops) = boards(slots, clock).map_err(map)?;
    if let Some(state) = state {
        upgrade::adopt_boards(&mut board, &state.boards);
    }
    Ok((board, stops))
}
