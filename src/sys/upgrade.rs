//! What an upgrade asks of the system: the running program and its arguments, the state in sealed
//! memory, the trial of the new program, the exec and the way back, and what the new program inherits.
//! Does what it is told; decides nothing.

mod boards;
mod descriptors;
mod execution;
mod inheritance;
mod instruction;
mod program;
mod state_file;
mod trial;
mod upgrades;

pub(crate) use self::{
    boards::{adopt_boards, adopt_stop_boards, saved_boards},
    descriptors::{duplicate, take, verify},
    execution::go_back,
    inheritance::{is_adopting, offer, sockets, tcp_socket, unix_socket, withdraw},
    instruction::{
        UpgradeInstruction, UpgradeTask, answer_and_wait, instruction, launch, read_state,
    },
    upgrades::{Upgrades, answer_asker},
};
#[cfg(feature = "holder")]
pub(super) use self::{
    descriptors::close_on_exec,
    execution::flush_outputs,
    instruction::instruction_back,
    program::{LONGEST_INSTRUCTION, PreparedExecveat},
    state_file::sealed,
};
