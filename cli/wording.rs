//! How spans of time, holders and states are put into words: the same in every command.

use std::time::Duration;

use resourcelock::{Ending, Error, Escaped, Grant, Kind, NotALock, Status};

/// Of a file whose name is not UTF-8.
pub(crate) const NOT_TEXT: &str = "the file's name is no text, so it is no lock; remove it";

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

/// `pid 42 (program)`; a process that sees no /proc of its own does not know its program's name.
pub(crate) fn who(pid: u32, grant: Option<&Grant>) -> String {
    match grant.map(Grant::program) {
        None | Some("") => format!("pid {pid}"),
        Some(program) => format!("pid {pid} ({})", Escaped(program)),
    }
}

/// A status, in a word or two.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Free => "free",
        Status::Reserved => "reserved",
        Status::Held(Kind::Process) => "held",
        Status::Held(Kind::Detached) => "until unget",
        Status::Held(Kind::Foreign) => "foreign",
        Status::HolderDied => "dead",
        Status::Retired => "removed",
        Status::Corrupt => "corrupt",
        _ => "unknown",
    }
}

/// What a status means to those who want the lock.
pub(crate) fn meaning(status: Status) -> &'static str {
    match status {
        Status::Free => "nobody holds it",
        Status::Reserved => "nobody holds it; it is reserved for those who wait",
        Status::Held(Kind::Process) => "held until its holder ungets it or ends",
        Status::Held(Kind::Detached) => "held until somebody ungets it",
        Status::Held(Kind::Foreign) => {
            "held by a process of another PID namespace; if that has died, only 'unget' helps"
        }
        Status::HolderDied => "its holder is dead; the next get recovers it",
        Status::Retired => "removed, or left from before a reboot; the next get makes it anew",
        Status::Corrupt => "its word is damaged; only 'unget' or 'remove --force' helps",
        _ => "unknown to this version",
    }
}

/// Why a file with the name of a lock is none, in a word or two; the error's own text says more.
pub(crate) fn unusable(error: Error) -> &'static str {
    match error {
        Error::PermissionDenied => "no access",
        Error::VersionMismatch { .. } | Error::NotALock(NotALock::WrongEndianness) => "other version",
        Error::Corrupt => "corrupt",
        Error::NotALock(_) => "no lock",
        _ => "unusable",
    }
}

/// How a hold ended.
pub(crate) fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Released => "released",
        Ending::Forced => "forced off",
        Ending::Recovered => "died",
        _ => "unknown",
    }
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
