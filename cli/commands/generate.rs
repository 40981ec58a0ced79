//! `--generate`: the manual page, and what the shells need to complete our words; and the completing itself.
//!
//! A shell's script only calls this program, with the environment saying so: what can be typed next is answered from the
//! same declaration that the command line is parsed by, and the locks are those that there are at this moment.
//!
//! Invariant: a completion never inserts text that a shell interprets. Any user can name a file in a shared directory, and
//! bash inserts a candidate without quoting it.

use std::ffi::{OsStr, OsString};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};
use clap_mangen::Man;
use resourcelock::Error;

use crate::args::{self, Target};
use crate::exit::Exit;
use crate::output;
use crate::view;

/// The environment variable with which a script asks for completions; its value is the shell's name.
///
/// Not clap's `COMPLETE`, which any other program's set-up may export.
const VARIABLE: &str = "_RESOURCELOCK_COMPLETE";

const PROGRAM: &str = "resourcelock";

pub(crate) fn run(target: Target) -> Result<Exit, Error> {
    let mut text = Vec::new();
    let script = |shell: &dyn EnvCompleter, text| shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, text);
    let written = match target {
        Target::Man => manual(&mut text),
        Target::Bash => script(&Bash, &mut text),
        Target::Zsh => script(&Zsh, &mut text),
        Target::Fish => script(&Fish, &mut text),
    };
    // A vector takes everything.
    debug_assert!(written.is_ok());
    let text = String::from_utf8_lossy(&text);
    Ok(output::print(&text).map_or_else(output::failed, |()| Exit::Done))
}

/// The manual page. The sections of `--help` after the options are laid out for a terminal, and keep their lines.
fn manual(page: &mut Vec<u8>) -> std::io::Result<()> {
    let man = Man::new(args::command().after_help("")).section("1").source("");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let mut is_first = true;
    for line in args::after_help().lines() {
        match line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
            Some(title) => {
                let end = if is_first { "" } else { ".fi\n" };
                page.extend(format!("{end}.SH {}\n.nf\n", title.to_uppercase()).into_bytes());
                is_first = false;
            }
            None => page.extend(format!("{}\n", line.replace('-', "\\-")).into_bytes()),
        }
    }
    page.extend(b".fi\n");
    Ok(())
}

/// Answers the call of a completion script, and exits. Returns if the command line is anything else.
pub(crate) fn complete() {
    if !is_call_of_script(&std::env::args_os().collect::<Vec<_>>()) {
        return;
    }
    let command = || {
        args::command()
            .mut_arg("lock", |lock| lock.add(ArgValueCompleter::new(locks)))
            .mut_arg("dir", |dir| dir.add(ArgValueCompleter::new(directories)))
    };
    CompleteEnv::with_factory(command).var(VARIABLE).shells(Shells(&[&Bash, &Zsh, &Fish])).complete();
}

/// Whether the words and the environment are exactly those of a call by a script that `--generate` prints:
/// `VARIABLE=SHELL resourcelock -- WORD...`, and in bash and zsh also the separator and the index of the word to complete.
///
/// A variable that is merely exported must not turn a `get` into a completion, whose status 0 means "the lock is held".
fn is_call_of_script(words: &[OsString]) -> bool {
    let [_, dashes, words @ ..] = words else { return false };
    let is_indexed = |separator: &str, last: usize| {
        let index = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
        std::env::var_os("_CLAP_IFS").is_some_and(|given| given == separator)
            && index.is_some_and(|index| (1..=last).contains(&index))
    };
    dashes == "--"
        && match std::env::var(VARIABLE).as_deref() {
            Ok("bash") => is_indexed("\u{b}", words.len().saturating_sub(1)),
            // The word to complete may be missing if it is empty.
            Ok("zsh") => is_indexed("\n", words.len()),
            // The command, and the word to complete.
            Ok("fish") => words.len() >= 2,
            _ => false,
        }
}

/// The locks whose names begin with `typed`, in the directory that the other words or the environment name. Leaves out the
/// names that a shell or this program might not take for a name.
fn locks(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let dir = dir_of(std::env::args_os());
    let names = dir.and_then(|dir| view::names(&dir).ok()).unwrap_or_default();
    let is_wanted = |name: &String| name.starts_with(typed) && !name.starts_with('-') && name.chars().all(is_plain);
    names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(is_wanted)
        .map(CompletionCandidate::new)
        .collect()
}

/// The directories whose paths begin with `typed`, without those that a shell might not take for a path.
fn directories(typed: &OsStr) -> Vec<CompletionCandidate> {
    let is_wanted = |candidate: &CompletionCandidate| {
        let path = candidate.get_value().to_str();
        path.is_some_and(|path| path.strip_prefix("~/").unwrap_or(path).chars().all(|c| c == '/' || is_plain(c)))
    };
    PathCompleter::dir().complete(typed).into_iter().filter(is_wanted).collect()
}

/// Whether the character stands for itself in every shell, without quotes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._+-".contains(c)
}

fn dir_of(words: impl IntoIterator<Item = OsString>) -> Option<String> {
    let mut words = words.into_iter();
    let mut dir = None;
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--dir") => dir = words.next().or(dir),
            Some(word) => dir = word.strip_prefix("--dir=").map(OsString::from).or(dir),
            None => {}
        }
    }
    args::dir(dir).into_string().ok()
}
