//! One file out of the layers of an image: <https://github.com/opencontainers/image-spec/blob/main/layer.md>.
//!
//! Layers are read, never unpacked: what an entry is called decides only whether it is the wanted one. Start at [`take`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    #[error("a layer cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a layer has an entry that leaves the image: {0:?}")]
    Escapes(String),
    #[error("a layer is compressed with zstd, which is not read here")]
    Zstd,
    #[error("there is no file {0}")]
    Missing(String),
}

/// What an image has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    /// In which layer, at which place in it.
    File {
        layer: usize,
        at: usize,
    },
    Link(PathBuf),
    Other,
}

/// An image's files, by path without a leading slash, each with the layer that it came with.
#[derive(Debug, Default)]
struct Tree(BTreeMap<PathBuf, (usize, Node)>);

/// Copies the file at `wanted` to `to`. `layers` lie on each other, the last on top.
pub(super) fn take(layers: &[PathBuf], wanted: &str, to: &Path) -> Result<(), LayerError> {
    let mut tree = Tree::default();
    for (layer, path) in layers.iter().enumerate() {
        tree.add(layer, &mut Archive::new(open(path)?))?;
    }
    let Some((layer, at)) = tree.find(Path::new(wanted)) else {
        return Err(LayerError::Missing(wanted.to_owned()));
    };
    let mut archive = Archive::new(open(&layers[layer])?);
    let entry = archive.entries()?.nth(at).ok_or_else(|| LayerError::Missing(wanted.to_owned()))?;
    io::copy(&mut entry?, &mut File::create(to)?)?;
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn Read>, LayerError> {
    let mut file = BufReader::new(File::open(path)?);
    let mut magic = [0; 4];
    let read = file.read(&mut magic)?;
    file.rewind()?;
    match &magic[..read] {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Err(LayerError::Zstd),
        _ => Ok(Box::new(file)),
    }
}

/// A path of an image, as container runtimes read it: from the image's own root, wherever it begins.
fn inside(path: &Path) -> Result<PathBuf, LayerError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(LayerError::Escapes(path.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(clean)
}

impl Tree {
    fn add(&mut self, layer: usize, archive: &mut Archive<impl Read>) -> Result<(), LayerError> {
        for (at, entry) in archive.entries()?.enumerate() {
            let entry = entry?;
            let path = inside(&entry.path()?)?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let parent = path.parent().unwrap_or(Path::new("")).to_owned();
            if name == OPAQUE {
                self.0.retain(|other, (from, _)| !(other.starts_with(&parent) && *other != parent && *from < layer));
                continue;
            }
            if let Some(gone) = name.strip_prefix(WHITEOUT) {
                let gone = parent.join(gone);
                self.0.retain(|other, (from, _)| !(other.starts_with(&gone) && *from < layer));
                continue;
            }
            let target = entry.link_name()?.map(|target| target.into_owned());
            let node = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Node::File { layer, at },
                EntryType::Directory => Node::Folder,
                EntryType::Symlink => Node::Link(target.unwrap_or_default()),
                EntryType::Link => match self.0.get(&inside(&target.unwrap_or_default())?) {
                    Some((_, node)) => node.clone(),
                    None => Node::Other,
                },
                _ => Node::Other,
            };
            if node != Node::Folder {
                self.0.retain(|other, _| !other.starts_with(&path));
            }
            self.0.insert(path, (layer, node));
        }
        Ok(())
    }

    /// Where the contents of the file at this path are. Links are followed inside the image only.
    fn find(&self, path: &Path) -> Option<(usize, usize)> {
        let mut at = PathBuf::new();
        let mut left: Vec<PathBuf> = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part.as_os_str() == ".." {
                at.pop();
                continue;
            }
            at.push(part);
            if let Some((_, Node::Link(target))) = self.0.get(&at) {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    at.clear();
                } else {
                    at.pop();
                }
                left.extend(parts(target));
            }
        }
        match self.0.get(&at)? {
            (_, Node::File { layer, at }) => Some((*layer, *at)),
            _ => None,
        }
    }
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let name = |part: Component<'_>| {
        matches!(part, Component::Normal(_) | Component::ParentDir).then(|| part.as_os_str().into())
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
