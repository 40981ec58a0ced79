//! Any words on the command line: parsed or refused with a status, never a panic, and nothing raw for the terminal.
//!
//! The command's own source, as it cannot be reached from outside.
#![no_main]
#![allow(dead_code)]

#[path = "../../cli/args.rs"]
mod args;
#[path = "../../cli/exit.rs"]
mod exit;
#[path = "../../cli/output.rs"]
mod output;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use args::{Args, Command, Parsed};
use exit::Exit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let words = input.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec()));
    match Args::parse(std::iter::once(OsString::from("resourcelock")).chain(words)) {
        Parsed::Run(args) => assert_eq!(args.command == Command::Run, !args.program.is_empty()),
        Parsed::Done(exit) => assert!(matches!(exit, Exit::Done | Exit::Usage | Exit::Output)),
    }
});
