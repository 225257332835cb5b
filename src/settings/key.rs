//! The keys: those of the table of attributes, and those of the two tables here. A row is all that a
//! key needs; reads no source.

use super::{
    PREFIX,
    values::{Apply, Protocol, SIGNALS, Values, confine, server},
};
use crate::core::config::{Attribute, Config, Shape, TakesEffect};

/// The section of the keys of a [`Confinement`](crate::Confinement) in a file.
const CONFINEMENT: &str = "confinement";

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its name in a file.
    pub name: &'static str,
    /// The table of the file in which it stands; `None` for the top.
    pub section: Option<&'static str>,
    /// What its values look like.
    pub shape: Shape,
    /// Whether `none` is a value.
    pub is_optional: bool,
    /// What it is for, in a sentence without its full stop.
    pub summary: &'static str,
    /// When a value that a reload finds takes effect.
    pub takes_effect: TakesEffect,
    target: KeyTarget,
}

/// What a key sets.
#[derive(Clone, Copy, Debug)]
enum KeyTarget {
    Attribute(&'static Attribute),
    Own { default: &'static str, apply: Apply },
}

/// A row of the tables below.
struct KeyRow {
    name: &'static str,
    shape: Shape,
    default: &'static str,
    takes_effect: TakesEffect,
    summary: &'static str,
    apply: Apply,
}

/// Makes rows: name: shape = default, when a change takes effect, "summary", function.
macro_rules! rows {
    ($(
        $name:ident: $shape:expr, $default:literal, $takes_effect:ident,
            $summary:literal, $apply:expr;
    )*) => {
        &[$(KeyRow {
            name: stringify!($name),
            shape: $shape,
            default: $default,
            takes_effect: TakesEffect::$takes_effect,
            summary: $summary,
            apply: $apply,
        }),*]
    };
}

const SERVER: &[KeyRow] = rows! {
    listen: Shape::List, "", AtStart,
        "Where: HOST:PORT, :PORT, a path or systemd; then ,name=N ,mode=660",
        server::listen;
    backlog: Shape::Whole, "1024", AtStart,
        "How many connections may wait to be accepted", server::backlog;
    max_requests: Shape::Whole, "25", AtNextFork,
        "How many connections a child takes; 0 for no limit",
        server::max_requests;
    max_per_peer: Shape::Whole, "0", AtNextFork,
        "How many connections one client may have; 0 for no limit",
        server::max_per_peer;
    max_queue_age: Shape::Time, "none", AtNextFork,
        "How long a connection may have waited; older ones are closed", server::max_queue_age;
    allow: Shape::List, "", AtNextFork,
        "The addresses that may connect, as 10.0.0.0/8; all others may not", server::allow;
    deny: Shape::List, "", AtNextFork,
        "The addresses that may not connect, as 10.66.0.0/16", server::deny;
    deadline: Shape::Time, "none", AtNextFork,
        "How long one connection may take", server::deadline;
    access_log: Shape::Text, "none", AtStart,
        "Where a line for each connection is written: a path, or - for stdout", server::access_log;
    access_log_format: Shape::Choice(server::FORMATS), "common", AtStart,
        "How those lines look", server::access_log_format;
    program: Shape::List, "", AtNextFork, "The program and its arguments", server::program;
    protocol: Shape::Choice(Protocol::WORDS), "systemd", AtNextFork,
        "How a program is told of its sockets", server::protocol;
    stop_signal: Shape::Choice(SIGNALS), "INT", AtNextFork,
        "The signal that tells a program to stop", server::stop_signal;
    reopen_signal: Shape::Choice(SIGNALS), "none", AtNextFork,
        "The signal that tells a program to reopen its logs, when SIGUSR1 comes",
        server::reopen_signal;
    control: Shape::Text, "none", AtStart,
        "The path of a socket that takes commands: reload, stop, retire, set",
        server::control;
    status: Shape::Text, "none", AtStart,
        "Where the status is told by HTTP: PORT, HOST:PORT or a path",
        server::status;
    agent_check: Shape::Text, "none", AtStart,
        "Where HAProxy's agent-check is answered: PORT, HOST:PORT or a path",
        server::agent_check;
    holder: Shape::Bool, "false", AtStart,
        "Whether a process above the parent starts another when the parent is killed",
        server::holder;
};

const CONFINEMENT_ROWS: &[KeyRow] = rows! {
    session: Shape::Bool, "false", AtStart, "Each child leads a session", confine::session;
    process_group: Shape::Bool, "false", AtStart,
        "Each child leads a process group", confine::process_group;
    nice: Shape::Whole, "none", AtStart, "The nice value, -20 to 19", confine::nice;
    oom_score_adj: Shape::Whole, "none", AtStart,
        "How likely the kernel kills a child when memory runs out, -1000 to 1000",
        confine::oom_score_adj;
    umask: Shape::Text, "none", AtStart,
        "Which permission bits new files lack: 027", confine::umask;
    chroot: Shape::Text, "none", AtStart,
        "The directory that is the root of all paths", confine::chroot;
    directory: Shape::Text, "none", AtStart, "The current directory", confine::directory;
    supplementary_groups: Shape::List, "none", AtStart,
        "The supplementary groups, by name or number", confine::supplementary_groups;
    group: Shape::Text, "none", AtStart, "The group, by name or number", confine::group;
    capabilities: Shape::List, "none", AtStart,
        "The capabilities that stay in the bounding set: net_raw", confine::capabilities;
    user: Shape::Text, "none", AtStart, "The user, by name or number", confine::user;
    no_new_privs: Shape::Bool, "false", AtStart,
        "Programs that a child executes gain no privileges", confine::no_new_privs;
    limit_address_space: Shape::Size, "none", AtStart,
        "Address space: SIZE, SOFT:HARD or unlimited", confine::limit_address_space;
    limit_core_size: Shape::Size, "none", AtStart,
        "The size of a core file", confine::limit_core_size;
    limit_cpu_time: Shape::Time, "none", AtStart,
        "CPU time, in whole seconds", confine::limit_cpu_time;
    limit_data_size: Shape::Size, "none", AtStart, "The data segment", confine::limit_data_size;
    limit_file_size: Shape::Size, "none", AtStart,
        "The size of files that are written", confine::limit_file_size;
    limit_locked_memory: Shape::Size, "none", AtStart,
        "Memory that is locked", confine::limit_locked_memory;
    limit_open_files: Shape::Whole, "none", AtStart, "Descriptors", confine::limit_open_files;
    limit_processes: Shape::Whole, "none", AtStart,
        "Processes and threads of the child's user", confine::limit_processes;
    limit_stack_size: Shape::Size, "none", AtStart,
        "The stack of the main thread", confine::limit_stack_size;
};

/// All keys: the server's, the attributes, the confinement's.
pub(super) fn keys() -> Vec<Key> {
    let server = SERVER.iter().map(|row| Key::own(None, row));
    let attributes = Config::attributes().iter().map(Key::of_attribute);
    let confinement = CONFINEMENT_ROWS.iter();
    let confinement = confinement.map(|row| Key::own(Some(CONFINEMENT), row));
    server.chain(attributes).chain(confinement).collect()
}

impl Key {
    fn of_attribute(attribute: &'static Attribute) -> Self {
        let summary = attribute.documentation.lines().next().unwrap_or("");
        Self {
            name: attribute.name,
            section: None,
            shape: attribute.shape(),
            is_optional: attribute.is_optional,
            summary: summary.trim().trim_end_matches('.'),
            takes_effect: attribute.takes_effect,
            target: KeyTarget::Attribute(attribute),
        }
    }

    fn own(section: Option<&'static str>, row: &KeyRow) -> Self {
        Self {
            name: row.name,
            section,
            shape: row.shape,
            is_optional: row.default == "none",
            summary: row.summary,
            takes_effect: row.takes_effect,
            target: KeyTarget::Own {
                default: row.default,
                apply: row.apply,
            },
        }
    }

    /// Its flag, without the dashes before it: `max-clients`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its environment variable: `PREFORK_MAX_CLIENTS`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase())
    }

    /// Whether it takes any number of texts.
    pub fn is_list(&self) -> bool {
        self.shape == Shape::List
    }

    /// Its default as text; empty for an empty list.
    pub fn default(&self) -> String {
        match self.target {
            KeyTarget::Attribute(attribute) => attribute.text(&Config::default()),
            KeyTarget::Own { default, .. } => default.to_owned(),
        }
    }

    /// The attribute that it is, if it is one.
    pub fn attribute(&self) -> Option<&'static Attribute> {
        match self.target {
            KeyTarget::Attribute(attribute) => Some(attribute),
            KeyTarget::Own { .. } => None,
        }
    }

