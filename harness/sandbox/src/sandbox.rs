//! The owner's side of a sandbox: starting it, asking things of it, ending it.
//!
//! Runs in the host's namespaces and changes nothing there but the sandbox's own folder. The
//! sandbox ends with its owner in any case; [`Sandbox::stop`] is the orderly way, dropping it the
//! quick one. Start at [`Sandbox::start`].

mod channel;
mod inside;
mod leftovers;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use channel::Channel;
use egress_dns::Names;
use inside::Inside;

use crate::doctor;
use crate::events::{ComponentFault, Event};
use crate::layout::{self, Layout};
use crate::network;
use crate::options::Options;
use crate::protocol::{Request, StartFailure};
use crate::snapshot::{self, SnapshotError};
use crate::state::{self, StateDir, StateError};
use crate::userns::{self, UserNamespaceError};

/// Why a sandbox did not start. Nothing of it is left when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The caller is not root, and cannot be root of a user namespace either.
    #[error("{0}: {remedy}", remedy = .0.remedy())]
    UserNamespace(#[from] UserNamespaceError),
    /// A program to run is not there.
    #[error("program {name} is not a file at {path}: build or fetch the components first, or point EGRESS_CONFORMANCE_{variable} at one", variable = name.to_uppercase().replace('-', "_"))]
    MissingProgram {
        /// Its name.
        name: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// Its folder's file system is too full.
    #[error("there is too little space: {0}; free some, or let XDG_RUNTIME_DIR name a folder of another file system")]
    Space(String),
    /// The sandbox has no folder to live in.
    #[error(transparent)]
    State(#[from] StateError),
    /// [`Options::restore`] is of no use.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The first process could not be started.
    #[error("cannot start the sandbox's first process: {0}")]
    Spawn(#[source] std::io::Error),
    /// A component ended while the sandbox started.
    #[error("{0}")]
    Component(ComponentFault),
    /// A phase of the start failed.
    #[error("{phase}: {message}")]
    Phase {
        /// Which one.
        phase: String,
        /// What was expected and what was seen.
        message: String,
    },
    /// The sandbox's own program ended without saying why.
    #[error("the sandbox ended while it started ({status}); its last messages:{}", indented(.last_lines))]
    Ended {
        /// How it ended.
        status: String,
        /// Last lines of its own log.
        last_lines: Vec<String>,
    },
    /// The whole start took too long.
    #[error("the sandbox was not ready within {:.0} s; not finished: {}", .bound.as_secs_f64(), .unfinished.join(", "))]
    TimedOut {
        /// [`Options::timeout`].
        bound: Duration,
        /// Phases that had begun and not ended.
        unfinished: Vec<String>,
    },
}

/// Why a request to a running sandbox was not fulfilled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The sandbox refused.
    #[error("the sandbox refused: {0}")]
    Refused(String),
    /// The sandbox is gone.
    #[error("the sandbox has ended: see its faults, or start another")]
    Gone,
}

/// What was not in order when a sandbox was stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// It did not end well.
    #[error("the sandbox ended with {status}; its last messages:{}", indented(.last_lines))]
    Unclean {
        /// How it ended.
        status: String,
        /// Last lines of its own log.
        last_lines: Vec<String>,
    },
    /// Something outlived it.
    #[error("the sandbox left something behind: {}", .0.join("; "))]
    LeftOvers(Vec<String>),
    /// Logs could not be kept.
    #[error("cannot keep the logs in {path}: {source}")]
    Logs {
        /// [`Options::log_dir`].
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The folder could not be removed.
    #[error(transparent)]
    State(#[from] StateError),
}

fn indented(lines: &[String]) -> String {
    if lines.is_empty() {
        return " none".to_owned();
    }
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

/// How long an orderly stop may take before the sandbox is killed.
const STOP_BOUND: Duration = Duration::from_secs(15);

/// A running sandbox. Dropping it ends it at once.
#[derive(Debug)]
pub struct Sandbox {
    // Dropped in this order: the processes end before their folder goes.
    channel: Channel,
    inside: Inside,
    folder: Folder,
}

/// The folder, which goes with its owner.
#[derive(Debug)]
struct Folder {
    state: StateDir,
    layout: Layout,
    kubeconfig: PathBuf,
    world_socket: PathBuf,
    logs: PathBuf,
    keep_logs: Option<PathBuf>,
}

impl Sandbox {
    /// Starts a sandbox and waits until it is ready: API server, controllers, DNS, Services and
    /// node. `progress` is called for each event, from a runtime thread, also after the start.
    ///
    /// Dropping the returned future ends what it had begun.
    pub async fn start(
        options: Options,
        progress: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Sandbox, StartError> {
        if userns::needed() {
            userns::plan()?;
        }
        for (name, path) in options.programs.all() {
            if !path.is_file() {
                return Err(StartError::MissingProgram { name, path: path.to_owned() });
            }
        }
        state::sweep();
        doctor::state_folder().map_err(StartError::Space)?;
        let folder = Folder::create(options.log_dir.clone())?;
        if let Some(restore) = &options.restore {
            snapshot::unpack(&restore.snapshot, &folder.layout)?;
        }
        let bound = options.timeout;
        let (inside, control) = Inside::spawn(&folder.state, &folder.layout).map_err(StartError::Spawn)?;
        let (channel, started) =
            Channel::open(control, folder.layout.own_log(), Box::new(progress)).map_err(StartError::Spawn)?;
        let sandbox = Sandbox { channel, inside, folder };
        let outcome = {
            let start = async {
                sandbox.channel.begin(options, sandbox.folder.state.path()).await;
                started.await
            };
            tokio::time::timeout(bound, start).await
        };
        match outcome {
            Ok(Ok(Ok(()))) => Ok(sandbox),
            Ok(Ok(Err(StartFailure::Component(fault)))) => Err(StartError::Component(fault)),
            Ok(Ok(Err(StartFailure::Phase { phase, message }))) => Err(StartError::Phase { phase, message }),
            // The channel closed without a word.
            Ok(Err(_)) => Err(StartError::Ended {
                status: describe(sandbox.inside.ended_within(STOP_BOUND).await),
                last_lines: sandbox.folder.last_words(),
            }),
            Err(_) => Err(StartError::TimedOut { bound, unfinished: sandbox.channel.unfinished_phases() }),
        }
    }

    /// An administrator's kubeconfig (mode 0600) that works from the host. It goes with the
    /// sandbox.
    pub fn kubeconfig(&self) -> &Path {
        &self.folder.kubeconfig
    }

    /// The control socket of the process that plays the external servers, in the outside
    /// namespace. It goes with the sandbox.
    pub fn world_socket(&self) -> &Path {
        &self.folder.world_socket
    }

    /// Replaces the external DNS names. Returns when the next question is answered by them.
    pub async fn set_names(&self, names: Names) -> Result<(), ControlError> {
        self.channel.ask(Request::SetNames(names)).await
    }

    /// Replaces the addresses that exist in the outside namespace, for external servers to listen
    /// on: hosts of [`Sandbox::outside_subnet`], or public addresses. Returns when they are in force.
    pub async fn set_outside_addresses(&self, addresses: Vec<Ipv4Addr>) -> Result<(), ControlError> {
        self.channel.ask(Request::SetOutsideAddresses(addresses)).await
    }

    /// Has every pod trust this certificate authority (PEM) as one of its system's own, and no other one that was given
    /// before; none: only what this machine trusts. Programs that have read their list already may keep it.
    ///
    /// # Errors
    /// [`ControlError`], also where this machine has no list of authorities.
    pub async fn trust(&self, authority: Option<String>) -> Result<(), ControlError> {
        self.channel.ask(Request::Trust(authority)).await
    }

    /// Keeps all objects and keys of this moment in a new folder, for [`Options::restore`]. The cluster goes on meanwhile.
    /// Left out is what belongs to this sandbox alone: events, leases, and which addresses stand behind Services.
    ///
    /// # Errors
    /// [`SnapshotError`]; the folder may exist then, but is no snapshot.
    pub async fn save(&self, into: &Path) -> Result<(), SnapshotError> {
        let asked = self.channel.ask(Request::SaveObjects).await;
        asked.map_err(|e| SnapshotError::Objects(e.to_string()))?;
        let (layout, into) = (self.folder.layout.clone(), into.to_owned());
        let packed = tokio::task::spawn_blocking(move || snapshot::pack(&layout, &into)).await;
        packed.expect("copying files does not panic")
    }

    /// The node's address, as pods see it.
    pub fn node_address(&self) -> Ipv4Addr {
        network::NODE_ADDRESS
    }

    /// The cluster's DNS server: the ClusterIP of the Service `kube-system/kube-dns`.
    pub fn dns_address(&self) -> Ipv4Addr {
        network::DNS_SERVICE
    }

    /// First address and prefix length of the subnet that is routed to the outside namespace. An
    /// address of it that nobody has is answered with "no route to host" after about three seconds.
    pub fn outside_subnet(&self) -> (Ipv4Addr, u8) {
        network::OUTSIDE_RANGE
    }

    /// The folder with every component's log. It goes with the sandbox, unless
    /// [`Options::log_dir`] keeps a copy.
    pub fn logs_dir(&self) -> &Path {
        &self.folder.logs
    }

    /// The components that ended unasked since the last call.
    pub fn take_faults(&self) -> Vec<ComponentFault> {
        self.channel.take_faults()
    }

    /// Ends the sandbox in order, keeps its logs if so asked, removes its folder, and makes sure
    /// that nothing of it is left on the host.
    pub async fn stop(self) -> Result<(), StopError> {
        let Sandbox { channel, inside, folder } = self;
        // A sandbox that has died cannot answer; how it ended says enough.
        let asked = tokio::time::timeout(STOP_BOUND, channel.ask(Request::Stop)).await;
        drop(channel);
        let status = inside.ended_within(STOP_BOUND).await;
        drop(inside);
        let last_lines = folder.last_words();
        let finished = tokio::task::spawn_blocking(move || folder.finish());
        finished.await.expect("removing a folder does not panic")?;
        match (asked, status) {
            (Ok(Ok(())), Some(status)) if status.success() => Ok(()),
            (_, status) => Err(StopError::Unclean { status: describe(status), last_lines }),
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "no exit in time, so it was killed".to_owned(), |status| status.to_string())
}

impl Folder {
    fn create(keep_logs: Option<PathBuf>) -> Result<Folder, StateError> {
        let state = StateDir::create()?;
        let layout = Layout::new(state.path());
        for path in layout.folders() {
            if let Err(source) = std::fs::create_dir(&path) {
                let _ = state.remove();
                return Err(StateError::Io { doing: "create", path, source });
            }
        }
        Ok(Folder {
            kubeconfig: layout.kubeconfig(),
            world_socket: layout.world_socket(),
            logs: layout.logs(),
            state,
            layout,
            keep_logs,
        })
    }

    fn last_words(&self) -> Vec<String> {
        layout::last_lines(&self.layout.own_log(), 15)
    }

    /// Keeps the logs, removes the folder, and looks for what should not be there any more.
    fn finish(mut self) -> Result<(), StopError> {
        let kept = self.keep();
        let left = leftovers::find(self.state.path());
        self.state.remove()?;
        kept?;
        if left.is_empty() { Ok(()) } else { Err(StopError::LeftOvers(left)) }
    }

    fn keep(&mut self) -> Result<(), StopError> {
        let Some(path) = self.keep_logs.take() else { return Ok(()) };
        copy_logs(&self.logs, &path).map_err(|source| StopError::Logs { path, source })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.keep();
        let _ = self.state.remove();
    }
}

/// Copies a folder of logs: contents alone, since a container may own its log, and could have made it a program that runs
/// as root.
///
/// # Errors
/// The operating system's answer.
pub fn copy_logs(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_logs(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::io::copy(&mut std::fs::File::open(entry.path())?, &mut std::fs::File::create(target)?)?;
        }
    }
    Ok(())
}
