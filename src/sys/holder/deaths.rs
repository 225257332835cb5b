//! The deaths of children that the holder has reaped, as a parent learns of them: each once, by what the
//! journal says. Reaps no process.

use super::journal_memory::Journal;
use crate::core::journal::LifePhase;

/// Which deaths a parent knows of. Its memory is taken when it is made.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// How many there were when it had learned of all.
    counted: u64,
    /// The serial of the child of each slot whose end it knows of.
    known: Vec<u32>,
}

impl Deaths {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            counted: 0,
            known: vec![0; slots],
        }
    }

    /// In the holder, before it forks a parent: that knows those who have ended by now. Later the holder
    /// may be reaping others meanwhile, who live in the parent's memory.
    pub(super) fn know_all(&mut self, journal: &Journal) {
        self.counted = journal.deaths();
        let ended = journal
            .records()
            .filter(|(_, it)| it.phase == LifePhase::Ended);
        for (slot, record) in ended {
            self.known[slot] = record.serial;
        }
    }

    /// Whether there are some that the parent does not know of.
    pub(super) fn are_new(&self, journal: &Journal) -> bool {
        journal.deaths() != self.counted
    }

    /// The pid of one that the parent does not know of.
    pub(super) fn learn(&mut self, journal: &Journal) -> Option<u32> {
        // Read before the records: one who ends meanwhile makes another look.
        let deaths = journal.deaths();
        if deaths == self.counted {
            return None;
        }
        let known = &mut self.known;
        let found = journal
            .records()
            .find(|(slot, it)| it.phase == LifePhase::Ended && known[*slot] != it.serial);
        match found {
            Some((slot, record)) => {
                known[slot] = record.serial;
                Some(record.pid)
            }
            None => {
                self.counted = deaths;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{child::ChildId, journal::JournalRecord, time::Time};

    fn live(journal: &Journal, slot: usize, serial: u32) -> JournalRecord {
        let id = ChildId::new(u32::try_from(slot).unwrap(), serial);
        let record = JournalRecord {
            phase: LifePhase::Lives,
            pid: 100 + serial,
            ..JournalRecord::forking(id, 1, false, Time::START)
        };
        journal.put(slot, &record);
        record
    }

    fn end(journal: &Journal, slot: usize, record: JournalRecord) {
        journal.put(slot, &record.ended(Default::default()));
        journal.count_death();
    }

    #[test]
    fn each_death_is_learned_of_once() {
        let journal = Journal::new(3).unwrap();
        let mut deaths = Deaths::new(3);
        let records = [1, 2, 3].map(|serial| live(&journal, serial as usize - 1, serial));
        assert_eq!(deaths.learn(&journal), None);
        end(&journal, 0, records[0]);
        end(&journal, 2, records[2]);
        assert!(deaths.are_new(&journal));
        let learned = [(); 3].map(|()| deaths.learn(&journal));
        assert_eq!(learned, [Some(101), Some(103), None]);
        assert!(!deaths.are_new(&journal));
        let next = live(&journal, 0, 4);
        end(&journal, 0, next);
        assert_eq!(deaths.learn(&journal), Some(104), "another in that slot");
    }

    /// The holder reaps while the parent that it has forked begins.
    #[test]
    fn who_ends_after_the_fork_is_news_to_the_parent() {
        let journal = Journal::new(2).unwrap();
        let [before, after] = [1, 2].map(|serial| live(&journal, serial as usize - 1, serial));
        end(&journal, 0, before);
        let mut deaths = Deaths::new(2);
        deaths.know_all(&journal);
        assert!(!deaths.are_new(&journal), "it is known");
        end(&journal, 1, after);
        assert_eq!(deaths.learn(&journal), Some(102));
        assert_eq!(deaths.learn(&journal), None);
    }
}
