//! Dates of the Gregorian calendar, in UTC. Reads no clock.

use std::time::Duration;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY: u64 = 24 * 60 * 60;
/// The days of the 400 years after which the calendar repeats itself.
const ERA: u64 = 146_097;
/// The days from 1 March of the year 0 to 1 January 1970.
const BEFORE_1970: u64 = 719_468;

/// A moment as people write it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Date {
    year: u64,
    /// From 1.
    month: usize,
    day: u64,
    second: u64,
    millisecond: u32,
}

impl Date {
    /// The date this long after 1970 began.
    pub(super) fn new(since_1970: Duration) -> Self {
        let (days, second) = (since_1970.as_secs() / DAY, since_1970.as_secs() % DAY);
        // Years are counted from March on, so that the day that only some of them have is their
        // last one.
        let days = days + BEFORE_1970;
        let (era, day) = (days / ERA, days % ERA);
        let year = (day - day / 1_460 + day / 36_524 - day / (ERA - 1)) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let is_next_year = month >= 10;
        Self {
            year: era * 400 + year + u64::from(is_next_year),
            // OK to cast: at most 12.
            month: if is_next_year { month - 9 } else { month + 3 } as usize,
            day,
            second,
            millisecond: since_1970.subsec_millis(),
        }
    }

    fn time(self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }

    /// `29/Nov/2026:12:03:07 +0000`, as in the logs of web servers.
    pub(super) fn common(self) -> String {
        let (hour, minute, second) = self.time();
        let month = MONTHS.get(self.month - 1).unwrap_or(&"");
        let Self { year, day, .. } = self;
        format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
    }

    /// `2026-11-29T12:03:07.123Z`, as in RFC 3339.
    pub(super) fn rfc3339(self) -> String {
        let (hour, minute, second) = self.time();
        let Self {
            year,
            month,
            day,
            millisecond,
            ..
        } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_have_their_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_795_953_787, "2026-11-29T12:03:07.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let date = Date::new(Duration::from_secs(seconds));
            assert_eq!(date.rfc3339(), expected);
        }
        let date = Date::new(Duration::from_millis(1_795_953_787_045));
        assert_eq!(date.common(), "29/Nov/2026:12:03:07 +0000");
        assert_eq!(date.rfc3339(), "2026-11-29T12:03:07.045Z");
    }

    /// Every day of 800 years, counted by the rules of the calendar.
    #[test]
    fn each_day_follows_the_one_before() {
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..2 * ERA {
            let date = Date::new(Duration::from_secs(days * DAY));
            assert_eq!((date.year, date.month, date.day), (year, month, day));
            day += 1;
            let length = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(year, 2770);
    }
}
