//! A process without io_uring.
#![allow(unsafe_code)]

use std::io::Error;

/// The size of `struct io_uring_params`, in words of 8 bytes.
const PARAMS_WORDS: usize = 15;

/// Calls io_uring_setup(2) for the smallest ring.
fn set_up_ring() -> Result<(), Error> {
    let mut params = [0_u64; PARAMS_WORDS];
    // SAFETY: the kernel reads and fills in a structure of that size.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor that the call above has opened, and that nothing else uses.
    unsafe { libc::close(result as libc::c_int) };
    Ok(())
}

/// Whether this process may use io_uring.
pub(crate) fn permits_io_uring() -> bool {
    set_up_ring().is_ok()
}

/// Makes the kernel refuse io_uring_setup(2) to this process and its children, with EPERM, as Docker's default seccomp
/// profile does. It cannot be undone, so call it in a forked child only.
///
/// # Panics
///
/// If the kernel permits no filter here, or if the filter has no effect.
pub(crate) fn refuse_io_uring() {
    const NUMBER_OFFSET: u32 = 0;
    let statement = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER_OFFSET, 0),
        // Skips the next statement unless it is that call.
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: sets a flag of this process; touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0, "PR_SET_NO_NEW_PRIVS: {}", Error::last_os_error());
    // SAFETY: the kernel checks the program and copies it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(result, 0, "PR_SET_SECCOMP: {}", Error::last_os_error());
    let refused = set_up_ring().expect_err("the filter refuses io_uring_setup");
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
}
