//! A look at the board, which changes nothing: for the parent, for children that ask about their
//! siblings, and for programs that show the state of a server. Trusts no number that a child has
//! written.

#[cfg(feature = "status")]
use crate::core::board::Sums;
#[cfg(feature = "holder")]
use crate::core::{board::PID_AT, journal::NotedPid};
use crate::{
    core::{
        board::{
            ASKED_INTERVAL_AT, BoardLayout, CLIENT_AT, Description, EARLIER_AT, ENTRY_AT, FOLDS_AT,
            KEPT_INTERVAL_AT, LINE, OTHERS_AT, PEER_AT, PEER_WORDS, QUEUE_TIMES_AT, REQUESTS_AT,
            ROW_AT, SEQUENCE_AT, SINCE_AT, SlotNotes, TEXT_AT, TEXT_LENGTH_AT, TEXT_WORDS, USED_AT,
            View, WILL_LOOK_AT,
        },
        comm::Interval,
        endpoint_load::Count,
        metrics::{Metric, MetricNumbers},
        queue_times::QueueTimes,
        time::Time,
        wire::BoardEntry,
    },
    sys::{board::earlier::EarlierBoard, cells, shared_memory::SharedMemory},
};
use std::{
    array,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, SeqCst},
            fence,
        },
    },
};

/// How often to read again what has changed meanwhile.
const ATTEMPTS: usize = 3;

/// The board, to be read.
#[derive(Clone, Debug)]
pub(crate) struct BoardView {
    pub(super) memory: SharedMemory,
    pub(super) layout: BoardLayout,
    /// Those that earlier programs of this server have made; `None` in the place of one on which no
    /// child notes any more.
    pub(super) earlier: Arc<[Option<Arc<EarlierBoard>>]>,
}

impl BoardView {
    /// The words of a slot, on whichever board its child notes. `None` if there is no such slot.
    pub(super) fn words(&self, slot: usize) -> Option<&[AtomicU64]> {
        let own = self.own_words(slot)?;
        if self.earlier.is_empty() {
            return Some(own);
        }
        match self.earlier_of(own) {
            Some(board) => board.words(slot),
            None => Some(own),
        }
    }

    /// The earlier board that has the slot whose place here has these words. A child can write there
    /// that it is elsewhere: then it is nowhere.
    pub(super) fn earlier_of(&self, own: &[AtomicU64]) -> Option<&EarlierBoard> {
        let number = usize::try_from(own[EARLIER_AT].load(Relaxed)).unwrap_or(usize::MAX);
        self.earlier.get(number.checked_sub(1)?)?.as_deref()
    }

    /// For each slot whose child notes elsewhere the number of that board.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = u64> {
        // OK because there are no more than fit into memory.
        let used = self.memory.words()[USED_AT].load(Relaxed) as usize;
        let all = (0..used).map_while(|slot| self.own_words(slot));
        all.map(|own| own[EARLIER_AT].load(Relaxed))
            .filter(|number| *number != 0)
    }

    /// The words of a slot on this board.
    pub(super) fn own_words(&self, slot: usize) -> Option<&[AtomicU64]> {
        let size = size_of::<AtomicU64>();
        let start = self.layout.offset(slot)? / size;
        let end = start + self.layout.slot_size() / size;
        self.memory.words().get(start..end)
    }

    /// The slots that have ever been used, and whether what they have counted is understood.
    fn used(&self) -> impl Iterator<Item = (&[AtomicU64], bool)> {
        // OK because there are no more than fit into memory.
        let used = self.memory.words()[USED_AT].load(Relaxed) as usize;
        (0..used)
            .map_while(|slot| self.own_words(slot).map(|own| (slot, own)))
            .filter_map(|(slot, own)| match self.earlier_of(own) {
                Some(board) => Some((board.words(slot)?, board.counts)),
                None => Some((own, true)),
            })
    }

    /// What a child has noted; the default where there is no such slot.
    pub(crate) fn entry(&self, slot: usize) -> BoardEntry {
        let words = self.words(slot);
        words.map_or(BoardEntry::default(), |words| {
            BoardEntry::from_bits(words[ENTRY_AT].load(SeqCst))
        })
    }

    /// Who the child of a slot says it is, if it has a holder.
    #[cfg(feature = "holder")]
    pub(crate) fn noted_pid(&self, slot: usize) -> NotedPid {
        let words = self.own_words(slot);
        words.map_or(NotedPid::default(), |words| {
            NotedPid(words[PID_AT].load(SeqCst))
        })
    }

    /// The ACK interval that the child of a slot keeps, if it has noted one.
    pub(crate) fn kept_interval(&self, slot: usize) -> Option<Interval> {
        Interval::from_bits(self.words(slot)?[KEPT_INTERVAL_AT].load(Relaxed))
    }

    /// The interval of ACKs that the parent asks for, if it has asked.
    pub(super) fn asked_interval(&self) -> Option<Interval> {
        Interval::from_bits(self.memory.words()[ASKED_INTERVAL_AT].load(Relaxed))
    }

    /// How many children have a connection in hand, among those that have a slot.
    pub(super) fn busy_servers(&self) -> usize {
        let entries = self
            .used()
            .map(|(words, _)| BoardEntry::from_bits(words[ENTRY_AT].load(Relaxed)));
        entries.filter(|entry| entry.is_busy()).count()
    }

    /// How many connections the child of each slot has taken, with the child's serial number.
    pub(super) fn counts(&self) -> Vec<Count> {
        let count = |words: &[AtomicU64]| {
            let entry = BoardEntry::from_bits(words[ENTRY_AT].load(Relaxed));
            (entry.serial(), words[REQUESTS_AT].load(Relaxed))
        };
        self.used().map(|(words, _)| count(words)).collect()
    }

    /// How many children have a connection of this client, among those that have a slot.
    pub(super) fn connections_of(&self, client: NonZeroU64) -> usize {
        let clients = self.used().map(|(words, _)| words[CLIENT_AT].load(SeqCst));
        clients.filter(|found| *found == client.get()).count()
    }

    pub(super) fn will_look_word(&self) -> &AtomicU64 {
        &self.memory.words()[WILL_LOOK_AT]
    }

    /// The numbers of all metrics: those of children that have ended, and of those that live.
    pub(super) fn numbers(&self) -> MetricNumbers {
        self.between_folds(|| self.sum())
            .unwrap_or_else(|torn| torn)
    }

    fn sum(&self) -> MetricNumbers {
        let mut sum = numbers_at(self.memory.words(), ROW_AT);
        for (words, counts) in self.used() {
            if counts {
                sum.add_childs(&rows_at(words));
            }
        }
        sum
    }

    fn sum_of_queue_times(&self) -> QueueTimes {
        let mut sum = queue_times_at(self.memory.words());
        for (words, _) in self.used() {
            sum.add(&queue_times_at(words));
        }
        sum
    }

    /// Sums up what children have counted that live and that have ended, between two folds. An error
    /// is what was found during a fold: numbers of a child may be missing or in it twice.
    fn between_folds<T>(&self, sum: impl Fn() -> T) -> Result<T, T> {
        let folds = &self.memory.words()[FOLDS_AT];
        let attempt = || {
            let before = folds.load(Acquire);
            let found = sum();
            fence(Acquire);
            match before.is_multiple_of(2) && folds.load(Relaxed) == before {
                true => Ok(found),
                false => Err(found),
            }
        };
        // Only the parent writes there, so it does not wait for itself.
        (1..ATTEMPTS).fold(attempt(), |found, _| found.or_else(|_| attempt()))
    }
}

