//! SHA-256 of bytes, files and folders, and the keys made of them.
//!
//! Never caches: whoever asks pays for the reading. Start at [`file`] and [`Fields`].

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A hash over named fields; lengths are part of it, so that no two lists of fields collide by concatenation.
#[derive(Debug)]
pub struct Fields(Sha256);

impl Fields {
    /// An empty list, for one kind of key.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.add(b"domain", domain.as_bytes());
        fields
    }

    /// Adds a field.
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        for part in [name, value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Lower-case hexadecimal, 64 digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of a file's content, in hexadecimal.
pub(crate) fn file(path: &Path) -> io::Result<String> {
    let mut input = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// One hash over all files below a folder: their relative paths and contents, in order of the paths.
pub(crate) fn tree(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut fields = Fields::new("tree");
    for path in files {
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        fields.add(relative.as_bytes(), file(&path)?.as_bytes());
    }
    Ok(fields.finish())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_hash_is_the_standard_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(file(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn fields_do_not_collide_by_concatenation() {
        let hash = |a: &[u8], b: &[u8]| {
            let mut f = Fields::new("t");
            f.add(b"n", a).add(b"n", b);
            f.finish()
        };
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }

    #[test]
    fn tree_hash_sees_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a"), "1").unwrap();
        let first = tree(dir.path()).unwrap();
        assert_eq!(first, tree(dir.path()).unwrap());
        std::fs::write(dir.path().join("d/a"), "2").unwrap();
        let second = tree(dir.path()).unwrap();
        assert_ne!(first, second);
        std::fs::rename(dir.path().join("d/a"), dir.path().join("d/b")).unwrap();
        assert_ne!(second, tree(dir.path()).unwrap());
    }
}
