//! What a node's containerd has on its disk when it knows some images: made by a containerd of our own, in a temporary
//! folder, which runs no container. Start at [`import`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use egress_component::{Host, ProgramName, Programs, Tool, ToolFailure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::debian::run;
use crate::error::Error;
use crate::progress::Reporter;

/// A start takes a fraction of a second.
const START: Duration = Duration::from_secs(60);

/// Imports an archive into the namespace of Kubernetes, not unpacked, marked so that the kubelet never removes it.
/// Gives the folder that belongs at `/var/lib/containerd`.
pub(crate) async fn import(
    archive: &Path,
    programs: &Programs,
    scratch: &Path,
    host: &Host,
    reporter: Reporter<'_>,
) -> Result<PathBuf, Error> {
    let daemon = Daemon::start(programs, scratch).await?;
    let tool = daemon
        .ctr(programs, host)
        .args(["--namespace", "k8s.io", "images", "import", "--no-unpack", "--digests"])
        .args(["--label", "io.cri-containerd.pinned=pinned"])
        .args([archive.as_os_str()]);
    let imported = run(&tool, "importing the images of the control plane", "see the message", reporter).await;
    let stopped = daemon.stop().await;
    imported?;
    stopped
}

/// The runtime specification that `ctr` prints as its default.
pub(crate) async fn default_spec(
    programs: &Programs,
    host: &Host,
    reporter: Reporter<'_>,
) -> Result<serde_json::Value, Error> {
    let tool = Tool::new(programs.path(&ProgramName::CTR), host).args(["oci", "spec"]).quiet_stdout();
    let text = run(&tool, "asking ctr for its default specification", "see the message", reporter).await?;
    serde_json::from_str(&text).map_err(|error| Error::Answer {
        what: tool.display(),
        expected: "a runtime specification as JSON".to_owned(),
        seen: error.to_string(),
    })
}

struct Daemon {
    child: Child,
    root: PathBuf,
    socket: PathBuf,
    /// Removed with the daemon.
    _state: TempDir,
}

impl Daemon {
    async fn start(programs: &Programs, scratch: &Path) -> Result<Self, Error> {
        let root = scratch.join("containerd");
        // A socket's path has room for 108 bytes; the cache's folders have long names.
        let state = tempfile::tempdir().map_err(Error::io("make a folder in", &std::env::temp_dir()))?;
        let socket = state.path().join("c.sock");
        let config = scratch.join("containerd.toml");
        let text = format!(
            "version = 4\nroot = '{}'\nstate = '{}'\ndisabled_plugins = [\n  'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', \
             'io.containerd.cri.v1.runtime', 'io.containerd.nri.v1.nri', 'io.containerd.internal.v1.opt',\n]\n\
             [plugins.'io.containerd.server.v1.grpc']\n  address = '{}'\n[plugins.'io.containerd.server.v1.ttrpc']\n  address = '{}.ttrpc'\n",
            root.display(),
            state.path().display(),
            socket.display(),
            socket.display(),
        );
        std::fs::write(&config, text).map_err(Error::io("write", &config))?;
        let log = scratch.join("containerd.log");
        let output = std::fs::File::create(&log).map_err(Error::io("make", &log))?;
        let program = programs.path(&ProgramName::CONTAINERD);
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("run", program))?;
        let mut daemon = Self { child, root, socket, _state: state };
        daemon.ready(&log).await?;
        Ok(daemon)
    }

    /// Waits until the socket takes connections.
    async fn ready(&mut self, log: &Path) -> Result<(), Error> {
        let failed = |outcome: String| {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            Error::Tool(ToolFailure {
                what: "starting containerd".to_owned(),
                outcome,
                command: "containerd".to_owned(),
                tail: lines[lines.len().saturating_sub(15)..].to_vec(),
                help: "see its log above".to_owned(),
            })
        };
        let start = std::time::Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(failed(status.to_string()));
            }
            match tokio::net::UnixStream::connect(&self.socket).await {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > START => {
                    return Err(failed(format!("no answer on its socket within {} s: {error}", START.as_secs())));
                }
                Err(_) => {}
            }
        }
    }

    fn ctr(&self, programs: &Programs, host: &Host) -> Tool {
        Tool::new(programs.path(&ProgramName::CTR), host).args(["--address".as_ref(), self.socket.as_os_str()])
    }

    /// Ends it with SIGTERM, so that its database is closed, and gives its folder.
    async fn stop(mut self) -> Result<PathBuf, Error> {
        let gone = |error| Error::Io { what: "stop containerd in", path: self.root.clone(), source: error };
        if let Some(pid) = self.child.id() {
            let kill = Command::new("kill").arg(pid.to_string()).status().await.map_err(gone)?;
            if !kill.success() {
                self.child.start_kill().map_err(gone)?;
            }
        }
        match tokio::time::timeout(START, self.child.wait()).await {
            Ok(ended) => ended.map_err(gone)?,
            Err(_) => {
                self.child.start_kill().map_err(gone)?;
                return Err(gone(std::io::Error::other(format!("no end within {} s", START.as_secs()))));
            }
        };
        Ok(self.root)
    }
}
