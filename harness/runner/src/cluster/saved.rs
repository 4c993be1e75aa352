//! Snapshots of meshes that came up, kept in the user's cache folder so that the next start need not install anything.
//!
//! ```text
//! snapshots/KEY/mesh.json   what made it: the key again, and the label of the harness's objects
//! snapshots/KEY/cluster/    the sandbox's own part ([`egress_sandbox::snapshot`])
//! snapshots/.lock           shared while one is read, exclusive while the set changes
//! ```
//!
//! A snapshot appears by one rename, whole, and is never written to again; one that is broken, foreign or about to expire
//! is thrown away and the mesh starts as if there were none. How a mesh is saved or restored is not known here. Start at
//! [`Shelf`] and [`key`].

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use egress_sandbox::snapshot;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EnvironmentError, Provider};
use crate::wait;

/// How many are kept.
const MOST: usize = 4;
/// So long before the first certificate expires a snapshot is not used any more: a mesh may stay up for a while.
const MARGIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Begins the names of what is being made or removed.
const UNFINISHED: &str = ".tmp-";
const LOCK: &str = ".lock";
/// How long a mesh that is up waits until it may be saved; others read for as long as their start takes.
const LOCK_BOUND: Duration = Duration::from_secs(10);
const MESH: &str = "mesh.json";
const CLUSTER: &str = "cluster";

/// The folder of all snapshots of a user.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
}

/// A snapshot that can be used. While it is held, nobody removes it.
#[derive(Debug)]
pub struct Found {
    /// The label of the harness's own objects in it.
    pub run: String,
    /// The sandbox's part.
    pub cluster: PathBuf,
    key: String,
    shelf: Shelf,
    lock: File,
}

impl Found {
    /// Throws it away, because it turned out to be of no use.
    pub fn discard(self) {
        // Held any longer it would be in the way of the lock that removing takes.
        drop(self.lock);
        self.shelf.discard(&self.key);
    }
}

