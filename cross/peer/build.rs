//! No libc and no start files: the program brings its own `_start`.
fn main() {
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
        "-Wl,--no-eh-frame-hdr",
        // See the agent's build.rs.
        "-Wl,-z,max-page-size=65536",
    ] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
