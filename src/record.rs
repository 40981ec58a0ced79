//! The record: the 4096 bytes in shared memory that are a lock, the same on every target.
//!
//! Invariants:
//! - every field is a 32-bit atomic at a fixed offset, in the machine's byte order, which the magic number tells;
//! - who holds is the word's business alone ([`crate::protocol`]); everything else here is a report about it;
//! - a grant's entry is written by its holder and by nobody else: the compare-and-swap that grants number `n` gives the
//!   right to write entry `n % 16`. Entries are published last, by their stamp, so a reader sees a grant whole or
//!   not at all, and a writer that dies half way leaves the previous grant as the newest;
//! - nothing that was read is trusted: lengths are bounded, text is checked, retries are counted.
//!
//! Because 16 divides the word's 64 generations, the word alone tells which entry is the newest; there is no index that
//! could be stale or torn.
//!
//! A holder that was forced off, *and* was stopped inside a write, *and* goes on after sixteen more grants, may spoil
//! the text of the entry that has taken its place. The word, and so the exclusion, is not touched by it; and the start
//! time, which may prove a holder's death, carries a check.

use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU32, Ordering, fence};
use core::time::Duration;

use heapless::String;

use crate::moment::Moment;
use crate::word::{Kind, Word};

/// Size of a lock's file, in bytes, on every target. Not a page: pages may be larger.
pub const RECORD_SIZE: usize = 4096;

/// Longest info text, in bytes of UTF-8. A longer one is cut at a character boundary.
pub const INFO_CAPACITY: usize = 144;

/// How many grants the record remembers, the newest included.
pub const HISTORY_CAPACITY: usize = 16;

/// `"RLK1"` on a little-endian machine; a machine of the other endianness reads it reversed and refuses.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"RLK1");
pub(crate) const VERSION: u32 = 1;

/// The kernel's TASK_COMM_LEN: a program name has at most 15 bytes and a NUL.
pub(crate) const PROGRAM_CAPACITY: usize = 16;

/// A reader that meets a writer reads again. A grant takes tens of nanoseconds to write and sixteen must pass before an
/// entry is reused, so even a second try is rare; a peer that scribbles must not hold us up for ever.
const READ_TRIES: usize = 64;

type Cell = AtomicU32;

#[repr(C)]
pub(crate) struct Record {
    pub(crate) magic: Cell,
    pub(crate) version: Cell,
    pub(crate) size: Cell,
    /// Zero; a reader ignores bits it does not know.
    flags: Cell,
    /// Inode number of the PID namespace in which the pids of this record mean something; zero if its maker had no /proc.
    pub(crate) home_pid_ns: Cell,
    /// Inode number of the time namespace in which start times of this record can be compared.
    pub(crate) home_time_ns: Cell,
    /// The number before the first grant. Random per record, so that a grant of a record that was removed is not
    /// mistaken for one of its successor.
    pub(crate) origin: Cell,
    /// Checksum of the header's other fields, none of which changes while the record lives: tells that somebody has
    /// written over them.
    sum: Cell,
    /// Which boot the record belongs to; zero if its maker had no /proc.
    pub(crate) boot_id: [Cell; 4],
    _reserved1: [Cell; 4],

    /// The lock word, see [`crate::word`]. From here on, one cache line holds all that a grant touches besides its entry.
    pub(crate) word: Cell,
    /// Number of the newest published grant.
    pub(crate) published: Cell,
    pub(crate) contended: Cell,
    pub(crate) longest_hold_ms: Cell,
    pub(crate) timeouts: Cell,
    pub(crate) recoveries: Cell,
    pub(crate) forced: Cell,
    /// How often an info was replaced; its lowest bit tells which amendment is the current one.
    amended: Cell,
    /// Bit `n` says that somebody of age `n` may sleep on the word ([`age_of`]): a hint for whoever wakes the oldest.
    pub(crate) ages: Cell,
    _reserved2: [Cell; 7],

    amendments: [Amendment; 2],
    _reserved3: [Cell; 20],

    entries: [Entry; HISTORY_CAPACITY],
}

/// An info that replaced the one given with its grant.
///
/// There are two, written in turn, so that the old text stands until the new one is complete.
#[repr(C)]
struct Amendment {
    /// `number << 1 | 1` of the grant; zero if there was none.
    stamp: Cell,
    len: Cell,
    text: Text,
}

