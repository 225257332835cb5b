//! What an upgrade asks of the system: the running program and its arguments, the state in sealed
//! memory, the trial of the new program, the exec and the way back, and what the new program inherits.
//! Does what it is told; decides nothing.

mod boards;
mod descriptors;
mod execution;
mod image;
mod inheritance;
mod memory;
mod summons;
mod trial;
mod upgrades;

pub(crate) use self::{
    boards::{adopt_boards, adopt_stop_boards, saved_boards},
    descriptors::{duplicate, take, verify},
    execution::go_back,
    inheritance::{is_adopting, offer, tcp_socket, unix_socket, withdraw},
    summons::{Summons, Way, answer_and_wait, launch, read_state, summons},
    upgrades::{Upgrades, tell},
};
#[cfg(feature = "holder")]
pub(super) use self::{
    descriptors::close_on_exec,
    execution::flush_outputs,
    image::{BlankCall, LONGEST_SUMMONS},
    memory::sealed,
    summons::summons_back,
};
