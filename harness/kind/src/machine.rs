//! The machine's own Docker or Podman, as kind finds it: what is there, and a record of what was made in it, so that a
//! killed owner's cluster can be removed.
//!
//! It changes nothing that it did not make. nerdctl has no Docker API, which the servers' container needs, so it is refused.
//! Start at [`Machine::start`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_component::{Host, Tool};
use serde::{Deserialize, Serialize};

use crate::engine::Phase;
use crate::error::Error;
use crate::servers::LABEL;
use crate::state::StateDir;
use crate::sysctls::Settings;
use crate::{sweep, tool};

/// Folders of owners begin with this.
const PREFIX: &str = "cluster-";
const RECORD: &str = "machine.json";
/// kind's Docker network, and the label of a cluster's nodes.
const NETWORK: &str = "kind";
const NODES: &str = "io.x-k8s.kind.cluster";
/// kind's own choice of a provider: <https://kind.sigs.k8s.io/docs/user/quick-start/>.
const PROVIDER: &str = "KIND_EXPERIMENTAL_PROVIDER";
/// What decides which daemon is spoken to.
const ENVIRONMENT: [&str; 9] = [
    "PATH",
    "HOME",
    "XDG_RUNTIME_DIR",
    PROVIDER,
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
];
const COMMAND: Duration = Duration::from_secs(120);
const LOAD: Duration = Duration::from_secs(900);
/// The oldest servers that kind works with: <https://kind.sigs.k8s.io/docs/user/quick-start/>.
const OLDEST: [(&str, u64); 2] = [("docker", 20), ("podman", 4)];
/// A node's image, unpacked, with the mesh's images in it.
const SPACE: u64 = 6 << 30;

/// What is known of the machine's Docker before anything is made in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `docker` or `podman`.
    pub provider: String,
    /// The command-line program of that name.
    pub program: PathBuf,
    /// Its API's address, as `DOCKER_HOST` has it.
    pub address: String,
    /// Whether containers are in control groups of version 1.
    pub cgroup_v1: bool,
}

