//! A sandbox's folder on the host: where it is, who owns it, and what happens to a dead one's.
//!
//! Liveness is a `flock` held for life on a file in the folder, by the owner and by the sandbox's
//! own outer processes; never a pid. The dead cannot unlink: [`sweep`] removes what they left.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::userns;

/// The file in a folder whose `flock` says that the folder's owner lives.
pub const LIFE_LOCK: &str = "owner.lock";

/// Why a sandbox has no folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The folder above all sandboxes' is not safely ours.
    #[error(
        "{path} must be a folder of user {expected} that nobody else can enter, but {seen}: remove it, or point XDG_RUNTIME_DIR elsewhere"
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Who should own it.
        expected: u32,
        /// What is wrong.
        seen: String,
    },
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StateError + 'a {
    move |source| StateError::Io { doing, path: path.to_owned(), source }
}

/// A sandbox's folder. Its lock is held as long as this, or a duplicate of its descriptor, lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: File,
}

impl StateDir {
    /// Makes a new folder, locked.
    pub(crate) fn create() -> Result<StateDir, StateError> {
        Self::create_in(&root()?)
    }

    fn create_in(root: &Path) -> Result<StateDir, StateError> {
        // Nobody sweeps between the making of the folder and its lock.
        let _quiet = guard(root)?;
        let pid = std::process::id();
        for number in 0u32.. {
            let path = root.join(format!("{pid}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(io("create", &path)(e)),
            }
            let file = path.join(LIFE_LOCK);
            let lock = File::create_new(&file).map_err(io("create", &file))?;
            lock.lock().map_err(io("lock", &file))?;
            return Ok(StateDir { path, lock });
        }
        unreachable!("a folder holds fewer than 2^32 entries")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The locked file; a duplicate of it holds the same lock.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// Removes the folder with everything in it.
    pub(crate) fn remove(&self) -> Result<(), StateError> {
        remove_all(&self.path).map_err(io("remove", &self.path))
    }
}

/// Removes a sandbox's folder; one that is not there is fine.
fn remove_all(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // Files of an ordinary user's containers belong to its subordinate ids.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && userns::needed() => userns::remove(path),
        other => other,
    }
}

/// Removes the folders of sandboxes that no longer live, and returns them. Folders of living ones,
/// and anything that cannot be removed, stay.
pub fn sweep() -> Vec<PathBuf> {
    root().map(|root| sweep_in(&root)).unwrap_or_default()
}

fn sweep_in(root: &Path) -> Vec<PathBuf> {
    let Ok(_quiet) = guard(root) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let is_dead = |path: &PathBuf| match File::open(path.join(LIFE_LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // Killed between making the folder and its lock: under the guard nobody is doing that now.
        Err(e) => e.kind() == std::io::ErrorKind::NotFound && path.is_dir(),
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_dead)
        .filter(|path| remove_all(path).is_ok())
        .collect()
}

/// Held while the set of folders changes: nobody sweeps meanwhile. Blocks until nobody else holds it.
///
/// # Errors
/// [`StateError::Io`] when the guard's file cannot be opened.
pub fn guard(root: &Path) -> Result<File, StateError> {
    let path = root.join(".guard");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
    file.lock().map_err(io("lock", &path))?;
    Ok(file)
}

/// The folder above all sandboxes' of this user: below `XDG_RUNTIME_DIR`, else below the temporary
/// folder. Made if it is missing, refused if somebody else could have a hand in it. A folder in it
/// belongs to whoever holds the lock on its [`LIFE_LOCK`].
///
/// # Errors
/// [`StateError`] when it cannot be made, or is not ours alone.
pub fn root() -> Result<PathBuf, StateError> {
    let uid = nix::unistd::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // With sudo the variable may still be that of the other user.
    let runtime = runtime.filter(|dir| dir.metadata().is_ok_and(|m| m.is_dir() && m.uid() == uid));
    let path = match runtime {
        Some(dir) => dir.join("egress-conformance"),
        None => std::env::temp_dir().join(format!("egress-conformance-{uid}")),
    };
    own_folder(&path, uid)?;
    Ok(path)
}

fn own_folder(path: &Path, uid: u32) -> Result<(), StateError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(io("create", path)(e)),
        _ => {}
    }
    let found = path.symlink_metadata().map_err(io("look at", path))?;
    let mode = found.permissions().mode() & 0o777;
    let seen = if !found.is_dir() {
        "it is not a folder".to_owned()
    } else if found.uid() != uid {
        format!("it belongs to user {}", found.uid())
    } else if mode & 0o077 != 0 {
        format!("its mode is {mode:o}")
    } else {
        return Ok(());
    };
    Err(StateError::NotOurs { path: path.to_owned(), expected: uid, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn sweep_takes_the_dead_and_spares_the_living() {
        let root = scratch();
        let living = StateDir::create_in(root.path()).unwrap();
        let dead = StateDir::create_in(root.path()).unwrap();
        let dead_path = dead.path().to_owned();
        std::fs::write(dead_path.join("left-over"), "x").unwrap();
        drop(dead);
        assert_eq!(sweep_in(root.path()), std::slice::from_ref(&dead_path));
        assert!(!dead_path.exists());
        assert!(living.path().exists());
        assert_eq!(sweep_in(root.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_duplicate_of_the_lock_keeps_the_folder() {
        let root = scratch();
        let state = StateDir::create_in(root.path()).unwrap();
        let duplicate = state.lock().try_clone().unwrap();
        drop(state);
        assert!(sweep_in(root.path()).is_empty());
        drop(duplicate);
        assert_eq!(sweep_in(root.path()).len(), 1);
    }

    #[test]
    fn a_folder_others_can_enter_is_refused() {
        let root = scratch();
        let path = root.path().join("open");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let error = own_folder(&path, uid).unwrap_err();
        assert!(error.to_string().contains("its mode is 755"), "{error}");
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_refused() {
        let root = scratch();
        let path = root.path().join("link");
        std::os::unix::fs::symlink(root.path(), &path).unwrap();
        let error = own_folder(&path, nix::unistd::geteuid().as_raw()).unwrap_err();
        assert!(error.to_string().contains("not a folder"), "{error}");
    }
}
