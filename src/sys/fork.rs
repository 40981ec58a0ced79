//! The fork window: no other thread forks while a seat's descriptor is open.
//!
//! A child that is forked between a seat's `open` and `close` keeps the description, and with it the seat, for its own
//! life: the parent would look alive after its death (false life, never false death). Nothing but pthread_atfork(3) avoids
//! that. With the feature `std` its handlers hold the window's mutex around every fork(2) of this process; without it the
//! mutex excludes other seats only, and a program that forks in one thread and opens locks in another must order the two
//! itself.
//!
//! Not covered: `_Fork(3)`, `vfork(2)`, `posix_spawn(3)` and `clone(2)` called directly. Children of the middle two are
//! gone at exec, which closes the descriptor; a child by clone(2) or `_Fork` that never calls exec keeps the seat. A
//! fork in a signal handler that has interrupted its own thread inside the window deadlocks; use `_Fork` there, which is
//! async-signal-safe and runs no handlers.

use super::mutex::Locked;
use super::process::Process;

/// Holds the window open for the caller alone.
pub(crate) fn window(process: Process) -> Locked<'static> {
    #[cfg(feature = "std")]
    handlers::register_once();
    process.fork_window().lock()
}

#[cfg(feature = "std")]
mod handlers {
    #![allow(unsafe_code)]

    use core::ffi::c_int;
    use core::mem::forget;
    use core::sync::atomic::{AtomicBool, Ordering};

    use super::Process;

    unsafe extern "C" {
        /// pthread_atfork(3).
        fn pthread_atfork(
            prepare: Option<unsafe extern "C" fn()>,
            parent: Option<unsafe extern "C" fn()>,
            child: Option<unsafe extern "C" fn()>,
        ) -> c_int;
    }

    /// Whether they are registered; a forked child inherits both.
    static ARE_REGISTERED: AtomicBool = AtomicBool::new(false);

    /// Registers the handlers at the first call. (A thread that is second by a hair may open its window before they are.)
    pub(super) fn register_once() {
        // Relaxed: it only has to be one thread, once.
        if ARE_REGISTERED.load(Ordering::Relaxed) || ARE_REGISTERED.swap(true, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the handlers are functions of this program, call nothing that fork(2) would forbid, and neither
        // allocate nor unwind. ENOMEM, the only error, leaves the window open to forks, which costs false life at worst.
        let _ = unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    }

    unsafe extern "C" fn prepare() {
        if let Some(process) = Process::known() {
            forget(process.fork_window().lock());
        }
    }

    unsafe extern "C" fn parent() {
        if let Some(process) = Process::known() {
            process.fork_window().release_forgotten();
        }
    }

    unsafe extern "C" fn child() {
        if let Some(process) = Process::known() {
            process.fork_window().reset();
            // Where the page cannot be wiped, the pid tells a child from its parent; in a PID namespace of its own it may be
            // the same.
            process.forget();
        }
    }
}
