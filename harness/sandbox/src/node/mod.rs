//! The node agent: the part of a kubelet, a container runtime and a scheduler that the sandbox needs.
//!
//! It registers a node, takes every pod, runs its containers as processes in namespaces, and serves the kubelet's own
//! API for logs, exec and port-forward. It is no control plane: what should run, the API server says. It never changes the host.
//!
//! Reading order: [`run`], [`watch`] (which pods), [`pod`] (one pod's life), [`runner`] (one container's), [`prepare`]
//! and [`container`] (how a container is made), [`api`].

pub(crate) mod container;

mod api;
mod arrivals;
mod context;
mod env;
mod etc;
mod facts;
mod images;
mod launch;
mod logs;
mod objects;
mod order;
mod pod;
mod prepare;
mod probes;
mod quantity;
mod register;
mod registry;
mod runner;
mod security;
mod status;
mod volumes;
mod watch;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use self::context::Node;
use self::images::{Images, ImagesError};
use self::launch::Launcher;
use self::order::Order;
use self::registry::Registry;
use crate::network::Network;
use crate::options::Programs;

/// What a node is made of.
#[derive(Clone, Debug)]
pub(crate) struct NodeConfig {
    /// The node's name.
    pub(crate) name: String,
    /// Its address, where the kubelet API listens.
    pub(crate) address: Ipv4Addr,
    /// An administrator's kubeconfig, usable inside the sandbox.
    pub(crate) kubeconfig: PathBuf,
    /// A folder for volumes and roots, empty at the start.
    pub(crate) state: PathBuf,
    /// A folder for the output of containers.
    pub(crate) logs: PathBuf,
    /// The certificate authorities that containers trust, where there is a list.
    pub(crate) authorities: Option<PathBuf>,
    /// Text of `fixtures/images.yaml`.
    pub(crate) images: String,
    /// The components images are made of.
    pub(crate) programs: Programs,
    /// Certificate of the kubelet API, PEM.
    pub(crate) kubelet_cert: PathBuf,
    /// Its key, PEM.
    pub(crate) kubelet_key: PathBuf,
    /// Who signs the certificates of its clients, PEM.
    pub(crate) client_ca: PathBuf,
    /// Address of the cluster's DNS Service.
    pub(crate) cluster_dns: Ipv4Addr,
    /// Address and port of the API server's Service.
    pub(crate) api_service: (Ipv4Addr, u16),
    /// Label of the pods that start before all others.
    pub(crate) first: Option<(String, String)>,
    /// Version the node says it has, without `v`.
    pub(crate) kubernetes_version: String,
}

/// What the node agent waits for; each is cancelled when it holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signs {
    /// Pods may be taken.
    pub(crate) pods: CancellationToken,
    /// Containers may be started: until then pods only get their network and volumes.
    pub(crate) containers: CancellationToken,
}

/// Why the node agent ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The table of images is not usable.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// It names a component that does not exist.
    #[error("images.yaml: {pattern:?} names component {component:?}, which is none of the sandbox's programs")]
    Component {
        /// The entry.
        pattern: String,
        /// The name.
        component: String,
    },
    /// The kubeconfig is not usable.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The API server refused the node.
    #[error("registering the node: {0}")]
    Register(#[source] Box<kube::Error>),
    /// The node's own files.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The kubelet API cannot be served.
    #[error("kubelet API: {0}")]
    Api(#[from] api::ApiError),
}

/// Runs the node until `shutdown`; then ends every container and returns. `ready` is told once the node is registered
/// and its API listens.
///
/// # Errors
/// When it cannot begin. Later faults of the API server are retried.
pub(crate) async fn run(
    config: NodeConfig,
    network: Arc<Network>,
    ready: oneshot::Sender<()>,
    signs: Signs,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    let images = Images::parse(&config.images)?;
    if let Some((pattern, name)) = images.components().find(|(_, c)| prepare::component(&config.programs, c).is_none())
    {
        return Err(NodeError::Component { pattern: pattern.to_owned(), component: name.to_owned() });
    }
    let client = client(&config).await?;
    let io = |what: &str, source| NodeError::Io { what: what.to_owned(), source };
    std::fs::create_dir_all(&config.state).map_err(|e| io("the node's folder", e))?;
    let launcher = Launcher::new(&config.state).map_err(|e| io("a read-only view of this program", e))?;
    let registry = Arc::new(Registry::default());
    let reporter = Reporter { controller: "egress-sandbox-node".into(), instance: Some(config.name.clone()) };
    let node = Arc::new(Node {
        recorder: Recorder::new(client.clone(), reporter),
        changes: broadcast::channel(1024).0,
        capacity: register::capacity(),
        order: Order::new(config.first.clone(), signs.containers),
        registry,
        arrivals: arrivals::Watcher::new().map_err(|e| io("watching logs", e))?,
        images,
        launcher,
        network,
        client,
        config,
    });
    let api = api::Server::bind(node.clone()).await?;
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(api.run(shutdown.clone()));
    tasks.spawn(note_arrivals(node.clone(), shutdown.clone()));
    register::register(&node.client, &node.config, node.capacity)
        .await
        .map_err(|e| NodeError::Register(Box::new(e)))?;
    tasks.spawn(register::renew(node.client.clone(), node.config.name.clone(), shutdown.clone()));
    tasks.spawn(objects::watch_changes(node.client.clone(), node.changes.clone(), shutdown.clone()));
    // Nobody may be waiting any more.
    let _ = ready.send(());
    tokio::select! {
        () = signs.pods.cancelled() => watch::run(node, shutdown).await,
        () = shutdown.cancelled() => {}
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

async fn note_arrivals(node: Arc<Node>, shutdown: CancellationToken) {
    tokio::select! {
        ended = node.arrivals.run() => if let Err(error) = ended {
            tracing::warn!(%error, "logs are no longer watched: their lines get the time at which they are read");
        },
        () = shutdown.cancelled() => {}
    }
}

async fn client(config: &NodeConfig) -> Result<kube::Client, NodeError> {
    let failed = |source| NodeError::Kubeconfig { path: config.kubeconfig.clone(), source: Box::new(source) };
    let file = kube::config::Kubeconfig::read_from(&config.kubeconfig).map_err(failed)?;
    let parsed = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(failed)?;
    kube::Client::try_from(parsed).map_err(|e| NodeError::Register(Box::new(e)))
}
