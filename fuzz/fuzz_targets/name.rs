//! Any text as a name: refused, or a lock whose file is in the directory and nowhere else.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use resourcelock::{Error, NAME_CAPACITY, ResourceLock};

fn dir() -> &'static str {
    static DIR: OnceLock<String> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = format!("/dev/shm/resourcelock-fuzz-name-{}", std::process::id());
        fs::create_dir_all(&dir).expect("a directory");
        dir
    })
}

fuzz_target!(|name: &str| {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let is_good =
        !bare.is_empty() && bare.len() <= NAME_CAPACITY && !bare.contains(['/', '\0']) && bare != "." && bare != "..";
    let options = ResourceLock::options().dir(dir());
    match options.open(name) {
        Ok(lock) => {
            assert!(is_good);
            assert_eq!(lock.name(), bare);
            assert_eq!(fs::read_dir(dir()).expect("it is there").count(), 1);
            lock.remove(false).expect("its own");
            assert_eq!(fs::read_dir(dir()).expect("it is there").count(), 0);
        }
        Err(Error::NameInvalid(error)) => {
            assert!(!is_good);
            let _ = error.to_string();
        }
        Err(error) => panic!("{error}"),
    }
});
