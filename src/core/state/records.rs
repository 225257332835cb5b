//! The records of a state: what each has, in the order in which it is written. Plain data.

use super::encoding::{ByteReader, DecodeError, EncodedList, Field, Fields, record};
#[cfg(feature = "holder")]
use crate::core::child::ChildId;
use crate::core::time::Time;
use std::time::Duration;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum FdRole {
    /// One that this version does not know.
    #[default]
    Unknown,
    /// The program that has written the state: the way back.
    Image,
    /// The pipe by which children see that their parent has ended.
    DeathRead,
    DeathWrite,
    /// Memory in which children note what they do.
    Board,
    /// A pipe from a child.
    Pipe,
    /// A listening socket.
    Listener,
    /// A socket that the process which has started the program has opened.
    Given,
    /// A connection of a client that waits for the outcome.
    Asker,
    /// A listening socket that no child has: that of the control socket, or of the status.
    Own,
    /// A client of the control socket.
    Client,
    /// Memory in which the parent tells children to stop.
    Stops,
}

impl FdRole {
    const CODES: [(Self, u32); 11] = [
        (Self::Image, 1),
        (Self::DeathRead, 2),
        (Self::DeathWrite, 3),
        (Self::Board, 4),
        (Self::Pipe, 5),
        (Self::Listener, 6),
        (Self::Given, 7),
        (Self::Asker, 8),
        (Self::Own, 9),
        (Self::Client, 10),
        (Self::Stops, 11),
    ];
}

impl Field for FdRole {
    fn put(&self, out: &mut Vec<u8>) {
        let code = Self::CODES.iter().find(|(role, _)| role == self);
        code.map_or(0, |(_, code)| *code).put(out);
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let code = u32::take(input)?;
        let role = Self::CODES.iter().find(|(_, known)| *known == code);
        Ok(role.map_or(Self::Unknown, |(role, _)| *role))
    }
}

record! {
    /// The program that has written the state, and why.
    Program {
        /// The version of this crate in it.
        version: String,
        /// The file that the next upgrade without a path is to.
        path: Vec<u8>,
        /// The same before this upgrade, for the way back.
        previous_path: Vec<u8>,
        /// Why the upgrade has failed; then the program that is executed is the one that was there before.
        back: Option<String>,
    }

    /// The pool as a whole.
    PoolState {
        /// What the monotonic clock of the machine showed at [`Time::START`], in nanoseconds. All
        /// times of the state count from there.
        clock_start: u64,
        /// When the state was written.
        now: Time,
        /// How long the parent had not run, in all.
        gaps: Duration,
        /// The serial of the child that was forked last.
        serial: u32,
        epoch: u32,
        /// Replacements for children that have ended by themselves.
        owed: u64,
        /// The signals that the program had blocked, a bit each: bit 0 is signal 1.
        mask: u64,
        /// When the upgrade was asked for.
        asked_at: Time,
        /// The soft limit of open files that the program had found, if a server has raised it.
        open_files: Option<u64>,
        /// The process that tells the status, which ends with the program and is to be reaped.
        status_helper: Option<u32>,
        /// The orphans that a holder has, which it reaps: they stay children of its process.
        orphans: EncodedList<u32>,
    }

    /// A board: the memory that children have their slots on.
    BoardState {
        /// Its descriptor.
        fd: u32,
        /// The length in bytes.
        length: u64,
        /// The slots on it whose children live.
        slots: EncodedList<u32>,
        /// What the program has declared to count, in its order.
        metrics: EncodedList<String>,
        /// What the parent itself has counted.
        own: EncodedList<u64>,
    }

