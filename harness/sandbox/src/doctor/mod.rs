//! Can this machine run a sandbox? Each answer comes from doing the thing, not from a guess.
//!
//! What changes anything (namespaces, mounts, interfaces, rules) is tried by a child process in
//! namespaces of its own, which end with it. Start at [`doctor`].

mod scratch;

use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::{state, userns};

/// Hidden first argument of the process that tries things out.
pub(crate) const DOCTOR: &str = "__egress-sandbox-doctor";

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was asked, in a few words.
    pub name: String,
    /// Whether a sandbox gets what it needs.
    pub ok: bool,
    /// What was seen.
    pub seen: String,
    /// What to do if it is not in order; said in any case.
    pub remedy: String,
}

impl Check {
    fn new(name: &str, remedy: &str, result: Result<String, String>) -> Check {
        let ok = result.is_ok();
        let (Ok(seen) | Err(seen)) = result;
        Check { name: name.to_owned(), ok, seen, remedy: remedy.to_owned() }
    }
}

/// Free space a sandbox's folder needs, in MiB: etcd's data, logs, volumes.
const DISK: u64 = 512;
/// Free memory a mesh with a gateway and two clients needs, in MiB (measured: 1.0 GiB resident).
const MEMORY: u64 = 1536;

/// Asks everything. Takes about a tenth of a second. The calling program must run
/// [`run_if_child`](crate::run_if_child) first in its `main`.
pub fn doctor() -> Vec<Check> {
    let mut all = vec![
        identity(),
        Check::new(
            "state folder",
            "point XDG_RUNTIME_DIR or TMPDIR at a folder you can write to, with space",
            state_folder(),
        ),
        Check::new("memory", "end other programs, or use a machine with 2 GiB or more", memory()),
        Check::new("pidfd", "use Linux 5.4 or newer", pidfd()),
    ];
    all.extend(in_scratch_namespaces());
    all
}

/// The child process: tries things out, prints the answers, and never returns.
pub(crate) fn child_main() -> ! {
    let answers = serde_json::to_string(&scratch::all()).expect("answers are plain data");
    println!("{answers}");
    std::process::exit(0)
}

fn in_scratch_namespaces() -> Vec<Check> {
    let run = || -> Result<Vec<Check>, String> {
        // As in a sandbox: an ordinary user's own often lacks the folders with iptables.
        let path = std::env::join_paths(userns::search_path()).map_err(|e| e.to_string())?;
        let output = Command::new("/proc/self/exe")
            .arg(DOCTOR)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| format!("cannot run this program again: {e}"))?;
        serde_json::from_slice(&output.stdout).map_err(|e| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!("it gave no answer ({}): {e}: {}", output.status, complaint.trim())
        })
    };
    run().unwrap_or_else(|problem| {
        let remedy = "call egress_sandbox::run_if_child() first in main; see what the process said";
        vec![Check::new("scratch process", remedy, Err(problem))]
    })
}

/// Root, or root of a user namespace.
fn identity() -> Check {
    if !userns::needed() {
        return Check::new("identity", "", Ok("root".to_owned()));
    }
    let uid = nix::unistd::geteuid();
    match userns::try_out() {
        Ok(()) => Check::new(
            "identity",
            "",
            Ok(format!("user {uid}, and root with 65536 ids in a user namespace of its own")),
        ),
        Err(error) => Check::new("identity", &error.remedy(), Err(format!("user {uid}: {error}"))),
    }
}

/// Whether the folder of all sandboxes has the space for one; what was seen, either way.
pub(crate) fn state_folder() -> Result<String, String> {
    let root = state::root().map_err(|e| e.to_string())?;
    let space = rustix::fs::statvfs(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
    let seen = format!("{} with {free} MiB free, {DISK} needed", root.display());
    if free >= DISK { Ok(seen) } else { Err(seen) }
}

fn memory() -> Result<String, String> {
    let table = std::fs::read_to_string("/proc/meminfo").map_err(|e| format!("/proc/meminfo: {e}"))?;
    let available = available_mib(&table).ok_or("/proc/meminfo has no MemAvailable")?;
    let seen = format!("{available} MiB available; {MEMORY} needed");
    if available >= MEMORY { Ok(seen) } else { Err(seen) }
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib >> 10)
}

fn pidfd() -> Result<String, String> {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    pidfd_open(getpid(), PidfdFlags::empty())
        .map(|_| "pidfd_open works".to_owned())
        .map_err(|e| format!("pidfd_open: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        let table = "MemTotal:        8131528 kB\nMemFree:          264840 kB\nMemAvailable:    3145728 kB\n";
        assert_eq!(available_mib(table), Some(3072));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
    }
}
