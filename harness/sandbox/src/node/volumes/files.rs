//! A volume's folder, updated all at once.
//!
//! The layout is the kubelet's: a folder per version, a link `..data` to the current one, and a link per top-level name
//! through `..data`; a reader sees all of the old files or all of the new. Start at [`write`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Its content.
    pub(crate) content: Vec<u8>,
    /// Its permissions.
    pub(crate) mode: u32,
}

/// Files of a volume by their path in it.
pub(crate) type Files = BTreeMap<String, Payload>;

const CURRENT: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes `folder` hold exactly `files`. Returns whether anything changed.
pub(crate) fn write(folder: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    fs::create_dir_all(folder)?;
    let old = fs::read_link(folder.join(CURRENT)).ok();
    if let Some(old) = &old
        && read(&folder.join(old))?.as_ref() == Some(files)
    {
        return Ok(false);
    }
    let number =
        old.as_ref().and_then(|o| o.to_str()?.rsplit('.').next()?.parse::<u64>().ok()).map_or(1, |number| number + 1);
    let version = format!("..version.{number}");
    let target = folder.join(&version);
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::create_dir(&target)?;
    open_to_all(&target, 0o755)?;
    for (path, payload) in files {
        let file = target.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, &payload.content)?;
        chown(&file, None, group)?;
        // A group that owns the volume may read it, as with the kubelet.
        let mode = if group.is_some() { payload.mode | 0o440 } else { payload.mode };
        open_to_all(&file, mode)?;
    }
    let next = folder.join(NEXT);
    let _ = fs::remove_file(&next);
    symlink(&version, &next)?;
    fs::rename(&next, folder.join(CURRENT))?;
    link_names(folder, files)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(folder.join(old));
    }
    Ok(true)
}

/// The links from the top-level names through `..data`.
fn link_names(folder: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(CURRENT).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|n| !n.starts_with("..") && !wanted.contains(n));
        if stale && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn open_to_all(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What is there now; `None` if it cannot be compared.
fn read(version: &Path) -> io::Result<Option<Files>> {
    let mut files = Files::new();
    let mut folders = vec![version.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(None) };
        for entry in entries {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(name) = path.strip_prefix(version).ok().and_then(Path::to_str) else { return Ok(None) };
            let payload = Payload { content: fs::read(&path)?, mode: meta.permissions().mode() & 0o7777 };
            files.insert(name.to_owned(), payload);
        }
    }
    Ok(Some(files))
}

/// Whether a path may name a file of a volume: relative, and never upwards.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        let payload = |text: &str| Payload { content: text.into(), mode: 0o644 };
        pairs.iter().map(|(name, text)| ((*name).to_owned(), payload(text))).collect()
    }

    #[test]
    fn an_update_swaps_everything_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path();
        assert!(write(volume, &files(&[("a", "1"), ("d/e", "2")]), None).unwrap());
        assert_eq!(fs::read_link(volume.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_to_string(volume.join("d/e")).unwrap(), "2");
        let before = fs::read_link(volume.join("..data")).unwrap();

        assert!(!write(volume, &files(&[("a", "1"), ("d/e", "2")]), None).unwrap());
        assert_eq!(fs::read_link(volume.join("..data")).unwrap(), before);

        assert!(write(volume, &files(&[("a", "9"), ("b", "3")]), None).unwrap());
        assert_ne!(fs::read_link(volume.join("..data")).unwrap(), before);
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "9");
        assert_eq!(fs::read_to_string(volume.join("b")).unwrap(), "3");
        assert!(fs::symlink_metadata(volume.join("d")).is_err());
        assert!(!volume.join(before).exists());
    }

    #[test]
    fn modes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut secret = files(&[("key", "x")]);
        secret.get_mut("key").unwrap().mode = 0o400;
        write(folder.path(), &secret, None).unwrap();
        let mode = fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
    }

    #[test]
    fn paths_stay_inside() {
        for (path, inside) in
            [("a", true), ("a/b", true), ("/a", false), ("../a", false), ("a/../b", false), ("", false), ("..x", false)]
        {
            assert_eq!(is_inside(path), inside, "{path}");
        }
    }
}
