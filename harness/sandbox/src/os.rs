//! The few system calls that have no safe wrapper. The only file of the workspace with `unsafe`.
//!
//! Every function says what its caller must hold to; none keeps state. Anything that `nix` or
//! `rustix` offers as a safe function does not belong here.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{ForkResult, Pid};

/// Forks the calling process. Returns `None` in the child.
///
/// # Panics
/// When the process has more than one thread: the child would have only the calling one, and every
/// lock held by another would stay locked for ever.
pub(crate) fn fork() -> nix::Result<Option<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "only a single-threaded process may fork without exec");
    // SAFETY: there is no other thread, as checked above, so the child's memory is consistent.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Lets the command's process inherit these descriptors, at the numbers they have here. They stay
/// close-on-exec in this process, so no other child gets them.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let clear = move || {
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it only makes system calls on descriptors it
    // owns, and allocates nothing.
    unsafe { command.pre_exec(clear) };
}

/// Takes a descriptor that this process inherited by number, and makes it close-on-exec. Fails if
/// there is none. Call it once per number, before anything else can have opened it.
pub(crate) fn adopt(number: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: the number comes from the parent, which passed it by `inherit`; a number that is not
    // open is found out by the call below, before anything else uses it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    match rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC) {
        Ok(()) => Ok(descriptor),
        Err(e) => {
            // Dropping it would close a number that is not ours.
            let _ = std::os::fd::IntoRawFd::into_raw_fd(descriptor);
            Err(e.into())
        }
    }
}

/// Closes every descriptor from 3 on but one: what the shell or the program above left open must not
/// be held by a sandbox. Call it as the first thing a process does, when it has opened none itself.
pub(crate) fn close_inherited_but(kept: RawFd) -> std::io::Result<()> {
    let kept = u32::try_from(kept).map_err(std::io::Error::other)?;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.saturating_add(1).max(3), u32::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: no object of this process owns any of these numbers yet.
        if unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Moves the process's standard input out of its place, which gets `/dev/null` instead.
pub(crate) fn take_stdin() -> std::io::Result<OwnedFd> {
    let null = std::fs::File::open("/dev/null")?;
    let stdin = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    nix::unistd::dup2_stdin(&null)?;
    debug_assert!(stdin.as_raw_fd() > 2);
    Ok(stdin)
}

bitflags::bitflags! {
    /// What to forbid on a mount. The values are the kernel's `MOUNT_ATTR_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct MountAttributes: u64 {
        /// No writing.
        const READ_ONLY = 0x1;
        /// Device files are dead.
        const NO_DEVICES = 0x4;
    }
}

/// `struct mount_attr` of linux/mount.h, which `libc` does not have for every target.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to the mount at `path` (or, with an empty path, to `base` itself), and to all
/// below it if `recursive`. Linux 5.12 and later.
pub(crate) fn set_mount_attributes(
    base: impl std::os::fd::AsFd,
    path: impl AsRef<std::path::Path>,
    attributes: MountAttributes,
    recursive: bool,
) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_ref().as_os_str().as_bytes())?;
    let request = MountAttr { attr_set: attributes.bits(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = nix::libc::AT_EMPTY_PATH | if recursive { nix::libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is zero-terminated, the request is a whole `mount_attr` whose size is given,
    // and both outlive the call, which only reads them.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_mount_setattr,
            base.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const request,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Puts a filter on the system calls of this thread and of all processes that come of it. Needs
/// CAP_SYS_ADMIN in the caller's user namespace; no filter can be taken back.
pub(crate) fn filter_system_calls(program: &[seccompiler::sock_filter]) -> std::io::Result<()> {
    let copy = |step: &seccompiler::sock_filter| nix::libc::sock_filter {
        code: step.code,
        jt: step.jt,
        jf: step.jf,
        k: step.k,
    };
    let mut program: Vec<_> = program.iter().map(copy).collect();
    let len = u16::try_from(program.len()).map_err(std::io::Error::other)?;
    let request = nix::libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the request names a program of the length it says; both outlive the call, which only
    // reads them.
    let result =
        unsafe { nix::libc::prctl(nix::libc::PR_SET_SECCOMP, nix::libc::SECCOMP_MODE_FILTER, &raw const request) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Gives SIGPIPE its default effect again, which Rust's runtime takes away, before another program
/// takes over.
pub(crate) fn default_signals() -> nix::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default disposition runs no code of this process.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}

/// Makes a descriptor part of tokio's event loop. It should not block.
pub(crate) fn async_descriptor(descriptor: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: the result owns the descriptor, and gives it out only by shared reference, so it stays
    // the same open file for as long as it is registered.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(descriptor) }?)
}
