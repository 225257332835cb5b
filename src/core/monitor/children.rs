//! The children, as hooks may list and find them. Changes none.

use super::*;

/// The children.
impl Monitor {
    /// The children that serve a connection.
    pub fn busy_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children().filter(|child| child.state == State::Busy)
    }

    /// The spare children: those that wait for a connection or are still starting.
    pub fn free_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children()
            .filter(|child| matches!(child.state, State::Free | State::Starting))
    }

    /// The children that were told to stop and have not been reaped.
    pub fn retiring_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children()
            .filter(|child| child.state == State::Retiring)
    }

    /// The child that is kept for the time when all others are busy, if there is one.
    ///
    /// See [`reserved_shedder`](Self::reserved_shedder).
    pub fn reserved_server(&self) -> Option<&Child> {
        self.pool.reserved()
    }

    /// All children, in no particular order.
    pub fn children(&self) -> impl Iterator<Item = &Child> + '_ {
        self.pool.iter()
    }

    /// The name of each child (the original's wheel ID) with its process id.
    pub fn wheel_id_to_pid(&self) -> impl Iterator<Item = (ChildId, u32)> + '_ {
        self.children().map(|child| (child.id, child.pid))
    }

    /// The child of that name; `None` once it has been reaped.
    pub fn child(&self, id: ChildId) -> Option<&Child> {
        self.pool.get(id)
    }

    /// The child with that process id.
    pub fn child_by_pid(&self, pid: u32) -> Option<&Child> {
        self.children().find(|child| child.pid == pid)
    }
}