/// One grant.
#[repr(C)]
struct Entry {
    /// `number << 1 | 1`; even while the entry is being written.
    stamp: Cell,
    pid: Cell,
    /// Ticks since boot at which the holder started, low word first; zero if unknown.
    start_time: [Cell; 2],
    uid: Cell,
    /// [`check_of`] number, pid and start time.
    check: Cell,
    /// UTC seconds since 1970, low word first, and nanoseconds.
    granted_sec: [Cell; 2],
    granted_nsec: Cell,
    /// The same moment on CLOCK_MONOTONIC, for durations.
    since_sec: Cell,
    since_nsec: Cell,
    /// On CLOCK_MONOTONIC.
    ended_sec: Cell,
    ended_nsec: Cell,
    ending: Cell,
    len: Cell,
    kind: Cell,
    program: [Cell; PROGRAM_CAPACITY / 4],
    text: Text,
}

type Text = [Cell; INFO_CAPACITY / 4];

const _: () = {
    assert!(size_of::<Record>() == RECORD_SIZE);
    assert!(align_of::<Record>() == 4);
    assert!(offset_of!(Record, magic) == 0);
    assert!(offset_of!(Record, version) == 4);
    assert!(offset_of!(Record, size) == 8);
    assert!(offset_of!(Record, flags) == 12);
    assert!(offset_of!(Record, home_pid_ns) == 16);
    assert!(offset_of!(Record, home_time_ns) == 20);
    assert!(offset_of!(Record, origin) == 24);
    assert!(offset_of!(Record, sum) == 28);
    assert!(offset_of!(Record, boot_id) == 32);
    assert!(offset_of!(Record, word) == 64);
    assert!(offset_of!(Record, published) == 68);
    assert!(offset_of!(Record, contended) == 72);
    assert!(offset_of!(Record, longest_hold_ms) == 76);
    assert!(offset_of!(Record, timeouts) == 80);
    assert!(offset_of!(Record, recoveries) == 84);
    assert!(offset_of!(Record, forced) == 88);
    assert!(offset_of!(Record, amended) == 92);
    assert!(offset_of!(Record, ages) == 96);
    assert!(offset_of!(Record, amendments) == 128);
    assert!(offset_of!(Record, entries) == 512);
    assert!(size_of::<Amendment>() == 152);
    assert!(offset_of!(Amendment, stamp) == 0);
    assert!(offset_of!(Amendment, len) == 4);
    assert!(offset_of!(Amendment, text) == 8);
    assert!(size_of::<Entry>() == 224);
    assert!(offset_of!(Entry, stamp) == 0);
    assert!(offset_of!(Entry, pid) == 4);
    assert!(offset_of!(Entry, start_time) == 8);
    assert!(offset_of!(Entry, uid) == 16);
    assert!(offset_of!(Entry, check) == 20);
    assert!(offset_of!(Entry, granted_sec) == 24);
    assert!(offset_of!(Entry, granted_nsec) == 32);
    assert!(offset_of!(Entry, since_sec) == 36);
    assert!(offset_of!(Entry, since_nsec) == 40);
    assert!(offset_of!(Entry, ended_sec) == 44);
    assert!(offset_of!(Entry, ended_nsec) == 48);
    assert!(offset_of!(Entry, ending) == 52);
    assert!(offset_of!(Entry, len) == 56);
    assert!(offset_of!(Entry, kind) == 60);
    assert!(offset_of!(Entry, program) == 64);
    assert!(offset_of!(Entry, text) == 80);
    assert!(64 % HISTORY_CAPACITY == 0);
};

/// Of a record that was read twice from its file, forgets what had changed in between: that may be half written. What a
/// reader of mapped memory finds out by an entry's stamp, which it reads before and behind the rest, a copy cannot tell.
///
/// A writer that was at work during the first reading has moved the stamp by the second, or the text again.
pub(crate) fn forget_what_differs(record: &mut [u8; RECORD_SIZE], again: &[u8; RECORD_SIZE]) {
    const AMENDMENTS: usize = offset_of!(Record, amendments);
    const ENTRIES: usize = offset_of!(Record, entries);
    let amendments = (0..2).map(|index| (AMENDMENTS + index * size_of::<Amendment>(), size_of::<Amendment>()));
    let entries = (0..HISTORY_CAPACITY).map(|index| (ENTRIES + index * size_of::<Entry>(), size_of::<Entry>()));
    for (start, len) in amendments.chain(entries) {
        if record[start..start + len] != again[start..start + len] {
            // The stamp comes first, in both; zero is that of nothing.
            record[start..start + size_of::<Cell>()].fill(0);
        }
    }
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Its holder ungot it.
    Released,
    /// Somebody ungot it by force.
    Forced,
    /// Its holder died, and the next get took over.
    Recovered,
}

