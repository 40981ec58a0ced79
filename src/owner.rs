//! Whether a holder lives: what counts as a proof of its death.
//!
//! Invariant: *dead* is said only on proof, never on doubt and never on age. A wrong "dead" puts two programs on the
//! bus at once; a wrong "alive" only leaves a person to say `unget --force`. The kernel is asked in `sys::liveness`;
//! this module reads its answers and needs no kernel to be tested.

/// What is known of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// It exists, or nothing proves that it does not.
    Alive,
    /// It has exited (a zombie has), or its pid belongs to another process by now.
    Dead,
}

/// The fields of `/proc/PID/stat` that tell one process from another ([proc_pid_stat(5)]).
///
/// [proc_pid_stat(5)]: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat<'a> {
    pub(crate) pid: u32,
    pub(crate) program: &'a [u8],
    pub(crate) state: u8,
    pub(crate) threads: u32,
    /// Clock ticks after boot.
    pub(crate) start_time: u64,
}

impl<'a> Stat<'a> {
    /// `None` if the line is not what the kernel writes.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        // The program's name may itself contain parentheses, blanks and line feeds: it ends at the *last* parenthesis.
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let pid = number(line.get(..open.checked_sub(1)?)?)?;
        let program = line.get(open + 1..close)?;
        let mut rest = line.get(close + 2..)?;
        // Field 3 is the first one behind the name; each ends with a blank.
        let mut field = || {
            let end = rest.iter().position(|&byte| byte == b' ')?;
            let field = &rest[..end];
            rest = &rest[end + 1..];
            Some(field)
        };
        let &state = field()?.first()?;
        for _ in 4..20 {
            field()?;
        }
        // Fields 20, num_threads, and 22, starttime.
        let threads = number(field()?)?;
        field()?;
        let start_time = number(field()?)?;
        Some(Self { pid: pid.try_into().ok()?, program, state, threads: threads.try_into().ok()?, start_time })
    }

    /// Whether every thread of the process has exited. A main thread that has left the others at work is a zombie too.
    pub(crate) fn has_exited(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// Not by `str::parse`, which wants UTF-8 to be checked first; in a small agent that is half a kilobyte.
fn number(digits: &[u8]) -> Option<u64> {
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    });
    value.filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"4242 (a) b (c) S 1 4242 4242 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 3 0 987654321 2494464 200 \
        18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn the_name_may_look_like_the_rest_of_the_line() {
        let stat = Stat::parse(LINE).unwrap();
        assert_eq!(stat, Stat { pid: 4242, program: b"a) b (c", state: b'S', threads: 3, start_time: 987_654_321 });
        assert!(!stat.has_exited());
    }

    #[test]
    fn a_zombie_main_thread_with_living_threads_is_no_dead_process() {
        let zombie = Stat { state: b'Z', ..Stat::parse(LINE).unwrap() };
        assert!(!zombie.has_exited());
        assert!(Stat { threads: 1, ..zombie }.has_exited());
    }

    #[test]
    fn a_line_cut_anywhere_is_no_proof() {
        let end_of_start_time = LINE.windows(10).position(|window| window == b"987654321 ").unwrap() + 9;
        for len in 0..=end_of_start_time {
            assert_eq!(Stat::parse(&LINE[..len]), None, "{len}");
        }
    }
}
