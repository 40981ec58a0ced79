//! The main job, visibly: two processes want one lock, and take turns.
//!
//! `cargo run --example contend` starts two copies of itself. Each works three times on a "bus" that only one may use
//! at a time; the shared file in which they write down when they were on it is then checked for overlaps.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use resourcelock::{LockError, ResourceLock, Timeout};

const LOCK_NAME: &str = "contend-example";
const ROUNDS: u32 = 3;
const WORK: Duration = Duration::from_millis(150);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    if let (Some(who), Some(log)) = (args.next(), args.next()) {
        worker(&who, log.as_ref())?;
        return Ok(ExitCode::SUCCESS);
    }

    let log = std::env::temp_dir().join(format!("contend-{}.log", std::process::id()));
    fs::write(&log, "")?;
    let me = std::env::current_exe()?;
    let start = |who| Command::new(&me).arg(who).arg(&log).spawn();
    let workers = [start("A")?, start("B")?];
    for mut worker in workers {
        if !worker.wait()?.success() {
            return Err("a worker failed".into());
        }
    }
    let (holds, overlaps) = count(&fs::read_to_string(&log)?)?;
    fs::remove_file(&log)?;
    println!("{holds} holds by two processes, {overlaps} overlaps");
    Ok(if holds == 2 * ROUNDS as usize && overlaps == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn worker(who: &str, log: &Path) -> Result<(), Box<dyn Error>> {
    let lock = ResourceLock::open(LOCK_NAME)?;
    let mut log = OpenOptions::new().append(true).open(log)?;
    for round in 1..=ROUNDS {
        let info = format!("{who} #{round}");
        let asked = Instant::now();
        let guard = match lock.try_lock(&info) {
            Err(LockError::TimedOut(holder)) => {
                match holder {
                    Some(holder) => println!("{who} waits, {} holds", holder.info()),
                    None => println!("{who} waits, the other has waited for longer"),
                }
                lock.lock(Timeout::from_secs(10), &info)?
            }
            outcome => outcome?,
        };
        println!("{who} holds, after {:3} ms", asked.elapsed().as_millis());
        let from = now();
        sleep(WORK); // the work on the bus
        // One write: lines of two processes do not mix.
        log.write_all(format!("{from} {}\n", now()).as_bytes())?;
        println!("{who} releases");
        drop(guard);
    }
    Ok(())
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros())
}

/// How many holds there were, and how many began before the one before had ended.
fn count(log: &str) -> Result<(usize, usize), Box<dyn Error>> {
    let mut holds = Vec::new();
    for line in log.lines() {
        let (from, to) = line.split_once(' ').ok_or("a line of the log is broken")?;
        holds.push((from.parse::<u128>()?, to.parse::<u128>()?));
    }
    holds.sort_unstable();
    Ok((holds.len(), holds.windows(2).filter(|pair| pair[1].0 < pair[0].1).count()))
}