impl Ending {
    const fn to_bits(self) -> u32 {
        match self {
            Self::Released => 1,
            Self::Forced => 2,
            Self::Recovered => 3,
        }
    }

    const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::Released),
            2 => Some(Self::Forced),
            3 => Some(Self::Recovered),
            _ => None,
        }
    }
}

/// What a holder says of itself; the same for all its grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// Ticks since boot; zero if unknown.
    pub(crate) start_time: u64,
    pub(crate) uid: u32,
    pub(crate) program: [u32; PROGRAM_CAPACITY / 4],
}

/// An entry as it was read: bounded, but otherwise whatever a peer wrote.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) number: u32,
    pub(crate) holder: Holder,
    pub(crate) kind: Option<Kind>,
    /// CLOCK_REALTIME.
    pub(crate) granted: Moment,
    pub(crate) since: Moment,
    pub(crate) ended: Option<(Ending, Moment)>,
    pub(crate) info: String<INFO_CAPACITY>,
}

impl Report {
    pub(crate) fn held_for(&self) -> Option<Duration> {
        self.ended.map(|(_, ended)| ended.since(self.since))
    }
}

/// How old a wait is, in 32 steps that grow with it, each some 1.4 times the one before: 0 for less than a millisecond, 31
/// for 46 seconds or more.
///
/// Sleepers of one age have one bit, by which the kernel finds them among all that sleep on the word. Programs that share
/// a lock agree on it, so it is part of the record's layout.
pub(crate) fn age_of(waited: Duration) -> u32 {
    let millis = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX).saturating_add(1);
    let log = millis.ilog2();
    // The bit behind the highest one halves the step.
    let half = if log == 0 { 0 } else { millis >> (log - 1) & 1 };
    (2 * log + half).min(31)
}

