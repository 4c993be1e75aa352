//! Why there is no user namespace, and what to do about it. Start at [`UserNamespaceError`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::subids::NEEDED;

/// Why an ordinary user cannot have a sandbox here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum UserNamespaceError {
    /// `/etc/subuid` or `/etc/subgid` gives the user no ids, or too few.
    #[error("user {user} has {count} subordinate ids in {file}, and a sandbox needs {NEEDED}")]
    SubordinateIds {
        /// Name of the user, or number if it has none.
        user: String,
        /// The file that should name it.
        file: String,
        /// How many ids it has there.
        count: u32,
        /// First id that nobody has yet.
        free: u32,
    },
    /// A program of the package uidmap is not there.
    #[error("{program} is not installed: it gives the inside of a user namespace its ids")]
    Program {
        /// Its name.
        program: String,
    },
    /// The kernel does not make a user namespace.
    #[error("no user namespace: unshare: {message}{}", .setting.as_ref().map_or_else(String::new, |s| format!(" ({s})")))]
    Unshare {
        /// The kernel's answer.
        message: String,
        /// The setting that forbids it, where one was found.
        setting: Option<Setting>,
    },
    /// The ids were refused.
    #[error("{program} could not map the ids: {message}")]
    Map {
        /// The program that tried.
        program: String,
        /// Its complaint.
        message: String,
    },
    /// The process that makes the maps failed.
    #[error("cannot map the ids: {0}")]
    Helper(String),
}

impl UserNamespaceError {
    /// What to do about it, as a sentence.
    #[must_use]
    pub fn remedy(&self) -> String {
        let sudo = "or run it as root, for instance with sudo";
        match self {
            UserNamespaceError::SubordinateIds { user, free, .. } => {
                let last = free.saturating_add(NEEDED);
                format!(
                    "as root: usermod --add-subuids {free}-{last} --add-subgids {free}-{last} {user} (it adds the line {user}:{free}:{count} to /etc/subuid and /etc/subgid); {sudo}",
                    count = NEEDED + 1
                )
            }
            UserNamespaceError::Program { .. } => format!("as root: apt-get install uidmap; {sudo}"),
            UserNamespaceError::Unshare { setting: Some(setting), .. } => {
                format!("as root: sysctl -w {}={}; {sudo}", setting.name, setting.wanted)
            }
            UserNamespaceError::Unshare { .. } => {
                format!("use a kernel with CONFIG_USER_NS, outside of containers that forbid unshare; {sudo}")
            }
            UserNamespaceError::Map { program, .. } => {
                format!(
                    "{program} must be setuid root or have file capabilities (apt-get install --reinstall uidmap), and this process must not run with no_new_privs; {sudo}"
                )
            }
            UserNamespaceError::Helper(_) => format!("see the message; {sudo}"),
        }
    }
}

/// A kernel setting that keeps ordinary users from user namespaces, or from using theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Name of the sysctl.
    pub name: String,
    /// What it is.
    pub value: String,
    /// What it should be.
    pub wanted: String,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// The first such setting in `/proc/sys`. Distributions differ in which exist.
pub(crate) fn restriction() -> Option<Setting> {
    restriction_in(Path::new("/proc/sys"))
}

fn restriction_in(folder: &Path) -> Option<Setting> {
    let settings = [
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    settings.into_iter().find_map(|(name, bad, wanted)| {
        let value = std::fs::read_to_string(folder.join(name.replace('.', "/"))).ok()?;
        (value.trim() == bad).then(|| Setting {
            name: name.to_owned(),
            value: bad.to_owned(),
            wanted: wanted.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value).unwrap();
        };
        assert_eq!(restriction_in(folder.path()), None);
        write("user/max_user_namespaces", "96343\n");
        write("kernel/unprivileged_userns_clone", "1\n");
        write("kernel/apparmor_restrict_unprivileged_userns", "1\n");
        let found = restriction_in(folder.path()).unwrap();
        assert_eq!(found.to_string(), "kernel.apparmor_restrict_unprivileged_userns=1");
        let error = UserNamespaceError::Unshare { message: "EPERM".to_owned(), setting: Some(found) };
        assert!(
            error.remedy().contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
            "{}",
            error.remedy()
        );
        write("user/max_user_namespaces", "0\n");
        assert_eq!(restriction_in(folder.path()).unwrap().name, "user.max_user_namespaces");
    }

    #[test]
    fn missing_ids_come_with_the_command_that_adds_them() {
        let error = UserNamespaceError::SubordinateIds {
            user: "ann".into(),
            file: "/etc/subuid".into(),
            count: 0,
            free: 165_536,
        };
        let remedy = error.remedy();
        assert!(remedy.contains("usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"), "{remedy}");
        assert!(remedy.contains("ann:165536:65536"), "{remedy}");
    }
}
