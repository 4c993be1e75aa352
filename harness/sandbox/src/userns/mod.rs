//! User namespaces, which make an ordinary user root inside a sandbox. Root needs none.
//!
//! Inside, id 0 is the user and 1 to 65535 are its subordinate ids: Istio's rules name a uid, and
//! containers run as several, so one id is not enough. The maps are written by `newuidmap` and
//! `newgidmap`, which alone may. Nothing here changes the host. Start at [`plan`] and [`enter`].

mod error;
mod inside;
mod subids;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{User, getegid, geteuid};

pub(crate) use error::restriction;
pub use error::{Setting, UserNamespaceError};
pub(crate) use inside::{INSIDE, main as inside_main, remove, try_out};
use subids::{Extent, Ranges};

use crate::os;

/// Folders with the system's programs that an ordinary user's `PATH` often lacks.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether this process needs a user namespace to be root inside.
pub(crate) fn needed() -> bool {
    !geteuid().is_root()
}

/// The maps of a user namespace, checked against what the user may.
#[derive(Debug)]
pub(crate) struct Plan {
    programs: [(&'static str, PathBuf); 2],
    maps: [Vec<Extent>; 2],
}

/// Finds out what the maps are going to be. Changes nothing.
pub(crate) fn plan() -> Result<Plan, UserNamespaceError> {
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let program = |program: &'static str| {
        let found = search_path().into_iter().map(|folder| folder.join(program)).find(|path| path.is_file());
        found.map(|path| (program, path)).ok_or_else(|| UserNamespaceError::Program { program: program.to_owned() })
    };
    let ranges = |file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Ranges::parse(&text, name.as_deref(), uid.as_raw())
    };
    let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    let (Some(uid_map), Some(gid_map)) = (uids.map(uid.as_raw()), gids.map(getegid().as_raw())) else {
        return Err(UserNamespaceError::SubordinateIds {
            uid: uid.as_raw(),
            name,
            uids: uids.count(),
            gids: gids.count(),
            free: uids.free().max(gids.free()),
        });
    };
    Ok(Plan { programs: [program("newuidmap")?, program("newgidmap")?], maps: [uid_map, gid_map] })
}

/// The folders of `PATH`, then the system's.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    for folder in SYSTEM_FOLDERS.map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Moves this process into a new user namespace, where it is root. It must have one thread only.
pub(crate) fn enter(plan: &Plan) -> Result<(), UserNamespaceError> {
    let helper = |e: &dyn std::fmt::Display| UserNamespaceError::Helper(e.to_string());
    let this = std::process::id();
    let (mut ours, theirs) = UnixStream::pair().map_err(|e| helper(&e))?;
    // The maps must be written from outside the namespace: by a process that stays there.
    let Some(child) = os::fork().map_err(|e| helper(&e))? else {
        drop(ours);
        write_maps(plan, this, theirs);
        std::process::exit(0)
    };
    drop(theirs);
    let made = unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|e| UserNamespaceError::Unshare { message: e.desc().to_owned(), setting: restriction() });
    let mut answer = String::new();
    let asked = match made {
        Ok(()) => ours.write_all(b"!").and_then(|()| ours.read_to_string(&mut answer)).map(drop),
        Err(_) => Ok(()),
    };
    drop(ours);
    let ended = waitpid(child, None);
    made?;
    asked.map_err(|e| helper(&e))?;
    ended.map_err(|e| helper(&e))?;
    match answer.split_once(' ') {
        Some(("done", _)) => Ok(()),
        Some((program, message)) => {
            let known = plan.programs.iter().map(|(name, _)| *name).find(|name| *name == program);
            Err(known.map_or_else(
                || helper(&answer),
                |program| UserNamespaceError::Map { program: program.to_owned(), message: message.trim().to_owned() },
            ))
        }
        None => Err(helper(&"the process that writes the maps ended without an answer")),
    }
}

/// In the process that stays outside: waits until the namespace is there, then maps its ids.
fn write_maps(plan: &Plan, target: u32, mut socket: UnixStream) {
    // Its end means that there is no namespace.
    if socket.read_exact(&mut [0]).is_err() {
        return;
    }
    let mut answer = "done ".to_owned();
    for ((name, program), extents) in plan.programs.iter().zip(&plan.maps) {
        let mut command = Command::new(program);
        command.arg(target.to_string());
        for extent in extents {
            command.args([extent.inside, extent.outside, extent.count].map(|number| number.to_string()));
        }
        let problem = match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => continue,
            Ok(output) => format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
            Err(e) => e.to_string(),
        };
        answer = format!("{name} {problem}");
        break;
    }
    // A parent that is gone needs no answer.
    let _ = socket.write_all(answer.as_bytes());
}
