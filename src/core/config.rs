//! The attributes, those of the original and new ones: a table with a row for each, and [`Config`],
//! which holds the values that were asked for. Normalises nothing and knows no running server: see
//! `attributes`.

mod attributes;
mod row;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub(crate) use self::attributes::Attributes;
pub use self::{
    row::{Attribute, TakesEffect},
    text::Shape,
};

use crate::core::wire::CommWords;
use std::time::Duration;

/// Where a child's words travel.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CommChannel {
    /// On its stdout, between the lines that it prints, as documented.
    #[default]
    Stdout,
    /// On a pipe of their own: stdout carries no words.
    ///
    /// For handlers that print untrusted text.
    Private,
}

/// What happens if the parent has more than one thread when it is about to fork.
///
/// A lock that another thread holds at the fork stays locked in the child forever: the lock of the
/// allocator, of the logger, of stdout.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ThreadCheck {
    /// An error that names the threads, and no fork.
    #[default]
    Refuse,
    /// A warning that names them, once.
    Warn,
}

/// Passes the table of attributes, a row for each, to the macro that is named.
///
/// A row is: documentation; name, name of the setter: type = default; and in braces, for the
/// documentation, the unit, how invalid values are normalised, in which process and when it is
/// read, and when a value that is set while the server runs takes effect. A type that is not `Copy`
/// also names the type that it is read as: `Vec<PathBuf> as [PathBuf]` is set by value and read by
/// reference.
///
/// Config, builder and monitor are made from this table, and `docs/handlers.md` is checked against
/// it.
macro_rules! with_attributes {
    ($consumer:ident) => {
        $consumer! {
            /// Whether an error with a child shuts the server down.
            ///
            /// Such an error is a failure to read a child's output, or a fork error that retrying
            /// cannot cure. When it is off, the child is killed and replaced.
            shutdown_on_error, set_shutdown_on_error: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at each error",
                takes_effect: AtOnce
            };
            /// The minimum number of spare children.
            ///
            /// Spare children wait for a connection or are still starting. When there are fewer,
            /// the parent forks the missing ones.
            min_spare_servers, set_min_spare_servers: usize = 1 => {
                unit: "children",
                normalised: "less than 1 becomes 1",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// The maximum number of spare children.
            ///
            /// When there have been more for `cull_after`, the parent tells the oldest free
            /// children to stop. The default is that of the original's documentation; its source
            /// has 10.
            max_spare_servers, set_max_spare_servers: usize = 2 => {
                unit: "children",
                normalised: "not above `min_spare_servers` becomes `min_spare_servers` + 1",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// How many children to begin with.
            ///
            /// The parent forks this number again whenever it has no child, but never fewer than
            /// `min_spare_servers`.
            start_servers, set_start_servers: usize = 5 => {
                unit: "children",
                normalised: "0 becomes 5; more than `max_clients` becomes `max_clients`",
                read: "in the parent, when it has no child",
                takes_effect: AtOnce
            };
            /// The maximum number of child processes that exist at the same time.
            ///
            /// Children that were told to stop count until they have been reaped. When it is
            /// lowered, busy children finish their connection first. At the start the limit of open
            /// files is raised if this number needs it.
            max_clients, set_max_clients: usize = 50 => {
                unit: "children",
                normalised: "0 becomes 50",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// How long a child may be silent before it is told to stop.
            ///
            /// A child is silent while it sends no ACK. Zero turns the timeout off.
            ///
            /// The interval of the children's ACKs is derived from it, unless the server has an
            /// interval of its own. A value that is set while the server runs reaches a child when
            /// the child next wakes for an ACK or a connection; until then the longer of the two
            /// values holds for it, or no timeout if one of them is zero. A program that
            /// [`ExecServer`](crate::ExecServer) runs keeps the value that it was started with.
            timeout, set_timeout: Duration = Duration::ZERO => {
                unit: "time",
                normalised: "never",
                read: "in the parent, at the start and at each check",
                takes_effect: AtOnce
            };
            /// The interval of the timeout check.
            ///
            /// `None` and zero mean `timeout` × 1.5 once the server has started. Without a
            /// `timeout` there is no check.
            server_check_ack, set_server_check_ack: Option<Duration> = None => {
                unit: "time, or none",
                normalised: "none and zero become `timeout` × 1.5 from the start on",
                read: "in the parent, when a check sets the timer of the next",
                takes_effect: AtOnce
            };
            /// How long a child may take from its fork to its first BUSY or NOT_BUSY.
            ///
            /// A child that takes longer is told to stop, and counts as a failed start. An ACK does
            /// not end its start. Zero turns the limit off. The children of a server with a limit
            /// must say these words, as those of the stock servers do; a program that says none
            /// cannot have one.
            start_timeout, set_start_timeout: Duration = Duration::ZERO => {
                unit: "time",
                normalised: "never",
                read: "in the parent, while a child starts",
                takes_effect: AtOnce
            };
            /// How long one connection may take in all.
            ///
            /// The parent keeps the time, so it also ends a child that is stuck in C code. A child
            /// that takes longer is told to stop, whether it sends ACKs or not, and no matter who
            /// causes the delay; SIGKILL follows after `kill_timeout`.
            /// [`Conn::extend`](crate::servers::Conn::extend) gives more time to the connection in
            /// hand. Zero turns the limit off. For a program that
            /// [`ExecServer`](crate::ExecServer) runs, and for a child beyond the `max_clients` of
            /// the start, a connection lasts from BUSY to NOT_BUSY.
            busy_timeout, set_busy_timeout: Duration = Duration::ZERO => {
                unit: "time",
                normalised: "never",
                read: "in the parent, while a child has a connection in hand",
                takes_effect: AtOnce
            };
            /// How long after SIGINT a child is killed with SIGKILL.
            ///
            /// It applies to a child that was told to stop while the server runs. A child that has
            /// lost its parent may also serve the connection in hand for this time. Zero leaves no
            /// time.
            kill_timeout, set_kill_timeout: Duration = Duration::from_secs(10) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when it tells a child to stop; at its fork in the child",
                takes_effect: AtOnce
            };
            /// How long after SIGINT a child is killed in a shutdown.
            ///
            /// Zero leaves no time. A stop by SIGQUIT alone has no such limit. A child that is still
            /// starting, that is, has said no word, is killed after `drain_timeout` if that is
            /// shorter.
            shutdown_timeout, set_shutdown_timeout: Duration = Duration::from_secs(30) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when the shutdown begins",
                takes_effect: AtOnce
            };
            /// How long, at most, children serve queued connections in a shutdown.
            ///
            /// New clients are not let in during this time. The listeners are closed for all
            /// processes as soon as no client is queued and no idle child is left, and after this
            /// time in any case: then clients are refused at once, and the next server can use the
            /// address. A child that is still starting then is killed. Zero closes at once and
            /// drops the queued clients.
            drain_timeout, set_drain_timeout: Duration = Duration::from_secs(1) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when the shutdown begins; at its fork in the child",
                takes_effect: AtOnce
            };
            /// How long a new program may take for its trial, and its children to start.
            ///
            /// The trial is from the exec to the answer of
            /// [`Builder::start`](crate::Builder::start) whether it can use the state: a program that
            /// reads much at its start needs more. Without a `start_timeout` the same limit holds for
            /// a child of the new program until it has said BUSY or NOT_BUSY, as long as the upgrade
            /// is not complete; one that takes longer ends the upgrade, and the old program comes
            /// back. Zero turns both limits off.
            upgrade_timeout, set_upgrade_timeout: Duration = Duration::from_secs(10) => {
                unit: "time",
                normalised: "never",
                read: "in the parent: of the old program at the trial, of the new one afterwards",
                takes_effect: AtOnce
            };
            /// How many children may be in the course of being replaced at the same time.
            ///
            /// A child is replaced in a reload, at a limit, and when a hook wants it. Its successor
            /// is forked first, and the child is told to stop when the successor is ready. With
            /// `max_clients` children there is no room for that, and a child goes first. One that serves
            /// its client for more than a second then does not count any longer.
            replace_at_once, set_replace_at_once: usize = 0 => {
                unit: "children",
                normalised: "0 means a tenth of the children, at least 1",
                read: "in the parent, at each replacement",
                takes_effect: AtOnce
            };
            /// How old a child may become before it is replaced.
            ///
            /// Zero means no limit. The child serves on until its successor is ready, but not
            /// longer than a tenth above the limit.
            max_lifetime, set_max_lifetime: Duration = Duration::ZERO => {
                unit: "time",
                normalised: "never",
                read: "in the parent, for every child",
                takes_effect: AtOnce
            };
            /// How much private memory a child may have before it is replaced.
            ///
            /// Private memory is what the child does not share with the parent or another process:
            /// `Private_Clean` and `Private_Dirty` of `/proc/PID/smaps_rollup`. The parent looks at
            /// each child about every five seconds. Zero means no limit; where the system does not
            /// tell the memory, there is none. The child serves on until its successor is ready, or
            /// until it has a tenth more than the limit.
            max_memory, set_max_memory: u64 = 0 => {
                unit: "bytes",
                normalised: "never",
                read: "in the parent, for every child",
                takes_effect: AtOnce
            };
            /// How far the limits of the children differ.
            ///
            /// Each child has limits of its own (`max_requests`, `max_lifetime`, `max_memory`), up
            /// to this much below what was set, so that children which were forked together are not
            /// replaced together.
            limit_jitter, set_limit_jitter: usize = 10 => {
                unit: "per cent",
                normalised: "more than 100 becomes 100",
                read: "in the parent, for every child; in the child, at its fork",
                takes_effect: AtOnce
            };
            /// Whether one child is kept for the time when all others are busy.
            ///
            /// It then takes those connections from the queue that are too old to be served, so
            /// that the others lose no time with them: see
            /// [`max_queue_age`](crate::servers::StreamServer::max_queue_age), without which there
            /// is no such child. It serves no client. It counts for `max_clients`, is forked when three
            /// quarters of that are there, and waits without any cost until all others are busy.
            reserved_shedder, set_reserved_shedder: bool = false => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// Whether forks are held back while starting children slow those that serve.
            ///
            /// It is about children that compute in their start, 20 ms or more. There are then only
            /// as many starting at the same time as keep the processors running; and only a quarter
            /// of that, but one, while processes have to wait for a processor (PSI, where Linux
            /// tells it). Children that serve are slowed less, and the last clients of a burst may
            /// be served later. Children that mostly wait in their start are not held back, and none
            /// is while no child is ready.
            fork_brake, set_fork_brake: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// How long there must be too many spare children before any is culled.
            ///
            /// Under a load that varies within this time, no child is stopped only to be forked
            /// again. Zero culls at once, as the original does.
            cull_after, set_cull_after: Duration = Duration::from_secs(1) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// Where the children's words travel.
            ///
            /// A server whose children execute another program needs [`CommChannel::Stdout`]:
            /// otherwise the start fails.
            comm_channel, set_comm_channel: CommChannel = CommChannel::Stdout => {
                unit: "a `CommChannel`",
                normalised: "never",
                read: "in the parent, at each fork",
                takes_effect: AtNextFork
            };
            /// Which bytes are the words.
            comm_words, set_comm_words: CommWords = CommWords::CONTROL => {
                unit: "`CommWords`",
                normalised: "never",
                read: "in the parent and in the child, at each fork",
                takes_effect: AtNextFork
            };
            /// Whether a child sends no words between connections that follow at once.
            ///
            /// While many words come, the parent looks at shared memory every 2 to 20 ms, and the
            /// child notes its words there instead of printing them. However often the child has
            /// turned busy and free between two looks, the parent then gets one BUSY and one
            /// NOT_BUSY, after the lines that the child has printed meanwhile. Off prints a
            /// NOT_BUSY and a BUSY for every connection.
            coalesce_words, set_coalesce_words: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the child, at its fork",
                takes_effect: AtNextFork
            };
            /// What to do if the parent has several threads when it is about to fork.
            thread_check, set_thread_check: ThreadCheck = ThreadCheck::Refuse => {
                unit: "a `ThreadCheck`",
                normalised: "never",
                read: "in the parent, at the start and at each fork",
                takes_effect: AtNextFork
            };
            /// Whether the parent acts on signals: stop, reload, reopen logs and the rest.
            ///
            /// Off leaves all dispositions unchanged, except that SIGCHLD is handled.
            handle_signals, set_handle_signals: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at the start",
                takes_effect: AtStart
            };
            /// Whether SIGTTIN and SIGTTOU to the parent change `max_clients` by one.
            ///
            /// SIGTTIN raises it, SIGTTOU lowers it, to 1 at the least. Off ignores both signals.
            /// Leave it off where the parent or a child uses its terminal: the terminal sends these
            /// signals to background processes.
            resize_signals, set_resize_signals: bool = false => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at the start",
                takes_effect: AtStart
            };
            /// Whether the parent reaps the orphans that it has adopted.
            ///
            /// Process 1, as in a container, reaps them in any case. Turn it on for a program that
            /// has made itself a subreaper. Each child then leads a process group, and a process that
            /// has ended is an orphan if it is no child of the server and not in the parent's
            /// process group: what the program itself has started, and left in its group, is left
            /// to the program.
            reap_orphans, set_reap_orphans: bool = false => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at the start",
                takes_effect: AtStart
            };
            /// The time from a signal to stop until the stop begins.
            ///
            /// In this time a load balancer can learn that the server is about to stop: observers
            /// are told [`Event::StopAnnounced`](crate::Event::StopAnnounced), and
            /// [`Monitor::stop_begins_at`](crate::Monitor::stop_begins_at) says when. A second
            /// signal to stop ends the delay. A shutdown that the program asks for has none.
            pre_stop_delay, set_pre_stop_delay: Duration = Duration::ZERO => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when a signal asks for a stop",
                takes_effect: AtOnce
            };
            /// The name with which the processes of the server show in ps what they do.
            ///
            /// Children show `name: busy 192.0.2.1 since 12:03:07Z` (the time is UTC), `name: free`
            /// or `name: starting`, the parent `name: parent, 3 busy of 10`. `None` changes nothing.
            /// On Linux, the kernel is told to look for the arguments of the process in memory of
            /// its own, so each change costs one write to memory, and the real arguments and the
            /// environment stay as they are. Where the kernel refuses that (a kernel without
            /// CONFIG_CHECKPOINT_RESTORE; a parent with several threads, without the capability
            /// sys_resource), the name of the thread shows `name: busy` in 15 bytes, for one
            /// system call a change. On other systems nothing is shown.
            process_title, set_process_title: Option<String> as Option<String> = None => {
                unit: "text, or none",
                normalised: "never; control characters are shown as `?`, 40 bytes at most",
                read: "in the parent, at each turn; in the child, at its fork",
                takes_effect: AtNextFork
            };
        }
    };
}
pub(crate) use with_attributes;

