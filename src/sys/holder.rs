//! A server whose parent may be killed: a process above it, the holder, starts another. The holder is in
//! `process`; the other files are what its parents have of it, and what both share.
//!
//! | file | what |
//! |---|---|
//! | `split` | the split of a process into holder and parent, and what later parents take over |
//! | `relation`, `link` | what a process knows of its holder; a parent's side of it |
//! | `channel`, `memory`, `handover` | the socket, the journal, and the memory of an upgrade: what both share |
//! | `kept`, `deaths` | the pipes that the holder keeps, and the deaths that a parent learns of |
//! | `sibling`, `held_child` | the fork of a child that is the holder's, and how such a child is reached |
//! | `legacy`, `delegation` | upgrades: a pool of an earlier program, and how a parent leaves |

mod deaths;
mod delegation;
mod handover;
mod held_child;
mod journal_memory;
mod kept;
mod legacy;
mod link;
mod messages;
mod process;
mod relation;
mod sibling;
mod split;

pub(crate) use self::{
    held_child::HeldChild,
    legacy::Legacy,
    relation::{HolderRelation, KernelParent},
    sibling::keeps_programs,
    split::{HolderSplit, InheritedProcess, pending},
};

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The pid of the holder that this process has; 0 for none.
static HOLDER: AtomicU32 = AtomicU32::new(0);

/// The pid of the holder that this process has.
pub(crate) fn holder() -> Option<u32> {
    Some(HOLDER.load(Relaxed)).filter(|pid| *pid != 0)
}
