//! Where a supervisor lives, and how a client finds it or starts it.
//!
//! A home is a folder with the socket, the log, and a lock that the supervisor holds for life; what the dead leave is
//! swept like a sandbox's folder. Its name carries a key, so clients of another build or of other programs start their
//! own. Start at [`find_or_start`].

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use egress_sandbox::state;
use tokio::net::UnixStream;

use super::SUPERVISOR;
use super::protocol::{ClusterStart, Start};
use crate::cluster::EnvironmentError;

const PREFIX: &str = "mesh-";

/// A supervisor's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

fn failed(doing: &str, path: &Path, error: impl std::fmt::Display) -> EnvironmentError {
    EnvironmentError::new(format!("cannot {doing} {}: {error}", path.display()))
}

impl Home {
    /// The home at this path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.path.join("socket")
    }

    pub(super) fn start(&self) -> PathBuf {
        self.path.join("start.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.path.join(state::LIFE_LOCK)
    }

    fn log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// The last lines that the supervisor wrote, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("\n  {line}")).collect()
    }

    /// Makes a home with a supervisor in it, which has locked it when this returns. The caller holds the guard of `root`.
    async fn found(root: &Path, key: &str, start: &Start) -> Result<(Self, UnixStream), EnvironmentError> {
        let home = Self { path: root.join(format!("{PREFIX}{key}-{:08x}", rand::random::<u32>())) };
        DirBuilder::new().mode(0o700).create(&home.path).map_err(|e| failed("create", &home.path, e))?;
        let started = home.spawn(start);
        let connected = match started {
            Ok(()) => UnixStream::connect(home.socket()).await.map_err(|e| failed("connect to", &home.socket(), e)),
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => Ok((home, stream)),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&home.path);
                Err(error)
            }
        }
    }

    fn spawn(&self, start: &Start) -> Result<(), EnvironmentError> {
        let file = self.start();
        let text = serde_json::to_vec(start).expect("plain data with string keys");
        std::fs::write(&file, text).map_err(|e| failed("write", &file, e))?;
        let socket = self.socket();
        let listener = UnixListener::bind(&socket).map_err(|e| {
            failed("bind", &socket, e).with_remedy("is the path too long? XDG_RUNTIME_DIR may name a shorter folder")
        })?;
        let log = File::create(self.log()).map_err(|e| failed("create", &self.log(), e))?;
        let errors = log.try_clone().map_err(|e| failed("open", &self.log(), e))?;
        // The listening socket is its standard input: whoever connects from now on waits for it, and none is missed.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("egress-supervisor").arg(SUPERVISOR).arg(&self.path).current_dir("/");
        if let ClusterStart::Kind(kind) = &start.cluster {
            command.env("DOCKER_HOST", kind.docker_host(&self.path));
        }
        command.stdin(OwnedFd::from(listener)).stdout(log).stderr(Stdio::from(errors)).process_group(0);
        let child =
            command.spawn().map_err(|e| EnvironmentError::new(format!("no supervisor could be started: {e}")))?;
        // It outlives this process; until then somebody must take its exit status.
        std::thread::Builder::new()
            .name("supervisor's end".into())
            .spawn(move || {
                let mut child = child;
                let _ = child.wait();
            })
            .map_err(|e| EnvironmentError::new(format!("no thread: {e}")))?;
        Ok(())
    }
}

/// What clients must have in common to share a mesh: this build, and what the cluster is made of.
#[must_use]
pub fn key(start: &Start) -> String {
    let mut hasher = DefaultHasher::new();
    env!("EGRESS_CONFORMANCE_BUILD").hash(&mut hasher);
    serde_json::to_string(&start.cluster).expect("plain data with string keys").hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn root() -> Result<PathBuf, EnvironmentError> {
    state::root().map_err(|e| EnvironmentError::new(e.to_string()))
}

/// Every home below the runtime folder whose name carries this key; all without one.
fn homes(root: &Path, key: Option<&str>) -> Vec<Home> {
    let prefix = format!("{PREFIX}{}", key.map(|k| format!("{k}-")).unwrap_or_default());
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    named.map(|e| Home { path: e.path() }).collect()
}

/// Connects to a supervisor of this key, if one lives.
async fn find(root: &Path, key: &str) -> Option<(Home, UnixStream)> {
    for home in homes(root, Some(key)) {
        if let Ok(stream) = UnixStream::connect(home.socket()).await {
            return Some((home, stream));
        }
    }
    None
}

/// Connects to every supervisor of this user that takes clients, of whatever build.
///
/// # Errors
/// [`EnvironmentError`] when there is no runtime folder.
pub async fn all() -> Result<Vec<(Home, UnixStream)>, EnvironmentError> {
    let mut found = Vec::new();
    for home in homes(&root()?, None) {
        if let Ok(stream) = UnixStream::connect(home.socket()).await {
            found.push((home, stream));
        }
    }
    Ok(found)
}

/// A connection to the supervisor of this key, which is started if there is none. While the guard that comes with it is
/// held, nobody starts or sweeps another: drop it once the supervisor has said something.
///
/// # Errors
/// [`EnvironmentError`] when the runtime folder is not ours or the process cannot be started.
pub async fn find_or_start(start: &Start) -> Result<(Home, UnixStream, Option<File>), EnvironmentError> {
    let (root, key) = (root()?, key(start));
    if let Some((home, stream)) = find(&root, &key).await {
        return Ok((home, stream, None));
    }
    let guarded = root.clone();
    let guard = tokio::task::spawn_blocking(move || state::guard(&guarded)).await;
    let guard = guard.expect("a lock does not panic").map_err(|e| EnvironmentError::new(e.to_string()))?;
    // Somebody else may have been quicker.
    if let Some((home, stream)) = find(&root, &key).await {
        return Ok((home, stream, None));
    }
    let (home, stream) = Home::found(&root, &key, start).await?;
    Ok((home, stream, Some(guard)))
}
