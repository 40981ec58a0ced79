//! The words on the command line, and the environment: read once, checked here.
//!
//! Whatever cannot work is refused before any lock is touched. Words are kept as the system gives them until they are
//! known to be UTF-8, so that a name that is not gets an answer of its own.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint};
use resourcelock::{DEFAULT_DIR, DEFAULT_MODE, Escaped, Timeout, TimeoutError};

use crate::exit::Exit;
use crate::output;

/// The environment's word for where the locks are; `--dir` overrides it.
const DIR_VARIABLE: &str = "RESOURCELOCK_DIR";

const ABOUT: &str = "Named locks that programs share: get, unget and watch them, and run commands under them.

The locks are advisory: every program that uses the resource must take part.";

const USAGE: &str = "resourcelock [OPTIONS] LOCK COMMAND
       resourcelock [OPTIONS] LOCK run [--] PROGRAM [ARGUMENT]...
       resourcelock [OPTIONS] --list | --top";

const COMMANDS: &str = "\
Commands:
  get      Get the lock, waiting up to -t seconds. It stays held after this command, until somebody
           ungets it. With -a it is held by this command, and released after that many seconds, on
           Ctrl-C, SIGTERM or SIGHUP, or (recovered by the next get) if this command is killed.
  unget    Force-release the lock, whoever holds it.
  state    Print whether the lock is held, and its last grant. Never makes the lock. On a terminal,
           and with -l, further lines tell all that is known.
  trace    Print the state every -u seconds until Ctrl-C, which ends it with status 0. With
           --changes, print what has changed instead, one line for each change.
  run      Hold the lock while PROGRAM runs. Its exit status is ours; if a signal ends it, that signal
           ends us. Signals sent to us are passed on. The hold is that of PROGRAM's process: it ends
           with it, also if we are killed first. If PROGRAM crashes, the next get is told.
  history  Print the last grants, the newest first: who, when, how long, and how it ended.
  wait     Wait up to -t seconds until nobody holds the lock, without taking it.
  remove   Remove the lock if nobody holds it; with --force, also if somebody does.

Environment:
  RESOURCELOCK_DIR  directory of the locks, where --dir is not given
  NO_COLOR          if not empty, no colours, where --color does not say otherwise
  TZ                time zone of the times shown, where it is not the system's
";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Command {
    Get,
    Unget,
    State,
    Trace,
    Run,
    History,
    Wait,
    Remove,
    /// `--list`; this and the following need no lock.
    #[value(skip)]
    List,
    #[value(skip)]
    Top,
    #[value(skip)]
    Generate(Target),
}

impl Command {
    /// As it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Unget => "unget",
            Self::State => "state",
            Self::Trace => "trace",
            Self::Run => "run",
            Self::History => "history",
            Self::Wait => "wait",
            Self::Remove => "remove",
            Self::List => "--list",
            Self::Top => "--top",
            Self::Generate(_) => "--generate",
        }
    }

    /// Whether it is about the directory and not about one lock.
    pub(crate) fn is_about_all(self) -> bool {
        matches!(self, Self::List | Self::Top)
    }

    /// Whether this option means something to the command. Those of the reference may stand with any word.
    fn takes(self, option: &str) -> bool {
        match option {
            "--long" => self == Self::State,
            "--changes" => self == Self::Trace,
            "--force" => matches!(self, Self::Remove | Self::Unget),
            "--exec" | "--die-with-parent" => self == Self::Run,
            "--conflict-exit-code" => matches!(self, Self::Get | Self::Run | Self::Wait),
            "--mode" | "--group" => matches!(self, Self::Get | Self::Run),
            "--json" => !matches!(self, Self::Run | Self::Top | Self::Generate(_)),
            _ => true,
        }
    }
}

/// What `--generate` can print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    Man,
    Bash,
    Zsh,
    Fish,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Parser)]
#[command(name = "resourcelock", version, about = ABOUT, override_usage = USAGE, args_override_self = true)]
struct Words {
    /// Name of the lock; a leading '/' is accepted and dropped
    #[arg(index = 1, value_name = "LOCK", value_parser = OsStringValueParser::new())]
    #[arg(required_unless_present_any = ["list", "top", "generate"])]
    lock: Option<OsString>,