/// The longest prefix of `text` that fits and ends between two characters.
pub(crate) fn cut_to_capacity(text: &str) -> &str {
    let mut end = text.len().min(INFO_CAPACITY);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Record {
    /// Makes a record that is all zeros, or cleared, a lock that nobody has held yet: the word comes last.
    pub(crate) fn initialise(&self, origin: u32, boot_id: [u32; 4], pid_ns: u32, time_ns: u32) {
        // Relaxed: a new file gets its name afterwards, by a system call.
        let set = |cell: &Cell, value| cell.store(value, Ordering::Relaxed);
        set(&self.version, VERSION);
        set(&self.size, RECORD_SIZE as u32);
        set(&self.home_pid_ns, pid_ns);
        set(&self.home_time_ns, time_ns);
        set(&self.origin, origin);
        for (cell, value) in self.boot_id.iter().zip(boot_id) {
            set(cell, value);
        }
        set(&self.published, origin);
        set(&self.magic, MAGIC);
        set(&self.sum, self.header_sum());
        // Release: pairs with the Acquire in `protocol::acquire`, for those who had the record mapped while it was
        // retired and is brought back now.
        self.word.store(Word::free(origin).0, Ordering::Release);
    }

    /// Forgets everything but the word, the magic number and the layout. Nobody else may use the record meanwhile: its
    /// word is retired, and the caller has the right to remove it.
    pub(crate) fn clear(&self) {
        let set = |cell: &Cell| cell.store(0, Ordering::Relaxed);
        [
            &self.contended,
            &self.longest_hold_ms,
            &self.timeouts,
            &self.recoveries,
            &self.forced,
            &self.amended,
            &self.ages,
        ]
        .into_iter()
        .for_each(set);
        self.amendments.iter().for_each(|amendment| set(&amendment.stamp));
        self.entries.iter().for_each(|entry| set(&entry.stamp));
    }

    /// FNV-1a of the header, word by word.
    fn header_sum(&self) -> u32 {
        let header = [
            &self.magic,
            &self.version,
            &self.size,
            &self.flags,
            &self.home_pid_ns,
            &self.home_time_ns,
            &self.origin,
            &self.boot_id[0],
            &self.boot_id[1],
            &self.boot_id[2],
            &self.boot_id[3],
        ];
        header.into_iter().fold(0x811c_9dc5, |sum, cell| (sum ^ cell.load(Ordering::Relaxed)).wrapping_mul(0x0100_0193))
    }

    /// Whether the header is as its maker wrote it.
    pub(crate) fn header_is_whole(&self) -> bool {
        self.sum.load(Ordering::Relaxed) == self.header_sum()
    }

    fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize % HISTORY_CAPACITY]
    }

    /// Publishes grant `number`. Only its holder calls this, once.
    ///
    /// A crash in here leaves an even stamp: readers go on showing the grant before, and whoever recovers the lock
    /// knows the holder by the word alone.
    #[inline]
    pub(crate) fn publish(&self, number: u32, kind: Kind, holder: &Holder, granted: Moment, since: Moment, info: &str) {
        let entry = self.entry(number);
        let set = |cell: &Cell, value| cell.store(value, Ordering::Relaxed);
        set(&entry.stamp, number << 1);
        // Release: pairs with the Acquire fence in `report`. A reader that sees any store below also sees the stamp
        // above, and throws away what it read.
        fence(Ordering::Release);
        set(&entry.pid, holder.pid);
        set(&entry.start_time[0], holder.start_time as u32);
        set(&entry.start_time[1], (holder.start_time >> 32) as u32);
        set(&entry.uid, holder.uid);
        set(&entry.check, check_of(number, holder.pid, holder.start_time));
        set(&entry.granted_sec[0], granted.sec as u32);
        set(&entry.granted_sec[1], (granted.sec >> 32) as u32);
        set(&entry.granted_nsec, granted.nsec);
        set(&entry.since_sec, since.sec as u32);
        set(&entry.since_nsec, since.nsec);
        set(&entry.ending, 0);
        set(&entry.kind, kind as u32);
        for (cell, &word) in entry.program.iter().zip(&holder.program) {
            set(cell, word);
        }
        set(&entry.len, store_text(&entry.text, info));
        // Release: pairs with the Acquire of the stamp in `report`.
        entry.stamp.store(number << 1 | 1, Ordering::Release);
        // A holder that was forced off and goes on only now must not take the number back from those who came after it,
        // nor give the record that has taken this one's address a number of the old one's. Should it stop once more right
        // behind this look, it does take it back: then `is_entry_of` still tells the holder of its grant, and the next
        // grant goes on from the number that is there.
        if (1..=64).contains(&number.wrapping_sub(self.published.load(Ordering::Relaxed))) {
            // Release: pairs with the Acquire of the word that every reader of `published` does first.
            self.published.store(number, Ordering::Release);
        }
    }

    /// Whether the entry of grant `number` is still that grant's.
    #[inline]
    pub(crate) fn is_entry_of(&self, number: u32) -> bool {
        self.entry(number).stamp.load(Ordering::Relaxed) == number << 1 | 1
    }

    /// Notes how and when grant `number` ended. Changes nothing if that grant was never published or is forgotten.
    #[inline]
    pub(crate) fn stamp_ending(&self, number: u32, ending: Ending, now: Moment) {
        if !self.is_entry_of(number) {
            return;
        }
        let entry = self.entry(number);
        entry.ended_sec.store(now.sec as u32, Ordering::Relaxed);
        entry.ended_nsec.store(now.nsec, Ordering::Relaxed);
        // Release: pairs with the Acquire of `ending` in `report`.
        entry.ending.store(ending.to_bits(), Ordering::Release);
    }

    /// When grant `number` was made. Only its holder asks, who wrote it down.
    #[inline]
    pub(crate) fn held_since(&self, number: u32) -> Moment {
        load_since(self.entry(number))
    }

    /// Counts the hold of grant `number`, which is about to end, as the longest if it is. Only its holder calls this.
    #[inline]
    pub(crate) fn count_hold(&self, number: u32, now: Moment) {
        if !self.is_entry_of(number) {
            return;
        }
        let since = self.held_since(number);
        let held = now.millis().wrapping_sub(since.millis());
        if held > self.longest_hold_ms.load(Ordering::Relaxed) && now >= since {
            self.longest_hold_ms.store(held, Ordering::Relaxed);
        }
    }

    /// Notes that grant `number` now stands until somebody ungets it.
    pub(crate) fn stamp_detached(&self, number: u32) {
        if self.is_entry_of(number) {
            self.entry(number).kind.store(Kind::Detached as u32, Ordering::Relaxed);
        }
    }

    /// Replaces the info of grant `number`. Only its holder calls this, one thread at a time.
    ///
    /// A crash in here leaves the old text: the counter moves last.
    pub(crate) fn amend(&self, number: u32, info: &str) {
        let next = self.amended.load(Ordering::Relaxed).wrapping_add(1);
        let amendment = &self.amendments[next as usize % 2];
        // Release: pairs with the Acquire fence in `amended_info`, as in `publish`; what a reader might still be
        // reading here is the amendment before the last, and its counter has moved since.
        fence(Ordering::Release);
        amendment.stamp.store(number << 1 | 1, Ordering::Relaxed);
        amendment.len.store(store_text(&amendment.text, info), Ordering::Relaxed);
        // A compare-and-swap, so that one that was forced off and goes on only now does not take the counter back.
        // Release: pairs with the Acquire in `amended_info`.
        let _ = self.amended.compare_exchange(next.wrapping_sub(1), next, Ordering::Release, Ordering::Relaxed);
    }

    /// The info that replaced the one of grant `number`, if one did.
    fn amended_info(&self, number: u32) -> Option<String<INFO_CAPACITY>> {
        for _ in 0..READ_TRIES {
            // Acquire: pairs with the Release in `amend`.
            let current = self.amended.load(Ordering::Acquire);
            let amendment = &self.amendments[current as usize % 2];
            let stamp = amendment.stamp.load(Ordering::Relaxed);
            let len = amendment.len.load(Ordering::Relaxed);
            let text = load_text(&amendment.text);
            // Acquire: pairs with the Release fence in `amend`.
            fence(Ordering::Acquire);
            if self.amended.load(Ordering::Relaxed) == current {
                return (stamp == number << 1 | 1).then(|| to_string(&text, len));
            }
        }
        None
    }

    /// The full number of the grant that `word` names or, for a free word, of the last one.
    pub(crate) fn number_of(&self, word: Word) -> u32 {
        word.number_near(self.published.load(Ordering::Relaxed))
    }

    /// What `read` makes of the entry of grant `number`, if that was published, is still remembered, and stays so while it
    /// is read.
    fn read_entry<T>(&self, number: u32, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        let entry = self.entry(number);
        // Acquire: pairs with the Release of the stamp in `publish`.
        if entry.stamp.load(Ordering::Acquire) != number << 1 | 1 {
            return None;
        }
        let found = read(entry);
        // Acquire: pairs with the Release fence in `publish`. If any load of `read` saw a later grant's store, the load
        // below sees its stamp.
        fence(Ordering::Acquire);
        (entry.stamp.load(Ordering::Relaxed) == number << 1 | 1).then_some(found)
    }

    /// Grant `number`, if it was published and is still remembered.
    pub(crate) fn report(&self, number: u32) -> Option<Report> {
        let (mut report, text, len) = self.read_entry(number, |entry| {
            let report = Report {
                number,
                holder: Holder {
                    pid: load(&entry.pid),
                    start_time: load_start_time(entry, number),
                    uid: load(&entry.uid),
                    program: core::array::from_fn(|i| load(&entry.program[i])),
                },
                ended: load_ended(entry),
                kind: Kind::from_bits(load(&entry.kind)),
                granted: moment(load_wide(&entry.granted_sec), load(&entry.granted_nsec)),
                since: load_since(entry),
                info: String::new(),
            };
            (report, load_text(&entry.text), load(&entry.len))
        })?;
        report.info = self.amended_info(number).unwrap_or_else(|| to_string(&text, len));
        Some(report)
    }

    /// The pid, the start time (zero if unknown) and since when it holds, as grant `number` tells them: of a report, what
    /// recovery needs. Without the text, which a small agent has no use for.
    pub(crate) fn holder_of(&self, number: u32) -> Option<(u32, u64, Moment)> {
        self.read_entry(number, |entry| (load(&entry.pid), load_start_time(entry, number), load_since(entry)))
    }

    /// When grant `number` ended, if it has.
    pub(crate) fn ended(&self, number: u32) -> Option<Moment> {
        self.read_entry(number, load_ended).flatten().map(|(_, ended)| ended)
    }

    /// The newest published grant: the one that holds, or the one that held last.
    pub(crate) fn newest(&self) -> Option<Report> {
        for _ in 0..READ_TRIES {
            // Acquire: pairs with the Release in `protocol::release` or, while held, with nothing: then the entry's own
            // stamp orders what is read.
            let word = Word(self.word.load(Ordering::Acquire));
            let number = self.number_of(word);
            // Older ones only where newer ones died unpublished: entry `number` itself is overwritten after all others.
            let found = (0..HISTORY_CAPACITY as u32).find_map(|age| self.report(number.wrapping_sub(age)));
            if found.is_some() {
                return found;
            }
            if self.published.load(Ordering::Relaxed) == self.origin.load(Ordering::Relaxed) {
                return None;
            }
        }
        None
    }
}

