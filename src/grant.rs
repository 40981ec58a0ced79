//! Who holds or held the lock, since when and why: for programs and for people.

use core::fmt::{self, Write};
use core::ops::Deref;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use heapless::{String, Vec};

use crate::escape::Escaped;
use crate::record::{Ending, HISTORY_CAPACITY, INFO_CAPACITY, PROGRAM_CAPACITY, Record, Report, to_string};
use crate::time::Moment;
use crate::timestamp::{OffsetAt, TIME_CAPACITY, Timestamp};
use crate::word::{Fate, Kind, State, Word};

/// A grant of the lock: the present one, or one that has ended.
///
/// It was read from memory that other programs write. Its lengths are bounded and its texts are UTF-8, but nothing
/// vouches for what they say: [`Display`](fmt::Display) escapes them, [`Grant::info`] does not.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use resourcelock::ResourceLock;
/// let lock = ResourceLock::open("doc-grant")?;
/// drop(lock.try_lock("calibrates")?);
/// let grant = lock.last_grant().ok_or("just granted")?;
/// println!("{} (pid {}) acquired it at {}: {}", grant.program(), grant.pid(), grant.granted(), grant.info());
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
        let mut report = record.report(record.number_of(word)).filter(|report| report.holder.seat == word.seat())?;
        // The entry may lag: detaching changes the word first.
        report.kind = Some(kind);
        Some(Self::new(report, offset_at))
    }

    /// The number of this grant. Successive grants have successive numbers, modulo 2^32; the first one's is random.
    pub fn number(&self) -> u32 {
        self.report.number
    }

    /// The seat that the grant was made to: the number of the file lock by which the kernel vouches for the holder's life.
    pub fn seat(&self) -> u32 {
        self.report.holder.seat
    }

    /// The holder's process id, in its own PID namespace ([`pid_namespace`](Self::pid_namespace)).
    pub fn pid(&self) -> u32 {
        self.report.holder.pid
    }

    /// The inode number of the holder's PID namespace, as `/proc/PID/ns/pid` shows it; `None` if it was unknown. A pid
    /// means something only to a process of the same namespace.
    pub fn pid_namespace(&self) -> Option<u32> {
        Some(self.report.holder.pid_ns).filter(|&pid_ns| pid_ns != 0)
    }

    /// The id of the thread that acquired the lock, in the holder's PID namespace; `None` if it was unknown.
    pub fn thread(&self) -> Option<u32> {
        Some(self.report.holder.thread).filter(|&thread| thread != 0)
    }

    /// The holder's real user id.
    pub fn uid(&self) -> u32 {
        self.report.holder.uid
    }

    /// The name of the holder's program: at most 15 bytes, as the kernel has it. Not escaped.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What ends the hold, besides a release.
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

    /// How it ended. `None` while the lock is held, and where the holder died and no grant has followed.
    pub fn ending(&self) -> Option<Ending> {
        self.report.ended.map(|(ending, _)| ending)
    }

    /// Who force-released it, as pid and real user id; `None` if nobody did.
    pub fn forced_by(&self) -> Option<(u32, u32)> {
        self.report.forced_by
    }

    /// How the holder died, as the status of [wait(2)](https://man7.org/linux/man-pages/man2/wait.2.html); `None` where
    /// nobody could know: only a holder's parent can, such as `resourcelock run`.
    pub fn wait_status(&self) -> Option<u32> {
        self.report.status
    }

    /// For how long it was held, to the kernel's tick (1 to 10 ms); `None` if it has not ended. Of a holder that died,
    /// until the recovery.
    pub fn held_for(&self) -> Option<Duration> {
        self.report.held_for()
    }

    /// For how long the holder expected to hold; `None` if it did not say.
    pub fn expected(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.report.due_ms.into())).filter(|expected| !expected.is_zero())
    }

    /// When it was granted, on CLOCK_MONOTONIC.
    pub(crate) fn since(&self) -> Moment {
        self.report.since
    }

    /// The reference's form: time and text, with nothing escaped.
    pub(crate) fn to_lock_info(&self) -> LockInfo {
        let mut text = LockInfo::default();
        // It has room for the longest time and the longest text.
        let _ = write!(text.0, "{} - {}", self.granted(), self.info());
        text
    }
}

