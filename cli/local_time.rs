//! Local time, from the system's time zone: loaded when the first time is shown, then kept.
//!
//! `TZ` says, else `/etc/localtime`; where there is neither, local time is UTC, as the C library has it. A zone that
//! was named but cannot be had is another matter: then times are shown in UTC and say so, because UTC passed off as
//! local time would be wrong.

use std::env::VarError;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use resourcelock::OpenOptions;

const LOCAL_TIME: &str = "/etc/localtime";
const ZONES: &str = "/usr/share/zoneinfo";

static ZONE: OnceLock<Option<TimeZone>> = OnceLock::new();

/// The zone; `None` if it cannot be known.
fn zone() -> Option<&'static TimeZone> {
    ZONE.get_or_init(find).as_ref()
}

/// Jiff finds the zone everywhere and with its name, for which it first reads the directories of all zones: milliseconds,
/// on a small board many. The offset needs no name, so the usual places are looked at first.
fn find() -> Option<TimeZone> {
    let zone = match std::env::var("TZ") {
        Ok(name) if std::env::var_os("TZDIR").is_none() => named(name.strip_prefix(':').unwrap_or(&name)),
        Err(VarError::NotPresent) => match fs::read(LOCAL_TIME) {
            Ok(data) => TimeZone::tzif(LOCAL_TIME, &data).ok(),
            // No link that dangles either.
            Err(_) if fs::symlink_metadata(LOCAL_TIME).is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
                Some(TimeZone::UTC)
            }
            Err(_) => None,
        },
        _ => None,
    };
    zone.or_else(|| TimeZone::try_system().ok())
}

/// The zone of that name, or the one that it spells out (`CET-1CEST,M3.5.0,M10.5.0/3`): in this order, as in the C
/// library.
fn named(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return None;
    }
    let data = fs::read(Path::new(ZONES).join(name));
    data.ok().and_then(|data| TimeZone::tzif(name, &data).ok()).or_else(|| TimeZone::posix(name).ok())
}

/// The offset from UTC, in seconds, that the zone had or has at that time.
fn offset_at(unix_seconds: i64) -> i32 {
    match (zone(), Timestamp::from_second(unix_seconds)) {
        (Some(zone), Ok(timestamp)) => zone.to_offset(timestamp).seconds(),
        _ => 0,
    }
}

/// Has the library show its times in local time, where that is known.
pub(crate) fn shown_in(options: OpenOptions<'_>) -> OpenOptions<'_> {
    if zone().is_some() { options.local_time(offset_at) } else { options }
}

/// A time, in the form of the library's times.
pub(crate) fn show(time: Timestamp) -> String {
    let (zone, suffix) = zone().map_or((TimeZone::UTC, " UTC"), |zone| (zone.clone(), ""));
    let time = zone.to_datetime(time);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}{suffix}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1000
    )
}
