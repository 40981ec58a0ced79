//! Wall-clock time for people: UTC inside, shown in local time if the program knows it.

use core::fmt;

use crate::time::Moment;

/// `9999-12-31 23:59:59.999999 UTC`
pub(crate) const TIME_CAPACITY: usize = 30;

/// How far local time is ahead of UTC, in seconds, at a time given in seconds since 1970.
///
/// The core has no time zone database. A program that has one gives this function and gets its times in local time;
/// without it they are UTC, and marked so.
pub type OffsetAt = fn(unix_seconds: i64) -> i32;

/// A point in wall-clock time, UTC inside.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    moment: Moment,
    offset_at: Option<OffsetAt>,
}

impl Timestamp {
    pub(crate) fn new(moment: Moment, offset_at: Option<OffsetAt>) -> Self {
        Self { moment, offset_at }
    }

    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub fn unix_seconds(&self) -> u64 {
        self.moment.sec
    }

    /// The nanoseconds of the second.
    pub fn subsec_nanos(&self) -> u32 {
        self.moment.nsec
    }
}

/// `2024-10-20 16:00:51.864484`, in local time; without an [`OffsetAt`], in UTC with ` UTC` behind it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Until the end of the year 9999; a peer may have written anything.
        let utc = self.moment.sec.min(253_402_300_799) as i64;
        // No time zone is a day away from UTC.
        let offset = self.offset_at.map_or(0, |offset_at| offset_at(utc).clamp(-86_400, 86_400));
        let local = (utc + i64::from(offset)).clamp(0, 253_402_300_799) as u64;
        // Days fit in 32 bits, and narrow divisions are the only ones that ARMv6 does not pay dearly.
        let (days, second) = ((local / 86_400) as u32, (local % 86_400) as u32);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = self.moment.nsec / 1000;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")?;
        if self.offset_at.is_none() { f.write_str(" UTC") } else { Ok(()) }
    }
}

/// The Gregorian date `days` days after 1970-01-01.
///
/// The algorithm is Howard Hinnant's `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>): years
/// that begin in March put the leap day last, and eras of 400 years make all divisions exact.
fn civil_from_days(days: u32) -> (u32, u32, u32) {
    const DAYS_PER_ERA: u32 = 146_097;
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn at(sec: u64, nsec: u32, offset_at: Option<OffsetAt>) -> std::string::String {
        Timestamp::new(Moment { sec, nsec }, offset_at).to_string()
    }

    #[test]
    fn times_are_right_across_the_calendar() {
        assert_eq!(at(0, 0, None), "1970-01-01 00:00:00.000000 UTC");
        assert_eq!(at(951_782_400, 1_000, None), "2000-02-29 00:00:00.000001 UTC");
        assert_eq!(at(1_729_440_051, 864_484_999, None), "2024-10-20 16:00:51.864484 UTC");
        assert_eq!(at(4_107_542_399, 999_999_999, None), "2100-02-28 23:59:59.999999 UTC");
        assert_eq!(at(4_107_542_400, 0, None), "2100-03-01 00:00:00.000000 UTC");
        assert_eq!(at(u64::MAX, 0, None), "9999-12-31 23:59:59.000000 UTC");
    }

    #[test]
    fn local_time_follows_the_offset_of_its_own_moment() {
        let summer_time: OffsetAt = |unix_seconds| if unix_seconds < 1_000 { 3600 } else { 7200 };
        assert_eq!(at(999, 0, Some(summer_time)), "1970-01-01 01:16:39.000000");
        assert_eq!(at(1_000, 0, Some(summer_time)), "1970-01-01 02:16:40.000000");
        assert_eq!(at(1_000, 0, Some(|_| i32::MIN)), "1970-01-01 00:00:00.000000");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_day_before() {
        let days_in = |year: u32, month: u32| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil_from_days(days), (year, month, day));
            day += 1;
            if day > days_in(year, month) {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
