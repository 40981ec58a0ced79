//! `--top`: the table of `--list` on the whole screen, kept up to date.
//!
//! Invariant: the terminal is given back as it was, whatever ends us: a key, a signal, an error, a panic. Only SIGKILL
//! leaves it as it is; `reset` helps then.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::panic;
use std::time::{Duration, Instant};

use crossterm::Command;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{
    self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use resourcelock::{Error, Escaped};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::Args;
use crate::exit::Exit;
use crate::local_time;
use crate::output::{self, Unwritten};
use crate::signals::{Caught, Mail};
use crate::style::{self, Paint};
use crate::table;
use crate::view::{self, View};

/// The size of a screen that does not tell.
const USUAL_SIZE: (u16, u16) = (80, 24);

pub(crate) fn run(args: &Args) -> Result<Exit, Error> {
    if !io::stdin().is_terminal() || !style::is_terminal() {
        output::complain(&args.dir, &"--top needs a terminal; use --list");
        return Ok(Exit::Usage);
    }
    // Before the screen is touched, so that what is wrong with the directory is said where it can be read.
    let mut views = view::all(&args.dir)?;
    let outcome = Mail::receive().and_then(|mut mail| {
        let screen = Screen::enter()?;
        let outcome = watch(args, &mut views, &mut mail);
        drop(screen);
        outcome.map(|end| match end {
            End::Left(result) => result,
            End::Signal(signal) => Ok(mail.die_of(signal as i32)),
        })
    });
    outcome.unwrap_or_else(|error| Ok(super::cannot_watch(&args.dir, &error)))
}

/// How the watching ended.
enum End {
    Left(Result<Exit, Error>),
    Signal(Signal),
}

/// The alternate screen, from when it was entered until this is dropped.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        // Also where a panic ends the process at once, as in a release build.
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            report(info);
        }));
        enter()?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    let _ = output::print(&[ansi(EnterAlternateScreen), ansi(Hide), ansi(DisableLineWrap)].concat());
    Ok(())
}

fn leave() {
    let _ = output::print(&[ansi(EnableLineWrap), ansi(Show), ansi(LeaveAlternateScreen)].concat());
    let _ = terminal::disable_raw_mode();
}

/// What the terminal understands as this command.
fn ansi(command: impl Command) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = command.write_ansi(&mut text);
    text
}

/// Shows the locks until somebody wants an end.
fn watch(args: &Args, views: &mut Vec<View>, mail: &mut Mail) -> io::Result<End> {
    let paint = Paint::new(args.color);
    // How many locks are above the screen.
    let mut above = 0;
    let mut next_look = Instant::now() + args.update;
    loop {
        above = above.min(views.len().saturating_sub(1));
        if let Err(unwritten) = output::print(&draw(args, views, above, paint)) {
            return Ok(End::Left(Ok(match unwritten {
                Unwritten::Unread => Exit::Done,
                Unwritten::Failed => Exit::Output,
            })));
        }
        match wait(mail, next_look.saturating_duration_since(Instant::now()))? {
            News::None => {
                *views = match view::all(&args.dir) {
                    Ok(views) => views,
                    Err(error) => return Ok(End::Left(Err(error))),
                };
                next_look = Instant::now() + args.update;
            }
            News::Key(Key::Leave) => return Ok(End::Left(Ok(Exit::Done))),
            News::Key(Key::Stop) | News::Signal(Signal::SIGTSTP) => {
                leave();
                Mail::stop_ourselves();
                enter()?;
            }
            News::Key(Key::Scroll(lines)) => above = above.saturating_add_signed(lines),
            News::Signal(Signal::SIGWINCH | Signal::SIGCONT | Signal::SIGCHLD) => {}
            News::Signal(signal) => return Ok(End::Signal(signal)),
        }
    }
}

enum News {
    /// The time is up.
    None,
    Key(Key),
    Signal(Signal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Leave,
    Stop,
    /// By so many lines; by none, it means nothing to us.
    Scroll(isize),
}

/// Waits for a key or a signal, or until the time is up.
fn wait(mail: &mut Mail, time: Duration) -> io::Result<News> {
    let stdin = io::stdin();
    // Of the longest times, as much as the kernel takes.
    let time = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::from(u32::MAX), tv_nsec: 0 });
    let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&*mail, PollFlags::IN)];
    match poll(&mut fds, Some(&time)) {
        Ok(0) => return Ok(News::None),
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(News::Key(Key::Scroll(0))),
        Err(errno) => return Err(errno.into()),
    }
    let (is_key, is_signal) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
    if is_signal {
        let Caught { signal, .. } = mail.next()?;
        return Ok(News::Signal(signal));
    }
    Ok(if is_key { News::Key(read_keys()?) } else { News::None })
}

