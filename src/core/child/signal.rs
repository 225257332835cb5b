//! The signals that hooks send and that lead to states. Names them; sends none.

/// Passes the signals, a row for each, to the macro that is named.
///
/// A row is: documentation; name = the number that stands for it in a state and in a journal, which
/// is never given another meaning; its name on the system. What the processes of a server do with a
/// signal is in the table of `core/signal_policy.rs`.
macro_rules! with_signals {
    ($consumer:ident) => {
        $consumer! {
            /// SIGABRT.
            Abort = 0, SIGABRT;
            /// SIGALRM: ends a child that runs for too long after its parent has gone.
            Alarm = 1, SIGALRM;
            /// SIGTTIN.
            BackgroundRead = 2, SIGTTIN;
            /// SIGTTOU.
            BackgroundWrite = 3, SIGTTOU;
            /// SIGCHLD.
            Child = 4, SIGCHLD;
            /// SIGCONT.
            Continue = 5, SIGCONT;
            /// SIGXFSZ: a file has reached its size limit.
            FileSize = 6, SIGXFSZ;
            /// SIGHUP.
            Hangup = 7, SIGHUP;
            /// SIGINT: finish the connection in hand and leave.
            Interrupt = 8, SIGINT;
            /// SIGKILL.
            Kill = 9, SIGKILL;
            /// SIGPIPE.
            Pipe = 10, SIGPIPE;
            /// SIGQUIT.
            Quit = 11, SIGQUIT;
            /// SIGSTOP.
            Stop = 12, SIGSTOP;
            /// SIGTERM: means the same as SIGINT to a stock server.
            Terminate = 13, SIGTERM;
            /// SIGUSR1.
            User1 = 14, SIGUSR1;
            /// SIGUSR2.
            User2 = 15, SIGUSR2;
            /// SIGWINCH.
            Window = 16, SIGWINCH;
        }
    };
}
pub(crate) use with_signals;

macro_rules! define_signal {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $native:ident;)*) => {
        /// A signal that a hook can send to a child, or that posts a state in the parent.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Signal {
            $($(#[doc = $doc])* $name,)*
        }

        impl Signal {
            pub(super) const ALL: &[Self] = &[$(Self::$name),*];

            /// What stands for it in a state.
            const fn code(self) -> u32 {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// Its name on the system.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($native),)*
                }
            }
        }
    };
}
with_signals!(define_signal);

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SignalSet(u32);

impl SignalSet {
    pub(crate) const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << signal.code();
    }

    pub(crate) const fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << signal.code() != 0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}
