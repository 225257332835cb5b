//! The date and the time of the day, to be shown. It may jump at any time, so nothing is decided by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since the year 1970 began, in UTC; zero before that.
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