/// Why a snapshot cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Another process reads snapshots, or changes which there are.
    #[error("another process holds {path}")]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// Others did not come to an end with it in time.
    #[error("{0}")]
    Waited(String),
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
    /// Others could have a hand in it.
    #[error("{path} must be a folder of this user that nobody else can enter, but {seen}: remove it")]
    NotOurs {
        /// The folder of all snapshots.
        path: PathBuf,
        /// What is wrong.
        seen: String,
    },
    /// Something else made it.
    #[error("{path} is not the snapshot it is named after: {seen}")]
    Foreign {
        /// Its folder.
        path: PathBuf,
        /// What was found.
        seen: String,
    },
    /// Its certificates end soon.
    #[error("the snapshot in {path} expires at {expires}")]
    Expired {
        /// Its folder.
        path: PathBuf,
        /// When the first certificate ends.
        expires: Timestamp,
    },
    /// The sandbox's part is not whole.
    #[error(transparent)]
    Cluster(#[from] snapshot::SnapshotError),
    /// The mesh could not be saved.
    #[error("{0}")]
    Save(#[from] EnvironmentError),
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> SavedError + 'a {
    move |source| SavedError::Io { doing, path: path.to_owned(), source }
}

#[derive(Debug, Serialize, Deserialize)]
struct MeshFile {
    key: String,
    run: String,
}

/// What a mesh is made of: two starts with the same key come to the same mesh. It changes with this build (which holds
/// the profiles, the workloads and the images), with the form of snapshots, with each program's file and with the profile.
#[must_use]
pub fn key(programs: &egress_sandbox::Programs, kubernetes_version: &str, profile: &str, overlays: &[&str]) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    };
    part(env!("EGRESS_CONFORMANCE_BUILD"));
    part(&snapshot::FORMAT.to_string());
    part(kubernetes_version);
    part(profile);
    let profile = format!("mesh/{profile}.yaml");
    for name in std::iter::once(profile.as_str()).chain(overlays.iter().copied()).chain(["images.yaml"]) {
        part(name);
        part(crate::embedded::text(name).unwrap_or_default());
    }
    // A cached program's path names its content; one that was given by hand may be replaced under the same name.
    for (name, path) in programs.all() {
        part(name);
        part(&path.to_string_lossy());
        if let Ok(file) = path.metadata() {
            part(&format!("{} {} {}", file.len(), file.mtime(), file.mtime_nsec()));
        }
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Shelf {
    /// The shelf in a component cache's folder. It need not exist.
    #[must_use]
    pub fn in_cache(cache: &Path) -> Self {
        Self { folder: cache.join("snapshots") }
    }

    /// The shelf at this place.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The snapshot of this key, if there is one that can be used. One that cannot is thrown away.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Found> {
        let path = self.folder.join(key);
        if !path.exists() {
            return None;
        }
        let found = self.lock(false).and_then(|lock| {
            let run = examine(&path, key, Timestamp::now())?;
            Ok(Found { run, cluster: path.join(CLUSTER), key: key.to_owned(), shelf: self.clone(), lock })
        });
        match found {
            Ok(found) => Some(found),
            // Another process has removed it meanwhile, or is about to.
            Err(_) if !path.exists() => None,
            Err(SavedError::InUse { .. }) => None,
            Err(error) => {
                tracing::warn!("a snapshot is not used: {error}");
                self.discard(key);
                None
            }
        }
    }

    /// Throws a snapshot away that nobody here has [`Found`]. One that is not there is fine.
    fn discard(&self, key: &str) {
        let path = self.folder.join(key);
        if let Err(error) = self.lock(true).and_then(|_lock| self.remove(&path)) {
            tracing::warn!("a snapshot stays: {error}");
        }
    }

    /// Saves a mesh under this key, unless there is one, and removes the oldest beyond four.
    ///
    /// # Errors
    /// [`SavedError`]; nothing is kept then.
    pub async fn keep(&self, key: &str, run: &str, provider: &dyn Provider) -> Result<(), SavedError> {
        self.make()?;
        let lock = wait::until("the end of other uses of snapshots", LOCK_BOUND, async || match self.lock(true) {
            Err(in_use @ SavedError::InUse { .. }) => Err(in_use.to_string()),
            other => Ok(other),
        });
        let _lock = lock.await.map_err(|e| SavedError::Waited(e.to_string()))??;
        let path = self.folder.join(key);
        if path.exists() {
            return Ok(());
        }
        let work = self.unfinished();
        let saved = async {
            DirBuilder::new().mode(0o700).create(&work).map_err(io("create", &work))?;
            provider.save(&work.join(CLUSTER)).await?;
            let file = work.join(MESH);
            let mesh = MeshFile { key: key.to_owned(), run: run.to_owned() };
            let text = serde_json::to_vec(&mesh).expect("plain data with string keys");
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let written = options.open(&file).and_then(|mut f| std::io::Write::write_all(&mut f, &text));
            written.map_err(io("write", &file))?;
            std::fs::rename(&work, &path).map_err(io("rename", &work))
        };
        let saved = saved.await;
        if saved.is_err() {
            let _ = std::fs::remove_dir_all(&work);
        }
        saved?;
        for old in self.oldest_beyond(MOST) {
            self.remove(&old)?;
        }
        Ok(())
    }

    /// Removes what is broken, foreign, expired or left half made, and returns it.
    #[must_use]
    pub fn sweep(&self) -> Vec<PathBuf> {
        if !self.folder.exists() {
            return Vec::new();
        }
        let _lock = match self.lock(true) {
            Ok(lock) => lock,
            Err(error) => {
                tracing::warn!("snapshots are not swept: {error}");
                return Vec::new();
            }
        };
        let now = Timestamp::now();
        let unfit = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Under the lock nobody is making one.
            name.starts_with(UNFINISHED) || examine(path, &name, now).is_err()
        };
        self.entries().into_iter().filter(unfit).filter(|path| self.remove(path).is_ok()).collect()
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.file_name().is_some_and(|name| name != LOCK)).collect()
    }

    fn oldest_beyond(&self, most: usize) -> Vec<PathBuf> {
        let age = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut all = self.entries();
        all.sort_by_key(|path| std::cmp::Reverse(age(path)));
        all.split_off(most.min(all.len()))
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join(format!("{UNFINISHED}{:016x}", rand::random::<u64>()))
    }

    /// Removes one in two steps, so that a half removed one has no key. The lock is held.
    fn remove(&self, path: &Path) -> Result<(), SavedError> {
        let gone = self.unfinished();
        match std::fs::rename(path, &gone) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(io("rename", path))?,
        }
        let removed = if gone.is_dir() { std::fs::remove_dir_all(&gone) } else { std::fs::remove_file(&gone) };
        removed.map_err(io("remove", &gone))
    }

    fn make(&self) -> Result<(), SavedError> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(io("create", &self.folder)(e)),
            _ => Ok(()),
        }
    }

    /// Takes the lock if it is free, and never waits: a process that hangs must not hang all others. Whoever can write here
    /// could be administrator of our sandboxes.
    fn lock(&self, exclusive: bool) -> Result<File, SavedError> {
        let found = self.folder.symlink_metadata().map_err(io("look at", &self.folder))?;
        let mode = found.permissions().mode() & 0o777;
        let uid = nix::unistd::geteuid().as_raw();
        let seen = if !found.is_dir() {
            Some("it is not a folder".to_owned())
        } else if found.uid() != uid {
            Some(format!("it belongs to user {}", found.uid()))
        } else {
            (mode & 0o077 != 0).then(|| format!("its mode is {mode:o}"))
        };
        if let Some(seen) = seen {
            return Err(SavedError::NotOurs { path: self.folder.clone(), seen });
        }
        let path = self.folder.join(LOCK);
        let mut options = OpenOptions::new();
        let file =
            options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io("open", &path))?;
        match if exclusive { file.try_lock() } else { file.try_lock_shared() } {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(SavedError::InUse { path }),
            Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
        }
    }
}

/// The label of the harness's objects in a snapshot that can be used at `now`.
fn examine(path: &Path, key: &str, now: Timestamp) -> Result<String, SavedError> {
    let file = path.join(MESH);
    let text = std::fs::read(&file).map_err(io("read", &file))?;
    let foreign = |seen: String| SavedError::Foreign { path: path.to_owned(), seen };
    let mesh: MeshFile = serde_json::from_slice(&text).map_err(|e| foreign(format!("{MESH}: {e}")))?;
    if mesh.key != key {
        return Err(foreign(format!("its key is {:?}", mesh.key)));
    }
    let expires = snapshot::check(&path.join(CLUSTER))?;
    if now.checked_add(MARGIN).is_ok_and(|soon| soon < expires) {
        Ok(mesh.run)
    } else {
        Err(SavedError::Expired { path: path.to_owned(), expires })
    }
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
