//! Kernel settings of the whole machine that a node changes (kubelet: `vm.overcommit_memory`, `kernel.panic`,
//! `kernel.panic_on_oops`; systemd: `fs.nr_open`,
//! `fs.file-max`): recorded before a node starts, put back when it is gone.
//!
//! Several owners may live at once, so the first one's record is everybody's: it lies beside their folders until the
//! last is gone (see `state`). Start at [`Settings::read`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

const NAMES: [&str; 5] = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "fs/nr_open", "fs/file-max"];

/// Their values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings(BTreeMap<String, String>);

fn place(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

impl Settings {
    /// Those of the machine now.
    pub(crate) fn read() -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        for name in NAMES {
            let path = place(name);
            match std::fs::read_to_string(&path) {
                Ok(value) => drop(values.insert(name.to_owned(), value.trim().to_owned())),
                // Not every kernel has every one.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        Ok(Self(values))
    }

    /// Writes the record.
    pub(crate) fn save(&self, to: &Path) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(self).expect("a map of texts is plain data");
        std::fs::write(to, json).map_err(Error::io("write", to))
    }

    /// Reads a record; none is no error.
    pub(crate) fn load(from: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(from).ok()?).ok()
    }

    /// Puts back what differs, and gives what could not be.
    pub(crate) fn restore(&self) -> Vec<String> {
        let mut failed = Vec::new();
        for (path, value, now) in self.changed() {
            if let Err(error) = std::fs::write(&path, value) {
                failed.push(format!("{} = {now} (was {value}): {error}", path.display()));
            }
        }
        failed
    }

    /// A shell script that puts back what differs, for somebody who may: a node, of which the settings are the machine's.
    /// None where nothing differs.
    pub(crate) fn script(&self) -> Option<String> {
        let lines = self.changed().map(|(path, value, _)| format!("echo '{value}' >'{}'\n", path.display()));
        Some(lines.collect::<String>()).filter(|script| !script.is_empty())
    }

    /// Where, what it was, and what it is.
    fn changed(&self) -> impl Iterator<Item = (PathBuf, &str, String)> {
        self.0.iter().filter_map(|(name, value)| {
            let path = place(name);
            let now = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            (now != *value).then_some((path, value.as_str(), now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_unchanged_settings_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sysctls.json");
        let settings = Settings::read().unwrap();
        settings.save(&path).unwrap();
        assert_eq!(Settings::load(&path), Some(settings.clone()));
        assert!(settings.0.contains_key("kernel/panic"));
        // As an ordinary user too: nothing is written where nothing differs.
        assert_eq!(settings.restore(), Vec::<String>::new());
        assert_eq!(settings.script(), None);
    }

    #[test]
    fn what_differs_is_put_back_by_a_script() {
        let settings = Settings(BTreeMap::from([("kernel/panic".to_owned(), "-77".to_owned())]));
        assert_eq!(settings.script().as_deref(), Some("echo '-77' >'/proc/sys/kernel/panic'\n"));
    }
}
