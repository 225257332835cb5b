//! The commands, one file each. A command is a function that begins it, and a row of the table above
//! this folder.

pub(super) mod attributes;
pub(super) mod drain;
pub(super) mod help;
pub(super) mod reload;
pub(super) mod retire;
pub(super) mod show;
pub(super) mod stop;
pub(super) mod upgrade;
