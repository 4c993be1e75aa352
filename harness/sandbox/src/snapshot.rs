//! A cluster's objects and keys as a folder, from which another sandbox starts: what it holds, and whether it is whole.
//!
//! ```text
//! manifest.json   format, SHA-256 of every other file
//! objects         what etcd held, see `store`
//! pki/            keys, certificates and kubeconfigs for use inside
//! kubeconfig      the administrator's, for use on the host
//! ```
//!
//! Whoever can read one is administrator of every sandbox that starts from it: folders have mode 0700, files 0600.
//! Where snapshots are kept, and which fits, is the caller's business. Start at [`check`].

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::layout::Layout;
use crate::pki;

/// Number of the layout above and of what a sandbox expects in it; a snapshot of another one cannot be used.
pub const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";
const OBJECTS: &str = "objects";
const PKI: &str = "pki";
const KUBECONFIG: &str = "kubeconfig";

/// Why a folder is of no use as a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
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
    /// The manifest cannot be understood.
    #[error("{path} is no manifest of a snapshot: {message}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Another build made it.
    #[error("the snapshot in {path} has format {seen}, expected {FORMAT}")]
    Format {
        /// The folder.
        path: PathBuf,
        /// Its format.
        seen: u32,
    },
    /// A file is not what it was.
    #[error("{path} is not the file that was saved: its SHA-256 is {seen}, expected {expected}")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What it is.
        seen: String,
    },
    /// A certificate cannot be read.
    #[error("the snapshot in {path} has a certificate that cannot be read: {message}")]
    Certificate {
        /// The folder.
        path: PathBuf,
        /// The parser's words.
        message: String,
    },
    /// The sandbox did not give its objects.
    #[error("the sandbox's objects cannot be had: {0}")]
    Objects(String),
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::Io { doing, path: path.to_owned(), source }
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// SHA-256 in hexadecimal, by path below the folder.
    files: BTreeMap<String, String>,
}

