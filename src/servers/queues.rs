//! For how long the clients in the queues have waited at least, as the parent sees it. Looks when it is
//! asked; accepts no connection.

use crate::{
    core::accept::queue_log::{QueueLog, QueueLook},
    listeners::ListenerStatus,
    sys::clock::Clock,
};

/// The looks that the parent has taken at each queue.
#[derive(Debug)]
pub(super) struct Queues {
    clock: Clock,
    logs: Vec<QueueLog>,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::new(),
            logs: Vec::new(),
        }
    }

    /// Takes a look at all queues, and notes the ages that it knows. `taken` is how many connections
    /// had been taken from each before its length was read.
    pub(super) fn look(&mut self, taken: Vec<Option<u64>>, queues: &mut [ListenerStatus]) {
        let at = self.clock.now();
        self.logs.resize_with(queues.len(), QueueLog::default);
        for ((log, taken), queue) in self.logs.iter_mut().zip(taken).zip(queues) {
            if let (Some(taken), Some(queued)) = (taken, queue.queued) {
                log.note(QueueLook { at, taken, queued });
                queue.oldest = log.age(taken, at);
            }
        }
    }
}
