//! System calls that rustix 1.1 does not make, in assembly: one function for each architecture.
//!
//! Users: `fcntl.rs` (locks of open file descriptions), and `old_time.rs` on 32-bit targets.
#![allow(unsafe_code)]

use core::arch::asm;

use rustix::io::Errno;

#[cfg(not(any(
    target_arch = "x86",
    target_arch = "x86_64",
    target_arch = "arm",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
compile_error!(
    "resourcelock knows the system calls of x86, x86-64, ARM, AArch64 and RISC-V (64 bits) only; add the architecture to src/sys/syscall.rs"
);

/// What the kernel returned: a value, or an error, which is −4095 to −1.
pub(super) fn result(returned: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&returned) { Err(Errno::from_raw_os_error(-returned as i32)) } else { Ok(returned as usize) }
}

/// # Safety
///
/// As of the system call.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall3(number: isize, a: usize, b: usize, c: usize) -> isize {
    let returned;
    // SAFETY: the calling convention of the kernel, which clobbers rcx and r11; the rest is the caller's.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => returned,
            in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    returned
}

/// # Safety
///
/// As of the system call.
#[cfg(target_arch = "x86")]
pub(super) unsafe fn syscall3(number: isize, a: usize, b: usize, c: usize) -> isize {
    let returned;
    // SAFETY: the calling convention of the kernel; the rest is the caller's.
    unsafe {
        asm!(
            "int 0x80",
            inlateout("eax") number => returned,
            in("ebx") a, in("ecx") b, in("edx") c,
            options(nostack, preserves_flags),
        );
    }
    returned
}

/// # Safety
///
/// As of the system call.
#[cfg(target_arch = "arm")]
pub(super) unsafe fn syscall3(number: isize, a: usize, b: usize, c: usize) -> isize {
    let returned;
    // SAFETY: the calling convention of the kernel. The number goes into r7, which may be the frame pointer and must be
    // preserved; the rest is the caller's.
    unsafe {
        asm!(
            "mov {saved}, r7",
            "mov r7, {number}",
            "svc #0",
            "mov r7, {saved}",
            saved = out(reg) _,
            number = in(reg) number,
            inlateout("r0") a => returned,
            in("r1") b, in("r2") c,
            options(nostack, preserves_flags),
        );
    }
    returned
}

/// # Safety
///
/// As of the system call.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn syscall3(number: isize, a: usize, b: usize, c: usize) -> isize {
    let returned;
    // SAFETY: the calling convention of the kernel; the rest is the caller's.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => returned,
            in("x1") b, in("x2") c,
            options(nostack, preserves_flags),
        );
    }
    returned
}

/// # Safety
///
/// As of the system call.
#[cfg(target_arch = "riscv64")]
pub(super) unsafe fn syscall3(number: isize, a: usize, b: usize, c: usize) -> isize {
    let returned;
    // SAFETY: the calling convention of the kernel; the rest is the caller's.
    unsafe {
        asm!(
            "ecall",
            in("a7") number,
            inlateout("a0") a => returned,
            in("a1") b, in("a2") c,
            options(nostack, preserves_flags),
        );
    }
    returned
}
