//! The last steps before a container's program takes over: limits, system calls, capabilities, identity, exec.
//!
//! Runs in the single-threaded child, inside the container's root. Start at [`become_program`].

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use rustix::process::{Resource, Rlimit, Signal};

use super::spec::Process;
use super::system_calls;

/// Descriptors a program may open where the node allows it; what container runtimes give.
const DESCRIPTORS: u64 = 1_048_576;

/// Turns this process into the program. Returns only if it could not, and why.
pub(super) fn become_program(process: &Process) -> String {
    match prepare(process) {
        Ok(()) => execute(process),
        Err(error) => error,
    }
}

fn prepare(process: &Process) -> Result<(), String> {
    raise_descriptor_limit();
    let wanted = process
        .capabilities
        .iter()
        .map(|name| name.parse::<Capability>().map_err(|e| format!("capability {name}: {e}")))
        .collect::<Result<CapsHashSet, _>>()?;
    let failed = |what: &'static str| move |e: caps::errors::CapsError| format!("{what}: {e}");
    for capability in caps::all() {
        // A kernel older than the list does not know its newest entries; one that is not held cannot be dropped either.
        let known = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if known && !wanted.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed("bounding set"))?;
        }
    }
    // A pipe or terminal must be open to the program's user by name too: Envoy and curl re-open /dev/stdout.
    for stream in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        let kind = rustix::fs::fstat(stream).map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode));
        let terminal = rustix::termios::isatty(stream);
        if terminal || kind == Ok(rustix::fs::FileType::Fifo) {
            let owner = rustix::fs::Uid::from_raw(process.uid);
            let _ = rustix::fs::fchown(stream, Some(owner), None);
        }
    }
    enter_directory(&process.working_dir, process)?;
    system_calls::forbid()?;
    let groups: Vec<Gid> = process.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    nix::unistd::setgroups(&groups).map_err(|e| format!("setgroups {groups:?}: {e}"))?;
    let gid = Gid::from_raw(process.gid);
    nix::unistd::setresgid(gid, gid, gid).map_err(|e| format!("setgid {gid}: {e}"))?;
    let uid = Uid::from_raw(process.uid);
    nix::unistd::setresuid(uid, uid, uid).map_err(|e| format!("setuid {uid}: {e}"))?;
    let held = if process.uid == 0 { wanted } else { CapsHashSet::new() };
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient set"))?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(failed("inheritable set"))?;
    let available = caps::read(None, CapSet::Permitted).map_err(failed("permitted set"))?;
    let held: CapsHashSet = held.intersection(&available).copied().collect();
    caps::set(None, CapSet::Effective, &held).map_err(failed("effective set"))?;
    caps::set(None, CapSet::Permitted, &held).map_err(failed("permitted set"))?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(|e| format!("no_new_privs: {e}"))?;
    }
    // Set after the change of identity, which clears it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("death signal: {e}"))?;
    reset_signals()
}

/// Rust ignores SIGPIPE in its own processes; a program expects the default.
fn reset_signals() -> Result<(), String> {
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .and_then(|()| crate::os::default_signals())
        .map_err(|e| format!("signals: {e}"))
}

fn raise_descriptor_limit() {
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if rustix::process::setrlimit(Resource::Nofile, wanted).is_err() {
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    }
}

fn enter_directory(directory: &Path, process: &Process) -> Result<(), String> {
    if !directory.exists() && std::fs::create_dir_all(directory).is_ok() {
        let _ = std::os::unix::fs::chown(directory, Some(process.uid), Some(process.gid));
    }
    std::env::set_current_dir(directory).map_err(|e| format!("working directory {}: {e}", directory.display()))
}

/// Looks the program up as `execvp` does, in the environment it is going to have.
fn execute(process: &Process) -> String {
    let c_string = |text: &str| CString::new(text).map_err(|_| format!("{text:?} contains a zero byte"));
    let collect = || -> Result<(Vec<CString>, Vec<CString>), String> {
        let argv = process.argv.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
        let env = process.env.iter().map(|(k, v)| c_string(&format!("{k}={v}"))).collect::<Result<_, _>>()?;
        Ok((argv, env))
    };
    let (argv, env) = match collect() {
        Ok(pair) => pair,
        Err(error) => return error,
    };
    let Some(name) = process.argv.first() else {
        return "no command: neither the container nor its image says what to run".to_owned();
    };
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        let path = process.env.get("PATH").map_or("/usr/bin:/bin", String::as_str);
        path.split(':').map(|folder| format!("{folder}/{name}")).collect()
    };
    let mut worst = Errno::ENOENT;
    for candidate in candidates {
        let Ok(file) = CString::new(candidate) else { continue };
        match nix::unistd::execve(&file, &argv, &env) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(error) => worst = error,
            Ok(never) => match never {},
        }
    }
    match worst {
        Errno::ENOENT if !name.contains('/') => format!("exec: {name:?}: executable file not found in $PATH"),
        error => format!("exec: {name:?}: {}", error.desc()),
    }
}
