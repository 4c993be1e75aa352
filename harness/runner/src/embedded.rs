//! The scenarios and fixtures that are built into the program.
//!
//! Start at [`scenarios`] and [`text`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

static SCENARIOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../scenarios");
static MESH: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../fixtures/mesh");
static WORKLOADS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../fixtures/workloads");
static COMPONENTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../fixtures/components");
static TUTORIALS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../fixtures/tutorials");
static IMAGES: &str = include_str!("../../../fixtures/images.yaml");

/// The embedded scenario files, by path below `scenarios/`.
#[must_use]
pub fn scenarios() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    collect(&SCENARIOS, &mut |path, bytes| {
        files.insert(path.to_owned(), String::from_utf8_lossy(bytes).into_owned());
    });
    files
}

/// The tutorials' own pages, by path below `fixtures/tutorials/`.
#[must_use]
pub fn tutorials() -> BTreeMap<PathBuf, String> {
    let page = |path: &Path| path.extension().is_some_and(|e| e == "md") && path != Path::new("README.md");
    let pages = TUTORIALS.files().filter(|f| page(f.path()));
    pages.filter_map(|f| Some((f.path().to_owned(), f.contents_utf8()?.to_owned()))).collect()
}

/// What stands for the samples of an Istio release, by path below `samples/`.
#[must_use]
pub fn tutorial_samples() -> Vec<(PathBuf, String)> {
    below("samples")
}

/// What stands for the boilerplates of istio.io, by path below `boilerplates/`.
#[must_use]
pub fn tutorial_boilerplates() -> Vec<(PathBuf, String)> {
    below("boilerplates")
}

fn below(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    if let Some(dir) = TUTORIALS.get_dir(folder) {
        collect(dir, &mut |path, bytes| {
            let path = path.strip_prefix(folder).unwrap_or(path).to_owned();
            files.push((path, String::from_utf8_lossy(bytes).into_owned()));
        });
    }
    files
}

/// The embedded pins of the components, by path below `fixtures/components/`.
#[must_use]
pub fn components() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    collect(&COMPONENTS, &mut |path, bytes| files.push((path.to_string_lossy().into_owned(), bytes.to_vec())));
    files
}

fn collect(dir: &Dir<'static>, each: &mut dyn FnMut(&Path, &[u8])) {
    for file in dir.files() {
        each(file.path(), file.contents());
    }
    for inner in dir.dirs() {
        collect(inner, each);
    }
}

/// The names of the mesh profiles: the files directly below `fixtures/mesh/`.
#[must_use]
pub fn profiles() -> Vec<String> {
    let yaml = |f: &include_dir::File<'_>| f.path().extension().is_some_and(|e| e == "yaml");
    let stem = |f: &include_dir::File<'_>| f.path().file_stem().map(|s| s.to_string_lossy().into_owned());
    MESH.files().filter(|f| yaml(f)).filter_map(stem).collect()
}

/// A fixture's text, by its path below `fixtures/` (`mesh/…`, `workloads/…`, `images.yaml`).
///
/// # Errors
/// A message that names the file: this program was built without it.
pub fn text(path: &str) -> Result<&'static str, String> {
    let found = match path.split_once('/') {
        Some(("mesh", rest)) => MESH.get_file(rest).and_then(|f| f.contents_utf8()),
        Some(("workloads", rest)) => WORKLOADS.get_file(rest).and_then(|f| f.contents_utf8()),
        None if path == "images.yaml" => Some(IMAGES),
        _ => None,
    };
    found.ok_or_else(|| format!("this program was built without the fixture {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_overlay_and_profile_is_embedded() {
        assert!(profiles().iter().any(|p| p == "registry-only"), "{:?}", profiles());
        assert!(text("mesh/data-plane/stock-envoy.yaml").is_ok());
        assert!(text("workloads/client.yaml").is_ok());
        assert!(text("mesh/nope.yaml").is_err());
        assert!(!scenarios().is_empty());
    }
}
