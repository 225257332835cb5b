//! Which children were told to stop, in memory that the parent writes and children read. The signal
//! wakes a child; this memory counts when the signal is lost, for example while system(3) ignores
//! SIGINT. A child cannot write here.

use super::{fd_registry::Registered, shared_memory::SharedMemory};
use crate::core::{child::ChildId, draining::QueuedClients};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

/// The parent's view: one word for each child.
#[derive(Debug)]
pub(crate) struct StopBoard {
    memory: SharedMemory,
    /// For a program that takes the place of this one.
    file: Option<Registered<OwnedFd>>,
}

/// The boards of earlier programs, by the descriptors in the state that they have handed on.
pub(crate) type StopBoards = BTreeMap<u32, Rc<StopBoard>>;

impl StopBoard {
    /// A board for this many children. Further children are told by signals only.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        let length = children
            .max(1)
            .checked_mul(size_of::<AtomicU64>())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let (memory, file) = SharedMemory::to_hand_on(c"prefork-stops", length)?;
        let file = file.map(Registered::parents);
        Ok(Self { memory, file })
    }

    /// The board of an earlier program of this process, whose children read it.
    #[cfg(target_os = "linux")]
    pub(crate) fn adopted(file: OwnedFd) -> io::Result<Self> {
        let memory = SharedMemory::adopted(&file)?;
        let file = Some(Registered::parents(file));
        Ok(Self { memory, file })
    }

    /// The descriptor by which another program adopts it.
    pub(crate) fn number(&self) -> Option<u32> {
        let file = self.file.as_ref()?;
        Some(file.as_raw_fd().cast_unsigned())
    }

    /// The memory, which may get another owner.
    #[cfg(feature = "holder")]
    pub(crate) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Whether a child was told to leave.
    #[cfg(feature = "holder")]
    pub(crate) fn has_told(&self, child: ChildId) -> bool {
        self.of(child).is_set()
    }

    /// Tells the child to leave. Call this before sending the signal, which may be lost.
    pub(crate) fn set(&self, child: ChildId, queued: QueuedClients) {
        let words = self.memory.writable_words();
        if let Some(word) = words.and_then(|words| words.get(child.slot())) {
            word.store(mark(child, queued), SeqCst);
        }
    }

    /// A child's view.
    pub(crate) fn of(&self, child: ChildId) -> StopFlag {
        StopFlag {
            memory: self.memory.clone(),
            child,
        }
    }
}

/// Whether one child has been told to stop.
pub(crate) struct StopFlag {
    memory: SharedMemory,
    child: ChildId,
}

impl StopFlag {
    pub(crate) fn is_set(&self) -> bool {
        self.has(QueuedClients::Serve) || self.leaves_queue()
    }

    /// Whether the child leaves the clients that are queued to the others. A child that has got a
    /// signal from another process does not: the signal of a terminal reaches it before the order.
    pub(crate) fn leaves_queue(&self) -> bool {
        self.has(QueuedClients::LeaveToOthers)
    }

    fn has(&self, queued: QueuedClients) -> bool {
        let word = self.memory.words().get(self.child.slot());
        word.is_some_and(|word| word.load(SeqCst) == mark(self.child, queued))
    }
}

/// The word that tells this child to stop, and no earlier child of the same slot. Never zero. Programs of
/// other versions write and read it too: it stays what it is.
fn mark(child: ChildId, queued: QueuedClients) -> u64 {
    let order = match queued {
        QueuedClients::Serve => 1,
        QueuedClients::LeaveToOthers => 2,
    };
    u64::from(child.serial()) << 2 | order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_told_and_neither_its_neighbour_nor_its_successor() {
        let board = StopBoard::new(3).unwrap();
        let [child, neighbour] = [ChildId::new(1, 7), ChildId::new(2, 8)];
        let successor = ChildId::new(1, 9);
        let told = [child, neighbour, successor].map(|child| board.of(child));
        let told = || told.each_ref().map(StopFlag::is_set);
        assert_eq!(told(), [false, false, false]);
        board.set(child, QueuedClients::Serve);
        assert_eq!(told(), [true, false, false]);
        board.set(successor, QueuedClients::Serve);
        assert_eq!(told(), [false, false, true]);
    }

    /// The last order counts: a shutdown may begin while a child is being replaced.
    #[test]
    fn a_child_leaves_the_queue_to_others_only_if_it_is_told_so() {
        let board = StopBoard::new(1).unwrap();
        let child = ChildId::new(0, u32::MAX);
        let told = board.of(child);
        assert!(!told.leaves_queue());
        board.set(child, QueuedClients::LeaveToOthers);
        assert!(told.is_set() && told.leaves_queue());
        board.set(child, QueuedClients::Serve);
        assert!(told.is_set() && !told.leaves_queue());
    }

    /// The program after this one tells the children of this one.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_is_told_by_the_next_program() {
        let board = StopBoard::new(2).unwrap();
        let child = ChildId::new(1, 7);
        let told = board.of(child);
        let file = crate::sys::upgrade::duplicate(board.number().unwrap()).unwrap();
        let next = StopBoard::adopted(file).unwrap();
        next.set(child, QueuedClients::LeaveToOthers);
        assert!(told.leaves_queue());
    }

    /// A child beyond the end of the board has no word there.
    #[test]
    fn a_child_beyond_the_board_is_never_told() {
        let board = StopBoard::new(1).unwrap();
        let far = ChildId::new(1 << 20, 1);
        board.set(far, QueuedClients::Serve);
        assert!(!board.of(far).is_set());
    }
}
