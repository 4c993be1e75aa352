//! What the parts of the node agent share: the node itself, and one pod on it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodSpec};
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::{broadcast, watch};

use super::NodeConfig;
use super::arrivals;
use super::facts::{Capacity, Facts};
use super::images::Images;
use super::launch::Launcher;
use super::objects::Change;
use super::order::Order;
use super::registry::{PodEntry, Registry};
use super::status::PodState;
use crate::network::Network;

/// The node.
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) client: kube::Client,
    pub(crate) network: Arc<Network>,
    pub(crate) images: Images,
    pub(crate) launcher: Launcher,
    pub(crate) registry: Arc<Registry>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) recorder: Recorder,
    pub(crate) arrivals: arrivals::Watcher,
    pub(crate) capacity: Capacity,
    pub(crate) order: Order,
}

/// A pod with an address on the node.
pub(crate) struct PodContext {
    pub(crate) node: Arc<Node>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Volumes and containers' roots.
    pub(crate) folder: PathBuf,
    /// Containers' output.
    pub(crate) logs: PathBuf,
    pub(crate) pod: watch::Receiver<Arc<Pod>>,
    pub(crate) state: watch::Sender<PodState>,
    pub(crate) ip: Ipv4Addr,
    pub(crate) netns: PathBuf,
    pub(crate) entry: Arc<PodEntry>,
}

impl PodContext {
    /// The pod as last seen.
    pub(crate) fn object(&self) -> Arc<Pod> {
        self.pod.borrow().clone()
    }

    /// What the downward API says, for `pod`.
    pub(crate) fn facts<'a>(&'a self, pod: &'a Pod) -> Facts<'a> {
        self.node.facts(pod, self.ip)
    }

    /// Where a volume is on the node.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.folder.join("volumes").join(name)
    }
}

impl Node {
    /// What the downward API says of a pod.
    pub(crate) fn facts<'a>(&'a self, pod: &'a Pod, pod_ip: Ipv4Addr) -> Facts<'a> {
        Facts { pod, pod_ip, host_ip: self.config.address, node: &self.config.name, capacity: self.capacity }
    }

    /// Tells users of a problem, in `kubectl describe` and `kubectl get events`. Failing to is no problem of the pod.
    pub(crate) fn warn(self: &Arc<Self>, pod: &Pod, reason: &str, note: &str) {
        tracing::info!(pod = pod.metadata.name, reason, note, "pod");
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        // The API takes at most 1 kB.
        let note: String = note.chars().take(900).collect();
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Sync".to_owned(),
            secondary: None,
        };
        let node = self.clone();
        tokio::spawn(async move {
            if let Err(error) = node.recorder.publish(&event, &reference).await {
                tracing::debug!(%error, reason = event.reason, "an event was not recorded");
            }
        });
    }
}

/// A pod's spec; the API server never stores a pod without one.
pub(crate) fn spec(pod: &Pod) -> PodSpec {
    pod.spec.clone().unwrap_or_default()
}