/// Ties an entry's start time to its number and pid. A holder that was stopped while it wrote, was forced off, and goes on
/// when its entry has become another grant's, overwrites single fields of that; a start time of its own in there would tell
/// everybody that the new holder's pid belongs to another process by now.
#[inline]
fn check_of(number: u32, pid: u32, start_time: u64) -> u32 {
    // FNV-1a, word by word. Zero, the start time that is not known, proves nothing anyway.
    let hash = [pid, start_time as u32, (start_time >> 32) as u32]
        .into_iter()
        .fold(0x811c_9dc5, |sum: u32, word| (sum ^ word).wrapping_mul(0x0100_0193));
    hash ^ number
}

fn load(cell: &Cell) -> u32 {
    cell.load(Ordering::Relaxed)
}

fn load_wide(cells: &[Cell; 2]) -> u64 {
    u64::from(load(&cells[0])) | u64::from(load(&cells[1])) << 32
}

fn load_since(entry: &Entry) -> Moment {
    moment(u64::from(load(&entry.since_sec)), load(&entry.since_nsec))
}

/// Zero if it is not grant `number`'s own: that is worse than none, because it would be a proof of death.
fn load_start_time(entry: &Entry, number: u32) -> u64 {
    let start_time = load_wide(&entry.start_time);
    if load(&entry.check) == check_of(number, load(&entry.pid), start_time) { start_time } else { 0 }
}

