//! Cached folders of other crates: images, root file systems. Made once per key, under the key's lock, complete by one
//! rename, like components; what is in them is their maker's business.
//!
//! Start at [`Cache::ensure_folder`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::error::Error;
use crate::lock::{Attempt, KeyLock};
use crate::source::TOOL_LIMIT;
use crate::wait;

/// Where a folder is made.
#[derive(Debug)]
pub struct Making<'a> {
    /// What becomes the cached folder.
    pub object: &'a Path,
    /// For temporary files, on the same file system; removed afterwards.
    pub scratch: &'a Path,
}

impl Cache {
    /// The finished folder of that key, if it is there.
    #[must_use]
    pub fn folder(&self, key: &str) -> Option<PathBuf> {
        let dir = self.object_dir(key);
        dir.is_dir().then_some(dir)
    }

    /// Gives the folder of a key, a hash over all that determines its content: from the cache, or made by `make`, or
    /// waited for while another process makes it (`waiting` then hears who). `note` says who we are, for others that wait.
    ///
    /// # Errors
    /// Those of `make`, and where the cache cannot be written to.
    pub async fn ensure_folder<E: From<Error>>(
        &self,
        key: &str,
        note: &str,
        waiting: &mut (dyn FnMut(&str) + Send),
        make: impl AsyncFnOnce(Making<'_>) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        if let Some(dir) = self.folder(key) {
            return Ok(dir);
        }
        let Some(lock) = self.turn(key, note, waiting).await? else {
            return Ok(self.object_dir(key));
        };
        let work = self.work(key, lock)?;
        let (object, scratch) = (work.object(), work.scratch());
        make(Making { object: &object, scratch: &scratch }).await?;
        let dir = self.object_dir(key);
        std::fs::rename(&object, &dir).map_err(Error::io("put in place", &dir))?;
        Ok(dir)
    }

    /// Removes folders that have a file of that name, all but the `keep` newest: results of which each new build makes
    /// another. One that is being made, or that another process makes now, is none of them.
    ///
    /// # Errors
    /// Where the cache cannot be read, or a folder not removed.
    pub fn trim(&self, file: &str, keep: usize) -> Result<(), Error> {
        let root = self.dir().join("objects");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&root).map_err(Error::io("read", &root))? {
            let path = entry.map_err(Error::io("read", &root))?.path();
            if let Ok(made) = path.join(file).metadata().and_then(|meta| meta.modified()) {
                found.push((made, path));
            }
        }
        found.sort();
        for (_, path) in found.iter().rev().skip(keep) {
            let key = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if let Attempt::Held(_lock) = self.try_lock(&key, "tidying up")? {
                std::fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
            }
        }
        Ok(())
    }

    /// The key's lock, or `None` when someone else has made the folder meanwhile.
    async fn turn(
        &self,
        key: &str,
        note: &str,
        waiting: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Option<KeyLock>, Error> {
        let mut last = String::new();
        let mut said = Duration::ZERO;
        let turn = wait::until(TOOL_LIMIT, |waited| {
            let attempt = self.try_lock(key, note)?;
            if self.folder(key).is_some() {
                return Ok(Some(None));
            }
            match attempt {
                Attempt::Held(lock) => Ok(Some(Some(lock))),
                Attempt::Busy(holder) => {
                    if holder != last || waited - said >= Duration::from_secs(5) {
                        waiting(&holder);
                        (last, said) = (holder, waited);
                    }
                    Ok::<_, Error>(None)
                }
            }
        })
        .await?;
        turn.ok_or_else(|| Error::Locked { name: key.to_owned(), waited_s: TOOL_LIMIT.as_secs(), holder: last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_made_once_and_a_failed_try_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned(), None).unwrap();
        let failed = cache
            .ensure_folder("k", "test", &mut |_| {}, async |making: Making<'_>| {
                std::fs::write(making.object.join("half"), "1").unwrap();
                Err(Error::Unknown { name: "x".into(), known: String::new() })
            })
            .await;
        assert!(failed.is_err() && cache.folder("k").is_none());
        for round in 0..2 {
            let folder = cache
                .ensure_folder("k", "test", &mut |_| {}, async |making: Making<'_>| {
                    assert_eq!(round, 0, "made twice");
                    std::fs::write(making.object.join("file"), "1").unwrap();
                    Ok::<_, Error>(())
                })
                .await
                .unwrap();
            assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "1");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn only_the_newest_of_a_name_are_kept_and_other_names_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned(), None).unwrap();
        for (age, (key, file)) in
            [("new", "a.tar"), ("other", "b.tar"), ("middle", "a.tar"), ("old", "a.tar")].iter().enumerate()
        {
            let folder = cache
                .ensure_folder(key, "test", &mut |_| {}, async |making: Making<'_>| {
                    std::fs::write(making.object.join(file), "1").unwrap();
                    Ok::<_, Error>(())
                })
                .await
                .unwrap();
            let made = std::time::SystemTime::now() - Duration::from_secs(60 * age as u64);
            std::fs::File::open(folder.join(file)).unwrap().set_modified(made).unwrap();
        }
        cache.trim("a.tar", 2).unwrap();
        let there = ["new", "middle", "old", "other"].map(|key| cache.folder(key).is_some());
        assert_eq!(there, [true, true, false, true]);
    }
}
