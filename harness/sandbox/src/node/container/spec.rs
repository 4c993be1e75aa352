//! What the node agent tells a container's first process, and what it answers. Plain data, JSON over one socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container to set up and start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    /// The pod's network namespace.
    pub(crate) netns: PathBuf,
    /// An empty folder of the node on which the new root is mounted, in the container's own mount namespace.
    pub(crate) root: PathBuf,
    /// Host name.
    pub(crate) hostname: String,
    /// Generated files of `/etc`.
    pub(crate) etc: BTreeMap<String, String>,
    /// Names in `/usr/local/bin` and the files behind them.
    pub(crate) programs: BTreeMap<String, PathBuf>,
    /// Other files of the image: path in the container and file behind it.
    pub(crate) files: BTreeMap<PathBuf, PathBuf>,
    /// Volumes, in the order they are mounted.
    pub(crate) mounts: Vec<Mount>,
    /// Whether the root itself is read-only.
    pub(crate) read_only_root: bool,
    /// `net.*` settings of the pod's network namespace.
    pub(crate) sysctls: Vec<(String, String)>,
    /// The program.
    pub(crate) process: Process,
}

/// One volume (or a part of it) in a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// Folder or file of the node.
    pub(crate) source: PathBuf,
    /// Path inside `source`; links in it cannot lead out.
    pub(crate) sub_path: Option<PathBuf>,
    /// Path in the container.
    pub(crate) target: PathBuf,
    /// Whether the container may not write there.
    pub(crate) read_only: bool,
}

/// A program with everything it runs as.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Program and arguments. A name without `/` is looked up in the environment's `PATH`.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Working directory; made if it does not exist.
    pub(crate) working_dir: PathBuf,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Capabilities, as `CAP_NET_RAW`; also the bounding set.
    pub(crate) capabilities: Vec<String>,
    /// Whether no program of it may gain privileges.
    pub(crate) no_new_privileges: bool,
}

/// A program to start inside a running container. The container's pidfd comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    /// The program.
    pub(crate) process: Process,
    /// Whether it gets a terminal of the container, whose other end is sent back.
    pub(crate) tty: bool,
}

/// What the child says while it starts. After the program has taken over, the socket is at its end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program's process exists; comes with a pidfd. The number is the agent's view of it.
    Process(i32),
    /// Comes with the controlling end of the terminal.
    Terminal,
    /// It could not start.
    Failed(String),
}