impl View for BoardView {
    fn notes(&self, slot: usize, now: Time) -> SlotNotes {
        let Some(words) = self.words(slot) else {
            return SlotNotes::default();
        };
        // A child may go on to its next connection meanwhile: the numbers must belong together.
        let mut last = [0; LINE];
        for _ in 0..ATTEMPTS {
            last = array::from_fn(|at| words[at].load(Acquire));
            if words[SINCE_AT].load(Acquire) == last[SINCE_AT] {
                return SlotNotes::new(&last, now);
            }
        }
        // It goes on too fast. The next look finds what it has in hand then.
        last[SINCE_AT] = 0;
        SlotNotes::new(&last, now)
    }

    fn description(&self, slot: usize) -> Option<Description> {
        let words = self.words(slot)?;
        (0..ATTEMPTS).find_map(|_| describe(words))
    }

    fn metrics(&self) -> Vec<Metric> {
        cells::show(self.numbers())
    }

    fn queue_times(&self) -> QueueTimes {
        self.between_folds(|| self.sum_of_queue_times())
            .unwrap_or_else(|torn| torn)
    }

    #[cfg(feature = "status")]
    fn sums(&self, with_metrics: bool) -> Option<Sums> {
        let sum = || Sums {
            numbers: match with_metrics {
                true => self.sum(),
                false => MetricNumbers::default(),
            },
            queue_times: self.sum_of_queue_times(),
        };
        self.between_folds(sum).ok()
    }

    #[cfg(feature = "status")]
    fn used_slots(&self) -> usize {
        // OK because there are no more than fit into memory.
        self.memory.words()[USED_AT].load(Relaxed) as usize
    }
}

pub(super) fn queue_times_at(words: &[AtomicU64]) -> QueueTimes {
    QueueTimes::read(|at| words[QUEUE_TIMES_AT + at].load(Relaxed))
}

pub(super) fn numbers_at(words: &[AtomicU64], start: usize) -> MetricNumbers {
    MetricNumbers::read(|at| words[start + at].load(Relaxed))
}

/// What a child has counted, by its kinds of threads.
pub(super) fn rows_at(words: &[AtomicU64]) -> [MetricNumbers; 2] {
    [ROW_AT, OTHERS_AT].map(|start| numbers_at(words, start))
}

/// Reads a description, unless it changes meanwhile.
fn describe(words: &[AtomicU64]) -> Option<Description> {
    let before = words[SEQUENCE_AT].load(Acquire);
    let peer: [u64; PEER_WORDS] = array::from_fn(|at| words[PEER_AT + at].load(Relaxed));
    let length = words[TEXT_LENGTH_AT].load(Relaxed);
    let text: [u64; TEXT_WORDS] = array::from_fn(|at| words[TEXT_AT + at].load(Relaxed));
    fence(Acquire);
    let after = words[SEQUENCE_AT].load(Relaxed);
    (before == after && before.is_multiple_of(2)).then(|| Description::new(peer, length, &text))
}
