//! The content-addressed cache: `objects/KEY/` holds one component and its record; all else is scaffolding.
//!
//! An object appears by one rename, complete, and is never written to again. Never knows how a component is made.
//! Start at [`Cache::open`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::component::{Component, SourceKind};
use crate::error::Error;
use crate::hash;
use crate::host::Host;
use crate::lock::{Attempt, KeyLock};
use crate::name::ProgramName;

const RECORD: &str = "component.json";

/// The cache folder of this user, and perhaps another, read-only one that is looked into as well.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    read_only: Option<PathBuf>,
}

/// What is known of a cached component; written as `component.json` beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: ProgramName,
    /// Its version, as it printed it.
    pub version: String,
    /// The kind of source.
    pub source: SourceKind,
    /// The source in full.
    pub from: String,
    /// Path of the program or file inside the object.
    pub entry: String,
    /// SHA-256 of that file.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// For components of many files: one SHA-256 over all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_sha256: Option<String>,
    /// When it was made.
    pub built: jiff::Timestamp,
    /// Versions of the tools that made it, and hashes of what it was taken from.
    pub tools: BTreeMap<String, String>,
}

/// A component found in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) dir: PathBuf,
    pub(crate) record: Record,
    pub(crate) read_only: bool,
}

impl Object {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.record.entry)
    }
}

/// A private folder in which one component is made; removed when dropped.
#[derive(Debug)]
pub(crate) struct Work {
    dir: TempDir,
    _lock: KeyLock,
}

impl Work {
    /// For sources, temporary files and downloads.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    /// What will be the object.
    pub(crate) fn object(&self) -> PathBuf {
        self.dir.path().join("object")
    }
}

impl Cache {
    /// Opens a cache folder, makes it if need be, and removes what killed writers left behind.
    /// `read_only` is a second cache folder, which is only read.
    ///
    /// # Errors
    /// Where the folder cannot be made or written to.
    pub fn open(dir: PathBuf, read_only: Option<PathBuf>) -> Result<Self, Error> {
        let cache = Self { root: std::path::absolute(&dir).map_err(Error::io("resolve", &dir))?, read_only };
        for part in ["objects", "tmp", "locks", "downloads"] {
            let path = cache.root.join(part);
            std::fs::create_dir_all(&path).map_err(|source| Error::Cache {
                what: format!("cannot make {}", path.display()),
                source: Some(source),
            })?;
        }
        cache.sweep().map_err(Error::io("tidy", &cache.root))?;
        Ok(cache)
    }

    /// The folder to use where none is given: `EGRESS_CONFORMANCE_CACHE`, else `egress-conformance` in `XDG_CACHE_HOME`
    /// or in `~/.cache`.
    ///
    /// # Errors
    /// Where none of these is set, not even `HOME`.
    pub fn default_dir(host: &Host) -> Result<PathBuf, Error> {
        if let Some(dir) = host.get("EGRESS_CONFORMANCE_CACHE") {
            return Ok(dir.into());
        }
        host.cache_home().map(|home| home.join("egress-conformance")).ok_or_else(|| Error::Cache {
            what: "none of EGRESS_CONFORMANCE_CACHE, XDG_CACHE_HOME and HOME is set".to_owned(),
            source: None,
        })
    }

    /// The folder of this cache.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    /// The component's object, if it is there and whole at a glance: record readable, file present, size as recorded.
    pub(crate) fn find(&self, component: &Component) -> Option<Object> {
        let key = component.key();
        let own = read_object(&self.object_dir(&key), false);
        own.or_else(|| read_object(&self.read_only.as_ref()?.join("objects").join(&key), true))
    }

    /// Tries once to become the maker of a key.
    pub(crate) fn try_lock(&self, key: &str, note: &str) -> Result<Attempt, Error> {
        let path = self.root.join("locks").join(format!("{key}.lock"));
        KeyLock::try_acquire(&path, note).map_err(Error::io("lock", &path))
    }

