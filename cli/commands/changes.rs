//! `trace --changes`: one line for each change of the lock, with the time at which it happened.
//!
//! The lock is looked at in each interval, but the times are the record's own: it remembers the last sixteen grants and how
//! each ended, so changes between two looks are printed as well. If there were more grants, their numbers show how many are
//! missing. What the record has no time for (a death, a detached hold, a replaced info) has the time of the look.

use jiff::{SignedDuration, Timestamp};
use resourcelock::{Ending, Error, Escaped, Grant, Kind, Snapshot, Status};

use crate::args::Args;
use crate::exit::Exit;
use crate::json;
use crate::local_time;
use crate::output;
use crate::style::{self, Paint};
use crate::view::View;
use crate::wording;

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    let paint = Paint::new(args.color);
    let mut before: Option<Seen> = None;
    super::trace::each_interval(args, |snapshot, now| {
        let seen = Seen::new(snapshot);
        let lines = match before.take() {
            Some(before) => {
                let events = before.changes_to(&seen, now);
                events.into_iter().map(|event| event.line(args, paint)).collect()
            }
            // The state at the start.
            None if args.json => json::lock(&View::new(&args.lock, snapshot), Some(now)),
            None => {
                let state = super::state::line(&View::new(&args.lock, snapshot), paint);
                format!("{} {state}\n", paint.on(style::DIM, &local_time::show(now)))
            }
        };
        before = Some(seen);
        if lines.is_empty() { Ok(()) } else { output::print(&lines) }
    })
}

/// What was seen of the lock at one look.
struct Seen {
    /// `None` if there is no lock.
    lock: Option<Lock>,
}

struct Lock {
    status: Status,
    holder: Option<Grant>,
    /// Newest first.
    history: resourcelock::History,
    grants: u32,
}

struct Event {
    time: Timestamp,
    what: What,
}

enum What {
    Made,
    Removed,
    Missed(u32),
    Granted(Grant),
    /// `None`: how is not recorded.
    Ended(Grant, Option<Ending>),
    Died(Grant),
    Detached(Grant),
    Info(Grant),
}

impl Seen {
    fn new(snapshot: Option<&Snapshot>) -> Self {
        let lock = snapshot.filter(|snapshot| snapshot.status() != Status::Retired).map(|snapshot| Lock {
            status: snapshot.status(),
            holder: snapshot.holder(),
            history: snapshot.history(),
            grants: snapshot.counters().grants,
        });
        Self { lock }
    }

    fn changes_to(&self, now: &Self, time: Timestamp) -> Vec<Event> {
        let happened = |what| Event { time, what };
        match (&self.lock, &now.lock) {
            (None, None) => Vec::new(),
            (Some(_), None) => vec![happened(What::Removed)],
            (None, Some(lock)) => {
                let mut events = vec![happened(What::Made)];
                events.extend(Lock::empty().changes_to(lock, time));
                events
            }
            (Some(before), Some(lock)) if before.is_same_record(lock) => before.changes_to(lock, time),
            (Some(_), Some(lock)) => {
                let mut events = vec![happened(What::Removed), happened(What::Made)];
                events.extend(Lock::empty().changes_to(lock, time));
                events
            }
        }
    }
}

impl Lock {
    /// What the lock was before its first grant.
    fn empty() -> Self {
        Self { status: Status::Free, holder: None, history: Default::default(), grants: 0 }
    }

    fn newest(&self) -> Option<u32> {
        Some(self.history.first()?.number())
    }

