//! No libc and no start files: the program brings its own `_start`. And nothing in the file that the kernel does not need.

use std::env;
use std::fs;
use std::path::Path;

fn main() {
    let arguments = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,--no-eh-frame-hdr",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
        // The largest page of an ARM kernel (a Pi 5 has 16 KiB). Segments that share a page make the kernel end the program
        // by SIGSEGV before its first instruction. The file does not grow: only addresses move apart.
        "-Wl,-z,max-page-size=65536",
    ];
    for argument in arguments {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        // defmt's own script says where its strings go. Alone, it would replace the linker's; with INSERT, it adds to it.
        let script = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("agent-defmt.x");
        fs::write(&script, "INCLUDE defmt.x\nINSERT AFTER .comment;\n").expect("cargo's directory is writable");
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
}
