//! What `--json` prints: one object a line. The schema is documented in JSON.md, and its version is [`SCHEMA`].
//!
//! Within a version, fields are only added; a field that would change its meaning gets another name or the schema another
//! number. Times are UTC. Text is unchanged, but characters that could harm a terminal are written as `\uXXXX`, which
//! every parser reads as the same text.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use resourcelock::{Counters, Ending, Escaped, Grant, Kind, Previous, Status, Waiter};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::view::{Found, View};
use crate::wording;

const SCHEMA: u32 = 1;

/// Wraps every object: which schema, what it is, and about which lock.
#[derive(Serialize)]
struct Object<'a, T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(flatten)]
    fields: T,
}

#[derive(Serialize)]
struct GrantFields<'a> {
    number: u32,
    granted: String,
    held_for: Option<f64>,
    ending: Option<&'static str>,
    signal: Option<String>,
    forced_by: Option<Process>,
    kind: &'static str,
    seat: u32,
    pid: u32,
    pid_namespace: Option<u32>,
    thread: Option<u32>,
    uid: u32,
    program: &'a str,
    info: &'a str,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    uid: u32,
}

#[derive(Serialize)]
struct WaiterFields {
    seat: u32,
    pid: u32,
    thread: Option<u32>,
    waited: f64,
}

#[derive(Serialize)]
struct CounterFields {
    grants: u32,
    contended: u32,
    timeouts: u32,
    recoveries: u32,
    forced: u32,
    longest_hold: f64,
}

#[derive(Serialize)]
struct LockFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    state: &'static str,
    locked: bool,
    seat: Option<u32>,
    pid: Option<u32>,
    held_for: Option<f64>,
    overdue: Option<f64>,
    waiters: bool,
    waiting: Vec<WaiterFields>,
    handoff: bool,
    holder: Option<GrantFields<'a>>,
    last: Option<GrantFields<'a>>,
    counters: Option<CounterFields>,
    error: Option<String>,
}

#[derive(Serialize)]
struct GetFields<'a> {
    granted: bool,
    grant: Option<GrantFields<'a>>,
    holder: Option<GrantFields<'a>>,
    #[serde(flatten)]
    previous: PreviousFields<'a>,
}

#[derive(Serialize)]
struct RemoveFields<'a> {
    removed: bool,
    #[serde(flatten)]
    previous: PreviousFields<'a>,
}

/// What became of the previous holder.
#[derive(Serialize)]
struct PreviousFields<'a> {
    previous: Option<&'static str>,
    recovered: bool,
    recovered_from: Option<GrantFields<'a>>,
}

impl<'a> From<Option<&'a Previous>> for PreviousFields<'a> {
    fn from(previous: Option<&'a Previous>) -> Self {
        Self {
            previous: previous.map(|previous| match previous {
                Previous::Released => "released",
                Previous::Died(_) => "died",
                Previous::Forced(_) => "forced",
                _ => "unknown",
            }),
            recovered: previous.is_some_and(Previous::recovered),
            recovered_from: previous.and_then(Previous::grant).map(GrantFields::from),
        }
    }
}

#[derive(Serialize)]
struct ChangeFields<'a> {
    time: String,
    change: &'a str,
    grant: Option<GrantFields<'a>>,
    missed: Option<u32>,
}

impl<'a> From<&'a Grant> for GrantFields<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self {
            number: grant.number(),
            granted: time(timestamp(grant)),
            held_for: grant.held_for().map(seconds),
            ending: grant.ending().map(|ending| match ending {
                Ending::Released => "released",
                Ending::Forced => "forced",
                Ending::Died => "died",
                Ending::Inconsistent => "inconsistent",
                _ => "unknown",
            }),
            signal: wording::signal(grant),
            forced_by: grant.forced_by().map(|(pid, uid)| Process { pid, uid }),
            kind: kind(grant.kind()),
            seat: grant.seat(),
            pid: grant.pid(),
            pid_namespace: grant.pid_namespace(),
            thread: grant.thread(),
            uid: grant.uid(),
            program: grant.program(),
            info: grant.info(),
        }
    }
}

impl From<&Waiter> for WaiterFields {
    fn from(waiter: &Waiter) -> Self {
        Self { seat: waiter.seat, pid: waiter.pid, thread: waiter.thread, waited: seconds(waiter.waited) }
    }
}

impl From<Counters> for CounterFields {
    fn from(counters: Counters) -> Self {
        Self {
            grants: counters.grants,
            contended: counters.contended,
            timeouts: counters.timeouts,
            recoveries: counters.recoveries,
            forced: counters.forced,
            longest_hold: seconds(counters.longest_hold),
        }
    }
}

/// When it was granted; the end of time for what a peer wrote beyond it.
pub(crate) fn timestamp(grant: &Grant) -> Timestamp {
    let granted = grant.granted();
    let nanos = i32::try_from(granted.subsec_nanos()).unwrap_or(0);
    i64::try_from(granted.unix_seconds())
        .ok()
        .and_then(|seconds| Timestamp::new(seconds, nanos).ok())
        .unwrap_or(Timestamp::MAX)
}

