//! Why there is no user namespace, and what to do about it. Start at [`UserNamespaceError`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::subids::NEEDED;

/// Why an ordinary user cannot have a sandbox here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum UserNamespaceError {
    /// `/etc/subuid` or `/etc/subgid` gives the user no ids, or too few.
    #[error("user {} has {uids} subordinate user ids (/etc/subuid) and {gids} group ids (/etc/subgid), and a sandbox needs {NEEDED} of each", label(.name.as_deref(), *.uid))]
    SubordinateIds {
        /// Id of the user.
        uid: u32,
        /// Its name, if it has one.
        name: Option<String>,
        /// How many ids it has in `/etc/subuid`.
        uids: u32,
        /// How many it has in `/etc/subgid`.
        gids: u32,
        /// First id that nobody has yet in either.
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
            UserNamespaceError::SubordinateIds { uid, name, uids, gids, free } => {
                let lacking = [("subuid", uids), ("subgid", gids)].into_iter().filter(|(_, has)| **has < NEEDED);
                let lacking: Vec<&str> = lacking.map(|(file, _)| file).collect();
                let files = lacking.iter().map(|file| format!("/etc/{file}")).collect::<Vec<_>>().join(" and ");
                let line = format!("the line {}:{free}:{} to {files}", label(name.as_deref(), *uid), NEEDED + 1);
                let last = free.saturating_add(NEEDED);
                let options: String = lacking.iter().map(|file| format!("--add-{file}s {free}-{last} ")).collect();
                match name {
                    Some(name) => format!("as root: usermod {options}{name} (it adds {line}); {sudo}"),
                    None => format!("as root, add {line}; {sudo}"),
                }
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
                    "{program} must be setuid root or have file capabilities (apt-get install --reinstall uidmap), this process must not run with no_new_privs, and a container around it must have the ids that /etc/subuid names; {sudo}"
                )
            }
            UserNamespaceError::Helper(_) => format!("see the message; {sudo}"),
        }
    }
}

fn label(name: Option<&str>, uid: u32) -> String {
    name.map_or_else(|| uid.to_string(), str::to_owned)
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
        let lacks = |name: Option<&str>, gids| UserNamespaceError::SubordinateIds {
            uid: 1001,
            name: name.map(str::to_owned),
            uids: 0,
            gids,
            free: 165_536,
        };
        let both = lacks(Some("ann"), 1000).remedy();
        assert!(both.contains("usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"), "{both}");
        assert!(both.contains("ann:165536:65536 to /etc/subuid and /etc/subgid"), "{both}");
        let one = lacks(Some("ann"), 65_536).remedy();
        assert!(one.contains("--add-subuids") && !one.contains("subgid"), "{one}");
        let nameless = lacks(None, 0).remedy();
        assert!(nameless.contains("1001:165536:65536") && !nameless.contains("usermod"), "{nameless}");
    }
}
