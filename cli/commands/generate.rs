//! `--generate`: the manual page, and what the shells need to complete our words.

use resourcelock::Error;

use crate::args::{self, Target};
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(target: Target) -> Result<Exit, Error> {
    use clap_complete::Shell;
    let mut command = args::command();
    let mut text = Vec::new();
    match target {
        Target::Man => {
            let _ = clap_mangen::Man::new(command).render(&mut text);
        }
        Target::Bash => clap_complete::generate(Shell::Bash, &mut command, "resourcelock", &mut text),
        Target::Zsh => clap_complete::generate(Shell::Zsh, &mut command, "resourcelock", &mut text),
        Target::Fish => clap_complete::generate(Shell::Fish, &mut command, "resourcelock", &mut text),
    }
    let text = String::from_utf8_lossy(&text);
    Ok(output::print(&text).map_or_else(output::failed, |()| Exit::Done))
}
