//! Which thread this is, for reports: a cycle of holders and waiters is one of threads, not of processes.

/// The thread's id in the process's PID namespace; zero if that would cost a system call each time.
///
/// With the feature `std` the id is remembered per thread, together with the token of the process that asked for it: a
/// forked child inherits the memory, not the thread.
#[cfg(feature = "std")]
pub(crate) fn id(token: u32) -> u32 {
    extern crate std;
    use core::cell::Cell;

    std::thread_local! {
        static KNOWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    KNOWN.with(|known| {
        let (asked_by, id) = known.get();
        if asked_by == token {
            return id;
        }
        let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        known.set((token, id));
        id
    })
}

#[cfg(not(feature = "std"))]
pub(crate) fn id(_token: u32) -> u32 {
    0
}