/// `2024-10-20 16:00:51.864484 - text`, the text escaped.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.granted(), Escaped(self.info()))
    }
}

/// How many bytes of the info a [`HolderSummary`] keeps.
const SUMMARY_CAPACITY: usize = 56;

/// Who holds the lock, in an error: as a [`Grant`], but small, with the first 56 bytes of the info.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HolderSummary {
    number: u32,
    pid: u32,
    uid: u32,
    granted_nsec: u32,
    granted_sec: [u32; 2],
    kind: Kind,
    program_len: u8,
    info_len: u8,
    program: [u8; PROGRAM_CAPACITY],
    info: [u8; SUMMARY_CAPACITY],
}

impl HolderSummary {
    pub(crate) fn new(grant: &Grant) -> Self {
        let mut end = grant.info().len().min(SUMMARY_CAPACITY);
        while !grant.info().is_char_boundary(end) {
            end -= 1;
        }
        let (mut program, mut info) = ([0; PROGRAM_CAPACITY], [0; SUMMARY_CAPACITY]);
        program[..grant.program.len()].copy_from_slice(grant.program.as_bytes());
        info[..end].copy_from_slice(&grant.info().as_bytes()[..end]);
        let granted = grant.report.granted;
        Self {
            number: grant.number(),
            pid: grant.pid(),
            uid: grant.uid(),
            granted_nsec: granted.nsec,
            granted_sec: [granted.sec as u32, (granted.sec >> 32) as u32],
            kind: grant.kind(),
            program_len: grant.program.len() as u8,
            info_len: end as u8,
            program,
            info,
        }
    }

    /// As [`Grant::number`].
    pub fn number(&self) -> u32 {
        self.number
    }

    /// As [`Grant::pid`].
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// As [`Grant::uid`].
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// As [`Grant::kind`].
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As [`Grant::program`]. Not escaped.
    pub fn program(&self) -> &str {
        core::str::from_utf8(&self.program[..self.program_len.into()]).unwrap_or_default()
    }

    /// The beginning of [`Grant::info`]. Not escaped.
    pub fn info(&self) -> &str {
        core::str::from_utf8(&self.info[..self.info_len.into()]).unwrap_or_default()
    }

    /// As [`Grant::granted`], in UTC.
    pub fn granted(&self) -> Timestamp {
        let [low, high] = self.granted_sec.map(u64::from);
        Timestamp::new(Moment { sec: low | high << 32, nsec: self.granted_nsec }, None)
    }
}

/// As [`Grant`].
impl fmt::Display for HolderSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.granted(), Escaped(self.info()))
    }
}

impl fmt::Debug for HolderSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HolderSummary")
            .field("number", &self.number)
            .field("pid", &self.pid)
            .field("program", &self.program())
            .field("info", &self.info())
            .finish_non_exhaustive()
    }
}

/// What became of the previous holder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Previous {
    /// It released, or there was none: the resource is as it left it.
    Released,
    /// It died while it held: the resource may be inconsistent. The grant is `None` if it died before it wrote down who
    /// it was.
    Died(Option<Grant>),
    /// It was force-released while it held: the resource may be inconsistent, and the holder may still be using it. The
    /// grant is `None` if it had not yet written down who it was.
    Forced(Option<Grant>),
}

impl Previous {
    /// What grant `number`, which reports `fate`, learns.
    pub(crate) fn of(record: &Record, number: u32, fate: Fate, offset_at: Option<OffsetAt>) -> Self {
        let grant = || record.previous(number, fate).map(|report| Grant::new(report, offset_at));
        match fate {
            Fate::Released => Self::Released,
            Fate::Died => Self::Died(grant()),
            Fate::Forced => Self::Forced(grant()),
        }
    }

    /// Whether the resource may be inconsistent: the previous holder died or was force-released while it held.
    pub fn recovered(&self) -> bool {
        !matches!(self, Self::Released)
    }

