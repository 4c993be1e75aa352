//! Everything that a run on kind needs, in one engine: the cluster with its images and DNS, and the external servers.
//!
//! The mesh is installed by the caller, as on every kind of cluster. Start at [`Kind::start`].

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress_component::{Cache, Host, Tool};
use egress_image::{ImageProgress, Made};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cluster::{Cluster, ClusterOptions, config};
use crate::engine::{Engine, Phase};
use crate::error::Error;
use crate::servers::Servers;
use crate::tool;

const COMMAND: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Debug, Clone)]
pub struct KindOptions {
    /// The cluster's name.
    pub name: String,
    /// The program kind.
    pub kind: PathBuf,
    /// The program kubectl.
    pub kubectl: PathBuf,
    /// The images.
    pub images: Made,
    /// Objects of the DNS server, as YAML.
    pub dns: String,
    /// How long the node, and then the DNS server, may take to be ready.
    pub timeout: Duration,
}

/// A running cluster with its outside.
#[derive(Debug)]
pub struct Kind {
    engine: Engine,
    cluster: Cluster,
    servers: Servers,
    kubectl: PathBuf,
    host: Host,
    deaths: Deaths,
}

impl Kind {
    /// Starts engine, cluster, DNS and servers. `phase` hears what took how long.
    ///
    /// # Errors
    /// The first thing that fails; then nothing is left.
    pub async fn start(
        (cache, host): (&Cache, &Host),
        options: &KindOptions,
        progress: &dyn ImageProgress,
        phase: &(dyn Fn(&Phase) + Send + Sync),
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let engine = Engine::start(cache, host, progress).await?;
        phase(&Phase { name: "Docker engine".to_owned(), took: start.elapsed() });
        match Self::fill(&engine, host, options, phase).await {
            Ok((cluster, servers, deaths)) => {
                let (kubectl, host) = (options.kubectl.clone(), host.clone());
                Ok(Self { engine, cluster, servers, kubectl, host, deaths })
            }
            Err(error) => {
                if let Err(also) = engine.stop().await {
                    tracing::warn!(%also, "after a start that failed");
                }
                Err(error)
            }
        }
    }

    async fn fill(
        engine: &Engine,
        host: &Host,
        options: &KindOptions,
        phase: &(dyn Fn(&Phase) + Send + Sync),
    ) -> Result<(Cluster, Servers, Deaths), Error> {
        let images = &options.images;
        engine.load(&[&images.node, &images.mesh]).await?.iter().for_each(phase);
        let create = ClusterOptions {
            name: options.name.clone(),
            image: images.node.references.first().cloned().unwrap_or_default(),
            config: config(),
            wait: options.timeout,
        };
        let (cluster, phases) = Cluster::create(engine, &options.kind, &create).await?;
        phases.iter().for_each(phase);
        let loading = async { cluster.load(&images.mesh).await.inspect(|loaded| phase(loaded)) };
        let serving = async {
            let start = Instant::now();
            let servers = Servers::start(engine, &options.name).await?;
            phase(&Phase { name: "external servers".to_owned(), took: start.elapsed() });
            Ok(servers)
        };
        let (_, servers) = tokio::try_join!(loading, serving)?;
        let start = Instant::now();
        let file = engine.folder().join("dns.yaml");
        std::fs::write(&file, &options.dns).map_err(Error::io("write", &file))?;
        let kubectl = async |args: &[&str]| {
            let tool = kubectl(&options.kubectl, host, &cluster).args(args.iter().copied());
            tool::run(&tool, "starting the DNS server", options.timeout + COMMAND, "see the message").await
        };
        kubectl(&["apply", "-f", &file.display().to_string()]).await?;
        let timeout = format!("--timeout={}s", options.timeout.as_secs());
        kubectl(&["rollout", "status", "--namespace", DNS_NAMESPACE, DNS_WORKLOAD, &timeout]).await?;
        phase(&Phase { name: "DNS".to_owned(), took: start.elapsed() });
        let deaths = Deaths::watch(engine)?;
        Ok((cluster, servers, deaths))
    }

    /// An administrator's kubeconfig that works from this machine while this process lives.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.cluster.kubeconfig()
    }

    /// The folder with the daemon's log.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.engine.run_folder()
    }

    /// The control socket of the external servers.
    #[must_use]
    pub fn servers(&self) -> PathBuf {
        self.servers.socket()
    }

    /// Gives the servers exactly these addresses, and DNS exactly these external names (as JSON; see `egress-dns`); both
    /// are in force when it returns.
    ///
    /// # Errors
    /// Where a container is gone or refuses.
    pub async fn set_outside(&self, addresses: &[Ipv4Addr], names: &str) -> Result<(), Error> {
        self.servers.set_addresses(&self.engine, addresses).await?;
        let tool = kubectl(&self.kubectl, &self.host, &self.cluster).args([
            "exec",
            "--namespace",
            DNS_NAMESPACE,
            DNS_WORKLOAD,
            "--",
            "/usr/local/bin/egress-dns",
            "names",
            names,
        ]);
        tool::run(&tool, "giving the DNS server its names", COMMAND, "see the message").await.map(|_| ())
    }

    /// Containers that ended since the last question.
    #[must_use]
    pub fn take_deaths(&self) -> Vec<String> {
        std::mem::take(&mut *self.deaths.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Ends everything and checks that nothing is left.
    ///
    /// # Errors
    /// What is left.
    pub async fn stop(self) -> Result<(), Error> {
        drop(self.deaths);
        drop(self.cluster);
        self.engine.stop().await
    }
}

/// Where the fixture `workloads/dns.yaml` puts the DNS server.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_WORKLOAD: &str = "deployment/egress-dns";

fn kubectl(program: &Path, host: &Host, cluster: &Cluster) -> Tool {
    Tool::new(program, host).env("KUBECONFIG", cluster.kubeconfig())
}

/// Follows the daemon's events: a node or the servers' container that ends while it should run.
#[derive(Debug)]
struct Deaths {
    seen: Arc<Mutex<Vec<String>>>,
    /// Killed when dropped.
    _child: Child,
}

impl Deaths {
    fn watch(engine: &Engine) -> Result<Self, Error> {
        let docker = engine.docker_program();
        let mut child = Command::new(&docker)
            .args(["events", "--filter", "type=container", "--filter", "event=die"])
            .args([
                "--format",
                "container {{.Actor.Attributes.name}} ended with exit code {{.Actor.Attributes.exitCode}}",
            ])
            .env("DOCKER_HOST", engine.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("run", &docker))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        if let Some(output) = child.stdout.take() {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
                }
                // Nobody asks any more when this was dropped.
                let ended = "the Docker engine's events ended: the daemon is gone".to_owned();
                seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(ended);
            });
        }
        Ok(Self { seen, _child: child })
    }
}
