//! A folder on the host for everything that a cluster's owner made, and what happens to a dead one's. Liveness is a `flock` held for life, never a pid.
//! Start at [`StateDir::create`].

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::sysctls::Settings;

const LOCK: &str = "owner.lock";
/// The machine's settings before the first of the owners that live now.
const SETTINGS: &str = "sysctls.json";

/// An owner's folder; its lock is held as long as this lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes one whose name begins with `prefix`.
    pub(crate) fn create(prefix: &str) -> Result<Self, Error> {
        let root = root()?;
        let _quiet = guard(&root)?;
        let record = root.join(SETTINGS);
        // One that is there is older: of an owner that lives, or that was killed and not swept yet.
        if Settings::load(&record).is_none() {
            Settings::read()?.save(&record)?;
        }
        let made =
            tempfile::Builder::new().prefix(prefix).tempdir_in(&root).map_err(Error::io("make a folder in", &root))?;
        let path = made.keep();
        let file = path.join(LOCK);
        let lock = File::create_new(&file).map_err(Error::io("create", &file))?;
        lock.lock().map_err(Error::io("lock", &file))?;
        Ok(Self { path, _lock: lock })
    }

    /// Removes the folder, and puts the machine's settings back if this was the last one. Gives what could not be done.
    pub(crate) fn remove(self) -> Result<Vec<String>, Error> {
        let root = root()?;
        let _quiet = guard(&root)?;
        std::fs::remove_dir_all(&self.path).map_err(Error::io("remove", &self.path))?;
        settle(&root)
    }

    /// The machine's settings before the first owner.
    pub(crate) fn settings(&self) -> Option<Settings> {
        Settings::load(&self.path.parent()?.join(SETTINGS))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The owner's name: that of the folder, in cgroups and messages.
    pub(crate) fn name(&self) -> String {
        name_of(&self.path)
    }
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Calls `each` with the folders whose owner is dead, which should remove them; nobody makes one meanwhile. Then the
/// machine's settings are put back if no owner lives; gives what could not be.
/// `each` also hears what the settings were.
pub(crate) fn for_each_dead(mut each: impl FnMut(&Path, Option<&Settings>)) -> Result<Vec<String>, Error> {
    let root = root()?;
    let _quiet = guard(&root)?;
    let settings = Settings::load(&root.join(SETTINGS));
    for entry in std::fs::read_dir(&root).map_err(Error::io("read", &root))? {
        let path = entry.map_err(Error::io("read", &root))?.path();
        let dead = match File::open(path.join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            // Killed between making the folder and its lock: under the guard nobody is doing that now.
            Err(error) => error.kind() == std::io::ErrorKind::NotFound && path.is_dir(),
        };
        if dead {
            each(&path, settings.as_ref());
        }
    }
    settle(&root)
}

/// Puts the machine's settings back, unless an owner's folder is left. Gives what could not be put back.
fn settle(root: &Path) -> Result<Vec<String>, Error> {
    let mut entries = std::fs::read_dir(root).map_err(Error::io("read", root))?.filter_map(Result::ok);
    let record = root.join(SETTINGS);
    let Some(settings) = Settings::load(&record).filter(|_| entries.all(|entry| !entry.path().is_dir())) else {
        return Ok(Vec::new());
    };
    let failed = settings.restore();
    if failed.is_empty() {
        std::fs::remove_file(&record).map_err(Error::io("remove", &record))?;
    }
    Ok(failed)
}

/// Held while the set of folders changes.
fn guard(root: &Path) -> Result<File, Error> {
    let path = root.join(".guard");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
    file.lock().map_err(Error::io("lock", &path))?;
    Ok(file)
}

/// The folder above all of this user, below `XDG_RUNTIME_DIR` or the temporary folder: its paths are short, as a
/// socket's must be.
fn root() -> Result<PathBuf, Error> {
    let uid = nix::unistd::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|dir| dir.metadata().is_ok_and(|m| m.is_dir() && m.uid() == uid));
    let path = match runtime {
        Some(dir) => dir.join("egress-conformance-kind"),
        None => std::env::temp_dir().join(format!("egress-conformance-kind-{uid}")),
    };
    own_folder(&path, uid)?;
    Ok(path)
}

fn own_folder(path: &Path, uid: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", path)(error));
        }
        _ => {}
    }
    let found = path.symlink_metadata().map_err(Error::io("look at", path))?;
    if found.is_dir() && found.uid() == uid && found.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let seen = format!("expected a folder of user {uid} that nobody else can enter: remove it, or set XDG_RUNTIME_DIR");
    Err(Error::io("use", path)(std::io::Error::other(seen)))
}
