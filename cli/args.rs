//! The words on the command line, and the environment: read once, checked here.
//!
//! Whatever cannot work is refused before any lock is touched. Words are kept as the system gives them until they are
//! known to be UTF-8, so that a name that is not gets an answer of its own.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum};
use resourcelock::{DEFAULT_DIR, Escaped, Timeout, TimeoutError};

use crate::exit::Exit;
use crate::output;

/// The environment's word for where the locks are; `--dir` overrides it.
const DIR_VARIABLE: &str = "RESOURCELOCK_DIR";

const ABOUT: &str = "Named locks that programs share: get, unget and watch them from a shell.

The locks are advisory: every program that uses the resource must take part.";

const COMMANDS: &str = "\
Commands:
  get    Get the lock, waiting up to -t seconds. It stays held after this command, until somebody
         ungets it. With -a it is held by this command, and released after that many seconds, on
         Ctrl-C, SIGTERM or SIGHUP, or (recovered by the next get) if this command is killed.
  unget  Force-release the lock, whoever holds it.
  state  Print whether the lock is held, and its last grant. Never makes the lock.
  trace  Print the state every -u seconds until Ctrl-C, which ends it with status 0.

Environment:
  RESOURCELOCK_DIR  directory of the locks, where --dir is not given
  TZ                time zone of the times shown, where it is not the system's
";

/// What to do with the lock.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Command {
    Get,
    Unget,
    State,
    Trace,
}

impl Command {
    /// As it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Unget => "unget",
            Self::State => "state",
            Self::Trace => "trace",
        }
    }
}

#[derive(Debug, Parser)]
#[command(name = "resourcelock", version, about = ABOUT, args_override_self = true)]
struct Words {
    /// Name of the lock; a leading '/' is accepted and dropped
    #[arg(value_name = "LOCK", value_parser = OsStringValueParser::new())]
    lock: OsString,

    /// What to do with it
    #[arg(value_name = "COMMAND", value_enum)]
    command: Command,

    /// How long a get waits, in seconds; 0 only tries, -1 waits for ever
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_timeout)]
    #[arg(allow_hyphen_values = true)]
    get_timeout: Timeout,

    /// Text that tells others who holds the lock, and why
    #[arg(short, long, value_name = "TEXT", default_value = "cli", value_parser = OsStringValueParser::new())]
    message: OsString,

    /// After a get, hold the lock for this many seconds, then unget it
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_duration, allow_hyphen_values = true)]
    auto_unget: Option<Duration>,

    /// Interval of a trace, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_interval)]
    #[arg(allow_hyphen_values = true)]
    update: Duration,

    #[arg(help = format!("Directory of the locks [default: {DEFAULT_DIR}]"))]
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new())]
    dir: Option<OsString>,

    /// Say on stderr what is done where; -vv says all that the library logs
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
}

/// A command line that makes sense.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) lock: String,
    pub(crate) command: Command,
    pub(crate) get_timeout: Timeout,
    pub(crate) message: String,
    pub(crate) auto_unget: Option<Duration>,
    pub(crate) update: Duration,
    pub(crate) dir: String,
    pub(crate) verbose: u8,
}

/// What the command line asks for.
pub(crate) enum Parsed {
    Run(Args),
    /// It was answered already: help, version, or what is wrong with it.
    Done(Exit),
}

impl Args {
    /// Of a command line: the program's name comes first.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Parsed {
        let command = Words::command().after_help(format!("{COMMANDS}\n{}", Exit::table()));
        let matches = command.try_get_matches_from(words);
        match matches.and_then(|mut matches| Words::from_arg_matches_mut(&mut matches)) {
            Ok(words) => words.check(),
            Err(error) => Parsed::Done(answer(error)),
        }
    }
}

impl Words {
    /// What clap cannot say as clearly: words that are not UTF-8.
    fn check(self) -> Parsed {
        let dir = self.dir.or_else(|| std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()));
        let lock = match self.lock.into_string() {
            Ok(lock) => lock,
            Err(lock) => return not_utf8(&lock, "the lock's name"),
        };
        let Ok(message) = self.message.into_string() else { return not_utf8(lock.as_ref(), "the message") };
        let Ok(dir) = dir.unwrap_or_else(|| DEFAULT_DIR.into()).into_string() else {
            return not_utf8(lock.as_ref(), "the directory's path");
        };
        Parsed::Run(Args {
            lock,
            command: self.command,
            get_timeout: self.get_timeout,
            message,
            auto_unget: self.auto_unget,
            update: self.update,
            dir,
            verbose: self.verbose,
        })
    }
}

fn not_utf8(lock: &std::ffi::OsStr, what: &str) -> Parsed {
    output::complain(&lock.to_string_lossy(), &format_args!("{what} is not valid UTF-8; use text"));
    Parsed::Done(Exit::Usage)
}

/// Prints help and version to stdout and complaints to stderr, with what the user typed escaped.
fn answer(mut error: clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return output::print(&error.render().to_string()).map_or_else(output::failed, |()| Exit::Done);
    }
    let typed: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if kind != ContextKind::Usage => Some((kind, Escaped(text).to_string())),
            _ => None,
        })
        .collect();
    for (kind, text) in typed {
        error.insert(kind, ContextValue::String(text));
    }
    // Clap's tips repeat what was typed once more.
    let text = error.render().to_string();
    text.lines().for_each(|line| output::tell(&format!("{}\n", Escaped(line))));
    Exit::Usage
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| "not a number of seconds".to_owned())
}

fn parse_timeout(text: &str) -> Result<Timeout, String> {
    let seconds = parse_seconds(text)?;
    // Exactly as the reference spells it; no other negative is a wish that one can guess.
    if seconds == -1.0 {
        return Ok(Timeout::FOREVER);
    }
    Timeout::try_from(seconds).map_err(|error| error.to_string())
}

/// A time span within the bounds of a [`Timeout`], which is what the library can wait for.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = parse_seconds(text)?;
    let message = match Timeout::try_from(seconds) {
        Ok(_) => return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(TimeoutError::Negative) => "the time is negative",
        Err(TimeoutError::NotANumber) => "the time is not a number",
        Err(_) => "the time is longer than 4294967295 s",
    };
    Err(message.to_owned())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("the interval is zero; use 0.01 to look often".to_owned()),
        interval => Ok(interval),
    }
}
