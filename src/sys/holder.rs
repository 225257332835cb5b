//! A parent that has a holder: what it tells that process, and what it takes over from a parent
//! before it. The holder itself is in `process`. Decides nothing.

mod channel;
mod deaths;
mod farewell;
mod handover;
mod kept;
mod memory;
mod process;
mod sibling;
mod ward;

pub(crate) use self::ward::Ward;

use self::{
    channel::{Message, NONE},
    deaths::Deaths,
    handover::Handover,
    kept::KeptPipes,
    memory::Journal,
    process::{Born, Estate, Holder, HolderSetup, note_arrived},
    sibling::SiblingFork,
};
use super::{
    board::Slot,
    fd_registry::Ours,
    fork::{self, Side, Tie},
    pipes::{self, ParentEnds},
    poller::Poller,
    shared_memory::SharedMemory,
    signals::Mask,
    unix::UnixSystem,
};
use crate::core::{
    child::{ChildId, WaitStatus},
    error::{Error, Operation},
    journal::{Phase, Record, Said, StopBy, ToldNote},
    signal_policy::{self, Arrived, TABLE},
    state::ChildState,
    system::{ForkTerms, PoolNote, Source, System},
    time::Time,
};
use mio::Interest;
use nix::libc;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    rc::Rc,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// The pid of the holder that this process has; 0 for none.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// The pid of the holder that this process has.
pub(crate) fn holder() -> Option<u32> {
    Some(HOLDER.load(Relaxed)).filter(|pid| *pid != 0)
}

/// What a process knows of its holder.
#[derive(Debug, Default)]
pub(crate) enum Holding {
    #[default]
    None,
    /// A parent.
    Parent(Box<Held>),
    /// A child that its holder keeps when the parent is gone.
    Child { holder: u32 },
    /// A child that has been the holder's from the first moment.
    Sibling { holder: u32 },
}

/// Whose a new child is for the kernel: who waits for it, and at whose end it is sent a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kin {
    /// The parent's; the holder gets it when that is gone.
    Parents,
    /// The holder's.
    Holders,
}

/// A parent's side.
#[derive(Debug)]
pub(crate) struct Held {
    journal: Journal,
    handover: Handover,
    channel: Ours<OwnedFd>,
    /// Which signals come by the journal.
    counted: [bool; TABLE.len()],
    /// How many signals this parent knows of.
    asked: Arrived,
    deaths: Deaths,
    kept: KeptPipes,
}

/// A child of a parent that is gone.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) slot: u32,
    pub(crate) record: Record,
    /// The descriptors of its pipes.
    pub(crate) pipes: [Option<u32>; 3],
    pub(crate) told_to_leave: bool,
}

impl Holding {
    fn held(&self) -> Option<&Held> {
        match self {
            Self::Parent(held) => Some(held),
            _ => None,
        }
    }

    fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Self::Parent(held) => Some(held),
            _ => None,
        }
    }

    /// Whether this process is a parent that has a holder.
    pub(crate) fn is_held(&self) -> bool {
        self.held().is_some()
    }

    /// To whose lives a child of `parent` is tied.
    pub(crate) fn tie_of_child(&self, parent: u32) -> Tie {
        let (parent, holder) = match self {
            Self::Child { holder } => (parent, Some(*holder)),
            Self::Sibling { holder } => (*holder, None),
            _ => (parent, None),
        };
        Tie { parent, holder }
    }

    /// Before a fork: the holder keeps the pipes, and the journal says that there may be a child. True if
    /// the holder keeps the child; one without a slot ends with its parent.
    pub(super) fn before_fork(
        &mut self,
        terms: &ForkTerms,
        ends: &ParentEnds,
        has_slot: bool,
        now: Time,
    ) -> io::Result<bool> {
        let Some(held) = self.held().filter(|_| has_slot) else {
            return Ok(false);
        };
        let [stdout, stderr] = [&ends.stdout, &ends.stderr].map(|end| end.as_raw_fd());
        let keep = |pipes: &[RawFd]| channel::send(&held.channel, Message::Keep(terms.id), pipes);
        match &ends.comm {
            Some(comm) => keep(&[stdout, stderr, comm.as_raw_fd()]),
            None => keep(&[stdout, stderr]),
        }?;
        let stop_by = StopBy {
            signal: terms.stop_signal,
            group: terms.group,
        };
        let record = Record {
            successor: terms.successor,
            stop_by,
            ..Record::forking(terms.id, terms.epoch, terms.reserved, now)
        };
        held.journal.note_serial(terms.id.serial());
        held.journal.put(terms.id.slot(), &record);
        Ok(true)
    }

    /// Forks. A child that is to become a program is the holder's, if the holder keeps it and this
    /// process can fork such a child.
    ///
    /// A program knows of no holder, so the kernel's signal at the end of its parent would end it. Other
    /// children ignore that one, and are forked by the C library, of whose forks much code is told.
    pub(super) fn fork(
        &self,
        terms: &ForkTerms,
        is_kept: bool,
        blocked: &Mask,
    ) -> io::Result<(Side, Kin)> {
        let held = self.held().filter(|_| is_kept && terms.execs);
        if let Some(held) = held
            && let Some(sibling) = SiblingFork::find()
        {
            match sibling.fork(blocked, held.journal.pid_at(terms.id.slot())) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                forked => return Ok((forked?, Kin::Holders)),
            }
        }
        Ok((fork::fork(blocked)?, Kin::Parents))
    }

    /// After the fork of a child that the holder keeps: this is its pid, or there is none.
    pub(super) fn forked(&mut self, id: ChildId, pid: Option<u32>, kin: Kin) {
        match (self.held(), pid, kin) {
            // The kernel has written it, and the holder may have written since how the child has ended.
            (_, Some(_), Kin::Holders) | (None, ..) => {}
            (Some(held), Some(pid), Kin::Parents) => {
                let record = Record {
                    phase: Phase::Lives,
                    pid,
                    ..held.journal.record(id.slot())
                };
                held.journal.put(id.slot(), &record);
            }
            (Some(_), None, _) => self.forget(id.slot()),
        }
    }

    /// In a new child, before anything else. One that is kept notes who it is, and ends at once if its
    /// parent is gone: that parent may not have known of it. The kernel has noted those of the holder.
    pub(super) fn be_born(&mut self, is_kept: bool, kin: Kin, slot: &Slot, parent: u32) {
        // The journal is not mapped here.
        let held = std::mem::take(self);
        let holder = holder().filter(|_| is_kept && held.is_held());
        // Its descriptors are closed by number.
        std::mem::forget(held);
        match (holder, kin) {
            (None, _) => {}
            (Some(holder), Kin::Holders) => *self = Self::Sibling { holder },
            (Some(holder), Kin::Parents) => {
                *self = Self::Child { holder };
                slot.note_pid();
                if nix::unistd::getppid().as_raw().cast_unsigned() != parent {
                    // Nothing of this process is to be flushed.
                    process::exit(0);
                }
            }
        }
    }

    /// The record of a child has ended.
    pub(super) fn forget(&mut self, slot: usize) {
        let Some(held) = self.held() else { return };
        if slot >= held.journal.slots() {
            return;
        }
        let serial = held.journal.record(slot).serial;
        held.journal.vacate(slot);
        // OK because there are no more slots than 2^32.
        let id = ChildId::new(slot as u32, serial);
        held.say(Message::Drop(id));
    }

    /// The children are to see that their parent leaves.
    pub(super) fn end_death_watch(&self) {
        if let Some(held) = self.held() {
            held.say(Message::EndDeathWatch);
        }
    }

    /// The program before this one is not needed any more.
    pub(super) fn say_proved(&self) {
        if let Some(held) = self.held() {
            held.say(Message::Proved);
        }
    }

    /// The server has ended. This is no message, since it must not be lost.
    pub(super) fn say_goodbye(&mut self) {
        if let Self::Parent(held) = std::mem::take(self) {
            held.journal.end();
        }
    }

    /// What has arrived: signals as the holder has heard them, and the deaths of children that it has
    /// reaped. Those that somebody has sent to this process are left out, since whoever signals all
    /// processes of a group has signalled the holder as well.
    ///
    /// `woken` says that the holder may have said something.
    pub(super) fn arrived(&mut self, own: Arrived, woken: bool) -> Arrived {
        let Some(held) = self.held_mut() else {
            return own;
        };
        if woken {
            held.look_for_the_holder();
        }
        let asked = held.journal.asked();
        let before = std::mem::replace(&mut held.asked, asked);
        let mut arrived = own;
        for index in (0..TABLE.len()).filter(|index| held.counted[*index]) {
            arrived[index] = asked[index].wrapping_sub(before[index]);
        }
        if let Some(child) = signal_policy::index(crate::core::child::Signal::Child) {
            arrived[child] = own[child] + u64::from(held.deaths.are_new(&held.journal));
        }
        arrived
    }

    /// The pid of a child that the holder has reaped, each once.
    pub(super) fn peek(&mut self) -> Option<u32> {
        let held = self.held_mut()?;
        held.deaths.learn(&held.journal)
    }

    pub(super) fn note_pool(&self, note: &PoolNote) {
        if let Some(held) = self.held() {
            held.journal.note_pool(note, &held.asked);
        }
    }

    pub(super) fn note_epoch(&self, child: ChildId, epoch: u32) {
        let held = self
            .held()
            .filter(|held| child.slot() < held.journal.slots());
        if let Some(held) = held {
            let record = held.journal.record(child.slot());
            if record.serial == child.serial() && record.lives() {
                held.journal.note_epoch(child.slot(), &record, epoch);
            }
        }
    }

    pub(super) fn note_said(&self, child: ChildId, said: Said) {
        if let Some(journal) = self.journal_of(child) {
            journal.note_said(child.slot(), said);
        }
    }

    pub(super) fn note_paired(&self, child: ChildId) {
        if let Some(journal) = self.journal_of(child) {
            journal.note_paired(child.slot());
        }
    }

    pub(super) fn note_told(&self, child: ChildId, told: ToldNote) {
        if let Some(journal) = self.journal_of(child) {
            journal.note_told(child.slot(), told);
        }
    }

    /// The journal, if it has a record of this child.
    fn journal_of(&self, child: ChildId) -> Option<&Journal> {
        let journal = &self.held()?.journal;
        let has_slot = child.slot() < journal.slots();
        (has_slot && journal.record(child.slot()).serial == child.serial()).then_some(journal)
    }

    pub(super) fn save(&self, bytes: &[u8]) -> bool {
        self.held().is_none_or(|held| held.journal.save(bytes))
    }

    /// By which a child is reached that is the holder's. `None` if the holder does not keep it.
    pub(super) fn ward(&self, child: ChildId) -> Option<Ward> {
        let held = self.held()?;
        let is_kept = child.slot() < held.journal.slots();
        is_kept.then(|| Ward::new(held.journal.clone(), child))
    }
}

