//! The control socket without its sockets: the commands, what each client has sent, and when each
//! command is done. Reads and writes no socket.
//!
//! A client sends lines and gets a line of JSON for each, in order. A command is answered when it is
//! done, which may take as long as a reload does.

mod answer;
mod client;
mod client_table;
mod commands;
mod line_buffer;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    answer::{Answer, ErrorCode},
    client_table::ClientTable,
};
#[cfg(any(test, fuzzing))]
pub(crate) use self::{client_table::answer_to, line_buffer::LONGEST};

use crate::core::{event::Event, monitor::Monitor, system::NewClient};
use std::fmt;

/// A command, as clients write it.
struct ControlCommand {
    /// The name, and after it the arguments.
    usage: &'static str,
    /// The least and the greatest number of words after the name.
    words: (usize, usize),
    /// What it does, in a sentence without its full stop.
    help: &'static str,
    /// Begins it. The text is what follows the name, without spaces around it.
    begin: fn(&mut Monitor, &str) -> BegunCommand,
}

/// A command that has begun.
#[derive(Debug)]
enum BegunCommand {
    /// It is done already.
    Done(Answer),
    /// It takes its time.
    Pending(Box<dyn Pending>),
}

impl BegunCommand {
    fn error(problem: ErrorCode, text: &str) -> Self {
        Self::Done(Answer::error(problem, text))
    }

    fn stopping() -> Self {
        Self::error(ErrorCode::Stopping, STOPPING)
    }
}

/// A command that has begun and is not done.
trait Pending: fmt::Debug {
    /// The answer, if the command is done with this event.
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) -> Option<Answer>;

    /// The answer, if the command is done at the end of a turn.
    fn look(&mut self, _: &Monitor) -> Option<Answer> {
        None
    }

    /// What its client waits for, when another program takes the place of this one.
    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Another
    }
}

/// What a client waits for when a program takes the place of another one. The numbers are those of
/// [`ClientState`](crate::core::state::ClientState).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WaitsFor {
    Nothing = 0,
    Upgrade = 1,
    /// A command that ends with the program that has begun it.
    Another = 2,
}

impl WaitsFor {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Nothing,
            1 => Self::Upgrade,
            _ => Self::Another,
        }
    }
}

const STOPPING: &str = "the server is shutting down";

/// Every command.
const COMMANDS: &[ControlCommand] = &[
    ControlCommand {
        usage: "reload",
        words: (0, 0),
        help: "Read the settings again and replace every child, as SIGHUP does",
        begin: commands::reload::begin,
    },
    ControlCommand {
        usage: "upgrade [PATH]",
        words: (0, usize::MAX),
        help: "Replace the program by the one that its file has now, as SIGUSR2 does, or by another",
        begin: commands::upgrade::begin,
    },
    ControlCommand {
        usage: "stop [graceful|now]",
        words: (0, 1),
        help: "Shut down as SIGTERM does; with no time limit; or by SIGKILL",
        begin: commands::stop::begin,
    },
    ControlCommand {
        usage: "drain",
        words: (0, 0),
        help: "Tell balancers, by the status, to send no more clients; who comes is served",
        begin: commands::drain::drain,
    },
    ControlCommand {
        usage: "ready",
        words: (0, 0),
        help: "Take back a drain",
        begin: commands::drain::ready,
    },
    ControlCommand {
        usage: "retire PID",
        words: (1, 1),
        help: "Replace one child: it goes when its successor is ready",
        begin: commands::retire::begin,
    },
    ControlCommand {
        usage: "set NAME VALUE",
        words: (2, usize::MAX),
        help: "Set an attribute that may change while the server runs",
        begin: commands::attributes::set,
    },
    ControlCommand {
        usage: "get [NAME]",
        words: (0, 1),
        help: "Show an attribute, or the values of all that are in force",
        begin: commands::attributes::get,
    },
    ControlCommand {
        usage: "show",
        words: (0, 0),
        help: "Show the server and its children",
        begin: commands::show::begin,
    },
    ControlCommand {
        usage: "stack PID",
        words: (1, 1),
        help: "Show where a child is, which goes on serving",
        begin: commands::stack::begin,
    },
    ControlCommand {
        usage: "help",
        words: (0, 0),
        help: "Show the commands",
        begin: commands::help::begin,
    },
];

impl ControlCommand {
    fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or(self.usage)
    }
}

/// Whether a client may control a server that runs as the user `own`.
pub(crate) fn may_control(caller: &NewClient) -> bool {
    caller.user == 0 || caller.user == caller.own_user
}

/// Begins the command that a line is.
fn begin(monitor: &mut Monitor, line: &str) -> BegunCommand {
    let line = line.trim();
    let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let arguments = arguments.trim();
    let Some(command) = COMMANDS.iter().find(|command| command.name() == name) else {
        let names: Vec<_> = COMMANDS.iter().map(ControlCommand::name).collect();
        let text = format!("{name:?} is none of {}", names.join(", "));
        return BegunCommand::error(ErrorCode::Usage, &text);
    };
    let (least, most) = command.words;
    match (least..=most).contains(&arguments.split_whitespace().count()) {
        true => (command.begin)(monitor, arguments),
        false => BegunCommand::error(ErrorCode::Usage, &format!("usage: {}", command.usage)),
    }
}
