//! Names this build, so that only clients of the same one share a mesh: a hash over everything that goes into it. And its
//! commit, for reports.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

const PARTS: [&str; 9] = [
    "harness/core/src",
    "harness/component/src",
    "harness/sandbox/src",
    "harness/runner/src",
    "fixtures/external-server/src",
    "fixtures/mesh",
    "fixtures/workloads",
    "fixtures/images.yaml",
    "Cargo.lock",
];

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = BTreeSet::new();
    for part in PARTS {
        let path = root.join(part);
        println!("cargo::rerun-if-changed={}", path.display());
        collect(&path, &mut files);
    }
    let mut hasher = DefaultHasher::new();
    std::env::var("PROFILE").unwrap_or_default().hash(&mut hasher);
    for file in files {
        file.strip_prefix(&root).unwrap_or(&file).hash(&mut hasher);
        std::fs::read(&file).unwrap_or_default().hash(&mut hasher);
    }
    println!("cargo::rustc-env=EGRESS_CONFORMANCE_BUILD={:016x}", hasher.finish());
    println!("cargo::rustc-env=EGRESS_CONFORMANCE_COMMIT={}", commit(&root));
}

/// The commit of the checkout as this build was made, for reports; empty where there is none. A later commit alone is no
/// reason to build again.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return String::new() };
    let clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    if clean { commit } else { format!("{commit}-dirty") }
}

fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().for_each(|entry| collect(&entry.path(), files)),
        Err(_) => drop(files.insert(path.to_owned())),
    }
}
