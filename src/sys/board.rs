//! The board: memory in which each child notes its state, so that it need not print a word while
//! the parent will look anyway, and a reader sees what the children do. Does not interpret what is
//! noted. `core/board` has the places.
//!
//! A child can write its own slot and nothing else: the slot is a page of its own, which it is lent
//! at its fork. The rest it can read.
//!
//! While words pile up ([`pool::word_batch`](crate::core::pool::word_batch)) the parent sleeps, and
//! looks at every entry when it wakes. Before it sleeps, it writes WILL_LOOK here. The order is
//! what matters:
//!
//! - A child notes its state, then reads WILL_LOOK, and prints its word if WILL_LOOK is not set.
//! - The parent clears WILL_LOOK, asks the poller which pipes are readable, reads those, and then
//!   looks at the entries. So it finds every word that was not printed, after all words that were
//!   printed before it.
//! - A printed word is compared with the child's entry, even if the entry has not changed: the word
//!   may have been read late, after newer words were seen here.
//!
//! No order matters for the other numbers. This file is the parent's side.

#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "upgrades are for Linux")
)]
mod earlier;
mod slot;
mod view;

pub(crate) use self::{earlier::EarlierBoard, slot::BoardSlot, view::BoardView};

use self::view::{numbers_at, queue_times_at, rows_at};
use super::{cells, fd_registry::Registered, shared_memory::SharedMemory};
use crate::core::{
    board::{
        ASKED_INTERVAL_AT, BoardLayout, DESCRIBED, EARLIER_AT, ENTRY_AT, FOLDS_AT, OTHERS_AT,
        QUEUE_TIMES_AT, ROW_AT, USED_AT, WILL_LOOK_AT,
    },
    child::ChildId,
    comm::Interval,
    metrics::{MetricNumbers, NUMBERS},
    queue_times::{QUEUE_WORDS, QueueTimes},
    wire::BoardEntry,
};
use nix::unistd::{SysconfVar, sysconf};
use std::{
    collections::BTreeSet,
    io,
    iter::repeat,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, Release, SeqCst},
            fence,
        },
    },
};

/// The value of the parent's word while it will look. It is not a small number, so that a child
/// which writes to a wrong address cannot set it by accident: with any other value, words are
/// printed.
const WILL_LOOK: u64 = 0x6c6f_6f6b_2061_7420;

/// The parent's view.
#[derive(Debug)]
pub(crate) struct Board {
    view: BoardView,
    /// The slot that the next fork has.
    assigned: Option<usize>,
    /// The file, for readers from outside and for the next program. No process can write to it.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "upgrades are for Linux")
    )]
    file: Option<Registered<OwnedFd>>,
}

impl Board {
    /// A board for that many children. `clock_start` is the reading of the clock at
    /// [`Time::START`].
    pub(crate) fn new(children: usize, clock_start: u64) -> io::Result<Self> {
        let layout = BoardLayout::new(page_size(), children).ok_or(io::ErrorKind::OutOfMemory)?;
        let (memory, file) = SharedMemory::new(c"prefork-board", layout.length())?;
        for (place, word) in memory.owners_words().iter().zip(layout.header(clock_start)) {
            place.store(word, Relaxed);
        }
        Ok(Self {
            view: BoardView {
                memory,
                layout,
                earlier: Arc::new([]),
            },
            assigned: None,
            file: file.map(Registered::parents),
        })
    }

    /// The memory, which may get another owner.
    #[cfg(feature = "holder")]
    pub(crate) fn memory(&self) -> &SharedMemory {
        &self.view.memory
    }

    /// Whether the next fork has the slot of this child.
    pub(crate) fn is_assigned_to(&self, child: ChildId) -> bool {
        self.assigned == Some(child.slot())
    }

