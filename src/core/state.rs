//! What a parent hands on to the program that it becomes in an upgrade: the whole state of a server as
//! records, and as bytes. Encodes and decodes; opens no descriptor and trusts no byte.
//!
//! The bytes are a header and records. The header has a magic number, the version of the format, the
//! length and a checksum. A record has a tag, flags, a length and its fields.
//!
//! A later version may add records and may add fields at the end of a record. A reader skips a record
//! that it does not know, unless the record says that it must be understood; it takes the defaults for
//! fields that are missing, and leaves out those that it does not know. So each version reads what the
//! one before has written, and the other way round. `tests/states/` has an example of each.

mod codes;
mod encoding;
mod frame;
mod records;
#[cfg(test)]
mod tests;

#[cfg(feature = "holder")]
pub(crate) use self::codes::Coded;
#[cfg(any(target_os = "linux", test))]
pub(crate) use self::records::SocketFileState;
pub(crate) use self::{
    encoding::EncodedList,
    frame::BadState,
    records::{
        BeforeReload, BoardState, ChildState, ClientState, Descriptor, EndState, FdRole, Ledger,
        Orders, PipeState, PoolState, Program, RetirementState, SeenState, UsageState,
    },
};

use self::{
    encoding::DecodeError,
    frame::{StateWriter, Tag},
};
use std::collections::BTreeSet;

/// The state of a server at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) program: Program,
    pub(crate) pool: PoolState,
    pub(crate) children: Vec<ChildState>,
    /// Every descriptor that is handed on, with what tells it from another.
    pub(crate) descriptors: Vec<Descriptor>,
    /// The boards that living children have their slots on, the newest first.
    pub(crate) boards: Vec<BoardState>,
    /// The attributes that were changed while the server ran, by name, as text.
    pub(crate) attributes: Vec<(String, String)>,
    /// The counters of the report, by name.
    pub(crate) counters: Ledger,
    /// What the hooks want to hand on.
    pub(crate) hooks: Vec<u8>,
    /// The clients of the control socket.
    pub(crate) clients: Vec<ClientState>,
    /// `None` if the program did not write them as a record.
    pub(crate) orders: Option<Orders>,
    /// `None` if no reload is under way.
    pub(crate) before_reload: Option<BeforeReload>,
    /// The tags of records that are not known here, each once. They are not written.
    pub(crate) unknown: BTreeSet<u32>,
}

