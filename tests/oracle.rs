//! Random sequences of operations of several handles, against an oracle that is obviously right: a record is a list of
//! grants and an `Option` of a holder.
//!
//! Seen to fail: with a release that does not check whose hold it is, with a drop that releases a detached hold, with a
//! removal that leaves the word free, with an info that is kept beyond its grant, with a force-release that leaves no fate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use resourcelock::reference::Reference as _;
use resourcelock::{Ending, Error, Guard, HISTORY_CAPACITY, INFO_CAPACITY, Previous, ResourceLock, Timeout};

const HANDLES: usize = 3;

#[derive(Clone, Debug)]
enum Operation {
    Get {
        same_process_ok: bool,
        info: String,
    },
    Release,
    UngetByForce,
    ForceRelease,
    /// Acquires, and releases with the resource inconsistent.
    PassOn,
    Detach,
    SetInfo(String),
    Reopen,
    Remove {
        force: bool,
    },
}

fn operations() -> impl Strategy<Value = Vec<(usize, Operation)>> {
    let info = "[a-zé🔒]{0,60}";
    let operation = prop_oneof![
        6 => (any::<bool>(), info).prop_map(|(same_process_ok, info)| Operation::Get { same_process_ok, info }),
        4 => Just(Operation::Release),
        1 => Just(Operation::UngetByForce),
        1 => Just(Operation::ForceRelease),
        1 => Just(Operation::PassOn),
        1 => Just(Operation::Detach),
        2 => info.prop_map(Operation::SetInfo),
        1 => Just(Operation::Reopen),
        1 => any::<bool>().prop_map(|force| Operation::Remove { force }),
    ];
    vec((0..HANDLES, operation), 0..120)
}

/// What became of a previous holder that did not release in order, and which grant that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Died(usize),
    Forced(usize),
}

/// What a record should be.
#[derive(Default)]
struct Record {
    /// Which handle, if that still exists.
    holder: Option<Option<usize>>,
    is_detached: bool,
    is_retired: bool,
    /// Newest last.
    grants: Vec<(String, Option<Ending>)>,
    /// What the next grant is to report.
    fate: Option<Fate>,
    /// What the present grant has reported.
    reported: Option<Fate>,
    timeouts: u32,
    forced: u32,
}

impl Record {
    fn end(&mut self, ending: Ending) {
        self.holder = None;
        self.grants.last_mut().unwrap().1 = Some(ending);
    }

    /// Ends the hold by force, whoever has it.
    fn evict(&mut self) {
        self.end(Ending::Forced);
        self.fate = (!self.is_detached).then_some(Fate::Forced(self.grants.len() - 1));
    }
}

#[derive(Default)]
struct Oracle {
    records: Vec<Record>,
    /// Which record each handle has open.
    opened: [usize; HANDLES],
}

impl Oracle {
    fn open(&mut self, handle: usize) {
        if self.records.last().is_none_or(|record| record.is_retired) {
            self.records.push(Record::default());
        }
        self.opened[handle] = self.records.len() - 1;
    }

    fn record(&mut self, handle: usize) -> &mut Record {
        &mut self.records[self.opened[handle]]
    }

    fn holds(&mut self, handle: usize) -> bool {
        self.record(handle).holder == Some(Some(handle))
    }

    fn get(&mut self, handle: usize, same_process_ok: bool, info: &str) -> bool {
        if same_process_ok && self.holds(handle) {
            return true;
        }
        if self.record(handle).is_retired {
            self.open(handle);
        }
        let record = self.record(handle);
        if record.holder.is_some() {
            record.timeouts += 1;
            return false;
        }
        record.holder = Some(Some(handle));
        record.is_detached = false;
        record.reported = record.fate.take();
        record.grants.push((cut(info), None));
        true
    }

    fn release(&mut self, handle: usize) -> bool {
        let holds = self.holds(handle);
        if holds {
            self.record(handle).end(Ending::Released);
        }
        holds
    }

    fn unget_by_force(&mut self, handle: usize) -> bool {
        self.release(handle) || self.force_release(handle)
    }

    fn force_release(&mut self, handle: usize) -> bool {
        let record = self.record(handle);
        let is_held = record.holder.is_some();
        if is_held {
            record.evict();
            record.forced += 1;
        }
        is_held
    }

    fn pass_on(&mut self, handle: usize) -> bool {
        let granted = self.get(handle, false, "passes on");
        if granted {
            let record = self.record(handle);
            record.end(Ending::Inconsistent);
            record.fate = record.reported.or(Some(Fate::Died(record.grants.len() - 1)));
        }
        granted
    }

    /// What the handle's own hold has reported.
    fn previous(&mut self, handle: usize) -> Option<Fate> {
        if self.holds(handle) { self.record(handle).reported } else { None }
    }

    fn detach(&mut self, handle: usize) -> bool {
        let holds = self.holds(handle);
        if holds {
            self.record(handle).is_detached = true;
        }
        holds
    }

    fn set_info(&mut self, handle: usize, info: &str) -> bool {
        let holds = self.holds(handle);
        if holds {
            self.record(handle).grants.last_mut().unwrap().0 = cut(info);
        }
        holds
    }

    fn close(&mut self, handle: usize) {
        if !self.holds(handle) {
            return;
        }
        if self.record(handle).is_detached {
            self.record(handle).holder = Some(None);
        } else {
            self.release(handle);
        }
    }

