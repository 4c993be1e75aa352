//! The folder in which a page's commands run, and the programs that they find there.
//!
//! `kubectl` notes what is executed in pods, `istioctl` adds to `install` what the cluster's data plane needs, and `curl`
//! says that this shell is no client. All of it goes when the workspace is dropped. Start at [`Workspace::make`].

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use egress_component::ProgramName;

use crate::cluster::EnvironmentError;
use crate::schedule::session::Session;

/// A page's own place.
pub struct Workspace {
    folder: tempfile::TempDir,
}

/// A command that was executed in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The arguments of `kubectl`.
    pub arguments: Vec<String>,
    /// Its exit code; `None`: it was ended.
    pub exit: Option<i32>,
}

fn failed(what: &Path) -> impl Fn(std::io::Error) -> EnvironmentError + '_ {
    move |e| EnvironmentError::new(format!("{} cannot be written: {e}", what.display()))
}

impl Workspace {
    /// Makes the folder, with the samples and the programs for this mesh.
    ///
    /// # Errors
    /// [`EnvironmentError`] naming the file that cannot be written.
    pub fn make(session: &Session) -> Result<Self, EnvironmentError> {
        let folder = tempfile::tempdir().map_err(|e| EnvironmentError::new(format!("no temporary folder: {e}")))?;
        let workspace = Self { folder };
        for dir in [workspace.work(), workspace.bin(), workspace.own()] {
            std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
        }
        for (path, text) in crate::embedded::tutorial_samples() {
            workspace.write(&workspace.work().join("samples").join(path), &text, 0o644)?;
        }
        let mut overlays = String::new();
        for (n, overlay) in session.welcome.overlays.iter().enumerate() {
            let file = workspace.own().join(format!("overlay-{n}.yaml"));
            workspace.write(&file, crate::embedded::text(overlay).map_err(EnvironmentError::new)?, 0o644)?;
            overlays.push_str(&format!(" -f {}", quoted(&file)));
        }
        let real = |name: &ProgramName| quoted(session.programs.path(name));
        let kubectl =
            KUBECTL.replace("REAL", &real(&ProgramName::KUBECTL)).replace("NOTES", &quoted(&workspace.notes()));
        workspace.write(&workspace.bin().join("kubectl"), &kubectl, 0o755)?;
        let istioctl = ISTIOCTL.replace("REAL", &real(&ProgramName::ISTIOCTL)).replace("OVERLAYS", &overlays);
        workspace.write(&workspace.bin().join("istioctl"), &istioctl, 0o755)?;
        workspace.write(&workspace.bin().join("curl"), CURL, 0o755)?;
        Ok(workspace)
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), EnvironmentError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        std::fs::write(path, text).map_err(failed(path))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed(path))
    }

    /// Where commands run.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The programs.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// What the harness keeps for itself.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.folder.path().join("own")
    }

    fn notes(&self) -> PathBuf {
        self.own().join("executed")
    }

    /// What was executed in containers since the last question.
    #[must_use]
    pub fn executed(&self) -> Vec<Executed> {
        let bytes = std::fs::read(self.notes()).unwrap_or_default();
        let _ = std::fs::remove_file(self.notes());
        parse(&String::from_utf8_lossy(&bytes))
    }
}

/// The notes of `kubectl`: the number of arguments and these, then `exit` and the code; all end with NUL.
fn parse(notes: &str) -> Vec<Executed> {
    let mut words = notes.split('\0');
    let mut found: Vec<Executed> = Vec::new();
    while let Some(word) = words.next() {
        if word == "exit" {
            let code = words.next().and_then(|code| code.parse().ok());
            if let Some(open) = found.iter_mut().find(|e| e.exit.is_none()) {
                open.exit = code;
            }
        } else if let Ok(count) = word.parse::<usize>() {
            let arguments = words.by_ref().take(count).map(str::to_owned).collect();
            found.push(Executed { arguments, exit: None });
        }
    }
    found
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

const KUBECTL: &str = r#"#!/bin/sh
# The cluster's own kubectl; what is executed in containers is noted.
case " $* " in
*" exec "*)
  printf '%s\0' "$#" "$@" >> NOTES
  REAL "$@"
  code=$?
  printf 'exit\0%s\0' "$code" >> NOTES
  exit "$code" ;;
*) exec REAL "$@" ;;
esac
"#;

const ISTIOCTL: &str = r#"#!/bin/sh
# The cluster's own istioctl; an installation gets what the data plane needs, and is not asked about.
case "$1" in
install | upgrade) exec REAL "$@" --skip-confirmationOVERLAYS ;;
*) exec REAL "$@" ;;
esac
"#;

const CURL: &str = r#"#!/bin/sh
echo "curl: this shell is outside of the cluster, and requests from here are not supported: send them from a pod" >&2
exit 97
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_tell_arguments_and_exit_codes() {
        let notes = "4\0exec\0a b\0--\0curl\0exit\x0035\x002\0exec\0c\0";
        assert_eq!(
            parse(notes),
            [
                Executed { arguments: ["exec", "a b", "--", "curl"].map(String::from).to_vec(), exit: Some(35) },
                Executed { arguments: ["exec", "c"].map(String::from).to_vec(), exit: None },
            ]
        );
        assert!(parse("").is_empty());
    }
}