    /// What to do with it
    #[arg(index = 2, value_name = "COMMAND", value_enum, required_unless_present_any = ["list", "top", "generate"])]
    command: Option<Command>,

    /// For run: what to run, with its arguments; whatever follows it is its own
    #[arg(index = 3, value_name = "PROGRAM", value_parser = OsStringValueParser::new(), trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    program: Vec<OsString>,

    /// How long a get, run or wait waits, in seconds; 0 only tries, -1 waits for ever
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_timeout)]
    #[arg(allow_hyphen_values = true)]
    get_timeout: Timeout,

    /// Text that tells others who holds the lock, and why [default: cli; for run, what is run]
    #[arg(short, long, value_name = "TEXT", value_parser = OsStringValueParser::new(), value_hint = ValueHint::Other)]
    message: Option<OsString>,

    /// After a get, hold the lock for this many seconds, then unget it
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_duration, allow_hyphen_values = true)]
    auto_unget: Option<Duration>,

    /// Interval of a trace or of --top, in seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_interval)]
    #[arg(allow_hyphen_values = true)]
    update: Duration,

    /// For trace: print what changes, one line for each change
    #[arg(short, long)]
    changes: bool,

    /// For state: tell all that is known, in further lines, also where stdout is no terminal
    #[arg(short, long)]
    long: bool,

    /// For run: become PROGRAM, so that nothing of us stays in memory; signals then are its own business
    #[arg(long)]
    exec: bool,

    /// For run: have PROGRAM killed (SIGKILL) if we die first; with --exec, if whoever started us does
    #[arg(long)]
    die_with_parent: bool,

    /// Exit status of a get, run or wait that timed out [default: 1]
    #[arg(short = 'E', long, value_name = "NUMBER", value_parser = clap::value_parser!(u8))]
    conflict_exit_code: Option<u8>,

    /// For remove: also if somebody holds the lock, or if the file is damaged or no lock
    #[arg(long)]
    force: bool,

    #[arg(help = format!("Permissions of a lock that is made, in octal [default: {DEFAULT_MODE:04o}]"))]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,

    /// Group of a lock that is made: its name or number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    #[arg(help = format!("Directory of the locks [default: {DEFAULT_DIR}]"))]
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new(), value_hint = ValueHint::DirPath)]
    dir: Option<OsString>,

    /// Print a table of all locks of the directory
    #[arg(long, conflicts_with_all = ["lock", "top", "generate"])]
    list: bool,

    /// Show that table on the whole screen, and keep it up to date; q leaves
    #[arg(long, conflicts_with_all = ["lock", "generate"])]
    top: bool,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Colours
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    color: Color,

    /// Print the manual page, or a shell's completions (of names without special characters)
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with = "lock")]
    generate: Option<Target>,

    /// Say on stderr what is done where; -vv says all that the library logs
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,

    /// By which run's process this one was started
    #[arg(long, value_name = "PID", hide = true)]
    started_by: Option<u32>,
}

/// A command line that makes sense.
#[derive(Debug)]
pub(crate) struct Args {
    /// Empty where the command is about all locks.
    pub(crate) lock: String,
    pub(crate) command: Command,
    /// Not empty for `run`.
    pub(crate) program: Vec<OsString>,
    pub(crate) get_timeout: Timeout,
    pub(crate) message: String,
    pub(crate) auto_unget: Option<Duration>,
    pub(crate) update: Duration,
    pub(crate) changes: bool,
    pub(crate) long: bool,
    pub(crate) exec: bool,
    pub(crate) die_with_parent: bool,
    pub(crate) conflict: Exit,
    pub(crate) force: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) group: Option<String>,
    pub(crate) dir: String,
    pub(crate) json: bool,
    pub(crate) color: Color,
    pub(crate) verbose: u8,
    pub(crate) started_by: Option<u32>,
}

/// What the command line asks for.
pub(crate) enum Parsed {
    Run(Args),
    /// It was answered already: help, version, or what is wrong with it.
    Done(Exit),
}

/// The command line as clap knows it, with all that `--help` says.
pub(crate) fn command() -> clap::Command {
    Words::command().after_help(after_help())
}

