//! Builds the programs of this repository that are measured, with their release profiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns the root of the repository.
fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(dir: &Path, arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // `cargo run` has set these for this program; they would mislead another build.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            command.env_remove(name);
        }
    }
    let done = command.current_dir(dir).args(["build", "--quiet", "--release"]).args(arguments).status();
    assert!(done.is_ok_and(|status| status.success()), "building in {} failed", dir.display());
}

/// Builds the command, and returns its path.
pub(crate) fn command() -> PathBuf {
    let dir = repository();
    cargo(dir, &["--features", "cli", "--bin", "resourcelock"]);
    dir.join("target/release/resourcelock")
}

/// The smallest program that shares a lock.
pub(crate) struct Agent {
    pub(crate) path: PathBuf,
    /// Whether `core` was built for size too, as `cross/agent` does.
    pub(crate) is_minimal: bool,
}

/// Builds the smallest program, and strips it: by `cross/agent` if its compiler is installed, otherwise by the compiler of
/// this program, whose `core` is larger.
pub(crate) fn agent() -> Agent {
    let host = host();
    let is_minimal = has_compiler_of_cross();
    let path = if is_minimal {
        let done = Command::new("cross/agent").arg(&host).current_dir(repository()).stdout(Stdio::null()).status();
        assert!(done.is_ok_and(|status| status.success()), "cross/agent failed");
        repository().join("target/agent").join(host).join("agent")
    } else {
        let dir = repository().join("examples/agent");
        cargo(&dir, &["--target", &host, "--config", "profile.release.strip=true"]);
        dir.join("target").join(host).join("release/agent")
    };
    Agent { path, is_minimal }
}

/// Whether `cross/agent` has been used here. Its first use downloads a compiler.
fn has_compiler_of_cross() -> bool {
    let Ok(entries) = fs::read_dir(repository().join("target")) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("rust-"))
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc prints its host").to_owned()
}

/// Returns the size of a file in KiB.
pub(crate) fn size_kib(path: &Path) -> f64 {
    fs::metadata(path).expect("the file was built").len() as f64 / 1024.0
}
