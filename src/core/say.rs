//! Warnings and errors of the parent, for the program's logger or, if it has none, for the fallback
//! that the modules above have set. Writes nothing itself.

use log::{Level, LevelFilter};
use std::{fmt, sync::OnceLock};

/// Writes a message for which there is no logger.
pub(crate) type FallbackLog = fn(Level, fmt::Arguments<'_>);

static FALLBACK: OnceLock<FallbackLog> = OnceLock::new();

/// Sets the fallback. The first one stays.
pub(crate) fn set_fallback(fallback: FallbackLog) {
    // OK to ignore: an earlier server has set the same function.
    let _ = FALLBACK.set(fallback);
}

/// Whether the program has a logger.
///
/// A logger that is set later counts from then on: a process can set only one, so the crate sets
/// none.
///
/// The level is `Off` until a logger raises it; with a logger, `Off` means that the program wants
/// no messages. Without a logger, `log` returns a type without fields, whose size is zero.
fn has_logger() -> bool {
    let stand_in = size_of_val(log::logger()) == 0;
    log::max_level() != LevelFilter::Off || !stand_in
}

/// Logs at a level that is known when it is logged; warnings and errors to the fallback if there is
/// no logger.
pub(crate) fn at(level: Level, text: fmt::Arguments<'_>) {
    log::log!(target: "prefork_server::parent", level, "{text}");
    if level <= Level::Warn {
        unless_logged(level, text);
    }
}

/// Passes a message to the fallback if there is no logger.
pub(crate) fn unless_logged(level: Level, text: fmt::Arguments<'_>) {
    if level <= log::STATIC_MAX_LEVEL
        && !has_logger()
        && let Some(fallback) = FALLBACK.get()
    {
        fallback(level, text);
    }
}

/// Logs at `Warn` or `Error`, to the fallback if there is no logger.
macro_rules! say {
    ($level:ident, $($message:tt)*) => {
        // A `match`, so that the arguments live as long as the text.
        match format_args!($($message)*) {
            text => {
                log::log!(log::Level::$level, "{text}");
                $crate::core::say::unless_logged(log::Level::$level, text);
            }
        }
    };
}
pub(crate) use say;
