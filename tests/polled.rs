//! Requests that tokio's event loop polls, and plain epoll(7).
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use resourcelock::{Error, Guard, LockError, ResourceLock, Timeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whether requests can be polled here; says so if not.
fn rings_work(lock: &ResourceLock) -> bool {
    let works = !matches!(lock.request("").start(), Err(LockError::Failed(Error::NoRing)));
    if !works {
        eprintln!("passed over: polled requests: no io_uring that waits for futexes");
    }
    works
}

/// A lock of this test's own, removed at the end.
struct Named(String);

impl Named {
    fn new(test: &str) -> Self {
        Self(format!("polled-{test}-{}", std::process::id()))
    }

    fn open(&self) -> ResourceLock {
        ResourceLock::open(&self.0).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = ResourceLock::options().remove(&self.0, true);
    }
}

async fn acquire<'a>(lock: &'a ResourceLock, timeout: Timeout) -> Result<Guard<'a>, LockError> {
    let request = lock.request("awaits").timeout(timeout).start()?;
    // SAFETY: a request has one descriptor, which is open as long as the request lives.
    let mut polled = unsafe { AsyncFd::register_with_interest(request, Interest::READABLE) }.unwrap();
    loop {
        if let Some(guard) = polled.get_mut().poll()? {
            return Ok(guard);
        }
        polled.readable().await.unwrap().clear_ready();
    }
}

/// Fifty tasks, each with a handle of its own, in one thread: every one gets its turn, and no two at a time.
#[tokio::test(flavor = "current_thread")]
async fn tasks_take_turns_in_one_thread() {
    let named = Named::new("turns");
    if !rings_work(&named.open()) {
        return;
    }
    let (inside, turns) = (AtomicU32::new(0), AtomicU32::new(0));
    let task = || async {
        let lock = named.open();
        for _ in 0..4 {
            let guard = acquire(&lock, Timeout::from_secs(60)).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two holders");
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::Relaxed);
            turns.fetch_add(1, Ordering::Relaxed);
            drop(guard);
        }
    };
    let tasks: Vec<_> = (0..50).map(|_| task()).collect();
    let mut set = Vec::new();
    for task in tasks {
        set.push(Box::pin(task));
    }
    // Joined without another crate: each is polled whenever one is woken.
    std::future::poll_fn(|context| {
        set.retain_mut(|task| task.as_mut().poll(context).is_pending());
        if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(turns.load(Ordering::Relaxed), 200);
}

#[tokio::test(flavor = "current_thread")]
async fn a_future_that_is_dropped_gives_the_request_up() {
    let named = Named::new("dropped");
    let (holder, lock) = (named.open(), named.open());
    if !rings_work(&lock) {
        return;
    }
    let guard = holder.try_lock("at work").unwrap();
    let outcome = tokio::time::timeout(Duration::from_millis(30), acquire(&lock, Timeout::FOREVER)).await;
    assert!(outcome.is_err(), "it was granted");
    drop(guard);
    assert!(holder.try_lock("").is_ok(), "nothing is reserved for it");
    let timed_out = {
        let _guard = holder.try_lock("").unwrap();
        acquire(&lock, Timeout::from_millis(30)).await.map(drop)
    };
    assert!(matches!(timed_out, Err(LockError::TimedOut(Some(_)))), "{timed_out:?}");
}

#[test]
fn plain_epoll_will_do() {
    let named = Named::new("epoll");
    let (holder, lock) = (named.open(), named.open());
    if !rings_work(&lock) {
        return;
    }
    let guard = holder.try_lock("at work").unwrap();
    let mut acquiring = lock.request("polls").timeout(Timeout::FOREVER).start().unwrap();
    // SAFETY: makes a descriptor.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    // SAFETY: descriptors and a structure of this test.
    assert_eq!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, acquiring.as_raw_fd(), &mut event) }, 0);
    std::thread::scope(|scope| {
        let acquiring = &mut acquiring;
        let waiter = scope.spawn(move || {
            loop {
                if let Some(guard) = acquiring.poll().unwrap() {
                    return guard.release();
                }
                let mut events = [libc::epoll_event { events: 0, u64: 0 }];
                // SAFETY: an array of this function.
                let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 1, 60_000) };
                assert!(ready == 1 || std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted);
            }
        });
        while !has_waiters(&named) {
            std::thread::yield_now();
        }
        drop(guard);
        assert!(waiter.join().unwrap());
    });
    // SAFETY: a descriptor of this test.
    unsafe { libc::close(epoll) };
}

/// Whether the lock's word has the bit that says that somebody waits.
fn has_waiters(named: &Named) -> bool {
    ResourceLock::options().inspect(&named.0).unwrap().has_waiters()
}
