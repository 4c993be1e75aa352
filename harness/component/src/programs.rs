//! The components that a run asked for, each present and at its version.
//!
//! Start at [`Programs::path`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::component::SourceKind;
use crate::error::Error;
use crate::hash::Fields;
use crate::name::ProgramName;

/// One component at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// The kind of source it came from.
    pub source: SourceKind,
}

/// Components by name, as [`crate::Store::ensure`] gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs(pub(crate) BTreeMap<ProgramName, Program>);

impl Programs {
    /// Where the component is.
    ///
    /// # Panics
    /// If it was not among those asked for; [`Programs::get`] is for callers who do not know.
    pub fn path(&self, name: &ProgramName) -> &Path {
        self.get(name).map_or_else(|| panic!("{name} was not asked for in Store::ensure"), |program| &program.path)
    }

    /// The component, if it was asked for.
    pub fn get(&self, name: &ProgramName) -> Option<&Program> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ProgramName, &Program)> {
        self.0.iter()
    }

    /// One hash over all names, versions and contents: what was made with other components differs in it.
    pub fn identity(&self) -> String {
        let mut fields = Fields::new("programs");
        for (name, program) in &self.0 {
            fields.add(name.as_str().as_bytes(), program.version.as_bytes()).add(b"sha256", program.sha256.as_bytes());
        }
        fields.finish()
    }

    /// Makes symbolic links to those programs in a folder, under their names, for a shell's `PATH`.
    /// The folder must exist; links of those names are replaced.
    ///
    /// # Errors
    /// Where a link cannot be made.
    pub fn link_into(&self, dir: &Path, names: &[ProgramName]) -> Result<(), Error> {
        for name in names {
            let link = dir.join(name.as_str());
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("replace", &link)(error));
                }
                _ => {}
            }
            std::os::unix::fs::symlink(self.path(name), &link).map_err(Error::io("make the link", &link))?;
        }
        Ok(())
    }
}
