//! `decode ELF < FRAMES`: prints the log lines that an agent with the feature `defmt` wrote to standard error. ELF is the
//! agent's file with its symbols: the texts are there, and only their numbers are in the frames.

use std::error::Error;
use std::io::{Read, stdin};

use defmt_decoder::{DecodeError, Table};

fn main() -> Result<(), Box<dyn Error>> {
    let elf = std::env::args_os().nth(1).ok_or("usage: decode ELF < FRAMES")?;
    let table = Table::parse(&std::fs::read(elf)?)?.ok_or("this program has no defmt in it")?;
    let mut frames = Vec::new();
    stdin().read_to_end(&mut frames)?;
    let mut decoder = table.new_stream_decoder();
    decoder.received(&frames);
    loop {
        match decoder.decode() {
            Ok(frame) => {
                let level = frame.level().map_or("", |level| level.as_str());
                println!("{level} {}", frame.display_message());
            }
            Err(DecodeError::UnexpectedEof) => return Ok(()),
            Err(DecodeError::Malformed) => return Err("what was read is not what this program writes".into()),
        }
    }
}
