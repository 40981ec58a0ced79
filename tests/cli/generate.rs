//! `--generate`: completions that work, in a shell where there is one, and a manual page that has everything.
//!
//! Seen to fail with lock names that are not completed, with those of another directory, and with hostile ones offered.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, Said};

/// Loads the generated script, asks it to complete the last argument, and prints one candidate per line.
const BASH: &str = r#"
loader=/usr/share/bash-completion/bash_completion
if [ -r $loader ]; then . $loader; fi
source <(resourcelock --generate bash)
COMP_WORDS=(resourcelock "$@") COMP_CWORD=$# COMP_TYPE=9
_clap_complete_resourcelock resourcelock "${!#}" ""
printf '%s\n' "${COMPREPLY[@]}""#;

/// As [`BASH`]. zsh has its completion functions only at a prompt, so the last one, which displays the candidates, is a
/// stub here.
const ZSH: &str = r#"
compdef() { }
_describe() { print -rl -- "${(P@)3}" }
source <(resourcelock --generate zsh)
words=(resourcelock "$@") CURRENT=$(($# + 1))
_clap_dynamic_completer_resourcelock"#;

/// As [`BASH`]. A description follows a candidate after a tab.
const FISH: &str = r#"
resourcelock --generate fish | source
complete -C "resourcelock $argv" | string replace -r '\t.*' ''"#;

/// What the shell offers for the last of these words; `None` if the shell is not installed.
fn offered_by(shell: &str, place: &Place, words: &[&str]) -> Option<Vec<String>> {
    let home = Place::new();
    let mut command = Command::new(shell);
    match shell {
        "bash" => command.args(["--norc", "-c", BASH, "bash"]),
        "zsh" => command.args(["-f", "-c", ZSH, "zsh"]),
        _ => command.args(["--no-config", "-c", FISH, "--"]),
    };
    let tools = Path::new(env!("CARGO_BIN_EXE_resourcelock")).parent().unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    command.args(words).env("PATH", path).env("RESOURCELOCK_DIR", &place.dir).env("HOME", &home.dir);
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: no {shell}");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// What bash offers for the last of these words.
fn offered(place: &Place, words: &[&str]) -> Vec<String> {
    offered_by("bash", place, words).unwrap()
}

/// Any user can create a file in a shared directory. bash inserted the name of `spi;id>f` without quotes, and Enter
/// ran `id`.
#[test]
fn names_that_a_shell_interprets_are_not_completed() {
    let (place, parent) = (Place::new(), Place::new());
    let hostile = [
        ";id>f", "$(id)", "`id`", "&id", "|id", " id", "*", "'", "\"", "\\", "{a,b}", "#", "!!", "~", "=", "\u{e4}",
        "\nid",
    ];
    for end in hostile.into_iter().chain(["-0", "_A.b+9"]) {
        let name = format!("spi{end}");
        assert_eq!(place.run([&name, "get"]).status, Some(0), "{name}");
        std::fs::create_dir(parent.dir.join(name)).unwrap();
    }
    assert_eq!(place.run(["--", "--force-all", "get"]).status, Some(0));
    let typed = format!("{}/sp", parent.dir.display());
    let paths = ["spi-0", "spi_A.b+9"].map(|name| format!("{}/{name}/", parent.dir.display()));
    for shell in ["bash", "zsh", "fish"] {
        let Some(mut names) = offered_by(shell, &place, &["sp"]) else { continue };
        names.sort();
        assert_eq!(names, ["spi-0", "spi_A.b+9"], "{shell}");
        // zsh shows a directory's slash by an option of the function that is a stub here.
        let paths = paths.clone().map(|path| if shell == "zsh" { path.trim_end_matches('/').to_owned() } else { path });
        let mut directories = offered_by(shell, &place, &["--dir", &typed]).unwrap();
        directories.sort();
        assert_eq!(directories, paths, "{shell}");
        // A completed name that begins with a dash would be parsed as an option.
        let options = offered_by(shell, &place, &["--fo"]).unwrap();
        assert!(
            options.iter().all(|option| option.starts_with("--force") && option != "--force-all"),
            "{shell}: {options:?}"
        );
    }
}

#[test]
fn bash_completes_locks_commands_and_options() {
    let (place, other) = (Place::new(), Place::new());
    for name in ["i2c-1", "i2c-2", "modem", "\x1b[2J"] {
        assert_eq!(place.run(["--", name, "get"]).status, Some(0));
    }
    assert_eq!(other.run(["i2c-9", "get"]).status, Some(0));
    assert_eq!(offered(&place, &["i2c"]), ["i2c-1", "i2c-2"]);
    assert_eq!(offered(&place, &["m"]), ["modem"]);
    let all = offered(&place, &[""]);
    assert!(
        ["i2c-1", "i2c-2", "modem", "--list", "--top"].iter().all(|word| all.iter().any(|have| have == word)),
        "{all:?}"
    );
    assert!(!all.iter().any(|word| word.contains("2J")), "{all:?}");
    let dir = other.dir.to_str().unwrap();
    assert_eq!(offered(&place, &["--dir", dir, "i"]), ["i2c-9"]);
    assert_eq!(offered(&place, &[&format!("--dir={dir}"), "i"]), ["i2c-9"]);
    assert_eq!(offered(&place, &["i2c-1", "un"]), ["unget"]);
    assert_eq!(offered(&place, &["i2c-1", "state", "--lo"]), ["--long"]);
    assert_eq!(offered(&place, &["--color", ""]), ["auto", "always", "never"]);
    assert!(!offered(&place, &["--"]).iter().any(|word| word == "--started-by"), "that one is not for people");
}

/// As their scripts ask: by the environment, with the words behind two dashes.
#[test]
fn zsh_and_fish_are_answered() {
    let place = Place::new();
    assert_eq!(place.run(["i2c-1", "get"]).status, Some(0));
    for shell in ["zsh", "fish"] {
        let script = place.run(["--generate", shell]);
        assert_eq!((script.status, script.stderr.as_str()), (Some(0), ""));
        assert!(
            script.stdout.contains(&format!(" _RESOURCELOCK_COMPLETE=\"{shell}\" "))
                || script.stdout.contains(&format!("(_RESOURCELOCK_COMPLETE={shell} ")),
            "{script:?}"
        );
        let mut command = place.command(["--", "resourcelock", "i2"]);
        command.env("_RESOURCELOCK_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", "1").env("_CLAP_IFS", "\n");
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "i2c-1", "{shell}");
        let file = place.dir.join(shell);
        std::fs::write(&file, &script.stdout).unwrap();
        // Where there is such a shell, it must understand the script.
        if let Ok(status) = Command::new(shell).arg("-n").arg(&file).status() {
            assert!(status.success(), "{shell}");
        }
    }
}

/// `COMPLETE=bash resourcelock x get` printed a script and exited with 0, and the lock was not held.
#[test]
fn an_exported_completion_variable_does_not_replace_a_get() {
    for variable in ["COMPLETE", "_RESOURCELOCK_COMPLETE"] {
        for shell in ["bash", "zsh", "fish", "elvish", "1", ""] {
            let of_script = [("_CLAP_COMPLETE_INDEX", "1"), ("_CLAP_IFS", "\u{b}"), ("_CLAP_COMPLETE_SPACE", "false")];
            for more in [&of_script[..0], &of_script] {
                for words in [&["x", "get"][..], &["-t", "0", "--", "x", "get"], &["--", "x", "get"]] {
                    // With the variables and the dashes of a script, it is the call of that script.
                    let is_call = shell == "fish" || (shell == "bash" && !more.is_empty());
                    if variable != "COMPLETE" && words[0] == "--" && is_call {
                        continue;
                    }
                    let place = Place::new();
                    let mut get = place.command(words);
                    Said::by(get.env(variable, shell).envs(more.iter().copied()))
                        .expect(0, "<x> lock request successful - Granted <<TIME> - cli>");
                    assert!(place.is_locked("x"), "{variable}={shell} {words:?}");
                }
            }
        }
    }
}

#[test]
fn the_manual_page_has_what_help_has() {
    let place = Place::new();
    let page = place.run(["--generate", "man"]);
    assert_eq!((page.status, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.contains("\n.TH resourcelock 1 "), "{}", &page.stdout[..200]);
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "ENVIRONMENT", "EXIT STATUS"] {
        assert!(page.stdout.contains(&format!("\n.SH {section}\n")), "{section}");
    }
    let plain = page.stdout.replace("\\-", "-");
    let help = place.run(["--help"]).stdout;
    let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
    for option in options.map(|word| word.trim_end_matches([',', '.', ';'])) {
        assert!(plain.contains(option), "{option}");
    }
    assert!(!plain.contains("--started-by"));
    assert!(place.is_empty());
}
