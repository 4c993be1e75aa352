//! Where scenarios come from: the embedded set, or the folders given by `--scenarios`.
//!
//! Reads files; whether they are right is the core's business. Start at [`SourceArguments::load`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use egress_core::scenario::{self, ScenarioSet};

use super::{Failure, color, usage};

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SourceArguments {
    /// A folder of scenarios instead of the built-in set (repeatable)
    #[arg(long = "scenarios", value_name = "DIR")]
    folders: Vec<PathBuf>,
}

impl SourceArguments {
    /// The same as arguments of another command.
    pub(crate) fn to_arguments(&self) -> Vec<OsString> {
        self.folders.iter().flat_map(|folder| [OsString::from("--scenarios"), folder.into()]).collect()
    }

    /// Loads and checks the scenarios.
    pub(crate) fn load(&self) -> Result<ScenarioSet, Failure> {
        load(&self.folders)
    }
}

/// Loads the scenarios of these folders; without any, the built-in ones.
pub(crate) fn load(folders: &[PathBuf]) -> Result<ScenarioSet, Failure> {
    let profiles = crate::embedded::profiles();
    let files = if folders.is_empty() {
        crate::embedded::scenarios().into_iter().map(|(path, text)| (Path::new("scenarios").join(path), text)).collect()
    } else {
        let mut files = BTreeMap::new();
        for folder in folders {
            read_folder(folder, &mut files).map_err(|(path, e)| {
                usage(format!("scenario folder {}: {} cannot be read: {e}", folder.display(), path.display()))
            })?;
        }
        files
    };
    scenario::load(&files, &profiles).map_err(|errors| usage(errors.render(color())))
}

fn read_folder(folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<(), (PathBuf, std::io::Error)> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |e| (path, e)
    };
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_dir() {
            read_folder(&path, files)?;
        } else {
            let bytes = std::fs::read(&path).map_err(failed(&path))?;
            files.insert(path, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(())
}