/// What was typed since the last look: the first that is more than a scroll, else all scrolls together.
fn read_keys() -> io::Result<Key> {
    let mut typed = [0; 64];
    // Not by std's stdin, whose buffer would keep from poll what it has read.
    let typed = match rustix::io::read(io::stdin(), &mut typed) {
        Ok(len) => &typed[..len],
        Err(rustix::io::Errno::INTR) => return Ok(Key::Scroll(0)),
        Err(errno) => return Err(errno.into()),
    };
    if typed.is_empty() {
        // The terminal has gone away.
        return Ok(Key::Leave);
    }
    let (mut rest, mut scrolled) = (typed, 0);
    while let Some((key, after)) = next_key(rest) {
        match key {
            Key::Scroll(lines) => scrolled += lines,
            key => return Ok(key),
        }
        rest = after;
    }
    Ok(Key::Scroll(scrolled))
}

/// The first key of what was typed, and the rest.
fn next_key(typed: &[u8]) -> Option<(Key, &[u8])> {
    Some(match typed {
        [] => return None,
        // The arrows, in a terminal's two modes.
        [ESCAPE, b'[' | b'O', b'A', rest @ ..] => (Key::Scroll(-1), rest),
        [ESCAPE, b'[' | b'O', b'B', rest @ ..] => (Key::Scroll(1), rest),
        [ESCAPE] => (Key::Leave, &[]),
        // Another key with a name of several bytes; terminals send them in one piece.
        [ESCAPE, ..] => (Key::Scroll(0), &[]),
        [b'q' | b'Q' | CTRL_C | CTRL_D, rest @ ..] => (Key::Leave, rest),
        [CTRL_Z, rest @ ..] => (Key::Stop, rest),
        // For the test that sees the terminal given back.
        #[cfg(debug_assertions)]
        #[allow(clippy::panic)]
        [CTRL_UNDERSCORE, ..] => panic!("asked for by a key"),
        [b'j', rest @ ..] => (Key::Scroll(1), rest),
        [b'k', rest @ ..] => (Key::Scroll(-1), rest),
        [b' ', rest @ ..] => (Key::Scroll(10), rest),
        [b'b', rest @ ..] => (Key::Scroll(-10), rest),
        [_, rest @ ..] => (Key::Scroll(0), rest),
    })
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_Z: u8 = 26;
const ESCAPE: u8 = 27;
#[cfg(debug_assertions)]
const CTRL_UNDERSCORE: u8 = 31;

/// The whole screen, to be written at once, so that it does not flicker.
fn draw(args: &Args, views: &[View], above: usize, paint: Paint) -> String {
    let (columns, rows) = terminal::size().unwrap_or(USUAL_SIZE);
    let (columns, rows) = (usize::from(columns), usize::from(rows));
    let held = views.iter().filter(|view| view.is_locked()).count();
    let time = local_time::show(Timestamp::now());
    let head = format!("{}  {held} of {} held  {}", &time[..19], views.len(), Escaped(&args.dir));
    let mut lines = vec![paint.on(style::TITLE, table::cut(&head, columns)), String::new()];
    let mut table = super::list::table(views).lines(Some(columns), paint).into_iter();
    lines.extend(table.next());
    lines.extend(table.skip(above));
    // The last row is for the keys.
    lines.truncate(rows.saturating_sub(1));
    let mut screen = String::new();
    for (row, line) in lines.iter().enumerate() {
        let _ = write!(screen, "{}{line}{}", ansi(MoveTo(0, row as u16)), ansi(Clear(ClearType::UntilNewLine)));
    }
    let keys = paint.on(style::DIM, table::cut("q leaves  j k scroll", columns));
    let _ = write!(screen, "{}", ansi(Clear(ClearType::FromCursorDown)));
    let _ = write!(screen, "{}{keys}", ansi(MoveTo(0, rows.saturating_sub(1) as u16)));
    screen
}
