//! A child that is stepped through an operation, and killed on the way.

use crate::support::{Child, Dir, Line, pass_over};

/// What the child does between the two marks.
pub(crate) type Body = Box<dyn FnOnce()>;

/// A child that was killed.
pub(crate) struct Corpse {
    pub(crate) pid: libc::pid_t,
    /// How many instructions of its operation it executed.
    pub(crate) steps: usize,
    /// The lock word when the operation began, and when the child was killed; zero if there was no lock.
    pub(crate) first_word: u32,
    pub(crate) last_word: u32,
}

const BEGIN: i32 = libc::SIGUSR1;
const END: i32 = libc::SIGUSR2;

/// In a debug build, how many positions are tried of each operation.
const POSITIONS_IN_DEBUG: usize = 12;

/// For each number of steps in turn: calls `body` in a child, steps the child through the operation that it returns, kills
/// it after that many instructions, and calls `check`. Each time in a fresh directory that `prepare` has prepared.
pub(crate) fn kill_everywhere<P>(
    name: &str,
    prepare: impl Fn(&Dir) -> P,
    body: impl Fn(&Dir) -> Body,
    mut check: impl FnMut(&Dir, &Corpse, &P),
) {
    stay_on_one_cpu();
    // Once to the end, to see how far that is.
    let dir = Dir::new();
    let prepared = prepare(&dir);
    let Some(mut tracee) = Tracee::start(&dir, &body) else {
        return pass_over(name, "ptrace is not permitted");
    };
    let way = tracee.survey();
    let length = way.length;
    drop((tracee, prepared, dir));

    let stride = if cfg!(debug_assertions) { (length / POSITIONS_IN_DEBUG).max(1) } else { 1 };
    let mut tried = 0;
    let mut held = 0;
    // A few more, as not every run executes the same instructions.
    for steps in (0..length + 20).step_by(stride) {
        let dir = Dir::new();
        let prepared = prepare(&dir);
        let Some(mut tracee) = Tracee::start(&dir, &body) else { panic!("ptrace was permitted before") };
        let first_word = word(&dir);
        tracee.go(&way, steps);
        let last_word = word(&dir);
        tracee.child.kill();
        // A zombie one time, gone the next.
        if tried % 2 == 1 {
            tracee.child.end();
        }
        held += usize::from(last_word & 3 << 28 != 0);
        check(&dir, &Corpse { pid: tracee.child.pid, steps, first_word, last_word }, &prepared);
        tried += 1;
    }
    println!("kill: {tried} instruction positions of {length}: {name} (the lock was held at {held} of them)");
}

/// Steps a child through the operation that `body` returns, and kills it after the first instruction that makes `happened`
/// true. `None` if ptrace is not permitted.
pub(crate) fn kill_as_soon_as(dir: &Dir, body: impl Fn(&Dir) -> Body, happened: impl Fn() -> bool) -> Option<Corpse> {
    stay_on_one_cpu();
    let mut tracee = Tracee::start(dir, &body)?;
    let (mut steps, first_word) = (0, word(dir));
    while !happened() {
        assert!(tracee.step(), "the operation ended first, after {steps} instructions");
        steps += 1;
    }
    tracee.child.kill();
    let last_word = word(dir);
    Some(Corpse { pid: tracee.child.pid, steps, first_word, last_word })
}

/// The lock word, as it is in the file; zero if there is no lock.
fn word(dir: &Dir) -> u32 {
    std::fs::read(dir.lock_file()).map_or(0, |bytes| u32::from_ne_bytes(bytes[64..68].try_into().unwrap()))
}

/// How an operation goes when nobody is killed.
struct Way {
    /// In instructions.
    length: usize,
    /// Which of them, in order, are system calls.
    calls: Vec<usize>,
}

struct Tracee {
    child: Child,
}

impl Tracee {
    /// A child that is about to begin its operation. `None` if ptrace is not permitted.
    fn start(dir: &Dir, body: impl Fn(&Dir) -> Body) -> Option<Self> {
        let mut child = Child::fork(|line: &mut Line| {
            // SAFETY: asks to be traced by the parent.
            let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            line.say(if traced == 0 { "traced" } else { "not traced" });
            if traced == 0 {
                let operation = body(dir);
                raise(BEGIN);
                operation();
                raise(END);
            }
        });
        if child.line.next() != "traced" {
            return None;
        }
        assert_eq!(child.stops(), BEGIN);
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        // SAFETY: a tracee of ours that has stopped.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, child.pid, 0, options) }, 0);
        Some(Self { child })
    }