    /// One child, and what the parent has read of it.
    ChildState {
        slot: u32,
        serial: u32,
        pid: u32,
        state: Option<crate::core::child::State>,
        epoch: u32,
        /// The bits of its flags.
        flags: u32,
        start_time: Time,
        last_ack: Time,
        gaps_at_ack: Duration,
        known_timeout: Option<Duration>,
        busy_since: Option<Time>,
        noted_requests: u64,
        said_requests: u64,
        killed_at: Option<Time>,
        retirement: Option<RetirementState>,
        failing: Option<Duration>,
        last_lines: EncodedList<Vec<u8>>,
        /// Its stdout, its stderr, its private channel.
        pipes: EncodedList<PipeState>,
        /// What was last seen of its entry on the board; `None` if it prints all its words.
        seen: Option<SeenState>,
        /// 0: it leads no process group; 1: all signals go to its group; 2: SIGKILL alone does.
        group: u8,
        stop_signal: Option<crate::core::child::Signal>,
        /// It was reaped, and other processes of its group were left.
        outlived: Option<EndState>,
        /// It was reaped, and its output is still to be read.
        end: Option<EndState>,
        /// The memory in which it is told to stop; `None` if it is told by signals alone.
        stops: Option<u32>,
        /// The signals that hooks have sent to it: the bit of each signal's code.
        sent_by_hooks: u32,
    }

    /// A client of the control socket.
    ClientState {
        /// The descriptor of its connection.
        fd: u32,
        /// What it has sent and was not cut into lines yet.
        sent: Vec<u8>,
        /// The rest of a line that is too long is being dropped.
        skips: bool,
        /// It sends no more.
        ended: bool,
        /// What it has not read of an answer.
        unread: Vec<u8>,
        /// The command that it waits for. 0: none; 1: the upgrade; 2: another one.
        waits_for: u8,
    }

    /// When and why a child was told to stop.
    RetirementState {
        reason: Option<crate::core::child::Reason>,
        at: Time,
        kill_after: Option<Duration>,
        kill_in_start_after: Option<Duration>,
        forks: u64,
    }

    /// A pipe from a child, and the line that has begun and not ended.
    PipeState {
        /// Its descriptor; `None` once it has ended.
        fd: Option<u32>,
        unfinished: Vec<u8>,
        /// The line is longer than what is delivered at once, and its beginning was.
        is_piece: bool,
        /// An empty line has come.
        empty_held: bool,
        /// How many bytes of a dead child are still to be read.
        left: u64,
    }

    /// What was seen of a child's entry on the board.
    SeenState {
        entry: u64,
        printed: u32,
    }

    /// What was collected from a child that has ended.
    EndState {
        /// As wait(2) encodes it.
        status: Option<i32>,
        out_of_memory: bool,
        usage: Option<UsageState>,
    }

    /// What a child has used.
    UsageState {
        user_time: Duration,
        system_time: Duration,
        max_resident: u64,
        minor_faults: u64,
        major_faults: u64,
        voluntary_switches: u64,
        involuntary_switches: u64,
    }

    /// A descriptor that is handed on under its number.
    Descriptor {
        role: FdRole,
        fd: u32,
        /// What tells it from another one that has this number by mistake.
        device: u64,
        inode: u64,
        /// The kind of file, as in `st_mode`.
        kind: u32,
        /// The file that the program has made for this UNIX socket. `None` for any other descriptor, and
        /// if the program was too early a version to say.
        file: Option<SocketFileState>,
    }

    /// The file of a UNIX socket.
    SocketFileState {
        /// Absolute.
        path: Vec<u8>,
        /// What tells it from another one that is put at the path later.
        device: u64,
        inode: u64,
    }

    /// Counters by name.
    Ledger {
        counts: EncodedList<(String, u64)>,
    }

    /// What an operator has told the server and may take back.
    Orders {
        /// Balancers are told to send no clients.
        drained: bool,
    }

    /// What was in force before the reload that is under way.
    BeforeReload {
        /// The attributes that were changed while the server ran, by name, as text.
        attributes: EncodedList<(String, String)>,
    }
}

impl ChildState {
    /// Its name.
    #[cfg(feature = "holder")]
    pub(crate) fn id(&self) -> ChildId {
        ChildId::new(self.slot, self.serial)
    }

    /// Its stdout, its stderr or its private channel.
    pub(crate) fn pipe(&self, number: usize) -> PipeState {
        self.pipes.0.get(number).cloned().unwrap_or_default()
    }
}
