//! Warnings and errors of the parent on their way to the program's logger or, if it has none, to the
//! sink that the floors above have named. Writes nothing itself.

use log::{Level, LevelFilter};
use std::{fmt, sync::OnceLock};

/// Takes what no logger hears.
pub(crate) type FallbackLog = fn(Level, fmt::Arguments<'_>);

static FALLBACK: OnceLock<FallbackLog> = OnceLock::new();

/// Names the sink. The first one stays.
pub(crate) fn set_fallback(fallback: FallbackLog) {
    // OK to ignore: an earlier server has named the same.
    let _ = FALLBACK.set(fallback);
}

/// Whether the program has a logger. One that is set later counts from then on: the slot for it, of which
/// there is one in a process, is not ours to take.
///
/// The level is `Off` until a logger raises it; with a logger, `Off` is a wish for silence. What stands in
/// for a logger where there is none is a type without fields, so it has no size.
fn has_logger() -> bool {
    let stand_in = size_of_val(log::logger()) == 0;
    log::max_level() != LevelFilter::Off || !stand_in
}

/// Hands to the sink what there is no logger for.
pub(crate) fn unless_logged(level: Level, text: fmt::Arguments<'_>) {
    if level <= log::STATIC_MAX_LEVEL
        && !has_logger()
        && let Some(fallback) = FALLBACK.get()
    {
        fallback(level, text);
    }
}

/// Logs at `Warn` or `Error`, and is heard without a logger too.
macro_rules! say {
    ($level:ident, $($message:tt)*) => {
        // A `match`, so that what is formatted lives as long as the text.
        match format_args!($($message)*) {
            text => {
                log::log!(log::Level::$level, "{text}");
                $crate::core::say::unless_logged(log::Level::$level, text);
            }
        }
    };
}
pub(crate) use say;