impl Found {
    /// Asks the daemon that this environment means.
    ///
    /// # Errors
    /// Where there is none, it does not answer, is too old, or has too little space: each with what to do.
    pub async fn look(host: &Host) -> Result<Self, Error> {
        let provider = match host.get(PROVIDER).and_then(|name| name.to_str()).unwrap_or_default() {
            "" | "docker" => "docker",
            "podman" => "podman",
            other => return Err(Error::Provider { name: other.to_owned() }),
        };
        let program = host.find(provider).ok_or_else(|| Error::NoProgram { provider: provider.to_owned() })?;
        let ask = async |args: &[&str]| {
            let tool = Tool::new(&program, host).args(args.iter().copied());
            let answer = tool::run(&tool, &format!("asking {provider}"), COMMAND, "is its daemon running?").await;
            answer
                .map(|text| text.trim().to_owned())
                .map_err(|error| Error::Unanswered { provider: provider.to_owned(), why: error.to_string() })
        };
        let (version, cgroups, root, address) = match provider {
            "podman" => (
                ask(&["version", "--format", "{{.Client.Version}}"]).await?,
                ask(&["info", "--format", "{{.Host.CgroupsVersion}}"]).await?,
                ask(&["info", "--format", "{{.Store.GraphRoot}}"]).await?,
                format!("unix://{}", ask(&["info", "--format", "{{.Host.RemoteSocket.Path}}"]).await?),
            ),
            _ => (
                ask(&["version", "--format", "{{.Server.Version}}"]).await?,
                ask(&["info", "--format", "{{.CgroupVersion}}"]).await?,
                ask(&["info", "--format", "{{.DockerRootDir}}"]).await?,
                match host.get("DOCKER_HOST").and_then(|address| address.to_str()) {
                    Some(address) if !address.is_empty() => address.to_owned(),
                    _ => ask(&["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]).await?,
                },
            ),
        };
        let oldest = OLDEST.iter().find(|(name, _)| *name == provider).map_or(0, |(_, oldest)| *oldest);
        let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
        if major.is_some_and(|major| major < oldest) {
            return Err(Error::Old { provider: provider.to_owned(), version, oldest });
        }
        require_space(Path::new(&root))?;
        Ok(Self { provider: provider.to_owned(), program, address, cgroup_v1: cgroups.trim_start_matches('v') == "1" })
    }
}

/// Looks whether a node has room on the disk of a folder. A folder that is not here is a daemon's on another machine.
pub(crate) fn require_space(folder: &Path) -> Result<(), Error> {
    let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
    let free = disk.blocks_available() * disk.fragment_size();
    if free >= SPACE {
        return Ok(());
    }
    Err(Error::Space { folder: folder.to_owned(), free_mib: free >> 20, needed_mib: SPACE >> 20 })
}

/// The machine's Docker with what this process makes in it.
#[derive(Debug)]
pub struct Machine {
    state: StateDir,
    host: Host,
    found: Found,
    record: Record,
}

impl Machine {
    /// Sweeps, and records what is about to be made: the cluster of that name, or one named after this owner.
    ///
    /// # Errors
    /// Where the state folder cannot be used, or the daemon does not answer.
    pub async fn start(host: &Host, found: &Found, cluster: Option<&str>) -> Result<Self, Error> {
        sweep::sweep()?;
        let state = StateDir::create(PREFIX)?;
        let suffix = state.name().trim_start_matches(PREFIX).to_lowercase();
        let suffix: String = suffix.chars().filter(char::is_ascii_alphanumeric).collect();
        let environment = ENVIRONMENT.iter().filter_map(|name| Some((*name, host.get(name)?.to_str()?)));
        let record = Record {
            program: found.program.clone(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            cluster: cluster.map_or_else(|| format!("egress-{suffix}"), str::to_owned),
            network: false,
        };
        let mut machine = Self { state, host: host.clone(), found: found.clone(), record };
        let networks = machine.docker("listing networks", &["network", "ls", "--format", "{{.Name}}"]).await?;
        machine.record.network = !networks.lines().any(|name| name == NETWORK);
        Ok(machine)
    }

    /// From now on the cluster is this process's, and goes with it.
    pub(crate) fn own(&self) -> Result<(), Error> {
        self.record.save(self.state.path())
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.record.cluster
    }

    /// What was found.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// A folder for files that live as long as this.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.state.path()
    }

    /// The environment in which kind speaks to this Docker.
    #[must_use]
    pub fn environment(&self) -> Host {
        self.host.clone().with(PROVIDER, &self.found.provider)
    }

    /// Runs `docker` (or `podman`) with these arguments and gives its standard output.
    ///
    /// # Errors
    /// Where it fails, with its last lines.
    pub async fn docker(&self, what: &str, args: &[&str]) -> Result<String, Error> {
        self.docker_for(what, args, COMMAND).await
    }

    async fn docker_for(&self, what: &str, args: &[&str], limit: Duration) -> Result<String, Error> {
        let tool = Tool::new(&self.found.program, &self.host).args(args.iter().copied());
        tool::run(&tool, what, limit, "see the message").await
    }

    /// Loads an archive.
    ///
    /// # Errors
    /// Where it is broken, or the disk is full.
    pub async fn load(&self, archive: &Path) -> Result<Phase, Error> {
        let start = std::time::Instant::now();
        let path = archive.display().to_string();
        self.docker_for("loading images into Docker", &["load", "--quiet", "--input", &path], LOAD).await?;
        let file = archive.file_name().unwrap_or_default().to_string_lossy();
        Ok(Phase { name: format!("docker load {file}"), took: start.elapsed() })
    }

    /// Removes the cluster, the servers, the network if it was made for them, and the folder; puts the machine's settings
    /// back.
    ///
    /// # Errors
    /// What is left.
    pub async fn stop(self) -> Result<(), Error> {
        let (record, settings) = (self.record.clone(), self.state.settings());
        let removed = if Record::load(self.state.path()).is_some() {
            tokio::task::spawn_blocking(move || record.remove(settings.as_ref())).await
        } else {
            Ok(Ok(Vec::new()))
        };
        let left = match removed {
            Ok(Ok(_)) => self.state.remove()?,
            // The folder stays, so that a sweep tries again.
            Ok(Err(why)) => vec![why],
            Err(error) => vec![error.to_string()],
        };
        if left.is_empty() { Ok(()) } else { Err(Error::Left { left: left.join(", ") }) }
    }
}

/// What an owner makes in the machine's Docker, kept in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    cluster: String,
    /// Whether kind's network was not there before.
    network: bool,
}

impl Record {
    pub(crate) fn load(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()
    }

