//! Where things are in a sandbox's state folder. Pure; both ends agree on it by using it.

use std::path::{Path, PathBuf};

/// Paths in one sandbox's state folder.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    state: PathBuf,
}

impl Layout {
    pub(crate) fn new(state: &Path) -> Self {
        Layout { state: state.to_owned() }
    }

    /// Administrator's kubeconfig for use on the host, through the door.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// Control socket of the external servers.
    pub(crate) fn world_socket(&self) -> PathBuf {
        self.state.join("world.sock")
    }

    /// The certificate authorities that containers trust.
    pub(crate) fn authorities(&self) -> PathBuf {
        self.state.join("ca-certificates.crt")
    }

    /// Logs of all components, one file each.
    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// The sandbox's own messages.
    pub(crate) fn own_log(&self) -> PathBuf {
        self.log("sandbox")
    }

    /// Log of one component.
    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    /// Keys and certificates.
    pub(crate) fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// etcd's data.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.state.join("etcd")
    }

    /// The node agent's files: pods' volumes.
    pub(crate) fn node(&self) -> PathBuf {
        self.state.join("node")
    }

    /// Temporary files of the components.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.state.join("tmp")
    }

    /// What etcd is to hold at a start from a snapshot.
    pub(crate) fn restored_objects(&self) -> PathBuf {
        self.tmp().join("restored-objects")
    }

    /// What etcd holds, for a snapshot that is being made.
    pub(crate) fn saved_objects(&self) -> PathBuf {
        self.tmp().join("saved-objects")
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.state
    }

    /// The folders that must exist before anything starts.
    pub(crate) fn folders(&self) -> [PathBuf; 5] {
        [self.logs(), self.pki(), self.etcd(), self.node(), self.tmp()]
    }
}

/// The last `count` lines of a file, as far as its last 64 KiB reach; of a Go program that panicked, those up to its stack.
/// An unreadable one has none.
pub(crate) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if let Some(stack) = lines.iter().position(|line| line.starts_with("goroutine ") && line.ends_with("]:")) {
        lines.truncate(stack);
    }
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_of_short_long_and_missing_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(last_lines(&path, 3), Vec::<String>::new());
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(last_lines(&path, 3), ["one", "two"]);
        std::fs::write(&path, "one\npanic: no space\n\ngoroutine 1 [running]:\nmain.main()\n").unwrap();
        assert_eq!(last_lines(&path, 2), ["panic: no space", ""]);
        let long: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, long).unwrap();
        assert_eq!(last_lines(&path, 2), ["line 99998", "line 99999"]);
    }
}
