//! Layers: tar archives with fixed order, owners and times, so that the same content has the same digest.
//!
//! Paths are as they are in the finished image. Folders above a file are not written: the layer below has them, or they
//! appear with mode 0755. A path must not lead through a link of the layer below (`/bin`, `/sbin`, `/lib` of Debian):
//! write `usr/bin`. Start at [`Layer`].

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Error;

/// The time of every file, in seconds since 1970: 2024-01-01. Zero confuses some programs.
pub(crate) const TIME: u64 = 1_704_067_200;

/// One file, link or folder.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Without a leading slash.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
    Link(String),
    Folder,
}

/// What a layer consists of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer(pub(crate) Vec<Entry>);

impl Layer {
    fn with(mut self, path: &str, mode: u32, content: Content) -> Self {
        self.0.push(Entry { path: path.trim_start_matches('/').to_owned(), mode, owner: (0, 0), content });
        self
    }

    /// A program of the host's file system.
    pub(crate) fn program(self, path: &str, source: &Path) -> Self {
        self.with(path, 0o755, Content::File(source.to_owned()))
    }

    /// A data file of the host's file system.
    pub(crate) fn file(self, path: &str, source: &Path) -> Self {
        self.with(path, 0o644, Content::File(source.to_owned()))
    }

    /// A data file with this content.
    pub(crate) fn text(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, 0o644, Content::Bytes(content.into()))
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.with(path, 0o777, Content::Link(target.to_owned()))
    }

    pub(crate) fn folder(self, path: &str, mode: u32, owner: (u64, u64)) -> Self {
        let mut layer = self.with(path, mode, Content::Folder);
        if let Some(last) = layer.0.last_mut() {
            last.owner = owner;
        }
        layer
    }

    /// Writes it as a tar archive and gives its digest.
    pub(crate) fn write(&self, to: &Path) -> Result<Blob, Error> {
        let mut entries: Vec<&Entry> = self.0.iter().collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        write_tar(to, |tar| {
            for entry in entries {
                append(tar, entry)?;
            }
            Ok(())
        })
    }
}

/// A tar archive and its SHA-256, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
}

/// Writes a tar archive, hashing on the way.
pub(crate) fn write_tar(
    to: &Path,
    fill: impl FnOnce(&mut tar::Builder<&mut Hashing<BufWriter<File>>>) -> io::Result<()>,
) -> Result<Blob, Error> {
    let failed = |source| Error::Io { what: "write", path: to.to_owned(), source };
    let file = File::create(to).map_err(failed)?;
    let mut out = Hashing { inner: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
    let mut tar = tar::Builder::new(&mut out);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    // Docker knows no sparse files.
    tar.sparse(false);
    fill(&mut tar).and_then(|()| tar.into_inner().map(|_| ())).map_err(failed)?;
    out.flush().map_err(failed)?;
    Ok(Blob { path: to.to_owned(), sha256: hex(&out.hash.finalize()) })
}

fn append<W: Write>(tar: &mut tar::Builder<W>, entry: &Entry) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(TIME);
    header.set_size(0);
    match &entry.content {
        Content::File(source) => {
            let file = File::open(source)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(file.metadata()?.len());
            tar.append_data(&mut header, &entry.path, file)
        }
        Content::Bytes(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, &entry.path, bytes.as_slice())
        }
        Content::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, &entry.path, target)
        }
        Content::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{}/", entry.path), io::empty())
        }
    }
}

/// A writer that hashes what passes.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn hash_file(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

pub(crate) fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_has_the_same_digest_whatever_its_order_and_its_files_times() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        std::fs::write(&source, "x").unwrap();
        let one =
            Layer::default().program("/usr/bin/x", &source).link("/etc/l", "x").folder("home/u", 0o700, (100, 101));
        let first = one.write(&dir.path().join("1.tar")).unwrap();
        File::open(&source).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let other =
            Layer::default().folder("home/u", 0o700, (100, 101)).link("etc/l", "x").program("usr/bin/x", &source);
        let second = other.write(&dir.path().join("2.tar")).unwrap();
        assert_eq!(first.sha256, second.sha256);
        assert_eq!(first.sha256, hash_file(&first.path).unwrap());
        let mut names = Vec::new();
        let mut tar = tar::Archive::new(File::open(&first.path).unwrap());
        for entry in tar.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            names.push((entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.uid().unwrap()));
        }
        let expected = [("etc/l", 0o777, 0), ("home/u/", 0o700, 100), ("usr/bin/x", 0o755, 0)];
        assert_eq!(names, expected.map(|(n, m, u)| (n.to_owned(), m, u)));
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Layer::default().file("f", &dir.path().join("none")).write(&dir.path().join("t")).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("none"), "{source}");
    }
}
