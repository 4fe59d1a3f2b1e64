//! The probe's only unsafe code: system calls by number, through every entry that the processor has.
#![expect(unsafe_code, reason = "attacks are raw system calls; what they do to this process does not matter")]

use nix::errno::Errno;

/// A system call by number; pointers are passed as numbers and are the kernel's to refuse.
pub(crate) fn syscall(nr: i64, args: [usize; 6]) -> Result<i64, Errno> {
    // SAFETY: no attack passes a pointer into this process that the kernel could write through: arguments are
    // small numbers, null, or addresses of buffers that the caller keeps alive.
    let ret = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

/// getpid(2) through the i386 entry (`int 0x80`), which has numbers of its own.
#[cfg(target_arch = "x86_64")]
pub(crate) fn i386_getpid() -> i64 {
    let ret: i64;
    // SAFETY: number 20 of the i386 table is getpid, which takes nothing and writes nothing. rbx is untouched.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20_i64 => ret, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
    ret
}

/// fork(2) without anything of Rust's around it: the child waits for its death.
pub(crate) fn fork_and_wait() -> Result<i32, Errno> {
    // SAFETY: the process is single-threaded, and the child only sleeps.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        loop {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() };
        }
    }
    if pid < 0 { Err(Errno::last()) } else { Ok(pid) }
}

/// fork(2): 0 in the child.
pub(crate) fn fork() -> Result<i32, Errno> {
    // SAFETY: the process is single-threaded, so the child may go on as its parent could.
    let pid = unsafe { libc::fork() };
    if pid < 0 { Err(Errno::last()) } else { Ok(pid) }
}

/// The file behind a descriptor that a system call has just returned.
pub(crate) fn owned(fd: i64) -> std::fs::File {
    // SAFETY: the caller passes a new descriptor, which nobody else owns.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) }
}

/// Anonymous memory, written to, so that it is resident.
pub(crate) fn eat(bytes: usize) -> Result<(), Errno> {
    // SAFETY: a fresh anonymous mapping, checked before it is written within its length.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::write_bytes(at.cast::<u8>(), 1, bytes);
    }
    Ok(())
}

/// Executes `sleep 0.020` or `false`, whichever another thread has written over the path at the moment that counts.
pub(crate) fn exec_while_changing() -> Result<String, Errno> {
    use std::sync::atomic::{AtomicU8, Ordering};
    const PLACE: usize = "/usr/bin/".len();
    static PATH: [AtomicU8; 15] = [const { AtomicU8::new(0) }; 15];
    let write = |name: &[u8]| {
        for (to, from) in PATH[PLACE..].iter().zip(name) {
            to.store(*from, Ordering::Relaxed);
        }
    };
    for (to, from) in PATH.iter().zip(b"/usr/bin/sleep\0") {
        to.store(*from, Ordering::Relaxed);
    }
    std::thread::spawn(move || {
        loop {
            write(b"false");
            write(b"sleep");
        }
    });
    let argv = [c"raced".as_ptr(), c"0.020".as_ptr(), std::ptr::null()];
    let env = [std::ptr::null()];
    loop {
        // SAFETY: both arrays end with a null pointer, the path always with a NUL byte; it changes under the kernel's
        // eyes, which copies it.
        unsafe { libc::execve(PATH.as_ptr().cast(), argv.as_ptr(), env.as_ptr()) };
        // A path in between, that leads nowhere: once more.
    }
}

/// Installs a filter that allows everything and has a listener, which stays open for whatever is executed.
pub(crate) fn hold_the_listener() -> Result<(), Errno> {
    const NEW_LISTENER: usize = 1 << 3;
    let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let program = libc::sock_fprog { len: 1, filter: (&raw const allow).cast_mut() };
    syscall(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0, 0])?;
    let args = [libc::SECCOMP_SET_MODE_FILTER as usize, NEW_LISTENER, &raw const program as usize, 0, 0, 0];
    let listener = syscall(libc::SYS_seccomp, args)?;
    // It is closed on exec; its copy is not.
    syscall(libc::SYS_dup, [listener as usize, 0, 0, 0, 0, 0]).map(drop)
}
