//! The control groups of an engine's containers: all below one of its own, in every hierarchy, so that what a killed
//! engine left is found and removed. Start at [`remove`].

use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";
const PARENT: &str = "egress-conformance";

/// The parent of an engine's groups, as dockerd's `--cgroup-parent`.
pub(crate) fn parent(engine: &str) -> String {
    format!("/{PARENT}/{engine}")
}

/// Removes the engine's groups, which must be empty of processes, and gives those that stay.
pub(crate) fn remove(engine: &str) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for hierarchy in hierarchies(Path::new(MOUNT)) {
        let group = hierarchy.join(PARENT).join(engine);
        if group.exists() && !remove_tree(&group) {
            left.push(group);
        }
        // Fails while another engine's are below it.
        let _ = std::fs::remove_dir(hierarchy.join(PARENT));
    }
    left
}

/// The mount point itself (version 2) and what is mounted below it (version 1, and the hybrid layout).
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(mount).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path()));
    std::iter::once(mount.to_owned()).chain(below.filter(|path| path.is_dir() && !path.is_symlink())).collect()
}

/// Removes groups from the innermost: a group's files go with it.
fn remove_tree(group: &Path) -> bool {
    let inner = std::fs::read_dir(group).into_iter().flatten().filter_map(|e| e.ok().map(|e| e.path()));
    inner.filter(|path| path.is_dir()).for_each(|path| {
        remove_tree(&path);
    });
    std::fs::remove_dir(group).is_ok()
}
