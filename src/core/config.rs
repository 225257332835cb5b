//! The attributes of the documented system and our own: the table, a row each, and [`Config`], which
//! holds the values that are asked for. Normalises nothing itself, and knows nothing of a server
//! that runs: see `attributes`.

mod attributes;
mod row;
#[cfg(test)]
mod tests;

pub(crate) use self::attributes::Attributes;
pub use self::row::{Attribute, TakesEffect};

use crate::core::wire::CommWords;
use std::time::Duration;

/// Where a child's words travel.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CommChannel {
    /// On its stdout, between the lines that it prints, as documented.
    #[default]
    Stdout,
    /// On a pipe of their own, for handlers that print untrusted text: nothing on stdout is a word.
    Private,
}

/// What happens when the parent turns out to have more than one thread when it is about to fork.
///
/// A lock that another thread holds in the moment of the fork stays locked in the child for ever:
/// the allocator's, the logger's, stdout's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ThreadCheck {
    /// An error that names the threads, and no fork.
    #[default]
    Refuse,
    /// A warning that names them, once.
    Warn,
}

/// Hands the table of attributes to the macro that is named, a row each.
///
/// A row is: documentation; name, name of the setter: type = default; and in braces, for the
/// documentation, the unit, what becomes of a value that makes no sense, in which process and when
/// it is read, and when a value that is set while the server runs takes effect. A type that is not
/// `Copy` says what it is read as: `Vec<PathBuf> as [PathBuf]` is set by value and read by
/// reference.
///
/// Config, builder and monitor are made from this table, and `docs/handlers.md` is checked against
/// it.
macro_rules! with_attributes {
    ($consumer:ident) => {
        $consumer! {
            /// Whether an error with a child shuts the server down.
            ///
            /// Such an error is one with a child's output, or a fork that retrying cannot cure. When
            /// it is off, the child is killed and replaced.
            shutdown_on_error, set_shutdown_on_error: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at each error",
                takes_effect: AtOnce
            };
            /// The fewest spare children to keep.
            ///
            /// Spare are those that wait for a connection and those that are still starting. When
            /// there are fewer, the missing ones are forked.
            min_spare_servers, set_min_spare_servers: usize = 1 => {
                unit: "children",
                normalised: "less than 1 becomes 1",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// The most spare children to keep.
            ///
            /// When there have been more for `cull_after`, the oldest free ones are told to stop. The
            /// default is that of the original's document; its source has 10.
            max_spare_servers, set_max_spare_servers: usize = 2 => {
                unit: "children",
                normalised: "not above `min_spare_servers` becomes `min_spare_servers` + 1",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// How many children to begin with.
            ///
            /// As many are forked again whenever there is none, but never fewer than
            /// `min_spare_servers`.
            start_servers, set_start_servers: usize = 5 => {
                unit: "children",
                normalised: "0 becomes 5; more than `max_clients` becomes `max_clients`",
                read: "in the parent, when it has no child",
                takes_effect: AtOnce
            };
            /// The most child processes that ever live at once.
            ///
            /// Those told to stop count until they have been reaped. When it is lowered, busy
            /// children are left to finish. The limit of open files is raised for it at the start.
            max_clients, set_max_clients: usize = 50 => {
                unit: "children",
                normalised: "0 becomes 50",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// For how long a child may be silent before it is told to stop.
            ///
            /// A child is silent that sends no ACK. Zero is off: nobody is ever timed out.
            ///
            /// The interval of the children's ACKs is derived from it, unless the server has one of its
            /// own. Set while the server runs, it reaches a child when that wakes the next time, be it for an
            /// ACK or a connection; until then the child is judged by the longer of the two, and not at all if
            /// one of them is zero. Programs of [`ExecServer`](crate::ExecServer) cannot be reached: those that
            /// run keep what they were started with.
            timeout, set_timeout: Duration = Duration::ZERO => {
                unit: "time",
                normalised: "never",
                read: "in the parent, at the start and at each check",
                takes_effect: AtOnce
            };
            /// The interval of the timeout check.
            ///
            /// `None` and zero mean `timeout` × 1.5 from the start on. There is no check without a
            /// `timeout`.
            server_check_ack, set_server_check_ack: Option<Duration> = None => {
                unit: "time, or none",
                normalised: "none and zero become `timeout` × 1.5 from the start on",
                read: "in the parent, when a check sets the timer of the next",
                takes_effect: AtOnce
            };
            /// How long after SIGINT a child is killed with SIGKILL.
            ///
            /// It holds for a child that was told to stop while the server runs. It is as well how
            /// long a child that has lost its parent may go on with the connection in hand. Zero
            /// leaves it no time.
            kill_timeout, set_kill_timeout: Duration = Duration::from_secs(10) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when it tells a child to stop; at its fork in the child",
                takes_effect: AtOnce
            };
            /// How long after SIGINT a child is killed in a shutdown.
            ///
            /// Zero leaves it no time. A child that is still in its start, that is, has said no word, is
            /// killed after `drain_timeout` if that is less.
            shutdown_timeout, set_shutdown_timeout: Duration = Duration::from_secs(30) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when the shutdown begins",
                takes_effect: AtOnce
            };
            /// For how long, at the most, children take what is queued in a shutdown.
            ///
            /// Further clients are not let in meanwhile. As soon as nobody is queued and no idle child is
            /// left, and after this time in any case, the listeners are closed for everybody: clients
            /// are refused at once, and the next server can have the address. A child that is still
            /// starting then is killed. Zero closes at once, with those who are queued.
            drain_timeout, set_drain_timeout: Duration = Duration::from_secs(1) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, when the shutdown begins; at its fork in the child",
                takes_effect: AtOnce
            };
            /// How long there must have been too many spare children before any is culled.
            ///
            /// Under a load that comes and goes within that time, none is stopped and forked again.
            /// Zero culls at once, as the original does.
            cull_after, set_cull_after: Duration = Duration::from_secs(1) => {
                unit: "time",
                normalised: "never",
                read: "in the parent, at each decision",
                takes_effect: AtOnce
            };
            /// Where the children's words travel.
            ///
            /// A server that executes another program takes [`CommChannel::Stdout`] only: with the
            /// other one the start fails.
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
            /// Whether a child says nothing between two connections that follow at once.
            ///
            /// It prints no word either for which the parent is going to look by itself: while words
            /// keep coming, the parent looks every 2 to 20 ms. It hears then of one turn of a child
            /// from waiting to working and back, however many there were, and after the lines that
            /// the child has printed meanwhile. Off prints a NOT_BUSY and a BUSY for every connection.
            coalesce_words, set_coalesce_words: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the child, at its fork",
                takes_effect: AtNextFork
            };
            /// What to do about a parent with several threads that is about to fork.
            thread_check, set_thread_check: ThreadCheck = ThreadCheck::Refuse => {
                unit: "a `ThreadCheck`",
                normalised: "never",
                read: "in the parent, at the start and at each fork",
                takes_effect: AtNextFork
            };
            /// Whether SIGTERM and SIGINT to the parent mean an orderly shutdown.
            ///
            /// Off leaves their dispositions alone.
            handle_signals, set_handle_signals: bool = true => {
                unit: "true or false",
                normalised: "never",
                read: "in the parent, at the start",
                takes_effect: AtStart
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

/// As what an attribute is read: its type, or a reference to what its row names.
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
        /// The values of all attributes, as they are asked for.
        ///
        /// `Config::default()` has the documented values. Set what differs, by the methods or by the
        /// fields, and hand it to [`Builder::config`](crate::Builder::config).
        ///
        /// What is asked for is kept. A server that runs makes sense of all values together, so
        /// their order does not matter: the accessors of the [`Monitor`](crate::Monitor) say what is
        /// in force, [`Monitor::config`](crate::Monitor::config) what was asked for.
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

        /// The attributes, to be chained.
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
