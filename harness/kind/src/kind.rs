//! Everything that a run on kind needs: the cluster with its images and DNS, and the external servers.
//!
//! The mesh is installed by the caller, as on every kind of cluster. Start at [`Kind::start`].

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress_component::{Cache, Host, Tool};
use egress_image::{Archive, ImageProgress};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cluster::{Cluster, ClusterOptions, config};
use crate::docker::Docker;
use crate::engine::{Engine, Phase};
use crate::error::Error;
use crate::machine::{Found, Machine};
use crate::node;
use crate::servers::{Control, Servers};
use crate::tool;

const COMMAND: Duration = Duration::from_secs(60);
/// The cluster's name in an own engine, where it is alone.
const NAME: &str = "egress";

/// In which Docker.
#[derive(Debug, Clone)]
pub enum Where {
    /// In an own engine, which also answers at this path: there `DOCKER_HOST` of this process leads.
    Own(PathBuf),
    /// In the machine's, to which `DOCKER_HOST` of this process leads.
    Machine(Found),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct KindOptions {
    /// In which Docker.
    pub docker: Where,
    /// The cluster's name; one that no other has without it.
    pub name: Option<String>,
    /// The program kind.
    pub kind: PathBuf,
    /// The program kubectl.
    pub kubectl: PathBuf,
    /// The node's image; kind's own choice without one.
    pub node: Option<String>,
    /// kind's configuration; [`config`] without one.
    pub config: Option<String>,
    /// Archives for the Docker: the node's image and the servers'.
    pub outside: Vec<Archive>,
    /// Archives for the node.
    pub inside: Vec<Archive>,
    /// Objects of the DNS server, as YAML.
    pub dns: String,
    /// How long the node, and then the DNS server, may take to be ready.
    pub timeout: Duration,
}

/// A running cluster with its outside.
#[derive(Debug)]
pub struct Kind {
    docker: Docker,
    cluster: Cluster,
    servers: Servers,
    kubectl: PathBuf,
    host: Host,
    deaths: Deaths,
}

impl Kind {
    /// Starts an engine where one is wanted, cluster, DNS and servers. `phase` hears what took how long. As soon as
    /// `broken_off` is over the start is given up.
    ///
    /// # Errors
    /// The first thing that fails, or [`Error::BrokenOff`]; then nothing is left.
    pub async fn start(
        (cache, host): (&Cache, &Host),
        options: &KindOptions,
        progress: &dyn ImageProgress,
        phase: &(dyn Fn(&Phase) + Send + Sync),
        broken_off: impl Future<Output = ()>,
    ) -> Result<Self, Error> {
        let docker = match &options.docker {
            Where::Own(path) => {
                let start = Instant::now();
                let engine = Engine::start(cache, host, progress).await?;
                engine.answer_at(path)?;
                phase(&Phase { name: "Docker engine".to_owned(), took: start.elapsed() });
                Docker::Own(engine)
            }
            Where::Machine(found) => Docker::Machine(Machine::start(host, found, options.name.as_deref()).await?),
        };
        let filled = tokio::select! {
            filled = Self::fill(&docker, host, options, phase) => filled,
            () = broken_off => Err(Error::BrokenOff),
        };
        match filled {
            Ok((cluster, servers, deaths)) => {
                let (kubectl, host) = (options.kubectl.clone(), host.clone());
                Ok(Self { docker, cluster, servers, kubectl, host, deaths })
            }
            Err(error) => {
                if let Err(also) = docker.stop().await {
                    tracing::warn!(%also, "after a start that failed");
                }
                Err(error)
            }
        }
    }

