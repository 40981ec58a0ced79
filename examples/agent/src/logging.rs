//! Where the lock's log lines go, if the agent is built with one of the features `log` and `defmt`: to standard error, as
//! text or as defmt's frames. (Not to a descriptor that the caller may have left closed: it would be the bus's then.)

#[cfg(all(feature = "log", not(feature = "defmt")))]
mod text {
    use core::fmt::{Result, Write};

    struct Stderr;

    impl Write for Stderr {
        fn write_str(&mut self, text: &str) -> Result {
            super::put(text.as_bytes());
            Ok(())
        }
    }

    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let _ = writeln!(Stderr, "{} {}", record.level(), record.args());
        }

        fn flush(&self) {}
    }

    pub(crate) fn init() {
        // The first and only logger: this cannot fail.
        let _ = log::set_logger(&Stderr);
        log::set_max_level(log::LevelFilter::Debug);
    }
}
#[cfg(all(feature = "log", not(feature = "defmt")))]
pub(crate) use text::init;

#[cfg(feature = "defmt")]
mod frames {
    use core::cell::UnsafeCell;

    use defmt::{Encoder, Logger, global_logger};

    struct Encoding(UnsafeCell<Encoder>);

    // SAFETY: the agent has one thread and no signal handlers.
    unsafe impl Sync for Encoding {}

    static ENCODING: Encoding = Encoding(UnsafeCell::new(Encoder::new()));

    impl Encoding {
        fn with(&self, act: impl FnOnce(&mut Encoder)) {
            // SAFETY: one thread, and what `act` calls does not come back here.
            act(unsafe { &mut *self.0.get() });
        }
    }

    #[global_logger]
    struct Stderr;

    // SAFETY: one thread, so there is nothing to exclude, and a frame is complete before the next begins.
    unsafe impl Logger for Stderr {
        fn acquire() {
            ENCODING.with(|encoder| encoder.start_frame(super::put));
        }

        unsafe fn flush() {}

        unsafe fn release() {
            ENCODING.with(|encoder| encoder.end_frame(super::put));
        }

        unsafe fn write(bytes: &[u8]) {
            ENCODING.with(|encoder| encoder.write(bytes, super::put));
        }
    }
}

#[cfg(not(all(feature = "log", not(feature = "defmt"))))]
pub(crate) fn init() {}

#[cfg(any(feature = "log", feature = "defmt"))]
fn put(bytes: &[u8]) {
    // SAFETY: nobody has closed standard error; if the parent did, the write fails and there is nobody to tell.
    let err = unsafe { rustix::stdio::stderr() };
    let _ = rustix::io::write(err, bytes);
}
