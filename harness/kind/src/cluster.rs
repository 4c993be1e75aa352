//! A kind cluster: its configuration, creation, images, kubeconfig. It ends with the Docker it is in. Start at [`Cluster::create`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egress_component::{Host, Tool};
use egress_image::Archive;

use crate::docker::Docker;
use crate::door::{Dialer, Door};
use crate::engine::{Phase, Phases};
use crate::error::Error;
use crate::node::{self, PODS};
use crate::tool;

/// A slow machine takes a minute.
const CREATE: Duration = Duration::from_secs(600);
const COMMAND: Duration = Duration::from_secs(300);

/// What to create.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Its name, as `kind get clusters` shows it.
    pub name: String,
    /// The node's image; kind's own choice without one.
    pub image: Option<String>,
    /// kind's configuration; [`config`] gives the usual one.
    pub config: String,
    /// How long the node may take to be ready.
    pub wait: Duration,
}

/// kind's configuration: one node; the pod network is this project's ([`Cluster::create`] gives it to the node); no CoreDNS,
/// since DNS is this project's own; on control groups of version 1 the kubelet is told to bear them.
#[must_use]
pub fn config(cgroup_v1: bool) -> String {
    let mut text = format!(
        "\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  disableDefaultCNI: true
  podSubnet: {PODS}
  serviceSubnet: 10.96.0.0/16
kubeadmConfigPatches:
- |
  kind: InitConfiguration
  skipPhases: [preflight, addon/coredns]
"
    );
    if cgroup_v1 {
        text.push_str("- |\n  kind: KubeletConfiguration\n  failCgroupV1: false\n");
    }
    text
}

/// A kind cluster of this process.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    kind: PathBuf,
    host: Host,
    kubeconfig: PathBuf,
    _door: Option<Door>,
}

impl Cluster {
    /// Creates a cluster, and opens a door to its API server where one is needed. The node may not be ready yet.
    ///
    /// # Errors
    /// Where one of that name exists, or creation fails; then nothing of it is left.
    pub async fn create(docker: &Docker, kind: &Path, options: &ClusterOptions) -> Result<(Self, Phases), Error> {
        let host = docker.environment();
        let run = async |args: &[&str], what: &str, limit: Duration| {
            let tool = Tool::new(kind, &host).args(args.iter().copied());
            tool::run(&tool, what, limit, "see kind's message; an own engine has only images that were loaded into it")
                .await
        };
        let existing = run(&["get", "clusters", "--quiet"], "listing kind clusters", COMMAND).await?;
        if existing.lines().any(|line| line.trim() == options.name) {
            return Err(Error::Taken { name: options.name.clone() });
        }
        if let Docker::Machine(machine) = docker {
            machine.own()?;
        }
        let dir = docker.folder().join("clusters");
        std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
        let (config, inner) = (dir.join(format!("{}.yaml", options.name)), dir.join(format!("{}.inner", options.name)));
        std::fs::write(&config, &options.config).map_err(Error::io("write", &config))?;
        let start = Instant::now();
        let (config, inner_path) = (config.display().to_string(), inner.display().to_string());
        let mut create = vec!["create", "cluster", "--name", &options.name];
        create.extend(options.image.iter().flat_map(|image| ["--image", image]));
        create.extend(["--config", &config, "--kubeconfig", &inner_path]);
        run(&create, "creating the kind cluster", options.wait.max(CREATE)).await?;
        let phases = vec![Phase { name: "kind create cluster".to_owned(), took: start.elapsed() }];
        let (kubeconfig, door) = match docker.dialer() {
            Some(dialer) => {
                let outer = dir.join(format!("{}.kubeconfig", options.name));
                let door = open_door(dialer, &options.name, &inner, &outer).await?;
                (outer, Some(door))
            }
            None => (inner, None),
        };
        let cluster = Self { name: options.name.clone(), kind: kind.to_owned(), host, kubeconfig, _door: door };
        node::set_up(docker, &cluster.node()).await?;
        Ok((cluster, phases))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container that is its node.
    #[must_use]
    pub fn node(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// An administrator's kubeconfig that works from this machine as long as this process lives.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Loads an archive's images into every node.
    ///
    /// # Errors
    /// Where the archive is broken.
    pub async fn load(&self, archive: &Archive) -> Result<Phase, Error> {
        let start = Instant::now();
        let path = archive.path.display().to_string();
        self.kind(&["load", "image-archive", &path, "--name", &self.name], "loading images into the node").await?;
        let file = archive.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Phase { name: format!("kind load {file}"), took: start.elapsed() })
    }

    async fn kind(&self, args: &[&str], what: &str) -> Result<String, Error> {
        let tool = Tool::new(&self.kind, &self.host).args(args.iter().copied());
        tool::run(&tool, what, COMMAND, "see kind's message").await
    }
}

/// Opens a door to the server that the kubeconfig names, and writes another kubeconfig that goes through it. The server's
/// certificate is for 127.0.0.1, whatever the port.
async fn open_door(dialer: &Dialer, name: &str, inner: &Path, outer: &Path) -> Result<Door, Error> {
    let text = std::fs::read_to_string(inner).map_err(Error::io("read", inner))?;
    let address = server(&text).ok_or_else(|| Error::Kubeconfig { name: name.to_owned() })?;
    let door = Door::open(dialer.clone(), address).await.map_err(Error::io("open a door for", inner))?;
    let text = text.replace(&format!("https://{address}"), &format!("https://127.0.0.1:{}", door.port()));
    write_private(outer, &text)?;
    Ok(door)
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("write", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))
}

/// The first server address in a kubeconfig.
fn server(kubeconfig: &str) -> Option<SocketAddr> {
    kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: https://")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_that_needs_it_has_the_kubelet_bear_old_control_groups() {
        assert!(config(true).contains("failCgroupV1: false"));
        // Older kubelets do not know the word.
        assert!(!config(false).contains("failCgroupV1"));
    }

    #[test]
    fn the_server_is_found_in_a_kubeconfig() {
        let text = "clusters:\n- cluster:\n    server: https://127.0.0.1:36001\n  name: kind-a\n";
        assert_eq!(server(text), Some("127.0.0.1:36001".parse().unwrap()));
        assert_eq!(server("clusters: []"), None);
    }
}