    /// A record that was made anew counts from another number, and from zero.
    fn is_same_record(&self, later: &Self) -> bool {
        match (self.newest(), later.newest()) {
            (Some(newest), Some(later_newest)) => {
                later_newest.wrapping_sub(newest) == later.grants.wrapping_sub(self.grants)
                    || later.history.iter().any(|grant| grant.number() == newest)
            }
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    fn changes_to(&self, now: &Self, time: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        // The number of the first grant that was not seen before; without any, of the first that is remembered.
        let next = self.newest().map(|newest| newest.wrapping_add(1));
        let was_open = |grant: &Grant| {
            self.history.iter().any(|before| before.number() == grant.number() && before.ending().is_none())
        };
        let is_new = |grant: &Grant| next.is_none_or(|next| grant.number().wrapping_sub(next) as i32 >= 0);
        let seen = now.history.iter().filter(|grant| is_new(grant)).count() as u32;
        let granted = now.grants.wrapping_sub(self.grants);
        if granted > seen && (granted as i32) > 0 {
            events.push(Event { time, what: What::Missed(granted - seen) });
        }
        let newest = now.newest();
        for grant in now.history.iter().rev() {
            let granted_at = json::timestamp(grant);
            if is_new(grant) {
                events.push(Event { time: granted_at, what: What::Granted(grant.clone()) });
            } else if !was_open(grant) {
                continue;
            }
            if let Some(ending) = grant.ending() {
                let held_for = SignedDuration::try_from(grant.held_for().unwrap_or_default()).unwrap_or_default();
                let ended_at = granted_at.checked_add(held_for).unwrap_or(Timestamp::MAX);
                events.push(Event { time: ended_at, what: What::Ended(grant.clone(), Some(ending)) });
            } else if newest != Some(grant.number()) || now.status == Status::Free {
                events.push(Event { time, what: What::Ended(grant.clone(), None) });
            }
        }
        if let Some(holder) = &now.holder {
            let before = self.holder.as_ref().filter(|before| before.number() == holder.number());
            let is_news = |status| now.status == status && (before.is_none() || self.status != status);
            if before.is_some_and(|before| before.info() != holder.info()) {
                events.push(Event { time, what: What::Info(holder.clone()) });
            }
            if is_news(Status::Held(Kind::Detached)) {
                events.push(Event { time, what: What::Detached(holder.clone()) });
            }
            if is_news(Status::HolderDied) {
                events.push(Event { time, what: What::Died(holder.clone()) });
            }
        }
        events
    }
}

impl Event {
    fn line(self, args: &Args, paint: Paint) -> String {
        let name = super::lockname(args);
        let what = &self.what;
        if args.json {
            let missed = if let What::Missed(count) = what { Some(*count) } else { None };
            return json::change(name, self.time, what.word(), what.grant(), missed);
        }
        let time = paint.on(style::DIM, &local_time::show(self.time));
        format!("{time} <{}> {}\n", Escaped(name), paint.on(what.style(), &what.text()))
    }
}

/// Whether the holder's parent has reported its death, such as `run`; else the next grant has recovered the lock.
fn is_reported(grant: &Grant) -> bool {
    grant.wait_status().is_some()
}

impl What {
    fn grant(&self) -> Option<&Grant> {
        match self {
            Self::Made | Self::Removed | Self::Missed(_) => None,
            Self::Granted(grant) | Self::Ended(grant, _) => Some(grant),
            Self::Died(grant) | Self::Detached(grant) | Self::Info(grant) => Some(grant),
        }
    }

    /// As JSON has it.
    fn word(&self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Removed => "removed",
            Self::Missed(_) => "missed",
            Self::Granted(_) => "granted",
            Self::Ended(_, Some(Ending::Released)) => "released",
            Self::Ended(_, Some(Ending::Forced)) => "forced",
            Self::Ended(grant, Some(Ending::Died)) if is_reported(grant) => "died",
            Self::Ended(_, Some(Ending::Died)) => "recovered",
            Self::Ended(_, Some(Ending::Inconsistent)) => "inconsistent",
            Self::Ended(..) => "ended",
            Self::Died(_) => "died",
            Self::Detached(_) => "detached",
            Self::Info(_) => "info",
        }
    }

    fn text(&self) -> String {
        let Some(grant) = self.grant() else {
            return match self {
                Self::Made => "lock made".to_owned(),
                Self::Missed(count) => format!("{count} more granted; use a smaller -u to see them"),
                _ => "lock removed".to_owned(),
            };
        };
        let who = format!("{} - {}", wording::who(grant), Escaped(grant.info()));
        let after = grant.held_for().map(|held| format!(" after {}", wording::span(held))).unwrap_or_default();
        match self {
            Self::Ended(_, Some(Ending::Released)) => format!("released{after} by {who}"),
            Self::Ended(_, Some(Ending::Forced)) => format!("forced off{after} from {who}"),
            Self::Ended(_, Some(ending @ Ending::Died)) if is_reported(grant) => {
                format!("{}{after}: {who}", wording::ending(grant, *ending))
            }
            Self::Ended(_, Some(Ending::Died)) => format!("recovered{after} from the dead {who}"),
            Self::Ended(_, Some(Ending::Inconsistent)) => format!("released{after} as inconsistent by {who}"),
            Self::Ended(..) => format!("no longer held by {who}"),
            Self::Died(_) => format!("holder died, the next get recovers the lock: {who}"),
            Self::Detached(_) => format!("held until 'unget': {who}"),
            Self::Info(_) => format!("info replaced by {who}"),
            _ => format!("granted to {who}"),
        }
    }

    fn style(&self) -> anstyle::Style {
        match self {
            Self::Granted(_) | Self::Detached(_) | Self::Info(_) => style::HELD,
            Self::Ended(_, Some(Ending::Released)) => style::FREE,
            Self::Ended(..) | Self::Died(_) | Self::Removed => style::BAD,
            Self::Made | Self::Missed(_) => style::PLAIN,
        }
    }
}