    /// The previous holder, if it did not release and had written down who it was.
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Released => None,
            Self::Died(grant) | Self::Forced(grant) => grant.as_ref(),
        }
    }
}

/// The lock info as the reference gives it: `2024-10-20 16:00:51.864484 - text`. Empty if there was no grant yet.
///
/// It dereferences to `str`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LockInfo(String<{ TIME_CAPACITY + 3 + INFO_CAPACITY }>);

impl LockInfo {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for LockInfo {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for LockInfo {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Not escaped.
impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The grants that the lock remembers, newest first, [`HISTORY_CAPACITY`] at most. It dereferences to a slice.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Grant, HISTORY_CAPACITY>);

impl History {
    pub(crate) fn of(record: &Record, offset_at: Option<OffsetAt>) -> Self {
        let Some(newest) = record.newest() else { return Self::default() };
        let older = (1..HISTORY_CAPACITY as u32).filter_map(|age| record.report(newest.number.wrapping_sub(age)));
        Self(core::iter::once(newest.clone()).chain(older).map(|report| Grant::new(report, offset_at)).collect())
    }
}

impl Deref for History {
    type Target = [Grant];

    fn deref(&self) -> &[Grant] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a History {
    type Item = &'a Grant;
    type IntoIter = core::slice::Iter<'a, Grant>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What happened to the lock since it was made. All of them wrap at 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Grants.
    pub grants: u32,
    /// Grants that found the lock held first.
    pub contended: u32,
    /// Requests that gave up, tries included.
    pub timeouts: u32,
    /// Holders that died while they held: each either had its lock taken over by the next grant, or was reported by its
    /// parent ([`release_grant_of_dead`](crate::ResourceLock::release_grant_of_dead)).
    pub recoveries: u32,
    /// Holds that were force-released.
    pub forced: u32,
    /// The longest hold that its holder ended itself, to the kernel's tick (1 to 10 ms).
    pub longest_hold: Duration,
}

impl Counters {
    pub(crate) fn of(record: &Record) -> Self {
        // Relaxed: statistics.
        let get = |cell: &AtomicU32| cell.load(Ordering::Relaxed);
        Self {
            grants: get(&record.hot.published).wrapping_sub(get(&record.header.origin)),
            contended: get(&record.hot.contended),
            timeouts: get(&record.hot.timeouts),
            recoveries: get(&record.hot.recoveries),
            forced: get(&record.hot.forced),
            longest_hold: Duration::from_millis(u64::from(get(&record.hot.longest_hold_ms))),
        }
    }
}

/// A process that waits for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiter {
    /// Its seat.
    pub seat: u32,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// The id of the thread that waits; `None` if it was unknown.
    pub thread: Option<u32>,
    /// For how long it has waited, modulo 49.7 days.
    pub waited: Duration,
}

/// The processes that wait for the lock and have said so; they do after the first 10 ms. It dereferences to a slice.
///
/// The record has room for [`WAITERS_CAPACITY`](crate::WAITERS_CAPACITY): if the list is full, there may be more.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Vec<Waiter, { crate::record::WAITERS_CAPACITY }>);

impl Waiters {
    /// Those whose seat `is_alive`, at the moment `now`.
    pub(crate) fn of(record: &Record, now: Moment, mut is_alive: impl FnMut(u32) -> bool) -> Self {
        let waiting = record.waiting().filter(|waiting| is_alive(waiting.seat));
        Self(
            waiting
                .map(|waiting| Waiter {
                    seat: waiting.seat,
                    pid: waiting.pid,
                    thread: Some(waiting.thread).filter(|&thread| thread != 0),
                    waited: Duration::from_millis(now.millis().wrapping_sub(waiting.since_ms).into()),
                })
                .collect(),
        )
    }

    /// Whether every slot is in use, so that there may be more waiters.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }
}

impl Deref for Waiters {
    type Target = [Waiter];

    fn deref(&self) -> &[Waiter] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Waiters {
    type Item = &'a Waiter;
    type IntoIter = core::slice::Iter<'a, Waiter>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
