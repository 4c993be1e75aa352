//! What a sandbox is started with. Plain data; it crosses to the child as JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The real programs a sandbox runs, as files of the host. The crate `egress-component` finds or
/// builds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// `etcd`, the API server's store.
    pub etcd: PathBuf,
    /// `kube-apiserver`.
    pub kube_apiserver: PathBuf,
    /// `kube-controller-manager`.
    pub kube_controller_manager: PathBuf,
    /// `kube-proxy`.
    pub kube_proxy: PathBuf,
    /// istiod (`pilot-discovery`), for pods.
    pub pilot_discovery: PathBuf,
    /// `pilot-agent`, for pods.
    pub pilot_agent: PathBuf,
    /// Envoy, for pods.
    pub envoy: PathBuf,
    /// Envoy's bootstrap template (`envoy_bootstrap_tmpl.json`), for pods.
    pub envoy_bootstrap: PathBuf,
    /// `kubectl`, for people and tests.
    pub kubectl: PathBuf,
    /// `istioctl`, which installs Istio.
    pub istioctl: PathBuf,
}

impl Programs {
    /// Every file, with the name people know it by.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Path); 10] {
        [
            ("etcd", &self.etcd),
            ("kube-apiserver", &self.kube_apiserver),
            ("kube-controller-manager", &self.kube_controller_manager),
            ("kube-proxy", &self.kube_proxy),
            ("pilot-discovery", &self.pilot_discovery),
            ("pilot-agent", &self.pilot_agent),
            ("envoy", &self.envoy),
            ("envoy-bootstrap", &self.envoy_bootstrap),
            ("kubectl", &self.kubectl),
            ("istioctl", &self.istioctl),
        ]
    }
}

/// A start from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The snapshot's folder, made by [`Sandbox::save`](crate::Sandbox::save).
    pub snapshot: PathBuf,
    /// Name and value of a label: the snapshot's pods with it start first, all others once one of those is ready. Pods
    /// that look in vain for what they depend on would try again only after some time.
    pub first: Option<(String, String)>,
}

/// What a sandbox is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// The programs to run.
    pub programs: Programs,
    /// Text of `fixtures/images.yaml`: which image references mean which programs.
    pub images: String,
    /// Version of Kubernetes, such as `1.36.3`, without `v`.
    pub kubernetes_version: String,
    /// A folder of the host where every component's log is copied when the sandbox stops.
    pub log_dir: Option<PathBuf>,
    /// What to start from; without it the cluster is empty.
    pub restore: Option<Restore>,
    /// How long the start may take in all.
    pub timeout: Duration,
}
