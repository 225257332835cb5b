//! The commands, one file each. A command is a function that begins it, and a row of the table above
//! this folder.

pub(super) mod attributes;
pub(super) mod drain;
pub(super) mod help;
pub(super) mod reload;
pub(super) mod retire;
pub(super) mod show;
pub(super) mod stack;
pub(super) mod stop;
pub(super) mod upgrade;

use crate::core::{
    child::{Child, ChildId},
    control::{Answer, ErrorCode},
    monitor::Monitor,
};

/// The child with the process id that a command names, and that number.
fn named_child(monitor: &Monitor, arguments: &str) -> Result<(ChildId, u32), Answer> {
    let Ok(pid) = arguments.parse() else {
        let text = format!("{arguments:?} is no process id");
        return Err(Answer::error(ErrorCode::Usage, &text));
    };
    let child = monitor.child_by_pid(pid).filter(|child| !child.is_reaped());
    let unknown = || {
        let text = format!("no child has the process id {pid}");
        Answer::error(ErrorCode::Unknown, &text)
    };
    child.map(Child::id).map(|id| (id, pid)).ok_or_else(unknown)
}
