//! What libc would bring: the entry point, the exit, and the memory functions that the compiler calls by name.

use core::arch::{asm, global_asm};
use core::ffi::{CStr, c_char};

// The kernel enters with the argument count at the stack pointer, and with no return address.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {enter}", "ud2", enter = sym enter);
#[cfg(target_arch = "x86")]
global_asm!(
    ".globl _start", "_start:", "xor ebp, ebp", "mov eax, esp", "and esp, -16", "sub esp, 12", "push eax", "call {enter}",
    "ud2", enter = sym enter
);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "mov x0, sp", "bl {enter}", "brk #1", enter = sym enter);
#[cfg(target_arch = "arm")]
global_asm!(
    ".globl _start", ".type _start,%function", ".arm", "_start:", "mov fp, #0", "mov lr, #0", "mov r0, sp", "bic sp, sp, #7",
    "bl {enter}", "udf #0", enter = sym enter
);

/// # Safety
///
/// `stack` is the stack pointer with which the kernel started the program.
unsafe extern "C" fn enter(stack: *const *const c_char) -> ! {
    // SAFETY: the kernel puts the argument count first, then that many pointers to strings, then a null pointer.
    let mut arguments = Arguments(unsafe { stack.add(1) });
    // The first one is the program's own name.
    arguments.next();
    exit(crate::main(arguments))
}

/// The arguments of the command line that were not taken yet: a list of strings that ends with a null pointer.
pub(crate) struct Arguments(*const *const c_char);

impl Iterator for Arguments {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: the list is not at its end before the null pointer, where this stays.
        let argument = unsafe { *self.0 };
        if argument.is_null() {
            return None;
        }
        // SAFETY: as above.
        self.0 = unsafe { self.0.add(1) };
        // SAFETY: a string of the kernel's making, and it stays where it is.
        Some(unsafe { CStr::from_ptr(argument) })
    }
}

/// Ends the process with all its threads.
#[doc(alias = "exit_group")]
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: exit_group(2) does not return, so nothing needs to be kept for afterwards.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("syscall", "ud2", in("rax") 231, in("rdi") status, options(noreturn));
        #[cfg(target_arch = "x86")]
        asm!("int 0x80", "ud2", in("eax") 252, in("ebx") status, options(noreturn));
        #[cfg(target_arch = "aarch64")]
        asm!("svc #0", "brk #1", in("x8") 94, in("x0") status, options(noreturn));
        // The number goes through another register: r7 is the frame pointer of some builds.
        #[cfg(target_arch = "arm")]
        asm!("mov r7, {number}", "svc #0", "udf #0", number = in(reg) 248, in("r0") status, options(noreturn));
    }
}

/// The compiler's own library has faster ones (compiler-builtins-mem), which are four times as large.
mod memory {
    use core::ffi::{c_char, c_void};

    // Written with volatile or byte-wise raw accesses, so that the compiler does not turn a loop into a call of itself.

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
        let (bytes_to, bytes_from) = (to.cast::<u8>(), from.cast::<u8>());
        for i in 0..len {
            // SAFETY: the caller gives two valid ranges of `len` bytes.
            unsafe { bytes_to.add(i).write_volatile(bytes_from.add(i).read()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void {
        let (bytes_to, bytes_from) = (to.cast::<u8>(), from.cast::<u8>());
        let backwards = (bytes_from.addr()..bytes_from.addr() + len).contains(&bytes_to.addr());
        for step in 0..len {
            let i = if backwards { len - 1 - step } else { step };
            // SAFETY: the caller gives two valid ranges of `len` bytes; the order keeps unread bytes from being overwritten.
            unsafe { bytes_to.add(i).write_volatile(bytes_from.add(i).read()) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut c_void, byte: i32, len: usize) -> *mut c_void {
        for i in 0..len {
            // SAFETY: the caller gives a valid range of `len` bytes.
            unsafe { to.cast::<u8>().add(i).write_volatile(byte as u8) };
        }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const c_void, b: *const c_void, len: usize) -> i32 {
        for i in 0..len {
            // SAFETY: the caller gives two valid ranges of `len` bytes.
            let (a, b) = unsafe { (a.cast::<u8>().add(i).read_volatile(), b.cast::<u8>().add(i).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const c_void, b: *const c_void, len: usize) -> i32 {
        // SAFETY: as the caller promised.
        unsafe { memcmp(a, b, len) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const c_char) -> usize {
        let mut len = 0;
        // SAFETY: the caller gives a string that ends with a NUL.
        while unsafe { text.add(len).read_volatile() } != 0 {
            len += 1;
        }
        len
    }

    // Called by nothing that can run: panics abort, but the precompiled core refers to it.
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}
}
