//! A board that an earlier program of this server has made, on which children of that program note what
//! they do. It can be read; no process but those children can write to it any more.

use super::view::{numbers_at, queue_times_at};
use crate::{
    core::{
        board::{BoardLayout, HEADER_WORDS, ROW_AT},
        metrics::MetricNumbers,
        queue_times::QueueTimes,
    },
    sys::{fd_registry::Registered, shared_memory::ForeignMemory},
};
use std::{
    array, io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The board.
#[derive(Debug)]
pub(crate) struct EarlierBoard {
    memory: ForeignMemory,
    layout: BoardLayout,
    /// Whether its metrics are those of this program.
    pub(super) counts: bool,
    /// For the program after this one.
    file: Registered<OwnedFd>,
}

impl EarlierBoard {
    /// Maps it. Fails if it is none, or is written in another way than this program's.
    pub(crate) fn map(file: OwnedFd, length: u64, counts: bool) -> io::Result<Self> {
        let memory = ForeignMemory::map(&file, length)?;
        let words = memory.words();
        if words.len() < HEADER_WORDS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let header = array::from_fn(|at| words[at].load(Relaxed));
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let layout = BoardLayout::parse(&header, length);
        let layout = layout.map_err(|bad| io::Error::other(format!("{bad:?}")))?;
        Ok(Self {
            memory,
            layout,
            counts,
            file: Registered::parents(file),
        })
    }

    pub(super) fn words(&self, slot: usize) -> Option<&[AtomicU64]> {
        let size = size_of::<AtomicU64>();
        let start = self.layout.offset(slot)? / size;
        self.memory
            .words()
            .get(start..start + self.layout.slot_size() / size)
    }

    /// What the children had counted that had ended before the upgrade.
    pub(super) fn totals(&self) -> (MetricNumbers, QueueTimes) {
        let words = self.memory.words();
        (numbers_at(words, ROW_AT), queue_times_at(words))
    }

    pub(super) fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(super) fn length(&self) -> usize {
        self.layout.length()
    }
}
