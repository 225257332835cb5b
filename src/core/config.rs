//! The attributes of the documented system and our own: names, defaults, and what is done to a
//! value that makes no sense. One table; the builder's setters and the monitor's accessors are made
//! from it.

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

/// Hands the table of attributes to the macro that is named, a row each:
/// documentation, name, name of the setter, type, default.
macro_rules! with_attributes {
    ($consumer:ident) => {
        $consumer! {
            /// Whether an error with a child's output, or a fork that retrying cannot cure, shuts
            /// the server down. Default: true, as documented. When it is off, the child is killed
            /// and replaced.
            shutdown_on_error, set_shutdown_on_error: bool = true;
            /// The fewest spare (not busy) children to keep. Default: 1; less becomes 1.
            min_spare_servers, set_min_spare_servers: usize = 1;
            /// The most spare children to keep. Default: 2, the document's (the original's source
            /// has 10); not above `min_spare_servers` becomes `min_spare_servers` + 1.
            max_spare_servers, set_max_spare_servers: usize = 2;
            /// How many children to begin with, and with again whenever there is none (but never fewer
            /// than `min_spare_servers`). Default: 5;
            /// 0 becomes 5, more than `max_clients` becomes `max_clients`.
            start_servers, set_start_servers: usize = 5;
            /// The most child processes that ever live at once, those told to stop included.
            /// Default: 50; 0 becomes 50.
            max_clients, set_max_clients: usize = 50;
            /// For how long a child may be silent (send no ACK) before it is told to stop.
            /// Default: zero, which is off: nobody is ever timed out. Set it before the server
            /// starts: the interval of the children's ACKs is derived from it then.
            timeout, set_timeout: Duration = Duration::ZERO;
            /// The interval of the timeout check. Default: `None`, which means `timeout` × 1.5, as does
            /// zero.
            server_check_ack, set_server_check_ack: Option<Duration> = None;
            /// How long after SIGINT a silent child is killed with SIGKILL, and how long a child
            /// that has lost its parent may go on with the connection in hand. Default: 10 s.
            kill_timeout, set_kill_timeout: Duration = Duration::from_secs(10);
            /// How long after SIGINT a child is killed in a shutdown. Default: 30 s.
            shutdown_timeout, set_shutdown_timeout: Duration = Duration::from_secs(30);
            /// How long there must have been too many spare children before any is culled.
            /// Default: 1 s; zero culls at once, as the original does.
            cull_after, set_cull_after: Duration = Duration::from_secs(1);
            /// Where the children's words travel. Default: their stdout. Read at each fork.
            comm_channel, set_comm_channel: CommChannel = CommChannel::Stdout;
            /// Which bytes are the words. Default: [`CommWords::CONTROL`]. Read at each fork.
            comm_words, set_comm_words: CommWords = CommWords::CONTROL;
            /// Whether a child that goes from one connection straight to the next keeps quiet about
            /// it, and prints no word for which the parent is going to look by itself: while words
            /// keep coming it looks every 2 to 20 ms, and hears of one turn of a child from
            /// waiting to working and back, however many there were, and after the lines that it has
            /// printed meanwhile. Default: true; off gives a
            /// NOT_BUSY and a BUSY for every connection, printed. Read at each fork.
            coalesce_words, set_coalesce_words: bool = true;
            /// What to do about a parent with several threads. Default: refuse to fork.
            thread_check, set_thread_check: ThreadCheck = ThreadCheck::Refuse;
            /// Whether SIGTERM and SIGINT to the parent mean an orderly shutdown. Default: true;
            /// off leaves their dispositions alone. Read when the server starts.
            handle_signals, set_handle_signals: bool = true;
        }
    };
}
pub(crate) use with_attributes;

