//! Tests of what is found in layers, and of what must not leave them.

use tar::{Builder, Header};

use super::*;

enum Entry<'a> {
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Folder(&'a str),
}

/// A tar with names as given, which the tar crate alone would not write.
fn layer(dir: &Path, name: &str, entries: &[Entry<'_>]) -> PathBuf {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let (path, kind, target, content) = match entry {
            Entry::File(path, content) => (path, EntryType::Regular, None, *content),
            Entry::Link(path, target) => (path, EntryType::Symlink, Some(*target), ""),
            Entry::Hard(path, target) => (path, EntryType::Link, Some(*target), ""),
            Entry::Folder(path) => (path, EntryType::Directory, None, ""),
        };
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(target) = target {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    let path = dir.join(name);
    std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
    path
}

fn taken(layers: &[&[Entry<'_>]], wanted: &str) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let paths: Vec<_> = layers.iter().enumerate().map(|(i, l)| layer(dir.path(), &format!("layer-{i}"), l)).collect();
    let to = inner.join("taken");
    let result = take(&paths, wanted, &to).map_err(|e| e.to_string());
    // Whatever the layers say: one file in one place.
    let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), layers.len() + 1, "{beside:?}");
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), usize::from(result.is_ok()));
    result.map(|()| std::fs::read_to_string(&to).unwrap())
}

#[test]
fn the_topmost_layer_wins_and_whiteouts_remove() {
    use Entry::{File, Folder};
    let lower: &[Entry<'_>] = &[Folder("usr"), File("usr/bin/a", "old"), File("usr/lib/b", "b"), File("c", "c")];
    assert_eq!(taken(&[lower, &[File("./usr/bin/a", "new")]], "usr/bin/a"), Ok("new".into()));
    assert_eq!(taken(&[lower], "usr/lib/b"), Ok("b".into()));
    let missing = |what: &str| Err(format!("there is no file {what}"));
    assert_eq!(taken(&[lower, &[File("usr/bin/.wh.a", "")]], "usr/bin/a"), missing("usr/bin/a"));
    let opaque: &[Entry<'_>] = &[File("usr/.wh..wh..opq", ""), File("usr/lib/d", "d")];
    assert_eq!(taken(&[lower, opaque], "usr/lib/b"), missing("usr/lib/b"));
    assert_eq!(taken(&[lower, opaque], "usr/lib/d"), Ok("d".into()));
    assert_eq!(taken(&[lower, opaque], "c"), Ok("c".into()));
    // A file that takes a folder's place takes what was in it, too.
    assert_eq!(taken(&[lower, &[File("usr", "now a file")]], "usr/bin/a"), missing("usr/bin/a"));
    assert_eq!(taken(&[lower], "usr"), missing("usr"));
}

#[test]
fn an_absolute_path_is_one_in_the_image_and_one_that_leaves_it_is_refused() {
    use Entry::{File, Hard};
    assert_eq!(taken(&[&[File("/usr/bin/a", "a")]], "usr/bin/a"), Ok("a".into()));
    assert_eq!(taken(&[&[File("//etc/a", "a"), File("etc/./b", "b")]], "etc/b"), Ok("b".into()));
    for escaping in ["../a", "usr/../../a", "/../a"] {
        let error = taken(&[&[File("b", "b"), File(escaping, "a")]], "b").unwrap_err();
        assert_eq!(error, format!("a layer has an entry that leaves the image: {escaping:?}"));
    }
    let error = taken(&[&[Hard("a", "../../etc/hostname")]], "a").unwrap_err();
    assert_eq!(error, "a layer has an entry that leaves the image: \"../../etc/hostname\"");
}

#[test]
fn links_are_followed_inside_the_image_only() {
    use Entry::{File, Folder, Hard, Link};
    let image: &[Entry<'_>] = &[
        Folder("usr/bin"),
        File("usr/bin/real", "real"),
        Link("bin", "usr/bin"),
        Link("usr/bin/to", "/usr/bin/real"),
        Link("usr/bin/up", "../../../../usr/bin/real"),
        Hard("usr/bin/hard", "usr/bin/real"),
        Link("usr/bin/outside", "/etc/hostname"),
        Link("round", "about"),
        Link("about", "round"),
    ];
    for path in ["bin/real", "bin/to", "usr/bin/up", "bin/hard"] {
        assert_eq!(taken(&[image], path), Ok("real".into()), "{path}");
    }
    for path in ["usr/bin/outside", "round"] {
        assert_eq!(taken(&[image], path), Err(format!("there is no file {path}")), "{path}");
    }
}

#[test]
fn compressed_layers_are_known_by_their_first_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let plain = layer(dir.path(), "plain", &[Entry::File("a", "a")]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut File::open(&plain).unwrap(), &mut encoder).unwrap();
    let (gzip, zstd, to) = (dir.path().join("gzip"), dir.path().join("zstd"), dir.path().join("to"));
    std::fs::write(&gzip, encoder.finish().unwrap()).unwrap();
    take(&[gzip], "a", &to).unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "a");
    std::fs::write(&zstd, [0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap();
    assert!(matches!(take(&[zstd], "a", &to), Err(LayerError::Zstd)));
}