    fn remove(&mut self, handle: usize, force: bool) -> Result<Option<Fate>, Error> {
        let holds = self.holds(handle);
        let record = self.record(handle);
        if record.is_retired {
            return Err(Error::NotFound);
        }
        if record.holder.is_some() && !holds && !force {
            return Err(Error::Held);
        }
        record.is_retired = true;
        if holds {
            record.end(Ending::Released);
        } else if record.holder.is_some() && !record.is_detached {
            record.evict();
        }
        record.holder = None;
        Ok(record.fate)
    }
}

/// The longest prefix of whole characters that fits into an info.
fn cut(info: &str) -> String {
    let mut kept = String::new();
    for character in info.chars() {
        if kept.len() + character.len_utf8() > INFO_CAPACITY {
            break;
        }
        kept.push(character);
    }
    kept
}

/// A directory that goes away with it.
struct Dir(String);

impl Dir {
    fn new() -> Self {
        let dir = format!("/dev/shm/resourcelock-oracle-{}", std::process::id());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn open(&self) -> ResourceLock {
        ResourceLock::options().dir(&self.0).open("oracle").unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn assert_reports(previous: &Previous, expected: Option<Fate>, lock: &ResourceLock, record: &Record) {
    let (named, index) = match (previous, expected) {
        (Previous::Released, None) => return,
        (Previous::Died(grant), Some(Fate::Died(index))) | (Previous::Forced(grant), Some(Fate::Forced(index))) => {
            (grant, index)
        }
        _ => panic!("{previous:?}, not {expected:?}"),
    };
    // By its number: its info, if it was replaced, is forgotten with the next replacement.
    let age = record.grants.len() - 1 - index;
    if age < HISTORY_CAPACITY - 1 {
        let named = named.as_ref().expect("the record remembers it");
        assert_eq!(named.number(), lock.last_grant().unwrap().number().wrapping_sub(age as u32));
        assert_eq!(named.ending(), record.grants[index].1);
    }
}

fn assert_same(lock: &ResourceLock, handle: usize, oracle: &mut Oracle) {
    let holds = oracle.holds(handle);
    let record = oracle.record(handle);
    assert_eq!(lock.is_held(), record.holder.is_some());
    assert_eq!(lock.lock_value(), u32::from(record.holder.is_none()));
    assert_eq!(lock.holds(), holds);
    assert_eq!((lock.is_locked(), lock.i_have_the_lock()), (lock.is_held(), lock.holds()));
    let info = record.grants.last().map(|(info, _)| info.as_str());
    assert_eq!(lock.last_grant().as_ref().map(|grant| grant.info()), info);
    assert_eq!(lock.info().is_empty(), info.is_none());
    assert!(info.is_none_or(|info| lock.info().ends_with(&format!(" - {info}"))));
    assert_eq!(lock.holder().as_ref().map(|grant| grant.info()), info.filter(|_| record.holder.is_some()));
    // Only the newest grant's info can have been replaced, and that is forgotten with the next replacement.
    let endings: Vec<_> = lock.history().iter().map(|grant| grant.ending()).collect();
    let expected: Vec<_> = record.grants.iter().rev().take(HISTORY_CAPACITY).map(|(_, ending)| *ending).collect();
    assert_eq!(endings, expected);
    let counters = lock.counters();
    assert_eq!((counters.grants, counters.recoveries), (record.grants.len() as u32, 0));
    assert_eq!((counters.timeouts, counters.forced), (record.timeouts, record.forced));
    let previous = oracle.previous(handle);
    assert_reports(&lock.previous(), previous, lock, oracle.record(handle));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn handles_do_what_the_oracle_says(operations in operations()) {
        let dir = Dir::new();
        let mut oracle = Oracle::default();
        let mut locks: Vec<_> = (0..HANDLES)
            .map(|handle| {
                oracle.open(handle);
                dir.open()
            })
            .collect();
        for (handle, operation) in &operations {
            let (handle, lock) = (*handle, &locks[*handle]);
            match operation {
                Operation::Get { same_process_ok, info } => {
                    let got = lock.get_lock(Timeout::ZERO, *same_process_ok, info).unwrap();
                    assert_eq!(got, oracle.get(handle, *same_process_ok, info));
                }
                Operation::Release => assert_eq!(lock.release(), oracle.release(handle)),
                Operation::UngetByForce => assert_eq!(lock.unget_lock(true, ""), oracle.unget_by_force(handle)),
                Operation::ForceRelease => assert_eq!(lock.force_release(), oracle.force_release(handle)),
                Operation::PassOn => {
                    let passed_on = lock.try_lock("passes on").is_ok_and(Guard::release_inconsistent);
                    assert_eq!(passed_on, oracle.pass_on(handle));
                }
                Operation::Detach => assert_eq!(lock.detach(), oracle.detach(handle)),
                Operation::SetInfo(info) => assert_eq!(lock.set_info(info), oracle.set_info(handle, info)),
                Operation::Remove { force } => match (lock.remove(*force), oracle.remove(handle, *force)) {
                    (Ok(previous), Ok(expected)) => {
                        assert_reports(&previous, expected, lock, oracle.record(handle));
                    }
                    (outcome, expected) => assert_eq!(outcome.map(drop), expected.map(drop)),
                },
                Operation::Reopen => {
                    oracle.close(handle);
                    oracle.open(handle);
                    // Opened first, so that the old handle is closed by its own drop.
                    let lock = dir.open();
                    drop(std::mem::replace(&mut locks[handle], lock));
                }
            }
            for (handle, lock) in locks.iter().enumerate() {
                assert_same(lock, handle, &mut oracle);
            }
        }
    }
}
