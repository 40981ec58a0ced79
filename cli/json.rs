//! What `--json` prints: one object a line. The schema is documented in JSON.md, and its version is [`SCHEMA`].
//!
//! Within a version, fields are only added; a field that would change its meaning gets another name or the schema another
//! number. Times are UTC. Text is as its writer gave it, but what could harm a terminal is written as `\uXXXX`, which
//! every parser reads as the same text.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use resourcelock::{Counters, Ending, Escaped, Grant, Kind, Status};
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
    kind: &'static str,
    pid: u32,
    start_time: Option<u64>,
    uid: u32,
    program: &'a str,
    info: &'a str,
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
    pid: Option<u32>,
    held_for: Option<f64>,
    waiters: bool,
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
    recovered: bool,
    recovered_from: Option<GrantFields<'a>>,
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
                Ending::Recovered => "recovered",
                _ => "unknown",
            }),
            kind: kind(grant.kind()),
            pid: grant.pid(),
            start_time: grant.start_time(),
            uid: grant.uid(),
            program: grant.program(),
            info: grant.info(),
        }
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
        Kind::Foreign => "foreign",
    }
}

fn state(found: Found) -> &'static str {
    match found {
        Found::Nothing => "absent",
        Found::Lock(Status::Free) => "free",
        Found::Lock(Status::Reserved) => "reserved",
        Found::Lock(Status::Held(Kind::Process)) => "held",
        Found::Lock(Status::Held(Kind::Detached)) => "detached",
        Found::Lock(Status::Held(Kind::Foreign)) => "foreign",
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
        pid: view.pid,
        held_for: view.held_for.map(seconds),
        waiters: view.has_waiters,
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

/// What a get has come to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Got<'a> {
    pub(crate) grant: Option<&'a Grant>,
    /// Whether it is about to become a hold that stands until somebody ungets it.
    pub(crate) stays: bool,
    /// Who is in the way, where there is no grant.
    pub(crate) holder: Option<&'a Grant>,
    /// Whether it was recovered from a holder that had died.
    pub(crate) recovered: bool,
    pub(crate) recovered_from: Option<&'a Grant>,
}

/// The answer of a get.
pub(crate) fn get(name: &str, got: Got<'_>) -> String {
    let mut grant = got.grant.map(GrantFields::from);
    if let Some(grant) = grant.as_mut().filter(|_| got.stays) {
        grant.kind = kind(Kind::Detached);
    }
    let fields = GetFields {
        granted: grant.is_some(),
        grant,
        holder: got.holder.map(GrantFields::from),
        recovered: got.recovered,
        recovered_from: got.recovered_from.map(GrantFields::from),
    };
    line("get", name, fields)
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