macro_rules! define_attributes {
    ($($(#[$doc:meta])* $name:ident, $set:ident: $type:ty = $default:expr;)*) => {
        /// The values of all attributes.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub(crate) struct Attributes {
            $(pub(crate) $name: $type,)*
        }

        impl Default for Attributes {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }
    };
}
with_attributes!(define_attributes);

/// A value that was changed because it made no sense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Normalised {
    pub(crate) name: &'static str,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Attributes {
    /// Changes what makes no sense, and says what it changed.
    #[must_use = "each change is to be logged"]
    pub(crate) fn normalise(&mut self) -> Vec<Normalised> {
        let mut changes = Vec::new();
        let mut set = |name, field: &mut usize, to| {
            if *field != to {
                changes.push(Normalised {
                    name,
                    from: *field,
                    to,
                });
                *field = to;
            }
        };
        // Room is left above the minimum, so that the maximum can be one more.
        let min = self.min_spare_servers.clamp(1, usize::MAX - 1);
        set("min_spare_servers", &mut self.min_spare_servers, min);
        let max = self.max_spare_servers.max(min + 1);
        set("max_spare_servers", &mut self.max_spare_servers, max);
        let clients = if self.max_clients == 0 {
            50
        } else {
            self.max_clients
        };
        set("max_clients", &mut self.max_clients, clients);
        let start = if self.start_servers == 0 {
            5
        } else {
            self.start_servers
        };
        set("start_servers", &mut self.start_servers, start.min(clients));
        changes
    }

    /// The interval of the timeout check; `None` while there is no timeout.
    pub(crate) fn check_interval(&self) -> Option<Duration> {
        (self.timeout > Duration::ZERO).then(|| {
            // Zero would have the loop do nothing else.
            self.server_check_ack
                .filter(|interval| !interval.is_zero())
                .unwrap_or_else(|| self.timeout.saturating_mul(3) / 2)
        })
    }

    /// The interval at which children must send ACKs for the timeout to hold.
    pub(crate) fn ack_interval(&self) -> Option<Duration> {
        (self.timeout > Duration::ZERO).then(|| self.timeout / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(min: usize, max: usize, start: usize, clients: usize) -> Attributes {
        Attributes {
            min_spare_servers: min,
            max_spare_servers: max,
            start_servers: start,
            max_clients: clients,
            ..Attributes::default()
        }
    }

    #[test]
    fn the_defaults_are_the_documents_and_make_sense() {
        let mut attributes = Attributes::default();
        assert_eq!(attributes, numbers(1, 2, 5, 50));
        assert!(attributes.shutdown_on_error);
        assert_eq!(attributes.timeout, Duration::ZERO);
        assert_eq!(attributes.normalise(), []);
    }

    /// Numbers that make no sense are replaced by documented ones, and each change is reported.
    #[test]
    fn m01_nonsense_is_normalised_and_reported() {
        for (given, expected, changed) in [
            (
                numbers(0, 2, 5, 50),
                numbers(1, 2, 5, 50),
                vec!["min_spare_servers"],
            ),
            (
                numbers(3, 3, 5, 50),
                numbers(3, 4, 5, 50),
                vec!["max_spare_servers"],
            ),
            (
                numbers(7, 2, 5, 50),
                numbers(7, 8, 5, 50),
                vec!["max_spare_servers"],
            ),
            (
                numbers(1, 2, 0, 50),
                numbers(1, 2, 5, 50),
                vec!["start_servers"],
            ),
            (
                numbers(1, 2, 9, 4),
                numbers(1, 2, 4, 4),
                vec!["start_servers"],
            ),
            (
                numbers(1, 2, 0, 3),
                numbers(1, 2, 3, 3),
                vec!["start_servers"],
            ),
            (
                numbers(1, 2, 5, 0),
                numbers(1, 2, 5, 50),
                vec!["max_clients"],
            ),
            (
                numbers(usize::MAX, 0, usize::MAX, usize::MAX),
                numbers(usize::MAX - 1, usize::MAX, usize::MAX, usize::MAX),
                vec!["min_spare_servers", "max_spare_servers"],
            ),
        ] {
            let mut normal = given.clone();
            let names: Vec<_> = normal
                .normalise()
                .iter()
                .map(|change| change.name)
                .collect();
            assert_eq!((&normal, names), (&expected, changed), "{given:?}");
            assert_eq!(normal.normalise(), [], "normalising twice changes nothing");
        }
    }

    fn any_number() -> impl Strategy<Value = usize> {
        prop_oneof![0..6usize, any::<usize>(), usize::MAX - 2..=usize::MAX]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Whatever numbers are given, those that are used make sense together: room between the fewest
        /// and the most spare children, at least one client, no start beyond `max_clients`. Each that
        /// was changed is reported, and no other.
        #[test]
        fn m01_any_numbers_become_numbers_that_make_sense(
            (min, max, start, clients) in (any_number(), any_number(), any_number(), any_number())
        ) {
            let given = numbers(min, max, start, clients);
            let mut normal = given.clone();
            let changes = normal.normalise();
            prop_assert!(1 <= normal.min_spare_servers);
            prop_assert!(normal.min_spare_servers < normal.max_spare_servers);
            prop_assert!(1 <= normal.start_servers);
            prop_assert!(normal.start_servers <= normal.max_clients);
            let mut undone = normal.clone();
            for change in changes {
                let field = match change.name {
                    "min_spare_servers" => &mut undone.min_spare_servers,
                    "max_spare_servers" => &mut undone.max_spare_servers,
                    "start_servers" => &mut undone.start_servers,
                    _ => &mut undone.max_clients,
                };
                prop_assert_eq!(*field, change.to);
                *field = change.from;
            }
            prop_assert_eq!(undone, given);
        }
    }

    /// The interval of ACKs is half the timeout, that of the checks one and a half, whatever the
    /// timeout; an interval of zero is taken for none.
    #[test]
    fn h04_intervals_follow_the_timeout_without_rounding() {
        let mut attributes = Attributes::default();
        assert_eq!(
            (attributes.check_interval(), attributes.ack_interval()),
            (None, None)
        );
        attributes.timeout = Duration::from_secs(1);
        assert_eq!(
            attributes.check_interval(),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(attributes.ack_interval(), Some(Duration::from_millis(500)));
        attributes.server_check_ack = Some(Duration::from_millis(20));
        assert_eq!(attributes.check_interval(), Some(Duration::from_millis(20)));
        attributes.timeout = Duration::MAX;
        attributes.server_check_ack = None;
        assert!(attributes.check_interval() > Some(Duration::from_secs(1 << 60)));
    }
}
