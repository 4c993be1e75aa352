//! Whether there is room for what is about to be made.
//!
//! An estimate to fail early with a clear message; a disk that fills up meanwhile is still reported by the tool that meets it.
//! Start at [`require`].

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

const MIB: u64 = 1 << 20;

/// Compares needs (a folder, MiB) with the free space there. Needs on one file system are added up; a folder that does
/// not exist yet stands for its nearest parent.
pub(crate) fn require(needs: &[(PathBuf, u64)], what: &str) -> Result<(), Error> {
    let mut by_device: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for (dir, need) in needs {
        let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let device = existing.metadata().map_err(Error::io("look at", existing))?.dev();
        let sum = &mut by_device.entry(device).or_insert((existing, 0)).1;
        *sum = sum.saturating_add(*need);
    }
    for (path, need_mib) in by_device.into_values() {
        let free_mib = fs4::available_space(path).map_err(Error::io("measure the free space at", path))? / MIB;
        if free_mib < need_mib {
            return Err(Error::NoSpace { path: path.to_owned(), free_mib, need_mib, what: what.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_names_the_sum_and_the_purpose() {
        let dir = tempfile::tempdir().unwrap();
        assert!(require(&[(dir.path().to_owned(), 0)], "x").is_ok());
        let petabyte = 1 << 30;
        let needs = [(dir.path().join("not/yet"), petabyte), (dir.path().to_owned(), petabyte)];
        let error = require(&needs, "kubectl").unwrap_err();
        let Error::NoSpace { path, need_mib, what, .. } = error else { panic!("{error}") };
        assert_eq!((path.as_path(), need_mib, what.as_str()), (dir.path(), 2 * petabyte, "kubectl"));
    }
}
