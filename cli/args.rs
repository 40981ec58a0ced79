//! The command line and the environment: read once, checked here.
//!
//! Wrong usage is refused before any lock is touched. Words stay `OsString`s until they are checked, so that a name that is
//! not UTF-8 has an error message of its own.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint};
use resourcelock::{DEFAULT_DIR, DEFAULT_MODE, Escaped, Timeout, TimeoutError};

use crate::exit::Exit;
use crate::output;

/// The environment variable with the directory of the locks; `--dir` overrides it.
const DIR_VARIABLE: &str = "RESOURCELOCK_DIR";

/// The width of a terminal that `--help` fits.
const HELP_COLUMNS: usize = 80;

const ABOUT: &str = "Named locks between programs: acquire, release and watch them, and run a program
under one.

The locks are advisory: every program that uses the resource must take part.";

const USAGE: &str = "resourcelock [OPTIONS] LOCK COMMAND
       resourcelock [OPTIONS] LOCK run [--] PROGRAM [ARGUMENT]...
       resourcelock [OPTIONS] --list | --top";

const COMMANDS: &str = "\
Commands:
  get      Acquire the lock, waiting up to -t seconds. It stays held after this
           command exits, until 'unget'. With -a, hold it for that many seconds
           and then release it; Ctrl-C, SIGTERM and SIGHUP release it, too.
  unget    Force-release the lock, whoever holds it.
  state    Print whether the lock is held, and its last grant. On a terminal
           and with -l, print every detail, one per line.
  trace    Print the state every -u seconds until Ctrl-C, which is a success.
           With --changes, print what has changed, one change per line.
  run      Hold the lock while PROGRAM runs. See 'Running a program'.
  history  Print the last grants, newest first: when, how long, how each ended,
           and who held.
  wait     Wait up to -t seconds until nobody holds the lock. Do not acquire it.
  remove   Remove the lock if nobody holds it; with --force, also if it is held.

Running a program:
  The exit status is that of PROGRAM. If a signal kills PROGRAM, the same signal
  ends 'run'. Signals sent to 'run' reach PROGRAM once.

  The lock is held until both 'run' and PROGRAM have ended. If PROGRAM exits, or
  if SIGINT, SIGTERM, SIGHUP or SIGPIPE ends it, 'run' releases the lock. If
  another signal kills PROGRAM, the next grant is told that the holder died. If
  'run' is killed, the lock stays held until PROGRAM and every process that
  inherited its descriptors has ended, which counts as a death as well.

  With --exec, 'run' becomes PROGRAM. Nobody is left to release the lock, so the
  end of PROGRAM always counts as a death.

  In a systemd service, set KillMode=mixed, or use --exec. With the default,
  control-group, systemd sends SIGTERM to 'run' and to PROGRAM, and on a busy
  machine PROGRAM may receive it twice.

Environment:
  RESOURCELOCK_DIR  directory of the locks, if --dir is not given
  NO_COLOR          if not empty, disables colours, unless --color is given
  TZ                time zone of the times that are printed
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
    /// `--list`. This command and the following take no lock.
    #[value(skip)]
    List,
    #[value(skip)]
    Top,
    #[value(skip)]
    Generate(Target),
}

impl Command {
    /// The word on the command line.
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

    /// Whether it concerns the directory and not one lock.
    pub(crate) fn is_about_all(self) -> bool {
        matches!(self, Self::List | Self::Top)
    }

    /// Whether the command takes the option. Those of the reference are accepted with every command.
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
#[command(next_line_help = true)]
struct Words {
    /// Name of the lock; a leading '/' is accepted and dropped
    #[arg(index = 1, value_name = "LOCK", value_parser = OsStringValueParser::new())]
    #[arg(required_unless_present_any = ["list", "top", "generate"])]
    lock: Option<OsString>,

    /// What to do; see 'Commands' below
    #[arg(index = 2, value_name = "COMMAND", value_enum, required_unless_present_any = ["list", "top", "generate"])]
    command: Option<Command>,

    /// For run: the program to run; what follows it are its arguments
    #[arg(index = 3, value_name = "PROGRAM", value_parser = OsStringValueParser::new(), trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    program: Vec<OsString>,

    /// How long get, run and wait wait: 0 only tries, -1 waits forever
    #[arg(short = 't', long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_timeout)]
    #[arg(allow_hyphen_values = true)]
    get_timeout: Timeout,

    /// Info for others: who holds the lock, and why
    /// [default: cli; for run, PROGRAM without its arguments]
    #[arg(short, long, value_name = "TEXT", value_parser = OsStringValueParser::new(), value_hint = ValueHint::Other)]
    message: Option<OsString>,