fn load_ended(entry: &Entry) -> Option<(Ending, Moment)> {
    // Acquire: pairs with the Release of `ending` in `stamp_ending`.
    let ending = Ending::from_bits(entry.ending.load(Ordering::Acquire))?;
    Some((ending, moment(u64::from(load(&entry.ended_sec)), load(&entry.ended_nsec))))
}

/// Writes `text`, cut to what fits, and returns its length.
#[inline]
fn store_text(cells: &Text, text: &str) -> u32 {
    let text = cut_to_capacity(text).as_bytes();
    let (words, rest) = text.split_at(text.len() & !3);
    for (cell, word) in cells.iter().zip(words.chunks_exact(4)) {
        cell.store(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]), Ordering::Relaxed);
    }
    // None where the text fills them all.
    if let Some(cell) = cells.get(words.len() / 4) {
        let at = |i| rest.get(i).copied().unwrap_or(0);
        cell.store(u32::from_ne_bytes([at(0), at(1), at(2), 0]), Ordering::Relaxed);
    }
    text.len() as u32
}

fn load_text(cells: &Text) -> [u8; INFO_CAPACITY] {
    let mut text = [0; INFO_CAPACITY];
    for (bytes, cell) in text.chunks_exact_mut(4).zip(cells) {
        bytes.copy_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes());
    }
    text
}

/// Text that a peer wrote, as text: at most `len` bytes, what is not UTF-8 replaced, cut at a character boundary.
pub(crate) fn to_string<const N: usize>(bytes: &[u8], len: u32) -> String<N> {
    let mut string = String::new();
    for chunk in bytes[..bytes.len().min(len as usize)].utf8_chunks() {
        for character in
            chunk.valid().chars().chain((!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER))
        {
            if string.push(character).is_err() {
                return string;
            }
        }
    }
    string
}