    /// Resumes it until it stops again, and returns the signal that stopped it.
    fn resume(&mut self, how: libc::c_uint) -> i32 {
        loop {
            // SAFETY: a tracee of ours that has stopped.
            assert_eq!(unsafe { libc::ptrace(how, self.child.pid, 0, 0) }, 0);
            match self.child.stops() {
                // A waiter that it has started has ended. The signal is suppressed, and is no instruction.
                libc::SIGCHLD => {}
                signal => return signal,
            }
        }
    }

    /// One instruction. `false` at the operation's end.
    fn step(&mut self) -> bool {
        match self.resume(libc::PTRACE_SINGLESTEP) {
            libc::SIGTRAP => true,
            END => false,
            signal => panic!("stopped by signal {signal}"),
        }
    }

    /// Steps to the end.
    fn survey(&mut self) -> Way {
        let mut way = Way { length: 0, calls: Vec::new() };
        loop {
            let is_call = self.is_at_call();
            if !self.step() {
                return way;
            }
            if is_call {
                way.calls.push(way.length);
            }
            way.length += 1;
        }
    }

    /// Executes that many instructions, or all: from one system call to the next at full speed, then step by step.
    fn go(&mut self, way: &Way, steps: usize) {
        let calls = way.calls.partition_point(|&call| call < steps);
        for stop in 0..2 * calls {
            // In, and out again.
            match self.resume(libc::PTRACE_SYSCALL) {
                signal if signal == libc::SIGTRAP | 0x80 => {}
                // The survey was so slow that the check of the file's name was due; this time it is not.
                END => return,
                signal => panic!("stopped by signal {signal} at stop {stop}"),
            }
        }
        let done = calls.checked_sub(1).map_or(0, |last| way.calls[last] + 1);
        for _ in done..steps {
            if !self.step() {
                return;
            }
        }
    }

    /// Whether the next instruction is a system call.
    fn is_at_call(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        const CALL: (libc::c_long, libc::c_long) = (0xffff, 0x050f);
        #[cfg(target_arch = "aarch64")]
        const CALL: (libc::c_long, libc::c_long) = (0xffff_ffff, 0xd400_0001);
        // SAFETY: all zeros is valid for the structure that the call fills.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: a tracee of ours that has stopped, and memory of ours of the size that is told.
        let filled = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.child.pid, size, &raw mut info) };
        assert!(filled > 0, "{}", std::io::Error::last_os_error());
        // SAFETY: as above; it reads the tracee's memory.
        let text = unsafe { libc::ptrace(libc::PTRACE_PEEKTEXT, self.child.pid, info.instruction_pointer, 0) };
        text & CALL.0 == CALL.1
    }
}

fn raise(signal: i32) {
    // SAFETY: a signal to this very thread.
    unsafe { libc::raise(signal) };
}

/// Tracer and tracee take turns; on one CPU that costs a fraction of what it does on two.
fn stay_on_one_cpu() {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: asks the kernel for a number.
    let cpu = unsafe { libc::sched_getcpu() };
    // SAFETY: a set of ours, and a CPU that there is.
    unsafe { libc::CPU_SET(cpu.try_into().unwrap_or(0), &mut set) };
    // SAFETY: a set of ours. Where it is not permitted, it is slower.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
}

/// Stops a child in the middle of an operation and resumes it: the child calls [`begin`](Self::begin) and
/// [`end`](Self::end), its parent the rest.
pub(crate) struct Stopper(());

impl Stopper {
    /// `None` if ptrace is not permitted.
    pub(crate) fn begin(line: &mut Line) -> Option<Self> {
        // SAFETY: asks to be traced by the parent.
        let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == 0;
        line.say(if traced { "traced" } else { "not traced" });
        traced.then(|| {
            raise(BEGIN);
            Self(())
        })
    }

    pub(crate) fn end(self) {
        raise(END);
    }

    /// Stops the child after that many instructions, or at the operation's end: then, `true`.
    pub(crate) fn stop_after(mut child: Child, steps: usize) -> Option<(Child, bool)> {
        stay_on_one_cpu();
        if child.line.next() != "traced" {
            return None;
        }
        assert_eq!(child.stops(), BEGIN);
        let mut tracee = Tracee { child };
        let is_at_its_end = (0..steps).any(|_| !tracee.step());
        Some((tracee.child, is_at_its_end))
    }

    /// Resumes the child without a tracer.
    pub(crate) fn go_on(child: &mut Child, is_at_its_end: bool) {
        let pid = child.pid;
        let resume = |how: libc::c_uint| {
            // SAFETY: a tracee of ours that has stopped.
            assert_eq!(unsafe { libc::ptrace(how, pid, 0, 0) }, 0);
        };
        if !is_at_its_end {
            resume(libc::PTRACE_CONT);
            assert_eq!(child.stops(), END);
        }
        resume(libc::PTRACE_DETACH);
    }
}
