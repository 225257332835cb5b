//! The memory of the parent's record for the status helper: written by the parent without waiting,
//! read by the helper. Knows nothing of what is written; `core/status/record` has the places.
//!
//! The sequence is odd while the parent writes. A reader that finds it odd, or changed after it has
//! read, reads again.

use super::shared_memory::SharedMemory;
use crate::core::status::{
    figures::nanoseconds,
    record::{
        DUE_AT, MemoryWriter, RecordLayout, RecordWriter, SEQUENCE_AT, StatusRecord, TURNED_AT,
    },
};
use crate::core::time::Time;
use std::{
    io,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
    time::Duration,
};

/// How often a reader tries at once. The parent writes for some microseconds, once a turn.
const ATTEMPTS: usize = 10;
/// How often it tries after that, and how long it waits in between: the parent may have lost its
/// processor while it wrote.
const LATER_ATTEMPTS: usize = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// The memory, in the parent and in the helper.
#[derive(Clone, Debug)]
pub(crate) struct RecordMemory {
    memory: SharedMemory,
    layout: RecordLayout,
}

/// Writes words as they come.
struct DirectWriter<'a>(&'a [AtomicU64]);

impl MemoryWriter for DirectWriter<'_> {
    fn put(&mut self, at: usize, word: u64) {
        self.0[at].store(word, Relaxed);
    }
}

impl RecordMemory {
    /// Memory for the record of a server with that many children.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        let layout = RecordLayout::new(children).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = SharedMemory::for_few(c"prefork-status", layout.length())?;
        for (place, word) in memory.owners_words().iter().zip(layout.header()) {
            place.store(word, Relaxed);
        }
        Ok(Self { memory, layout })
    }

    /// Runs `fork`: only the forks made in it can read the record.
    pub(crate) fn shown<R>(&self, fork: impl FnOnce() -> R) -> R {
        self.memory.show();
        let forked = fork();
        self.memory.hide();
        forked
    }

    /// In the parent: changes the record in one step, as readers see it.
    pub(crate) fn write(&self, change: impl FnOnce(RecordWriter, &mut dyn MemoryWriter)) {
        let words = self.memory.owners_words();
        let sequence = words[SEQUENCE_AT].load(Relaxed);
        words[SEQUENCE_AT].store(sequence | 1, Relaxed);
        fence(Release);
        change(RecordWriter(self.layout), &mut DirectWriter(words));
        words[SEQUENCE_AT].store((sequence | 1).wrapping_add(1), Release);
    }

    /// In the parent: a turn has ended, and the next is due then.
    pub(crate) fn note_turn(&self, now: Time, due: Option<Time>) {
        let word = |time: Time| nanoseconds(time.since_start());
        let words = self.memory.owners_words();
        words[TURNED_AT].store(word(now), Relaxed);
        words[DUE_AT].store(due.map_or(u64::MAX, word), Relaxed);
    }

    /// In the helper: the record. `None` if the parent was writing at each attempt, as one does that
    /// was stopped while it wrote.
    pub(crate) fn read(&self) -> Option<StatusRecord> {
        let mut attempts = 0..ATTEMPTS + LATER_ATTEMPTS;
        attempts.find_map(|number| {
            if number >= ATTEMPTS {
                std::thread::sleep(PAUSE);
            }
            self.attempt()
        })
    }

    fn attempt(&self) -> Option<StatusRecord> {
        let words = self.memory.words();
        let before = words[SEQUENCE_AT].load(Acquire);
        if !before.is_multiple_of(2) {
            return None;
        }
        let record = StatusRecord::read(self.layout, |at| words[at].load(Relaxed));
        fence(Acquire);
        (words[SEQUENCE_AT].load(Relaxed) == before).then_some(record)
    }

    /// In the helper: when the parent's next turn is due at the latest.
    pub(crate) fn due(&self) -> Time {
        Time::at_nanoseconds(self.memory.words()[DUE_AT].load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::figures::Head;
    use std::sync::atomic::AtomicBool;

    /// A reader never finds a half-written record.
    #[test]
    fn a_record_is_read_as_it_was_at_one_moment() {
        let memory = RecordMemory::new(4).expect("memory");
        let ended = AtomicBool::new(false);
        let head = |number| Head {
            pid: number,
            forks: number,
            failed_reloads: number,
            ..Head::default()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..20_000 {
                    memory.write(|writer, pen| writer.head(head(number), pen));
                }
                ended.store(true, Relaxed);
            });
            let mut last = 0;
            while !ended.load(Relaxed) {
                if let Some(record) = memory.read() {
                    assert_eq!(record.head, head(record.head.pid));
                    assert!(record.head.pid >= last);
                    last = record.head.pid;
                }
            }
        });
        assert_eq!(memory.read().expect("a record").head.forks, 19_999);
    }

    #[test]
    fn the_time_of_the_next_turn_is_told() {
        let memory = RecordMemory::new(0).expect("memory");
        let (now, due) = (Time::at_nanoseconds(5), Time::at_nanoseconds(9));
        memory.note_turn(now, Some(due));
        assert_eq!(memory.due(), due);
        memory.note_turn(now, None);
        assert_eq!(memory.due(), Time::at_nanoseconds(u64::MAX));
    }
}