impl Snapshot {
    /// The state as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = StateWriter::new();
        frame.record(Tag::PROGRAM, &self.program);
        frame.record(Tag::POOL, &self.pool);
        for board in &self.boards {
            frame.record(Tag::BOARD, board);
        }
        for child in &self.children {
            frame.record(Tag::CHILD, child);
        }
        for descriptor in &self.descriptors {
            frame.record(Tag::DESCRIPTOR, descriptor);
        }
        for attribute in &self.attributes {
            frame.record(Tag::ATTRIBUTE, attribute);
        }
        frame.record(Tag::COUNTERS, &self.counters);
        frame.record(Tag::HOOKS, &self.hooks);
        for client in &self.clients {
            frame.record(Tag::CLIENT, client);
        }
        if let Some(orders) = &self.orders {
            frame.record(Tag::ORDERS, orders);
        }
        if let Some(before) = &self.before_reload {
            frame.record(Tag::BEFORE_RELOAD, before);
        }
        frame.finish()
    }

    /// The state that these bytes are.
    ///
    /// # Errors
    ///
    /// What is wrong with them, and where. Nothing is taken from bytes that are wrong anywhere.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadState> {
        let mut snapshot = Self::default();
        let mut needed = [Tag::PROGRAM, Tag::POOL].map(|tag| (tag, false));
        for record in frame::records(bytes)? {
            let record = record?;
            let found = needed.iter_mut().find(|(tag, _)| *tag == record.tag);
            if found.is_some_and(|(_, found)| std::mem::replace(found, true)) {
                return Err(record.bad(DecodeError::Twice));
            }
            match record.tag {
                Tag::PROGRAM => snapshot.program = record.read()?,
                Tag::POOL => snapshot.pool = record.read()?,
                Tag::BOARD => snapshot.boards.push(record.read()?),
                Tag::CHILD => snapshot.children.push(record.read()?),
                Tag::DESCRIPTOR => snapshot.descriptors.push(record.read()?),
                Tag::ATTRIBUTE => snapshot.attributes.push(record.read()?),
                Tag::COUNTERS => snapshot.counters = record.read()?,
                Tag::HOOKS => snapshot.hooks = record.read()?,
                Tag::CLIENT => snapshot.clients.push(record.read()?),
                Tag::ORDERS => snapshot.orders = Some(record.read()?),
                Tag::BEFORE_RELOAD => snapshot.before_reload = Some(record.read()?),
                _ => {
                    record.skip()?;
                    snapshot.unknown.insert(record.tag.number());
                }
            }
        }
        match needed.iter().find(|(_, found)| !found) {
            Some((tag, _)) => Err(BadState::missing(*tag, bytes.len())),
            None => snapshot.checked(bytes.len()),
        }
    }

    /// What of it is written, and read again.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn written(self) -> Self {
        Self {
            unknown: BTreeSet::new(),
            ..self
        }
    }

    /// The bytes of records, with a header that is right for them.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn framed(records: &[u8]) -> Vec<u8> {
        StateWriter::of(records).finish()
    }

    /// Refuses children that contradict each other: two of one slot, of one serial or of one pid.
    fn checked(self, end: usize) -> Result<Self, BadState> {
        let unique = |key: fn(&ChildState) -> u32| {
            let mut keys: Vec<_> = self.children.iter().map(key).collect();
            keys.sort_unstable();
            keys.windows(2).all(|pair| pair[0] != pair[1])
        };
        let sound = unique(|child| child.slot)
            && unique(|child| child.serial)
            && unique(|child| child.pid)
            && self.children.iter().all(|child| child.pid > 1);
        match sound {
            true => Ok(self),
            false => Err(BadState::contradiction(Tag::CHILD, end)),
        }
    }

    /// Whether the server is drained; `None` if nothing is said of it. Early programs of this format
    /// have written it among the counters.
    pub(crate) fn is_drained(&self) -> Option<bool> {
        let counted = || {
            let counts = &self.counters.counts.0;
            let drained = counts.iter().find(|(name, _)| name == "drained");
            drained.map(|(_, count)| *count != 0)
        };
        self.orders.as_ref().map(|it| it.drained).or_else(counted)
    }

    /// The descriptor with this role; the first one of several.
    pub(crate) fn descriptor(&self, role: FdRole) -> Option<&Descriptor> {
        self.with_role(role).next()
    }

    /// The memories in which children are told to stop, each once.
    pub(crate) fn stop_boards(&self) -> Vec<u32> {
        let named = self.children.iter().filter_map(|child| child.stops);
        let each: BTreeSet<u32> = named.collect();
        each.into_iter().collect()
    }

    /// The same state for a process in which the descriptors have other numbers: `number` says which.
    /// `None` if it does not know one of them.
    #[cfg(feature = "holder")]
    pub(crate) fn renumbered(mut self, number: impl Fn(u32) -> Option<u32>) -> Option<Self> {
        let pipes = self.children.iter_mut().flat_map(|it| &mut it.pipes.0);
        let pipes = pipes.filter_map(|pipe| pipe.fd.as_mut());
        for fd in pipes {
            *fd = number(*fd)?;
        }
        for fd in self.children.iter_mut().filter_map(|it| it.stops.as_mut()) {
            *fd = number(*fd)?;
        }
        let boards = self.boards.iter_mut().map(|it| &mut it.fd);
        let clients = self.clients.iter_mut().map(|it| &mut it.fd);
        let listed = self.descriptors.iter_mut().map(|it| &mut it.fd);
        for fd in boards.chain(clients).chain(listed) {
            *fd = number(*fd)?;
        }
        Some(self)
    }

    /// The descriptors with this role.
    pub(crate) fn with_role(&self, role: FdRole) -> impl Iterator<Item = &Descriptor> {
        self.descriptors
            .iter()
            .filter(move |descriptor| descriptor.role == role)
    }
}