    /// For get: hold the lock for this many seconds, then release it
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_duration, allow_hyphen_values = true)]
    auto_unget: Option<Duration>,

    /// Interval of trace and --top
    #[arg(short, long, value_name = "SECONDS", default_value = "0.5", value_parser = parse_interval)]
    #[arg(allow_hyphen_values = true)]
    update: Duration,

    /// For trace: print changes, one per line
    #[arg(short, long)]
    changes: bool,

    /// For state: print every detail, one per line
    #[arg(short, long)]
    long: bool,

    /// For run: become PROGRAM; no second process stays in memory
    #[arg(long)]
    exec: bool,

    /// For run: kill PROGRAM (SIGKILL) if 'run' ends first; with --exec, if
    /// its parent ends first
    #[arg(long)]
    die_with_parent: bool,

    /// Exit status of get, run and wait after a timeout [default: 1]
    #[arg(short = 'E', long, value_name = "NUMBER", value_parser = clap::value_parser!(u8))]
    conflict_exit_code: Option<u8>,

    /// For remove: also if the lock is held, or if its file is not a lock
    #[arg(long)]
    force: bool,

    #[arg(help = format!("Permissions of a new lock, in octal [default: {DEFAULT_MODE:04o}]"))]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    mode: Option<u32>,

    /// Group of a new lock: a name or a number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    #[arg(help = format!("Directory of the locks [default: {DEFAULT_DIR}]"))]
    #[arg(long, value_name = "DIR", value_parser = OsStringValueParser::new(), value_hint = ValueHint::DirPath)]
    dir: Option<OsString>,

    /// Print a table of all locks of the directory
    #[arg(long, conflicts_with_all = ["lock", "top", "generate"])]
    list: bool,

    /// Show that table on the whole screen and update it; q quits
    #[arg(long, conflicts_with_all = ["lock", "generate"])]
    top: bool,

    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,

    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    color: Color,

    /// Print the manual page, or the completion script of a shell
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with = "lock")]
    generate: Option<Target>,

    /// Log to stderr: -v the command, -vv everything that the library logs
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
}

/// A command line that was checked.
#[derive(Debug)]
pub(crate) struct Args {
    /// Empty if the command concerns all locks.
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
}

/// The result of parsing a command line.
pub(crate) enum Parsed {
    Run(Args),
    /// It was answered already: help, version, or an error.
    Done(Exit),
}

/// The command line as clap parses it, with the whole text of `--help`.
pub(crate) fn command() -> clap::Command {
    Words::command().after_help(after_help())
}

/// The text of `--help` after the options: sections with a title and indented lines.
pub(crate) fn after_help() -> String {
    format!("{COMMANDS}\n{}", Exit::table())
}

/// The directory of the locks: the given one, else the environment's, else the library's default.
pub(crate) fn dir(given: Option<OsString>) -> OsString {
    let dir = given.or_else(|| std::env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()));
    let dir = dir.unwrap_or_else(|| DEFAULT_DIR.into());
    // The library takes no relative path. It refuses an empty one itself.
    std::path::absolute(&dir).map_or(dir, Into::into)
}

impl Args {
    /// Parses a command line, which begins with the name of this program.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Parsed {
        // The text after the options is built only for --help.
        let mut command = Words::command();
        let matches = command.try_get_matches_from_mut(words);
        match matches.and_then(|mut matches| Words::from_arg_matches_mut(&mut matches)) {
            Ok(words) => words.check(),
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                let help = wrap(&self::command().render_help().to_string());
                Parsed::Done(output::print(&help).map_or_else(output::failed, |()| Exit::Done))
            }
            Err(error) => Parsed::Done(answer(error)),
        }
    }
}

/// Wraps the lines that are longer than 80 columns, keeping their indentation.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let mut column = 0;
        for word in line.split_whitespace() {
            // Short lines keep their inner spaces.
            if line.len() <= HELP_COLUMNS {
                wrapped += line;
                break;
            }
            if column > 0 && column + 1 + word.len() > HELP_COLUMNS {
                wrapped.push('\n');
                column = 0;
            }
            let gap = if column == 0 { indent } else { 1 };
            wrapped.extend(std::iter::repeat_n(' ', gap));
            wrapped += word;
            column += gap + word.len();
        }
        wrapped.push('\n');
    }
    wrapped
}

impl Words {
    /// Checks what clap cannot report as clearly: options that the command does not take, and words that are not UTF-8.
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
                output::complain(&lock, &"run needs a PROGRAM; give one after '--'");
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
        })
    }
}

/// The default info of `run`: the program without its arguments, which may hold passwords.
fn shown_program(program: &[OsString]) -> String {
    program.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reports it in clap's words.
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

/// Prints the version to stdout and errors to stderr, with the user's words escaped.
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
    // Clap's tips repeat the user's words.
    let text = error.render().to_string();
    text.lines().for_each(|line| output::tell(&format!("{}\n", Escaped(line))));
    Exit::Usage
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| "not a number of seconds".to_owned())
}

fn parse_timeout(text: &str) -> Result<Timeout, String> {
    let seconds = parse_seconds(text)?;
    // The reference's spelling. Other negative numbers are refused.
    if seconds == -1.0 {
        return Ok(Timeout::FOREVER);
    }
    Timeout::try_from(seconds).map_err(|error| error.to_string())
}

/// A time span within the bounds of a [`Timeout`].
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
        Duration::ZERO => Err("the interval is zero; use 0.01 for frequent updates".to_owned()),
        interval => Ok(interval),
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err("not an octal number from 0 to 777".to_owned()),
    }
}