    fn save(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(RECORD);
        let text = serde_json::to_vec_pretty(self).expect("plain data with string keys");
        std::fs::write(&path, text).map_err(Error::io("write", &path))
    }

    fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = std::process::Command::new(&self.program)
            .args(args)
            .env_clear()
            .envs(&self.environment)
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} {}: {}", self.program.display(), args.join(" "), said.trim()))
    }

    fn containers(&self, label: &str) -> Result<Vec<String>, String> {
        let filter = format!("label={label}={}", self.cluster);
        let ids = self.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])?;
        Ok(ids.split_whitespace().map(str::to_owned).collect())
    }

    /// Removes everything of it that is there, and gives what that was. The settings are put back by a node, where there is
    /// one, since this user may not be root.
    pub(crate) fn remove(&self, settings: Option<&Settings>) -> Result<Vec<String>, String> {
        let nodes = self.containers(NODES)?;
        if let (Some(node), Some(script)) = (nodes.first(), settings.and_then(Settings::script)) {
            // One that does not run cannot; then it is root who puts them back, and else they are named as left.
            let _ = self.docker(&["exec", node, "sh", "-c", &script]);
        }
        let mut removed = Vec::new();
        for id in nodes.into_iter().chain(self.containers(LABEL)?) {
            self.docker(&["rm", "--force", "--volumes", &id])?;
            removed.push(format!("container {id:.12} of kind cluster {}", self.cluster));
        }
        if self.network {
            // Another cluster may be on it by now; then it is theirs.
            match self.docker(&["network", "rm", NETWORK]) {
                Ok(_) => removed.push(format!("network {NETWORK}")),
                Err(error) => tracing::debug!(error, "kind's network stays"),
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_without_docker_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::current().without(PROVIDER).with("PATH", dir.path());
        let error = Found::look(&host).await.unwrap_err();
        assert!(matches!(&error, Error::NoProgram { provider } if provider == "docker"), "{error}");
        let error = Found::look(&host.with(PROVIDER, "nerdctl")).await.unwrap_err();
        assert!(matches!(&error, Error::Provider { name } if name == "nerdctl"), "{error}");
    }

    #[tokio::test]
    async fn a_docker_that_does_not_run_or_is_old_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("docker");
        let host = Host::current().without(PROVIDER).with("PATH", format!("{}:/usr/bin:/bin", dir.path().display()));
        for (script, expected) in [
            ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "Cannot connect to the Docker daemon"),
            ("case $1 in version) echo 19.3.1 ;; *) echo 2 ;; esac", "19.3.1"),
        ] {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let message = Found::look(&host).await.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_record_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            program: "/usr/bin/docker".into(),
            environment: BTreeMap::from([("DOCKER_HOST".to_owned(), "unix:///d".to_owned())]),
            cluster: "egress-a".to_owned(),
            network: true,
        };
        assert_eq!(Record::load(dir.path()), None);
        record.save(dir.path()).unwrap();
        assert_eq!(Record::load(dir.path()), Some(record));
    }
}
