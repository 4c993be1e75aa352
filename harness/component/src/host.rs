//! The environment in which tools are found and run, as a value, so that another one can be given.
//!
//! Never changes the process's own environment. Start at [`Host::current`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Environment variables of the tools that are started (Go, pip, the programs' version checks), and where these are looked up.
#[derive(Debug, Clone)]
pub struct Host {
    variables: BTreeMap<OsString, OsString>,
}

impl Host {
    /// The environment of this process.
    pub fn current() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// This environment with one variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// This environment without one variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(OsStr::new(name));
        self
    }

    /// A variable's value; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    pub(crate) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// The first executable file of that name on `PATH`.
    #[must_use]
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(self.get("PATH")?).map(|dir| dir.join(program)).find(|path| is_executable(path))
    }

    /// The folder of the user's cache files: `XDG_CACHE_HOME` if absolute, else `~/.cache`
    /// (<https://specifications.freedesktop.org/basedir-spec/latest/>).
    pub(crate) fn cache_home(&self) -> Option<PathBuf> {
        let xdg = self.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
        xdg.or_else(|| self.get("HOME").map(|home| Path::new(home).join(".cache")))
    }
}

/// Whether the path is a regular file that someone may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_only_executables_on_its_own_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tool");
        std::fs::write(&path, "").unwrap();
        let host = Host::current().with("PATH", dir.path());
        assert_eq!(host.find("tool"), None);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(host.find("tool"), Some(path));
        assert_eq!(host.without("PATH").find("tool"), None);
    }

    #[test]
    fn cache_home_prefers_an_absolute_xdg_folder() {
        let host = Host::current().with("HOME", "/home/u").without("XDG_CACHE_HOME");
        assert_eq!(host.cache_home(), Some("/home/u/.cache".into()));
        assert_eq!(host.clone().with("XDG_CACHE_HOME", "relative").cache_home(), Some("/home/u/.cache".into()));
        assert_eq!(host.clone().with("XDG_CACHE_HOME", "/c").cache_home(), Some("/c".into()));
        assert_eq!(host.without("HOME").cache_home(), None);
    }
}
