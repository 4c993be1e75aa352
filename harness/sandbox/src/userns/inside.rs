//! Small jobs that need the ids of the inside: this program, run again as root of a new user namespace.
//!
//! Files that containers made belong to subordinate ids, which the user itself may not remove.
//! Start at [`try_out`] and [`remove`]; [`main`] is the other process.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{UserNamespaceError, enter, plan};

/// Hidden first argument of such a process.
pub(crate) const INSIDE: &str = "__egress-sandbox-inside";
/// Its job: nothing, which tries out the way in.
const TRY: &str = "try";
/// Its job: remove a folder with everything in it.
const REMOVE: &str = "remove";

/// Whether a user namespace with all ids can be made. The calling program must run
/// [`run_if_child`](crate::run_if_child) first in its `main`.
pub(crate) fn try_out() -> Result<(), UserNamespaceError> {
    // What can be told without a try is told precisely.
    plan()?;
    run(&[OsStr::new(TRY)])
}

/// Removes a folder in which containers have left files.
pub(crate) fn remove(folder: &Path) -> std::io::Result<()> {
    run(&[OsStr::new(REMOVE), folder.as_os_str()]).map_err(std::io::Error::other)
}

fn run(arguments: &[&OsStr]) -> Result<(), UserNamespaceError> {
    let output = Command::new("/proc/self/exe")
        .arg(INSIDE)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| UserNamespaceError::Helper(format!("cannot run this program again: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&output.stderr);
        UserNamespaceError::Helper(format!("{}: {}", output.status, text.trim()))
    }))
}

/// The other process. `arguments` are those behind [`INSIDE`].
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> ! {
    let job = arguments.next().unwrap_or_default();
    if let Err(error) = plan().and_then(|plan| enter(&plan)) {
        println!("{}", serde_json::to_string(&error).expect("an error is plain data"));
        std::process::exit(1)
    }
    let result = match (job.to_str(), arguments.next()) {
        (Some(TRY), None) => Ok(()),
        (Some(REMOVE), Some(folder)) => std::fs::remove_dir_all(&folder),
        _ => Err(std::io::Error::other(format!("unknown job {}", job.display()))),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1)
    }
    std::process::exit(0)
}
