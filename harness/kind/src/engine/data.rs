//! The engine's data folder, kept between runs in the component cache: images are loaded once. One engine uses one; a
//! folder whose engine was killed is emptied before it is used again. Start at [`Data::take`].

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use egress_component::Cache;

use crate::error::Error;

/// Says that the last engine stopped in good order; away while one runs.
const CLEAN: &str = "clean";
/// Keys of the archives that are loaded, one per line.
const LOADED: &str = "loaded";

/// A data folder, locked.
#[derive(Debug)]
pub(crate) struct Data {
    dir: PathBuf,
    _lock: File,
}

impl Data {
    /// The first one that nobody uses.
    pub(crate) fn take(cache: &Cache, programs: &Path) -> Result<Self, Error> {
        let root = cache.dir().join("docker");
        for number in 0u32.. {
            let dir = root.join(number.to_string());
            std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
            let path = dir.join("lock");
            let lock = File::options().create(true).truncate(false).write(true).open(&path);
            let lock = lock.map_err(Error::io("open", &path))?;
            match lock.try_lock() {
                Ok(()) => {
                    let data = Self { dir, _lock: lock };
                    data.prepare(programs)?;
                    return Ok(data);
                }
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
        unreachable!("a machine runs fewer than 2^32 engines")
    }

    /// Empties it unless the last engine, of the same programs, stopped in good order.
    fn prepare(&self, programs: &Path) -> Result<(), Error> {
        let clean = self.dir.join(CLEAN);
        let root = self.root();
        if std::fs::read_to_string(&clean).ok().as_deref() != programs.to_str() {
            for path in [&root, &self.dir.join(LOADED)] {
                match if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) } {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io("empty", path)(error));
                    }
                    _ => {}
                }
            }
        }
        match std::fs::remove_file(&clean) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &clean)(error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&root).map_err(Error::io("make", &root))
    }

    /// dockerd's data root.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Marks it as left in good order.
    pub(crate) fn mark_clean(&self, programs: &Path) -> Result<(), Error> {
        let path = self.dir.join(CLEAN);
        std::fs::write(&path, programs.as_os_str().as_encoded_bytes()).map_err(Error::io("write", &path))
    }

    /// Keys of the archives that are loaded.
    pub(crate) fn loaded(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.dir.join(LOADED)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Remembers that exactly these archives are loaded.
    pub(crate) fn set_loaded(&self, keys: &BTreeSet<String>) -> Result<(), Error> {
        let path = self.dir.join(LOADED);
        let text = keys.iter().cloned().collect::<Vec<_>>().join("\n");
        std::fs::write(&path, text).map_err(Error::io("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_kept_after_a_clean_stop_and_emptied_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned(), None).unwrap();
        let programs = Path::new("/programs/1");
        let first = Data::take(&cache, programs).unwrap();
        let second = Data::take(&cache, programs).unwrap();
        assert_ne!(first.root(), second.root(), "two engines in one folder");
        std::fs::write(first.root().join("image"), "1").unwrap();
        first.set_loaded(&BTreeSet::from(["k".to_owned()])).unwrap();
        first.mark_clean(programs).unwrap();
        drop(first);
        let again = Data::take(&cache, programs).unwrap();
        assert!(again.root().join("image").exists());
        assert_eq!(again.loaded().len(), 1);
        // No mark: killed.
        drop(again);
        let emptied = Data::take(&cache, programs).unwrap();
        assert!(!emptied.root().join("image").exists() && emptied.loaded().is_empty());
    }
}