impl Manifest {
    fn read(folder: &Path) -> Result<Manifest, SnapshotError> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read(&path).map_err(io("read", &path))?;
        let wrong = |message: String| SnapshotError::Manifest { path: path.clone(), message };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(SnapshotError::Format { path: folder.to_owned(), seen: manifest.format });
        }
        for needed in [OBJECTS, KUBECONFIG] {
            if !manifest.files.contains_key(needed) {
                return Err(wrong(format!("it does not list {needed}")));
            }
        }
        let below = |name: &String| Path::new(name).components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if let Some(name) = manifest.files.keys().find(|name| !below(name)) {
            return Err(wrong(format!("it lists {name:?}, which is not below its folder")));
        }
        Ok(manifest)
    }

    /// The bytes of a file, which are those that were saved.
    fn file(&self, folder: &Path, name: &str, expected: &str) -> Result<Vec<u8>, SnapshotError> {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(io("read", &path))?;
        let seen = digest(&bytes);
        if seen == expected {
            Ok(bytes)
        } else {
            Err(SnapshotError::Changed { path, expected: expected.to_owned(), seen })
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads all of a snapshot, and tells when the first of its certificates expires.
///
/// # Errors
/// [`SnapshotError`] when it is not whole, or not one of this format.
pub fn check(folder: &Path) -> Result<Timestamp, SnapshotError> {
    let manifest = Manifest::read(folder)?;
    let mut earliest: Option<Timestamp> = None;
    for (name, expected) in &manifest.files {
        let bytes = manifest.file(folder, name, expected)?;
        if name == OBJECTS {
            continue;
        }
        let ends = pki::expiries(&bytes).map_err(|message| SnapshotError::Certificate {
            path: folder.to_owned(),
            message: format!("{name}: {message}"),
        })?;
        earliest = ends.into_iter().chain(earliest).min();
    }
    earliest.ok_or_else(|| SnapshotError::Certificate { path: folder.to_owned(), message: "there is none".to_owned() })
}

/// Puts a snapshot's files where a sandbox that starts from it looks for them. Its folders exist.
pub(crate) fn unpack(folder: &Path, layout: &Layout) -> Result<(), SnapshotError> {
    let manifest = Manifest::read(folder)?;
    for (name, expected) in &manifest.files {
        let bytes = manifest.file(folder, name, expected)?;
        let target = match name.as_str() {
            OBJECTS => layout.restored_objects(),
            KUBECONFIG => layout.kubeconfig(),
            other => layout.root().join(other),
        };
        write_private(&target, &bytes)?;
    }
    Ok(())
}

/// Makes the folder `into` from a sandbox whose objects lie in [`Layout::saved_objects`]. The manifest comes last: without
/// it nothing is a snapshot.
pub(crate) fn pack(layout: &Layout, into: &Path) -> Result<(), SnapshotError> {
    let make = |path: &Path| DirBuilder::new().mode(0o700).create(path).map_err(io("create", path));
    make(into)?;
    make(&into.join(PKI))?;
    let mut files = BTreeMap::new();
    let mut keep = |from: &Path, name: &str| {
        let bytes = std::fs::read(from).map_err(io("read", from))?;
        files.insert(name.to_owned(), digest(&bytes));
        write_private(&into.join(name), &bytes)
    };
    keep(&layout.saved_objects(), OBJECTS)?;
    keep(&layout.kubeconfig(), KUBECONFIG)?;
    let pki = layout.pki();
    for entry in std::fs::read_dir(&pki).map_err(io("list", &pki))? {
        let entry = entry.map_err(io("list", &pki))?;
        keep(&entry.path(), &format!("{PKI}/{}", entry.file_name().to_string_lossy()))?;
    }
    let manifest = Manifest { format: FORMAT, files };
    write_private(&into.join(MANIFEST), &serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data"))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SnapshotError> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pki;

    /// A snapshot of a cluster without objects.
    fn packed() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let state = scratch.path().join("state");
        let layout = Layout::new(&state);
        std::fs::create_dir(&state).unwrap();
        layout.folders().iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        Pki::create(&layout.pki(), &layout.kubeconfig(), 4321).unwrap();
        std::fs::write(layout.saved_objects(), "").unwrap();
        let folder = scratch.path().join("snapshot");
        pack(&layout, &folder).unwrap();
        (scratch, folder)
    }

    #[test]
    fn a_whole_one_says_when_it_expires() {
        let (_scratch, folder) = packed();
        assert!(check(&folder).unwrap() > Timestamp::now());
    }

    #[test]
    fn a_changed_file_is_named() {
        let (_scratch, folder) = packed();
        std::fs::write(folder.join(OBJECTS), "more").unwrap();
        let error = check(&folder).unwrap_err();
        assert!(matches!(&error, SnapshotError::Changed { path, .. } if path.ends_with(OBJECTS)), "{error}");
    }

    #[test]
    fn one_without_a_manifest_or_of_another_format_is_refused() {
        let (_scratch, folder) = packed();
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 4711")).unwrap();
        assert!(matches!(check(&folder), Err(SnapshotError::Format { seen: 4711, .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(check(&folder), Err(SnapshotError::Io { .. })));
    }

    #[test]
    fn no_file_lies_outside_the_folder() {
        let (_scratch, folder) = packed();
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"pki/ca.crt\"", "\"../ca.crt\"")).unwrap();
        let error = check(&folder).unwrap_err();
        assert!(error.to_string().contains("not below its folder"), "{error}");
    }

    #[test]
    fn a_sandbox_finds_the_files_in_their_places() {
        let (scratch, folder) = packed();
        let state = scratch.path().join("other");
        let layout = Layout::new(&state);
        std::fs::create_dir(&state).unwrap();
        layout.folders().iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        unpack(&folder, &layout).unwrap();
        let pki = Pki::reopen(&layout.pki(), &layout.kubeconfig(), 1234).unwrap();
        assert!(pki.ca.exists() && pki.inside.exists() && layout.restored_objects().exists());
        let config = std::fs::read_to_string(layout.kubeconfig()).unwrap();
        assert!(config.contains("https://127.0.0.1:1234") && !config.contains("4321"), "{config}");
    }
}
