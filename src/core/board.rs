//! The board as data: where each number lies, in which version, and what the numbers of a slot mean.
//! Maps no memory and reads none; nothing that a child has written is trusted here.
//!
//! The board is one file in memory. Its first slot is the parent's, which children can only read.
//! Each further slot is a child's, and is a page of its own, which that child alone can write
//! besides the parent.

mod layout;
mod notes;
mod peer;

pub(crate) use self::{
    layout::{
        ASKED_INTERVAL_AT, BoardLayout, CLIENT_AT, DESCRIBED, DUE_AT, EARLIER_AT, ENTRY_AT,
        EXTENDED_AT, FOLDS_AT, HEADER_WORDS, KEPT_INTERVAL_AT, LINE, OTHERS_AT, PEER_AT,
        PEER_WORDS, QUEUE_TIMES_AT, QUEUED_AT, REQUESTS_AT, ROW_AT, SEQUENCE_AT, SINCE_AT, TEXT_AT,
        TEXT_BYTES, TEXT_LENGTH_AT, TEXT_WORDS, USED_AT, WILL_LOOK_AT,
    },
    notes::{Description, SlotNotes, duration_bits, time_bits},
};

#[cfg(feature = "holder")]
pub(crate) use self::layout::PID_AT;

#[cfg(feature = "status")]
use super::metrics::MetricNumbers;
use super::{metrics::Metric, queue_times::QueueTimes, time::Time};
use std::{fmt, rc::Rc};

/// A look at a board, for the monitor. The values are in range, and may still be wrong.
pub(crate) trait View: fmt::Debug {
    /// What the slot says of its child; the default where there is no such slot.
    fn notes(&self, slot: usize, now: Time) -> SlotNotes;
    /// The client that the child of a slot serves. `None` while the child changes it, also if it
    /// has died over that.
    fn description(&self, slot: usize) -> Option<Description>;
    /// The program's metrics.
    fn metrics(&self) -> Vec<Metric>;
    /// How long connections were queued.
    fn queue_times(&self) -> QueueTimes;
    /// What children have counted that live and that have ended; that of the program's metrics only
    /// if it is asked for, since it takes time to add up. `None` while the parent adds up.
    #[cfg(feature = "status")]
    fn sums(&self, with_metrics: bool) -> Option<Sums>;
    /// Up to which slot any was ever used.
    #[cfg(feature = "status")]
    fn used_slots(&self) -> usize;
}

/// What children have counted.
#[cfg(feature = "status")]
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) numbers: MetricNumbers,
    pub(crate) queue_times: QueueTimes,
}

/// The board of a monitor; that of a new one is blank.
#[derive(Clone, Debug)]
pub(crate) struct SharedView(pub(crate) Rc<dyn View>);

impl Default for SharedView {
    fn default() -> Self {
        Self(Rc::new(NoBoard))
    }
}

/// No board.
#[derive(Debug)]
struct NoBoard;

impl View for NoBoard {
    fn notes(&self, _: usize, _: Time) -> SlotNotes {
        SlotNotes::default()
    }

    fn description(&self, _: usize) -> Option<Description> {
        None
    }

    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }

    fn queue_times(&self) -> QueueTimes {
        QueueTimes::default()
    }

    #[cfg(feature = "status")]
    fn sums(&self, _: bool) -> Option<Sums> {
        None
    }

    #[cfg(feature = "status")]
    fn used_slots(&self) -> usize {
        0
    }
}