/// What `--help` says behind the options: parts with a title each, a blank line between them.
pub(crate) fn after_help() -> String {
    format!("{COMMANDS}\n{}", Exit::table())
}

/// The directory of the locks: the one given, else the environment's, else the library's.
pub(crate) fn dir(given: Option<OsString>) -> OsString {
    let dir = given.or_else(|| std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()));
    let dir = dir.unwrap_or_else(|| DEFAULT_DIR.into());
    // Seen from where we are, because the library takes no relative path. An empty one is its to refuse.
    std::path::absolute(&dir).map_or(dir, Into::into)
}

impl Args {
    /// Of a command line: the program's name comes first.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Parsed {
        // What is behind the help is written only when it is asked for.
        let mut command = Words::command();
        let matches = command.try_get_matches_from_mut(words);
        match matches.and_then(|mut matches| Words::from_arg_matches_mut(&mut matches)) {
            Ok(words) => words.check(),
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                let help = self::command().render_help().to_string();
                Parsed::Done(output::print(&help).map_or_else(output::failed, |()| Exit::Done))
            }
            Err(error) => Parsed::Done(answer(error)),
        }
    }
}

impl Words {
    /// What clap cannot say as clearly: which option goes with which command, and words that are not UTF-8.
    fn check(self) -> Parsed {
        let command = match (self.command, self.generate) {
            (_, Some(target)) => Command::Generate(target),
            (Some(command), _) => command,
            _ if self.top => Command::Top,
            _ => Command::List,
        };
        for (option, given) in [
            ("--long", self.long),
            ("--changes", self.changes),
            ("--force", self.force),
            ("--exec", self.exec),
            ("--die-with-parent", self.die_with_parent),
            ("--conflict-exit-code", self.conflict_exit_code.is_some()),
            ("--mode", self.mode.is_some()),
            ("--group", self.group.is_some()),
            ("--json", self.json),
        ] {
            if given && !command.takes(option) {
                return unexpected(option, command);
            }
        }
        let lock = match self.lock.unwrap_or_default().into_string() {
            Ok(lock) => lock,
            Err(lock) => return not_utf8(&lock, "the lock's name"),
        };
        match self.program.first() {
            Some(word) if command != Command::Run => return unexpected(&word.to_string_lossy(), command),
            None if command == Command::Run => {
                output::complain(&lock, &"run needs a PROGRAM; put it behind '--'");
                return Parsed::Done(Exit::Usage);
            }
            _ => {}
        }
        let message = match self.message {
            None if command == Command::Run => shown_program(&self.program),
            None => "cli".to_owned(),
            Some(message) => match message.into_string() {
                Ok(message) => message,
                Err(_) => return not_utf8(lock.as_ref(), "the message"),
            },
        };
        let Ok(dir) = dir(self.dir).into_string() else {
            return not_utf8(lock.as_ref(), "the directory's path");
        };
        Parsed::Run(Args {
            lock,
            command,
            program: self.program,
            get_timeout: self.get_timeout,
            message,
            auto_unget: self.auto_unget,
            update: self.update,
            changes: self.changes,
            long: self.long,
            exec: self.exec,
            die_with_parent: self.die_with_parent,
            conflict: self.conflict_exit_code.map_or(Exit::No, Exit::Given),
            force: self.force,
            mode: self.mode,
            group: self.group,
            dir,
            json: self.json,
            color: self.color,
            verbose: self.verbose,
            started_by: self.started_by,
        })
    }
}

/// What is run, as one text.
fn shown_program(program: &[OsString]) -> String {
    program.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// As clap words it.
fn unexpected(word: &str, command: Command) -> Parsed {
    output::tell(&format!(
        "error: unexpected argument '{}' found: '{}' does not take it\n\nFor more information, try '--help'.\n",
        Escaped(word),
        command.word()
    ));
    Parsed::Done(Exit::Usage)
}

fn not_utf8(lock: &OsStr, what: &str) -> Parsed {
    output::complain(&lock.to_string_lossy(), &format_args!("{what} is not valid UTF-8; use text"));
    Parsed::Done(Exit::Usage)
}

/// Prints the version to stdout and complaints to stderr, with what the user typed escaped.
fn answer(mut error: clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayVersion {
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

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err("not an octal number from 0 to 777".to_owned()),
    }
}