    /// Whether this process can write to all of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.view.memory.writable_words().is_some()
    }

    /// After another owner, which may have been killed at any step: nothing is under way.
    #[cfg(feature = "holder")]
    pub(crate) fn settle(&self) {
        self.clear_will_look();
        let folds = &self.view.memory.owners_words()[FOLDS_AT];
        folds.store(folds.load(Relaxed).next_multiple_of(2), Release);
    }

    /// A look at it.
    pub(crate) fn view(&self) -> &BoardView {
        &self.view
    }

    /// Prepares a slot for the child that is forked next: it has said nothing, and that fork has the
    /// slot. False if there is no such slot.
    pub(crate) fn open(&mut self, child: ChildId) -> bool {
        // The last fork may have failed.
        self.forked();
        let size = self.view.layout.slot_size();
        let is_lent = self
            .prepare(child)
            .is_some_and(|offset| self.view.memory.set_inherited(offset, size));
        self.assigned = is_lent.then_some(child.slot());
        is_lent
    }

    /// Clears the slot of a child, and returns where it begins.
    fn prepare(&self, child: ChildId) -> Option<usize> {
        let offset = self.view.layout.offset(child.slot())?;
        let used = &self.view.memory.writable_words()?[USED_AT];
        used.store(used.load(Relaxed).max(child.slot() as u64 + 1), Relaxed);
        self.clear(child.slot(), BoardEntry::of(child.serial()));
        Some(offset)
    }

    /// In the parent, after the fork: the next child does not have the slot.
    pub(crate) fn forked(&mut self) {
        if let Some(offset) = self
            .assigned
            .take()
            .and_then(|slot| self.view.layout.offset(slot))
        {
            self.view
                .memory
                .set_not_inherited(offset, self.view.layout.slot_size());
        }
    }

    /// Clears a slot whose child has ended. A copy that the child has made of itself then notes
    /// nothing, and finds that its pipe has no reader.
    ///
    /// True if it was the last on a board of an earlier program, which is gone: other views are to be
    /// renewed.
    pub(crate) fn close(&mut self, slot: usize) -> bool {
        let was_elsewhere = self.is_elsewhere(slot);
        self.clear(slot, BoardEntry::default());
        was_elsewhere && self.forget_unused()
    }

    fn clear(&self, place: usize, entry: BoardEntry) {
        let offset = self.view.layout.offset(place);
        if let (Some(offset), Some(words)) = (offset, self.view.memory.writable_words()) {
            let (parents, slot) = words.split_at(offset / size_of::<AtomicU64>());
            self.fold(parents, slot, place);
            for word in &slot[ENTRY_AT + 1..DESCRIBED] {
                word.store(0, Relaxed);
            }
            slot[ENTRY_AT].store(entry.bits(), SeqCst);
        }
    }

    /// Adds what the child of a slot has counted to the totals, in place of the child's row.
    fn fold(&self, parents: &[AtomicU64], slot: &[AtomicU64], place: usize) {
        let earlier = self.view.earlier_of(slot);
        let words = earlier.map_or(Some(slot), |board| board.words(place));
        let mut counted = Counted::default();
        if let Some(words) = words {
            counted.queue_times = queue_times_at(words);
            if earlier.is_none_or(|board| board.counts) {
                counted.numbers.add_childs(&rows_at(words));
            }
        }
        if !cells::is_counting() && counted.queue_times.is_zero() {
            return;
        }
        add_to_totals(parents, &counted, || {
            slot[EARLIER_AT].store(0, Relaxed);
            store(&slot[QUEUE_TIMES_AT..][..QUEUE_WORDS], repeat(0));
            store(&slot[ROW_AT..OTHERS_AT + NUMBERS], repeat(0));
        });
    }

    /// Takes over the boards on which children of earlier programs note, the newest first, each with
    /// their slots. `own` is what the program before has counted itself.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "upgrades are for Linux")
    )]
    pub(crate) fn adopt(&mut self, boards: Vec<(EarlierBoard, Vec<usize>)>, own: &[u64]) {
        let Some(words) = self.view.memory.writable_words() else {
            return;
        };
        if let Some((newest, _)) = boards.first() {
            let (mut numbers, queue_times) = newest.totals();
            numbers.add(&MetricNumbers::read(|at| own.get(at).copied().unwrap_or(0)));
            let numbers = if newest.counts {
                numbers
            } else {
                MetricNumbers::default()
            };
            let totals = Counted {
                numbers,
                queue_times,
            };
            add_to_totals(words, &totals, || ());
        }
        for (number, (_, slots)) in boards.iter().enumerate() {
            for &slot in slots {
                if let Some(own) = self.view.own_words(slot).and(self.view.layout.offset(slot)) {
                    let at = own / size_of::<AtomicU64>() + EARLIER_AT;
                    words[at].store(number as u64 + 1, Relaxed);
                    let used = &words[USED_AT];
                    used.store(used.load(Relaxed).max(slot as u64 + 1), Relaxed);
                }
            }
        }
        let boards = boards.into_iter().map(|(board, _)| Some(Arc::new(board)));
        self.view.earlier = boards.collect();
        self.forget_unused();
    }

    /// Drops the earlier boards on which no child notes any more. True if there were any.
    fn forget_unused(&mut self) -> bool {
        if self.view.earlier.iter().all(Option::is_none) {
            return false;
        }
        let numbers: BTreeSet<u64> = self.view.elsewhere().collect();
        let mut earlier = self.view.earlier.to_vec();
        let mut found = false;
        for (board, number) in earlier.iter_mut().zip(1..) {
            found |= board.is_some() && !numbers.contains(&number);
            board.take_if(|_| !numbers.contains(&number));
        }
        if found {
            self.view.earlier = earlier.into();
        }
        found
    }

    /// Whether the child of a slot notes on an earlier board: it is a child of an earlier program.
    pub(crate) fn is_elsewhere(&self, slot: usize) -> bool {
        let own = self.view.own_words(slot);
        own.is_some_and(|own| own[EARLIER_AT].load(Relaxed) != 0)
    }

    /// The boards that children note on, the newest first: the descriptor, the length, and which of
    /// these slots of living children are there.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "upgrades are for Linux")
    )]
    pub(crate) fn in_use(&self, slots: &[usize]) -> Vec<(RawFd, usize, Vec<usize>)> {
        let place = |slot: usize| {
            let own = self.view.own_words(slot)?;
            Some(own[EARLIER_AT].load(Relaxed))
        };
        let on = |number: u64| {
            slots
                .iter()
                .copied()
                .filter(move |slot| place(*slot) == Some(number))
        };
        let own = self
            .file
            .as_ref()
            .map(|file| (file.as_raw_fd(), self.view.layout.length()));
        let own = own.map(|(fd, length)| (fd, length, on(0).collect()));
        let earlier = self.view.earlier.iter().zip(1..);
        let earlier = earlier.filter_map(|(board, number)| {
            let board = board.as_ref()?;
            Some((board.number(), board.length(), on(number).collect()))
        });
        // The newest has the totals, even if no child notes there.
        let kept =
            |(at, board): &(usize, (RawFd, usize, Vec<usize>))| *at == 0 || !board.2.is_empty();
        own.into_iter()
            .chain(earlier)
            .enumerate()
            .filter(kept)
            .map(|(_, board)| board)
            .collect()
    }

    /// Asks all children for ACKs at this interval.
    pub(crate) fn ask_interval(&self, interval: Interval) {
        if let Some(words) = self.view.memory.writable_words() {
            words[ASKED_INTERVAL_AT].store(interval.bits(), Relaxed);
        }
    }

    /// A child's access to its slot, for the child itself.
    pub(crate) fn slot(&self, child: ChildId) -> BoardSlot {
        let BoardView { memory, layout, .. } = &self.view;
        let has_it = self.assigned == Some(child.slot()) || memory.writable_words().is_some();
        let offset = layout.offset(child.slot()).filter(|_| has_it);
        let words = offset.and_then(|offset| memory.inherited_words(offset, layout.slot_size()));
        BoardSlot::new(words, child, self.view.clone())
    }

    /// From now on children need not print.
    ///
    /// Only in the process that has made the board, as the next.
    pub(crate) fn set_will_look(&self) {
        self.view.memory.owners_words()[WILL_LOOK_AT].store(WILL_LOOK, SeqCst);
    }

    /// From now on children print; the parent is about to look.
    pub(crate) fn clear_will_look(&self) {
        self.view.memory.owners_words()[WILL_LOOK_AT].store(0, SeqCst);
    }
}