impl Held {
    fn new(journal: Journal, handover: Handover, counted: [bool; TABLE.len()], born: Born) -> Self {
        Self {
            asked: journal.taken(),
            deaths: born.deaths,
            journal,
            handover,
            channel: Ours::parents(born.channel),
            counted,
            kept: born.kept,
        }
    }

    fn say(&self, message: Message) {
        // OK to ignore: a pipe that is kept for too long is replaced by that of the next child in its
        // slot, and a holder that does not hear is gone or stopped.
        if let Err(error) = channel::send(&self.channel, message, &[]) {
            log::debug!("{message:?} to the holder: {error}");
        }
    }

    /// This process does not outlive its holder, even where the kernel does not see to that.
    fn look_for_the_holder(&self) {
        if !channel::drain(&self.channel) {
            end_by_kill();
        }
    }
}

#[allow(unsafe_code)]
fn end_by_kill() {
    // SAFETY: two integers; it ends this process.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// What a holder has from the beginning of an earlier program's pool.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    pub(crate) note: PoolNote,
    /// A state for the second parent, if the first saves none.
    pub(crate) saved: Vec<u8>,
    pub(crate) children: Vec<ChildState>,
}

impl Legacy {
    fn note_in(&self, journal: &Journal) {
        journal.note_pool(&self.note, &Arrived::default());
        if !self.saved.is_empty() {
            // OK to ignore: whoever has made this looks to it that it fits.
            journal.save(&self.saved);
        }
        for child in &self.children {
            journal.put(child.slot as usize, &Record::adopted(child));
        }
    }

    fn pipes(&self, slots: usize) -> KeptPipes {
        let mut kept = KeptPipes::new(slots);
        for child in &self.children {
            let pipe = |at| child.pipe(at).fd.map_or(NONE, u32::cast_signed);
            kept.put(child.id(), [0, 1, 2].map(pipe));
        }
        kept
    }
}