/// A moment that a peer wrote: the nanoseconds are bounded, so that arithmetic on it cannot overflow.
fn moment(sec: u64, nsec: u32) -> Moment {
    Moment { sec, nsec: nsec.min(999_999_999) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String as Text;

    use super::*;

    const HOLDER: Holder = Holder { pid: 42, start_time: 1 << 40 | 7, uid: 1000, program: [0; 4] };
    const NOW: Moment = Moment { sec: 5, nsec: 6 };

    fn cells<const N: usize>(value: u32) -> [Cell; N] {
        core::array::from_fn(|_| Cell::new(value))
    }

    /// A record of which every cell has this value.
    fn filled_with(value: u32) -> Record {
        let cell = || Cell::new(value);
        Record {
            magic: cell(),
            version: cell(),
            size: cell(),
            flags: cell(),
            home_pid_ns: cell(),
            home_time_ns: cell(),
            origin: cell(),
            sum: cell(),
            boot_id: cells(value),
            _reserved1: cells(value),
            word: cell(),
            published: cell(),
            contended: cell(),
            longest_hold_ms: cell(),
            timeouts: cell(),
            recoveries: cell(),
            forced: cell(),
            amended: cell(),
            ages: cell(),
            _reserved2: cells(value),
            amendments: core::array::from_fn(|_| Amendment { stamp: cell(), len: cell(), text: cells(value) }),
            _reserved3: cells(value),
            entries: core::array::from_fn(|_| Entry {
                stamp: cell(),
                pid: cell(),
                start_time: cells(value),
                uid: cell(),
                check: cell(),
                granted_sec: cells(value),
                granted_nsec: cell(),
                since_sec: cell(),
                since_nsec: cell(),
                ended_sec: cell(),
                ended_nsec: cell(),
                ending: cell(),
                len: cell(),
                kind: cell(),
                program: cells(value),
                text: cells(value),
            }),
        }
    }

    fn new(origin: u32) -> Record {
        let record = filled_with(0);
        record.initialise(origin, [1; 4], 2, 3);
        record
    }

    /// Grants number `number` as the protocol does: the word first.
    fn grant(record: &Record, number: u32, info: &str) {
        record.word.store(Word::held(Kind::Process, HOLDER.pid, number).0, Ordering::Relaxed);
        record.publish(number, Kind::Process, &HOLDER, NOW, NOW, info);
    }

    #[test]
    fn what_was_published_is_read_back() {
        for origin in [0, 62, u32::MAX - 20] {
            let record = new(origin);
            assert!(record.newest().is_none());
            for age in 1..=40_u32 {
                let number = origin.wrapping_add(age);
                grant(&record, number, &"é".repeat(age as usize));
                let report = record.newest().unwrap();
                assert_eq!((report.number, report.holder), (number, HOLDER));
                assert_eq!((report.granted, report.since, report.ended), (NOW, NOW, None));
                assert_eq!(report.info.as_str(), "é".repeat(age as usize));
                record.stamp_ending(number, Ending::Forced, NOW);
                assert_eq!(record.newest().unwrap().ended, Some((Ending::Forced, NOW)));
                let oldest = number.wrapping_sub(age.min(16) - 1);
                assert!(record.report(oldest).is_some() && record.report(oldest.wrapping_sub(16)).is_none());
            }
        }
    }

    #[test]
    fn an_amendment_is_of_one_grant_only() {
        let record = new(7);
        grant(&record, 8, "first");
        for text in ["second", "third", "", "fifth"] {
            record.amend(8, text);
            assert_eq!(record.newest().unwrap().info.as_str(), text);
        }
        grant(&record, 9, "next");
        assert_eq!(record.newest().unwrap().info.as_str(), "next");
    }

    /// Found by the fuzzer: a counter that came round to zero counted as "no amendment".
    #[test]
    fn amendments_may_come_round() {
        let record = new(u32::MAX);
        grant(&record, 0, "first");
        assert_eq!(record.newest().unwrap().info.as_str(), "first");
        record.amended.store(u32::MAX, Ordering::Relaxed);
        record.amend(0, "second");
        assert_eq!(record.newest().unwrap().info.as_str(), "second");
    }

    /// A writer that dies before its last step has changed nothing that is read.
    #[test]
    fn a_half_written_amendment_is_not_seen() {
        let record = new(7);
        grant(&record, 8, "first");
        record.amend(8, "second");
        let other = &record.amendments[(record.amended.load(Ordering::Relaxed) as usize + 1) % 2];
        other.stamp.store(8 << 1 | 1, Ordering::Relaxed);
        other.len.store(store_text(&other.text, "ha"), Ordering::Relaxed);
        assert_eq!(record.newest().unwrap().info.as_str(), "second");
    }

    /// It was stopped before it published, was forced off, and goes on after others were granted.
    #[test]
    fn a_late_writer_does_not_take_the_number_back() {
        let record = new(7);
        for number in 9..100 {
            grant(&record, number, "");
        }
        record.publish(8, Kind::Process, &HOLDER, NOW, NOW, "late");
        assert_eq!(record.published.load(Ordering::Relaxed), 99);
        assert_eq!(record.newest().unwrap().number, 99);
    }

    #[test]
    fn of_two_readings_only_what_agrees_is_kept() {
        let first = [0; RECORD_SIZE];
        let stamps = (0..2)
            .map(|index| (offset_of!(Record, amendments) + index * 152, 152))
            .chain((0..16).map(|index| (512 + index * 224, 224)));
        for (start, len) in stamps {
            for at in [start, start + 4, start + len - 1] {
                let (mut record, mut again) = (first, first);
                record[start] = 9;
                again[start] = 9;
                forget_what_differs(&mut record, &again);
                assert_eq!(record[start], 9, "kept");
                again[at] ^= 1;
                forget_what_differs(&mut record, &again);
                assert_eq!(record[start], 0, "forgotten");
            }
        }
        let (mut record, mut again) = (first, first);
        again[offset_of!(Record, word)] = 1;
        record[512] = 9;
        again[512] = 9;
        forget_what_differs(&mut record, &again);
        assert_eq!(record[512], 9, "an entry stands whatever the word does");
    }

    /// On a machine that orders memory weakly, too: Miri shows a reader old values wherever the orderings allow it.
    ///
    /// Seen to fail under Miri without the fence in `publish`, and without the one in `report`.
    #[test]
    fn a_reader_sees_grants_whole() {
        let record = new(0);
        let text = |number: u32| ["aaaaa", "bbbbb", "ccccc"][number as usize % 3];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..40 {
                    grant(&record, number, text(number));
                    if number % 4 == 0 {
                        record.amend(number, "amended");
                        record.amend(number, "amended");
                    }
                }
            });
            scope.spawn(|| {
                for round in 0..60 {
                    let found = if round % 2 == 0 { record.newest() } else { record.report(round / 2) };
                    if let Some(report) = found {
                        assert_eq!((report.holder, report.granted), (HOLDER, NOW));
                        assert!([text(report.number), "amended"].contains(&report.info.as_str()), "{report:?}");
                    }
                }
            });
        });
    }

    #[test]
    fn ages_grow_with_the_wait() {
        let age = |millis| age_of(Duration::from_millis(millis));
        assert_eq!([0, 1, 2, 3, 5, 7, 11, 1000].map(age), [0, 2, 3, 4, 5, 6, 7, 19]);
        assert!((0..50_000).all(|millis| age(millis) <= age(millis + 1)));
        assert_eq!([46_339, 49_151, u64::MAX].map(age), [30, 31, 31]);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, kept) in [
            (Text::new(), 0),
            ("x".repeat(144), 144),
            ("x".repeat(145), 144),
            ("x".repeat(143) + "é", 143),
            ("x".repeat(141) + "🔒", 141),
            ("x".repeat(140) + "🔒", 144),
        ] {
            let record = new(0);
            grant(&record, 1, &text);
            assert_eq!(record.newest().unwrap().info.as_str(), &text[..kept]);
        }
    }

    /// Whatever is in the record: no panic, no endless loop, nothing longer than it may be.
    #[test]
    fn noise_is_read_without_harm() {
        let mut state = 1_u32;
        let mut random = move || {
            // Numbers of xorshift32, which never repeats within these few.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        for value in
            [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 0xdcdc_dcdc].into_iter().chain((0..20).map(|_| random()))
        {
            let record = filled_with(value);
            let _ = record.newest();
            let _ = record.number_of(Word(value));
            record.count_hold(value, NOW);
            record.stamp_ending(value, Ending::Released, NOW);
            record.stamp_detached(value);
            for number in [value, value >> 1, 0, u32::MAX] {
                if let Some(report) = record.report(number) {
                    let _ = report.held_for();
                    assert!(report.info.len() <= INFO_CAPACITY && report.granted.nsec < 1_000_000_000);
                }
            }
            grant(&record, value.wrapping_add(1), "still works");
            assert_eq!(record.report(value.wrapping_add(1)).unwrap().info.as_str(), "still works");
        }
    }
}