fn page_size() -> usize {
    const USUAL: usize = 4096;
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(USUAL)
}

/// What a child has counted.
#[derive(Debug, Default)]
struct Counted {
    numbers: MetricNumbers,
    queue_times: QueueTimes,
}

/// Adds this to the totals, which are in the parent's slot, while `forget` takes it from where it
/// was. A reader that looks meanwhile looks again.
fn add_to_totals(parents: &[AtomicU64], more: &Counted, forget: impl FnOnce()) {
    let (mut numbers, mut queue_times) = (numbers_at(parents, ROW_AT), queue_times_at(parents));
    numbers.add(&more.numbers);
    queue_times.add(&more.queue_times);
    let folds = parents[FOLDS_AT].load(Relaxed);
    parents[FOLDS_AT].store(folds | 1, Relaxed);
    fence(Release);
    store(&parents[ROW_AT..], numbers.words());
    store(&parents[QUEUE_TIMES_AT..], queue_times.words());
    forget();
    parents[FOLDS_AT].store((folds | 1).wrapping_add(1), Release);
}

fn store(places: &[AtomicU64], words: impl IntoIterator<Item = u64>) {
    for (place, word) in places.iter().zip(words) {
        place.store(word, Relaxed);
    }
}

#[cfg(test)]
mod tests;
