//! Words for spans of time, holders and states: the same in every command.

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::time::Duration;

use resourcelock::{Ending, Error, Escaped, Grant, Kind, NotALock, Status};

use crate::signals;

/// Of a file whose name is not UTF-8.
pub(crate) const NOT_TEXT: &str = "the file's name is not UTF-8, so it is not a lock; remove it";

/// Two units at the most: `12ms`, `3.4s`, `2m05s`, `3h40m`, `5d02h`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Whether the grant's pid is one of another PID namespace, where this process cannot use it.
pub(crate) fn is_elsewhere(grant: &Grant) -> bool {
    static OWN: OnceLock<Option<u32>> = OnceLock::new();
    // Without /proc the namespace is unknown, and the pid may well be one of it.
    let own = OWN.get_or_init(|| Some(std::fs::metadata("/proc/self/ns/pid").ok()?.ino() as u32));
    matches!((grant.pid_namespace(), own), (Some(its), Some(own)) if its != *own)
}

/// `pid 42 (program)`, or `pid 7 in another container (program)`. A process without /proc does not know its program.
pub(crate) fn who(grant: &Grant) -> String {
    let place = if is_elsewhere(grant) { " in another container" } else { "" };
    let pid = format!("pid {}{place}", grant.pid());
    match grant.program() {
        "" => pid,
        program => format!("{pid} ({})", Escaped(program)),
    }
}

/// A pid for a column of a table: `42`, or `7@4026532201` if it is one of that other PID namespace.
pub(crate) fn pid(grant: &Grant) -> String {
    match grant.pid_namespace().filter(|_| is_elsewhere(grant)) {
        Some(namespace) => format!("{}@{namespace}", grant.pid()),
        None => grant.pid().to_string(),
    }
}

/// A status, in a word or two.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Free => "free",
        Status::Reserved => "reserved",
        Status::Held(Kind::Process) => "held",
        Status::Held(Kind::Detached) => "until unget",
        Status::HolderDied => "dead",
        Status::Retired => "removed",
        Status::Corrupt => "corrupt",
        _ => "unknown",
    }
}

/// A status, in a sentence, with its consequence.
pub(crate) fn meaning(status: Status) -> &'static str {
    match status {
        Status::Free => "not held",
        Status::Reserved => "not held; reserved for those who wait",
        Status::Held(Kind::Process) => "held until its holder releases it or ends",
        Status::Held(Kind::Detached) => "held until 'unget'",
        Status::HolderDied => "its holder is dead; the next get recovers it",
        Status::Retired => "removed; the next get makes it new",
        Status::Corrupt => "its word is damaged; use 'unget' or 'remove --force'",
        _ => "unknown to this version",
    }
}

/// Why a file with the name of a lock cannot be used, in a word or two; the error's own text is longer.
pub(crate) fn unusable(error: Error) -> &'static str {
    match error {
        Error::PermissionDenied(_) => "no access",
        Error::VersionMismatch { .. } | Error::FeatureUnknown { .. } | Error::NotALock(NotALock::WrongEndianness) => {
            "other version"
        }
        Error::Corrupt => "corrupt",
        Error::NotALock(_) => "no lock",
        Error::FileSystem { .. } => "not on tmpfs",
        _ => "unusable",
    }
}

/// How the hold of a grant ended, such as `died (SIGKILL)`.
pub(crate) fn ending(grant: &Grant, ending: Ending) -> String {
    match (ending, signal(grant)) {
        (Ending::Released, _) => "released".to_owned(),
        (Ending::Forced, _) => "forced off".to_owned(),
        (Ending::Died, Some(signal)) => format!("died ({signal})"),
        (Ending::Died, None) => "died".to_owned(),
        (Ending::Inconsistent, _) => "inconsistent".to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The signal that killed the holder, if that is known.
pub(crate) fn signal(grant: &Grant) -> Option<String> {
    // The low seven bits of a wait(2) status.
    let signal = grant.wait_status()? & 0x7f;
    (signal != 0).then(|| signals::name(signal as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_two_units_at_the_most() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1.0s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (3_599_999, "59m59s"),
            (3_600_000, "1h00m"),
            (86_399_999, "23h59m"),
            (86_400_000, "1d00h"),
            (2_000_000_000, "23d03h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