/// RFC 3339, with microseconds.
fn time(timestamp: Timestamp) -> String {
    format!("{timestamp:.6}")
}

/// To the microsecond: the clocks are no better.
fn seconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e6
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Process => "process",
        Kind::Detached => "detached",
    }
}

fn state(found: Found) -> &'static str {
    match found {
        Found::Nothing => "absent",
        Found::Lock(Status::Free) => "free",
        Found::Lock(Status::Reserved) => "reserved",
        Found::Lock(Status::Held(Kind::Process)) => "held",
        Found::Lock(Status::Held(Kind::Detached)) => "detached",
        Found::Lock(Status::HolderDied) => "dead",
        Found::Lock(Status::Retired) => "removed",
        Found::Lock(Status::Corrupt) => "corrupt",
        Found::Lock(_) => "unknown",
        Found::Unusable(_) | Found::NotText => "unusable",
    }
}

/// A lock: for `state` and `list`, and with the time of the look for `trace`.
pub(crate) fn lock(view: &View, at: Option<Timestamp>) -> String {
    let fields = LockFields {
        time: at.map(time),
        state: state(view.found),
        locked: view.is_locked(),
        seat: view.seat,
        pid: view.holder.as_ref().map(Grant::pid),
        held_for: view.held_for.map(seconds),
        overdue: view.overdue.map(seconds),
        waiters: view.has_waiters,
        waiting: view.waiters.iter().map(WaiterFields::from).collect(),
        handoff: view.wants_handoff,
        holder: view.holder.as_ref().map(GrantFields::from),
        last: view.last.as_ref().map(GrantFields::from),
        counters: matches!(view.found, Found::Lock(_)).then(|| view.counters.into()),
        error: match view.found {
            Found::Unusable(error) => Some(error.to_string()),
            Found::NotText => Some(wording::NOT_TEXT.to_owned()),
            Found::Nothing | Found::Lock(_) => None,
        },
    };
    line("lock", &view.name, fields)
}

/// A grant, for `history`.
pub(crate) fn grant(name: &str, grant: &Grant) -> String {
    line("grant", name, GrantFields::from(grant))
}

/// The outcome of a `get`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Got<'a> {
    pub(crate) grant: Option<&'a Grant>,
    /// Whether the hold is about to be detached.
    pub(crate) will_detach: bool,
    /// The present holder, where there is no grant.
    pub(crate) holder: Option<&'a Grant>,
    /// What became of the previous holder, where there is a grant.
    pub(crate) previous: Option<&'a Previous>,
}

/// The answer of a `get`.
pub(crate) fn get(name: &str, got: Got<'_>) -> String {
    let mut grant = got.grant.map(GrantFields::from);
    if let Some(grant) = grant.as_mut().filter(|_| got.will_detach) {
        grant.kind = kind(Kind::Detached);
    }
    let fields = GetFields {
        granted: grant.is_some(),
        grant,
        holder: got.holder.map(GrantFields::from),
        previous: got.previous.into(),
    };
    line("get", name, fields)
}

/// The answer of a `remove`, with what became of the last holder; `None` if nothing was removed.
pub(crate) fn remove(name: &str, previous: Option<&Previous>) -> String {
    line("remove", name, RemoveFields { removed: previous.is_some(), previous: previous.into() })
}

/// The answer to a question of yes or no: `{"type":"unget",…,"released":true}`.
pub(crate) fn answer(kind: &'static str, name: &str, field: &str, yes: bool) -> String {
    line(kind, name, serde_json::Map::from_iter([(field.to_owned(), yes.into())]))
}

/// One line of `trace --changes`.
pub(crate) fn change(name: &str, at: Timestamp, change: &str, of: Option<&Grant>, missed: Option<u32>) -> String {
    line("change", name, ChangeFields { time: time(at), change, grant: of.map(GrantFields::from), missed })
}

fn line(kind: &'static str, name: &str, fields: impl Serialize) -> String {
    let mut line = Vec::new();
    let object = Object { schema: SCHEMA, kind, name, fields };
    // Neither a vector nor these types can fail.
    let _ = object.serialize(&mut Serializer::with_formatter(&mut line, Harmless));
    line.push(b'\n');
    String::from_utf8(line).unwrap_or_default()
}

/// Compact JSON in which what could harm a terminal is escaped, besides what JSON demands.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        fragment.chars().try_for_each(|character| {
            let mut buffer = [0; 4];
            let text = &*character.encode_utf8(&mut buffer);
            if Escaped(text).to_string() == text {
                return writer.write_all(text.as_bytes());
            }
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_text_is_escaped_and_stays_the_same_text() {
        let hostile = "\x1b]0;x\x07 \u{202e}\u{9b}31m \"quoted\" \\ 🔒 é\n";
        let text = line("lock", hostile, ());
        assert!(!text.trim_end().contains(|character: char| character.is_control() || character == '\u{202e}'));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(value["name"], hostile);
        assert_eq!(value["schema"], SCHEMA);
    }
}
