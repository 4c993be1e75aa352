//! The certificate authorities that pods trust as their system's own: this machine's list, and one more while the
//! external servers stand for public web sites.
//!
//! Every container has the file in place of `/etc/ssl/certs/ca-certificates.crt`, read-only; a change is seen by all at
//! once. The machine's own list is never touched. Start at [`Authorities::create`].

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The machine's list, and where containers look for theirs.
pub(crate) const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The list of the sandbox.
#[derive(Debug)]
pub(crate) struct Authorities {
    file: PathBuf,
    /// How much of it is the machine's; `None`: the machine has no list.
    own: Option<u64>,
}

impl Authorities {
    /// Copies the machine's list; without one containers have none either.
    pub(crate) fn create(file: PathBuf) -> std::io::Result<Self> {
        let own = match std::fs::read(BUNDLE) {
            Ok(list) => {
                std::fs::write(&file, &list)?;
                Some(list.len() as u64)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file, own })
    }

    /// The file that containers get, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.own.map(|_| self.file.as_path())
    }

    /// Trusts this authority (PEM) beside the machine's, and no other one; `None`: only the machine's. The file stays the
    /// same one, since containers hold it.
    pub(crate) fn trust(&self, authority: Option<&str>) -> Result<(), String> {
        let Some(own) = self.own else {
            return match authority {
                None => Ok(()),
                Some(_) => Err(format!("this machine has no {BUNDLE}: install the package ca-certificates")),
            };
        };
        let changed = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().append(true).open(&self.file)?;
            file.set_len(own)?;
            match authority {
                Some(pem) => file.write_all(format!("\n{}\n", pem.trim()).as_bytes()),
                None => Ok(()),
            }
        };
        changed().map_err(|e| format!("{}: {e}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, "own\n").unwrap();
        let list = Authorities { file: path.clone(), own: Some(4) };
        let held = std::fs::File::open(&path).unwrap();
        let read = || std::fs::read_to_string(&path).unwrap();
        list.trust(Some("one\n")).unwrap();
        assert_eq!(read(), "own\n\none\n");
        list.trust(Some("two")).unwrap();
        assert_eq!(read(), "own\n\ntwo\n");
        list.trust(None).unwrap();
        assert_eq!((read().as_str(), held.metadata().unwrap().len()), ("own\n", 4));
        let without = Authorities { file: path, own: None };
        assert!(without.trust(None).is_ok() && without.trust(Some("x")).unwrap_err().contains("ca-certificates"));
    }
}
