//! The source `path`: components that the user gives, by environment variable or explicitly.
//!
//! Never falls back: a given path that will not do is an error. Start at [`Overrides`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::component::{Component, Kind, SourceKind};
use crate::error::Error;
use crate::hash;
use crate::host::{Host, is_executable};
use crate::name::ProgramName;
use crate::pins::Pins;
use crate::programs::Program;
use crate::version;

/// The given paths, by component.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides(BTreeMap<ProgramName, PathBuf>);

impl Overrides {
    /// Those in the environment, of the pinned components.
    pub(crate) fn from_host(host: &Host, pins: &Pins) -> Self {
        let given = |name: &ProgramName| Some((name.clone(), PathBuf::from(host.get(&name.variable())?)));
        Self(pins.components().iter().filter_map(|component| given(component.name())).collect())
    }

    pub(crate) fn set(&mut self, name: ProgramName, path: PathBuf) {
        self.0.insert(name, path);
    }

    pub(crate) fn get(&self, name: &ProgramName) -> Option<&Path> {
        self.0.get(name).map(PathBuf::as_path)
    }
}

/// Checks a given path: that it is there, that it can be executed, that it is the pinned version.
/// A file has no version to ask for: what is given is used.
pub(crate) async fn check(component: &Component, path: &Path, host: &Host) -> Result<Program, Error> {
    let variable = component.name.variable();
    let unfit = |expected: &'static str| Error::Override {
        name: component.name.to_string(),
        variable: variable.clone(),
        path: path.to_owned(),
        expected,
    };
    let path = std::path::absolute(path).map_err(Error::io("resolve", path))?;
    let fits = match component.kind {
        Kind::File | Kind::Folder => path.is_file().then_some(()).ok_or_else(|| unfit("a file")),
        Kind::Program | Kind::Toolchain => {
            is_executable(&path).then_some(()).ok_or_else(|| unfit("an executable file"))
        }
    };
    fits?;
    let help = format!(
        "give {} {} by {variable}, or unset {variable} to have it built or fetched",
        component.name, component.version
    );
    let version = version::check(component, &path, host, &help).await?;
    let size = path.metadata().map_err(Error::io("look at", &path))?.len();
    let owned = path.clone();
    let sha256 = tokio::task::spawn_blocking(move || hash::file(&owned))
        .await
        .map_err(std::io::Error::other)
        .and_then(|hash| hash)
        .map_err(Error::io("read", &path))?;
    Ok(Program { path, version, sha256, size, source: SourceKind::Path })
}