    /// A private folder on the cache's file system, for the holder of that key's lock.
    pub(crate) fn work(&self, key: &str, lock: KeyLock) -> Result<Work, Error> {
        let tmp = self.root.join("tmp");
        let dir = tempfile::Builder::new()
            .prefix(&format!("{key}."))
            .tempdir_in(&tmp)
            .map_err(Error::io("make a folder in", &tmp))?;
        let work = Work { dir, _lock: lock };
        for path in [work.scratch(), work.object()] {
            std::fs::create_dir(&path).map_err(Error::io("make", &path))?;
        }
        Ok(work)
    }

    /// Where a checked download of that hash is kept until it is unpacked.
    pub(crate) fn download(&self, sha256: &str) -> PathBuf {
        self.root.join("downloads").join(sha256)
    }

    /// Puts a finished object in its place. A broken one that is there already goes away with the work folder.
    pub(crate) fn commit(&self, component: &Component, work: &Work, record: &Record) -> Result<Object, Error> {
        let made = work.object();
        let record_path = made.join(RECORD);
        let mut json = serde_json::to_string_pretty(record).map_err(|error| Error::Io {
            what: "write",
            path: record_path.clone(),
            source: error.into(),
        })?;
        json.push('\n');
        std::fs::write(&record_path, json).map_err(Error::io("write", &record_path))?;
        for path in [&record_path, &made.join(&record.entry)] {
            std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))?;
        }
        let dir = self.object_dir(&component.key());
        if dir.exists() {
            let broken = work.scratch().join("broken");
            std::fs::rename(&dir, &broken).map_err(Error::io("move away the broken", &dir))?;
        }
        std::fs::rename(&made, &dir).map_err(Error::io("put in place", &dir))?;
        Ok(Object { dir, record: record.clone(), read_only: false })
    }

    pub(crate) fn object_dir(&self, key: &str) -> PathBuf {
        self.root.join("objects").join(key)
    }

    /// Removes work folders whose maker is gone: those whose key nobody has locked.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let note = format!("process {}, tidying up", std::process::id());
        for entry in std::fs::read_dir(self.root.join("tmp"))? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let key = name.split('.').next().unwrap_or_default();
            let lock = KeyLock::try_acquire(&self.root.join("locks").join(format!("{key}.lock")), &note)?;
            if let Attempt::Held(_lock) = lock {
                tracing::info!(path = %path.display(), "removing what a killed writer left");
                match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn read_object(dir: &Path, read_only: bool) -> Option<Object> {
    let record: Record = serde_json::from_slice(&std::fs::read(dir.join(RECORD)).ok()?).ok()?;
    let size = dir.join(&record.entry).metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    if size != record.size {
        tracing::warn!(dir = %dir.display(), size, recorded = record.size, "a cached component is damaged");
        return None;
    }
    Some(Object { dir: dir.to_owned(), record, read_only })
}

/// Reads all of a cached object and compares it with its record.
pub(crate) fn rehash(object: &Object) -> Result<(), Error> {
    let compare = |what: &Path, expected: &str, seen: String| {
        if expected == seen {
            return Ok(());
        }
        let place = object.dir.display();
        Err(Error::Hash {
            what: what.display().to_string(),
            expected: expected.to_owned(),
            seen,
            help: format!("it changed after it was made: remove {place} and it is made anew"),
        })
    };
    let path = object.path();
    compare(&path, &object.record.sha256, hash::file(&path).map_err(Error::io("read", &path))?)?;
    if let Some(expected) = &object.record.tree_sha256 {
        let root = tree_root(object);
        compare(&root, expected, hash::tree(&root).map_err(Error::io("read", &root))?)?;
    }
    Ok(())
}

/// The folder that `tree_sha256` covers: the first part of the entry's path.
fn tree_root(object: &Object) -> PathBuf {
    let first = Path::new(&object.record.entry).components().next();
    object.dir.join(first.map(|part| part.as_os_str().to_owned()).unwrap_or_default())
}