    async fn fill(
        docker: &Docker,
        host: &Host,
        options: &KindOptions,
        phase: &(dyn Fn(&Phase) + Send + Sync),
    ) -> Result<(Cluster, Servers, Deaths), Error> {
        docker.load(&options.outside.iter().collect::<Vec<_>>()).await?.iter().for_each(phase);
        let name = match docker {
            Docker::Own(_) => options.name.as_deref().unwrap_or(NAME),
            Docker::Machine(machine) => machine.cluster(),
        };
        let create = ClusterOptions {
            name: name.to_owned(),
            image: options.node.clone(),
            config: options.config.clone().unwrap_or_else(|| config(docker.cgroup_v1())),
            wait: options.timeout,
        };
        let (cluster, phases) = Cluster::create(docker, &options.kind, &create).await?;
        phases.iter().for_each(phase);
        let kubectl = async |args: &[&str], what: &str| {
            let tool = kubectl(&options.kubectl, host, &cluster).args(args.iter().copied());
            tool::run(&tool, what, options.timeout + COMMAND, "see the message").await
        };
        let timeout = format!("--timeout={}s", options.timeout.as_secs());
        let ready = async {
            let start = Instant::now();
            let ready = ["wait", "--for=condition=Ready", "nodes", "--all", &timeout];
            let waited = kubectl(&ready, "waiting for the node").await;
            let seconds = options.timeout.as_secs();
            waited.map_err(|error| Error::NotReady { seconds, seen: error.to_string() })?;
            phase(&Phase { name: "node ready".to_owned(), took: start.elapsed() });
            Ok(())
        };
        let loading = async {
            for archive in &options.inside {
                phase(&cluster.load(archive).await?);
            }
            Ok::<_, Error>(())
        };
        let serving = async {
            let start = Instant::now();
            let servers = Servers::start(docker, &cluster).await?;
            phase(&Phase { name: "external servers".to_owned(), took: start.elapsed() });
            Ok(servers)
        };
        let ((), (), servers) = tokio::try_join!(ready, loading, serving)?;
        let start = Instant::now();
        let file = docker.folder().join("dns.yaml");
        std::fs::write(&file, &options.dns).map_err(Error::io("write", &file))?;
        kubectl(&["apply", "-f", &file.display().to_string()], "starting the DNS server").await?;
        let rollout = ["rollout", "status", "--namespace", DNS_NAMESPACE, DNS_WORKLOAD, &timeout];
        if let Err(error) = kubectl(&rollout, "waiting for the DNS server").await {
            let logs = ["logs", "--namespace", DNS_NAMESPACE, DNS_WORKLOAD, "--tail=20"];
            let said = kubectl(&logs, "reading the DNS server's log").await.unwrap_or_else(|error| error.to_string());
            return Err(Error::Dns { why: error.to_string(), said: said.trim().to_owned() });
        }
        phase(&Phase { name: "DNS".to_owned(), took: start.elapsed() });
        let deaths = Deaths::watch(docker, &cluster)?;
        Ok((cluster, servers, deaths))
    }

    /// An administrator's kubeconfig that works from this machine while this process lives.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.cluster.kubeconfig()
    }

    /// The folder with the daemon's log, where it is ours to read.
    #[must_use]
    pub fn logs(&self) -> Option<PathBuf> {
        self.docker.logs()
    }

    /// Where the external servers are controlled.
    #[must_use]
    pub fn servers(&self) -> Control {
        self.servers.control()
    }

    /// Gives the servers exactly these addresses, and DNS exactly these external names (as JSON; see `egress-dns`); both
    /// are in force when it returns.
    ///
    /// # Errors
    /// Where a container is gone or refuses.
    pub async fn set_outside(&self, addresses: &[Ipv4Addr], names: &str) -> Result<(), Error> {
        self.servers.set_addresses(&self.docker, &self.cluster, addresses).await?;
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

    /// Has every container of the node trust this authority (PEM) beside its system's own; `None`: only those.
    ///
    /// # Errors
    /// Where the node is gone.
    pub async fn trust(&self, authority: Option<&str>) -> Result<(), Error> {
        node::trust(&self.docker, &self.cluster.node(), authority).await
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
        let servers = self.servers.stop().await;
        self.docker.stop().await.and(servers)
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
    fn watch(docker: &Docker, cluster: &Cluster) -> Result<Self, Error> {
        let program = docker.program();
        let environment = docker.environment();
        let mut command = Command::new(&program);
        for name in ["DOCKER_HOST", "DOCKER_CONFIG"] {
            if let Some(value) = environment.get(name) {
                command.env(name, value);
            }
        }
        let (node, servers) = (cluster.node(), format!("{}-external-servers", cluster.name()));
        let mut child = command
            .args(["events", "--filter", "type=container", "--filter", "event=die"])
            .args(["--filter", &format!("container={node}"), "--filter", &format!("container={servers}")])
            .args([
                "--format",
                "container {{.Actor.Attributes.name}} ended with exit code {{.Actor.Attributes.exitCode}}",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io("run", &program))?;
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