/// The list below an attribute's documentation: its default, and what the braces of its row say.
macro_rules! facts {
    ($default:expr, {
        unit: $unit:literal,
        normalised: $normalised:literal,
        read: $read:literal,
        takes_effect: $effect:ident
    }) => {
        concat!(
            "\n- Default: `",
            stringify!($default),
            "`.\n- Unit: ",
            $unit,
            ".\n- Normalised: ",
            $normalised,
            ".\n- Read ",
            $read,
            "."
        )
    };
}
pub(crate) use facts;

/// The type that an attribute is read as: its own, or a reference to the one that its row names.
macro_rules! read_type {
    ($type:ty) => {
        $type
    };
    ($type:ty, $read:ty) => {
        &$read
    };
}
pub(crate) use read_type;

/// Reads an attribute as its [`read_type!`].
macro_rules! read {
    ($place:expr) => {
        $place
    };
    ($place:expr, $read:ty) => {
        &$place as &$read
    };
}
pub(crate) use read;

macro_rules! define_config {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => $facts:tt;
    )*) => {
        /// The values of all attributes, as the program asks for them.
        ///
        /// `Config::default()` has the documented values. Change them by methods or fields, and
        /// pass the result to [`Builder::config`](crate::Builder::config).
        ///
        /// A `Config` keeps the values as they were set. A running server normalises all of them
        /// together, so the order of setting does not matter: the accessors of the
        /// [`Monitor`](crate::Monitor) return the values in force,
        /// [`Monitor::config`](crate::Monitor::config) those that were asked for.
        ///
        /// ```
        /// use prefork_server::Config;
        ///
        /// let config = Config::default().max_clients(20).start_servers(30);
        /// assert_eq!(config.start_servers, 30, "a server makes 20 of it");
        /// ```
        #[derive(Clone, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct Config {
            $(
                $(#[doc = $doc])*
                #[doc = facts!($default, $facts)]
                pub $name: $type,
            )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Setters of the attributes, to be chained.
        impl Config {
            $(
                $(#[doc = $doc])*
                #[doc = facts!($default, $facts)]
                #[must_use]
                pub fn $name(mut self, value: $type) -> Self {
                    self.$name = value;
                    self
                }
            )*
        }
    };
}
with_attributes!(define_config);