/// What a new parent knows of its fork.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    /// How many parents there were before it.
    pub(crate) earlier: u32,
    /// How the last of them has ended.
    pub(crate) ended: Option<WaitStatus>,
    pub(crate) at: Time,
}

impl UnixSystem {
    /// Makes this process the holder, which forks the parent. Returns in each parent; in this process
    /// only if that fails.
    pub(crate) fn split(&mut self, grace: Duration, legacy: &Legacy) -> Result<Split, Error> {
        let failed = |error| Error::new(Operation::Start, "the holder", error);
        self.own_boards();
        let journal = Journal::new(self.slots).map_err(failed)?;
        let handover = Handover::new(self.slots).map_err(failed)?;
        legacy.note_in(&journal);
        let mask = Mask::block_all().map_err(failed)?;
        note_arrived(&journal, &self.signals(true));
        let counted = self.handled();
        let setup = HolderSetup {
            memories: self.memories(&journal, &handover),
            journal: journal.clone(),
            handover: handover.clone(),
            kept: legacy.pipes(self.slots),
            call: self.upgrades.blank_call(),
            clock: self.clock,
            counted,
            grace,
            mask: mask.clone(),
        };
        HOLDER.store(std::process::id(), Relaxed);
        let view = self.board.view().clone();
        let noted = |slot: usize| view.noted_pid(slot);
        let estate = Estate {
            death_write: &mut self.death_write,
            control: &mut self.control,
            upgrades: &mut self.upgrades,
        };
        let born = Holder::new(setup, estate, &noted)
            .map_err(failed)
            .and_then(|mut holder| holder.run());
        match born {
            Ok(born) => {
                let split = born.split;
                self.holding =
                    Holding::Parent(Box::new(Held::new(journal, handover, counted, born)));
                Ok(split)
            }
            Err(error) => {
                HOLDER.store(0, Relaxed);
                // OK to ignore: it is a process that gets orphans.
                let _ = nix::sys::prctl::set_child_subreaper(false);
                // OK to ignore: the mask was in force before.
                let _ = mask.restore();
                Err(error)
            }
        }
    }

    /// What parents own one after the other.
    fn memories(&self, journal: &Journal, handover: &Handover) -> Vec<SharedMemory> {
        let mut stops: Vec<_> = self.earlier_stops.values().collect();
        stops.push(&self.stops);
        stops.sort_unstable_by_key(|board| Rc::as_ptr(board));
        stops.dedup_by_key(|board| Rc::as_ptr(board));
        let own = [journal.memory(), handover.memory(), self.board.memory()];
        let stops = stops.into_iter().map(|board| board.memory());
        own.into_iter().chain(stops).cloned().collect()
    }

    /// Watches the end of the holder, and what it says.
    pub(super) fn watch_holder(&self, poller: &Poller) -> io::Result<()> {
        let Some(held) = self.holding.held() else {
            return Ok(());
        };
        poller.add_urgent(
            held.channel.as_raw_fd(),
            Source::Signals,
            Interest::READABLE,
        )
    }

    /// The children that the parents before this one have left, and what they have noted of the pool.
    pub(crate) fn inherit(&mut self) -> (PoolNote, Vec<u8>, Vec<Inherited>) {
        let Holding::Parent(held) = &mut self.holding else {
            return Default::default();
        };
        self.board.settle();
        let records: Vec<_> = held.journal.records().collect();
        let children = records.into_iter().map(|(slot, record)| {
            let pipes = held.kept.take(slot, record.serial);
            // OK because there are no more slots than 2^32.
            let slot = slot as u32;
            let id = ChildId::new(slot, record.serial);
            Inherited {
                slot,
                record,
                pipes: pipes.map(|fd| u32::try_from(fd).ok()),
                told_to_leave: self
                    .earlier_stops
                    .get(&id)
                    .unwrap_or(&self.stops)
                    .has_told(id),
            }
        });
        let children = children.collect();
        (held.journal.pool(), held.journal.saved(), children)
    }
}

/// Whether children that become programs can be the holder's.
pub(crate) fn keeps_programs() -> bool {
    SiblingFork::find().is_some()
}

/// How much a pipe holds that is not read yet.
pub(crate) fn pending(fd: u32) -> u64 {
    pipes::pending_in(fd.cast_signed()).unwrap_or(0) as u64
}
