//! The reference's demo, step by step, on this crate: `cargo run --example demo --features log`.
//!
//! Steps and texts are those of `demo-resourcelock.py` (cjnfuncs), except that step 7 asks a second handle instead of
//! poking an attribute of the first. Run it with the lock free, or held by `resourcelock test_lock get`; `tests/`
//! compares both outputs with goldens.

use std::error::Error;

use resourcelock::reference::Reference as _;
use resourcelock::{ResourceLock, Timeout};

const LOCK_NAME: &str = "test_lock";

/// Prints what the library logs, as the reference's logger does.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let root = record.target().split("::").next().unwrap_or_default();
        println!("{root} - {}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

/// The offset from UTC that the system's time zone had or has at that time.
fn local_offset(unix_seconds: i64) -> i32 {
    jiff::Timestamp::from_second(unix_seconds)
        .map_or(0, |timestamp| jiff::tz::TimeZone::system().to_offset(timestamp).seconds())
}

/// As Python spells it.
fn shown(answer: bool) -> &'static str {
    if answer { "True" } else { "False" }
}

fn main() -> Result<(), Box<dyn Error>> {
    log::set_logger(&Printer)?;
    log::set_max_level(log::LevelFilter::Debug);
    let a_tenth = Timeout::from_millis(100);
    let dir = std::env::var("RESOURCELOCK_DIR").unwrap_or_else(|_| resourcelock::DEFAULT_DIR.into());
    let options = ResourceLock::options().dir(&dir).local_time(local_offset);

    println!("\n***** 0 - Lock instantiation");
    let my_lock = options.open(LOCK_NAME)?;

    println!("\n***** 1 - Check the initial lock state");
    println!(
        "is_lock returned <{}> - Expecting <False> for initial unlocked test case, and <True> for initial locked test case",
        shown(my_lock.is_locked())
    );
    my_lock.lock_value();

    println!("\n***** 2 - Get the lock");
    let got = my_lock.get_lock(a_tenth, false, "Lock in test #2")?;
    println!("get_lock returned <{}> - Expecting <True> if lock request is successful", shown(got));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 3 - Get the lock a second time, same_process_ok=False");
    let got = my_lock.get_lock(a_tenth, false, "Lock try in test #3")?;
    println!("get_lock returned <{}> - Expecting <False> Repeated lock request fails", shown(got));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 4 - Get the lock a third time, same_process_ok=True");
    let got = my_lock.get_lock(a_tenth, true, "Lock try in test #4")?;
    println!("get_lock returned <{}> - Expecting <True> Repeated lock request passes with switch", shown(got));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 5 - Unget the lock");
    let ungot = my_lock.unget_lock(false, "In test #5");
    println!("unget_lock returned <{}> - Expecting <True> if lock is successfully released", shown(ungot));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 6 - Unget the lock a second time");
    let ungot = my_lock.unget_lock(false, "In test #6");
    println!("unget_lock returned <{}> - Expecting <False> since the lock is not currently set", shown(ungot));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 7 - Attempt to Unget the lock not owned by current process");
    my_lock.get_lock(a_tenth, false, "Lock in test #7")?;
    let other_handle = options.open(LOCK_NAME)?;
    my_lock.is_locked();
    my_lock.lock_value();
    let ungot = other_handle.unget_lock(false, "In test #7");
    println!("unget_lock returned <{}> - Expecting <False> since lock not obtained by current process", shown(ungot));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 8 - Force Unget");
    let ungot = other_handle.unget_lock(true, "In test #8");
    println!("unget_lock returned <{}> - Expecting <True> since lock was set and forced unget", shown(ungot));
    my_lock.is_locked();
    my_lock.lock_value();

    println!("\n***** 9 - Force Unget when lock not set");
    let ungot = my_lock.unget_lock(true, "In test #9");
    println!("unget_lock returned <{}> - Expecting <False> since lock was not set", shown(ungot));
    my_lock.is_locked();
    my_lock.lock_value();

    other_handle.close();
    my_lock.close();

    println!();
    println!("Using the cli, get the lock ('resourcelock {LOCK_NAME} get') and run the test again");
    Ok(())
}