    pub(super) fn default_texts(&self) -> Vec<String> {
        let default = Some(self.default());
        default
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// Whether the texts are `none`, and that means the default. For a list that is the empty one.
    pub(super) fn is_none(&self, texts: &[String]) -> bool {
        let is_own_list = self.is_list() && matches!(self.target, KeyTarget::Own { .. });
        (self.is_optional || is_own_list) && matches!(texts, [text] if text == "none")
    }

    /// Sets it. The reason of a refusal says what to write instead.
    pub(super) fn apply(&self, values: &mut Values, texts: &[String]) -> Result<(), String> {
        if !self.is_list() && texts.len() != 1 {
            return Err(format!("it takes one value, not {}", texts.len()));
        }
        // An argument of a program may be any word.
        if self.is_list() && self.name != "program" && is_one_of(texts, "none") {
            return Err("none is the whole list or no item of it".to_owned());
        }
        match self.target {
            KeyTarget::Attribute(attribute) => {
                let text = texts.join(",");
                attribute.set(&mut values.config, &text)
            }
            // As if it had not been set: `values` begin with the defaults.
            KeyTarget::Own { .. } if self.is_none(texts) => Ok(()),
            KeyTarget::Own { apply, .. } => apply(values, texts),
        }
    }
}

/// Whether it is one of several texts.
fn is_one_of(texts: &[String], wanted: &str) -> bool {
    texts.len() > 1 && texts.iter().any(|text| text == wanted)
}
