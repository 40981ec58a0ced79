//! The programs of this repository that are measured: built here, as they are for release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the repository.
fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(dir: &Path, arguments: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Those that `cargo run` has set for this program are not meant for another one.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME") {
            command.env_remove(name);
        }
    }
    let done = command.current_dir(dir).args(["build", "--quiet", "--release"]).args(arguments).status();
    assert!(done.is_ok_and(|status| status.success()), "building in {} failed", dir.display());
}

/// The command.
pub(crate) fn command() -> PathBuf {
    let dir = repository();
    cargo(dir, &["--features", "cli", "--bin", "resourcelock"]);
    dir.join("target/release/resourcelock")
}

/// The smallest program that shares a lock.
pub(crate) fn agent() -> PathBuf {
    let dir = repository().join("examples/agent");
    let host = host();
    cargo(&dir, &["--target", &host]);
    dir.join("target").join(host).join("release/agent")
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc tells its host").to_owned()
}

/// Size of a file, in KiB.
pub(crate) fn size_kib(path: &Path) -> f64 {
    fs::metadata(path).expect("it was built").len() as f64 / 1024.0
}
