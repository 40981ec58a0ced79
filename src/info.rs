//! Who holds or held the lock, since when and why: for programs and for people.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use heapless::String;

use crate::moment::Moment;
use crate::record::{Ending, HISTORY_CAPACITY, INFO_CAPACITY, PROGRAM_CAPACITY, Record, Report, to_string};
use crate::word::{Kind, State, Word};

/// The lock info as the reference gives it: `2024-10-20 16:00:51.864484 - text`. Empty if there was no grant yet.
pub type LockInfo = String<{ TIME_CAPACITY + 3 + INFO_CAPACITY }>;

/// `9999-12-31 23:59:59.999999 UTC`
const TIME_CAPACITY: usize = 30;

/// How far local time is ahead of UTC, in seconds, at a time given in seconds since 1970.
///
/// The core has no time zone database; a program that has one (or knows where it stands) gives this function, and gets
/// its times in local time. Without it they are UTC, and say so.
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

/// A grant of the lock: the present one, or one that has ended.
///
/// It was read from memory that other programs write. Its lengths are bounded and its texts are UTF-8, but what they
/// say is their writer's word: [`Display`](fmt::Display) escapes it, [`Grant::info`] does not.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use resourcelock::ResourceLock;
/// let lock = ResourceLock::open("doc-grant")?;
/// drop(lock.try_lock("calibrates")?);
/// let grant = lock.last_grant().ok_or("just granted")?;
/// println!("{} (pid {}) got it at {}: {}", grant.program(), grant.pid(), grant.granted(), grant.info());
/// # lock.remove(false)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Grant {
    report: Report,
    program: String<PROGRAM_CAPACITY>,
    offset_at: Option<OffsetAt>,
}

impl Grant {
    pub(crate) fn new(report: Report, offset_at: Option<OffsetAt>) -> Self {
        let mut bytes = [0; PROGRAM_CAPACITY];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(report.holder.program) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(PROGRAM_CAPACITY);
        Self { program: to_string(&bytes, len as u32), report, offset_at }
    }

    /// The published grant that `word` names, if it names one.
    pub(crate) fn of_holder(record: &Record, word: Word, offset_at: Option<OffsetAt>) -> Option<Self> {
        let State::Held(kind) = word.state() else { return None };
        let mut report = record.report(record.number_of(word))?;
        // The entry may lag behind: who detaches changes the word first.
        report.kind = Some(kind);
        Some(Self::new(report, offset_at))
    }

    /// The number of this grant. Successive grants have successive numbers, modulo 2^32; the first one's is random.
    pub fn number(&self) -> u32 {
        self.report.number
    }

    /// The holder's process id, in the PID namespace of whoever made the lock (for [`Kind::Foreign`], in its own).
    pub fn pid(&self) -> u32 {
        self.report.holder.pid
    }

    /// When the holder's process started, in clock ticks after boot; `None` if it could not tell.
    pub fn start_time(&self) -> Option<u64> {
        Some(self.report.holder.start_time).filter(|&ticks| ticks != 0)
    }

    /// The holder's real user id.
    pub fn uid(&self) -> u32 {
        self.report.holder.uid
    }

    /// The name of the holder's program: at most 15 bytes, as the kernel has it. Not escaped.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What ends the hold, besides an unget.
    pub fn kind(&self) -> Kind {
        self.report.kind.unwrap_or(Kind::Process)
    }

    /// The text that the holder gave, at most [`INFO_CAPACITY`] bytes. Not escaped.
    pub fn info(&self) -> &str {
        &self.report.info
    }

    /// When it was granted.
    pub fn granted(&self) -> Timestamp {
        Timestamp::new(self.report.granted, self.offset_at)
    }

    /// How it ended. `None` while the lock is held, and where the holder died and nobody has come since.
    pub fn ending(&self) -> Option<Ending> {
        self.report.ended.map(|(ending, _)| ending)
    }

    /// How long it was held, to the kernel's tick (1 to 10 ms); `None` if it has not ended. For one that was recovered,
    /// until the recovery.
    pub fn held_for(&self) -> Option<Duration> {
        self.report.held_for()
    }

    /// When it was granted, on CLOCK_MONOTONIC.
    pub(crate) fn since(&self) -> Moment {
        self.report.since
    }

    /// The reference's form: time and text, with nothing escaped.
    pub(crate) fn to_lock_info(&self) -> LockInfo {
        let mut text = LockInfo::new();
        // It has room for the longest time and the longest text.
        let _ = write!(text, "{} - {}", self.granted(), self.info());
        text
    }
}

/// `2024-10-20 16:00:51.864484 - text`, the text escaped.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.granted(), Escaped(self.info()))
    }
}

/// Shows text that others wrote, harmless for a terminal or a log.
///
/// Control characters (escape sequences among them), and the invisible ones that reorder or break lines, are shown as
/// `\n`, `\u{1b}` and so on; everything else as it is.
///
/// ```
/// # use resourcelock::Escaped;
/// assert_eq!(Escaped("\x1b[31mred\u{202e}\n").to_string(), r"\u{1b}[31mred\u{202e}\n");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if is_harmful(character) { character.escape_default().fmt(f) } else { f.write_char(character) }
        })
    }
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// The grants that the lock remembers, newest first; see [`ResourceLock::history`](crate::ResourceLock::history).
pub type History = heapless::Vec<Grant, HISTORY_CAPACITY>;

pub(crate) fn history_of(record: &Record, offset_at: Option<OffsetAt>) -> History {
    let Some(newest) = record.newest() else { return History::new() };
    let older = (1..HISTORY_CAPACITY as u32).filter_map(|age| record.report(newest.number.wrapping_sub(age)));
    core::iter::once(newest.clone()).chain(older).map(|report| Grant::new(report, offset_at)).collect()
}

/// What happened to the lock since it was made. All of them wrap at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Grants.
    pub grants: u32,
    /// Grants that found the lock in other hands first.
    pub contended: u32,
    /// Gets that gave up, tries included.
    pub timeouts: u32,
    /// Grants that took over from a holder that had died.
    pub recoveries: u32,
    /// Holds that were ended by force.
    pub forced: u32,
    /// The longest hold that its holder ended itself, to the kernel's tick (1 to 10 ms).
    pub longest_hold: Duration,
}

impl Counters {
    pub(crate) fn of(record: &Record) -> Self {
        // Relaxed: statistics.
        let get = |cell: &AtomicU32| cell.load(Ordering::Relaxed);
        Self {
            grants: get(&record.published).wrapping_sub(get(&record.origin)),
            contended: get(&record.contended),
            timeouts: get(&record.timeouts),
            recoveries: get(&record.recoveries),
            forced: get(&record.forced),
            longest_hold: Duration::from_millis(u64::from(get(&record.longest_hold_ms))),
        }
    }
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

    #[test]
    fn harmful_characters_are_shown_and_the_rest_is_kept() {
        assert_eq!(Escaped("a\0b\r\u{9b}\u{2028}\u{feff}").to_string(), r"a\u{0}b\r\u{9b}\u{2028}\u{feff}");
        assert_eq!(Escaped("äöü 🔒 C:\\dir").to_string(), "äöü 🔒 C:\\dir");
    }
}
