//! Names of the components, the one vocabulary shared by pins, cache and callers.
//!
//! Never says where a component comes from: that is [`crate::Pins`]. Start at [`ProgramName`].

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a component as the pins write it, for instance `kube-apiserver`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramName(Cow<'static, str>);

impl ProgramName {
    /// The key-value store behind the API server.
    pub const ETCD: Self = Self::known("etcd");
    /// The Kubernetes API server.
    pub const KUBE_APISERVER: Self = Self::known("kube-apiserver");
    /// The Kubernetes controllers.
    pub const KUBE_CONTROLLER_MANAGER: Self = Self::known("kube-controller-manager");
    /// The service proxy of a node.
    pub const KUBE_PROXY: Self = Self::known("kube-proxy");
    /// The Kubernetes command line.
    pub const KUBECTL: Self = Self::known("kubectl");
    /// Istio's control plane (istiod).
    pub const PILOT_DISCOVERY: Self = Self::known("pilot-discovery");
    /// Istio's agent beside each Envoy.
    pub const PILOT_AGENT: Self = Self::known("pilot-agent");
    /// Istio's command line.
    pub const ISTIOCTL: Self = Self::known("istioctl");
    /// The proxy.
    pub const ENVOY: Self = Self::known("envoy");
    /// The bootstrap template from which pilot-agent writes Envoy's configuration: a file.
    pub const ENVOY_BOOTSTRAP: Self = Self::known("envoy-bootstrap");
    /// The Kubernetes scheduler.
    pub const KUBE_SCHEDULER: Self = Self::known("kube-scheduler");
    /// The Kubernetes node agent.
    pub const KUBELET: Self = Self::known("kubelet");
    /// Makes a control plane on a node.
    pub const KUBEADM: Self = Self::known("kubeadm");
    /// Kubernetes in Docker.
    pub const KIND: Self = Self::known("kind");
    /// The static files of a kind node's image: a folder, of which the path names `usr/local/bin/entrypoint`.
    pub const KIND_BASE: Self = Self::known("kind-base");
    /// The container runtime of a node.
    pub const CONTAINERD: Self = Self::known("containerd");
    /// containerd's own command line.
    pub const CTR: Self = Self::known("ctr");
    /// What containerd starts for each pod.
    pub const CONTAINERD_SHIM: Self = Self::known("containerd-shim-runc-v2");
    /// The command line of the container runtime interface.
    pub const CRICTL: Self = Self::known("crictl");
    /// Network plugin: a routed veth pair for each pod.
    pub const CNI_PTP: Self = Self::known("cni-ptp");
    /// Network plugin: the loopback device.
    pub const CNI_LOOPBACK: Self = Self::known("cni-loopback");
    /// Network plugin: addresses from a range of this node.
    pub const CNI_HOST_LOCAL: Self = Self::known("cni-host-local");
    /// Network plugin: ports of the host.
    pub const CNI_PORTMAP: Self = Self::known("cni-portmap");
    /// The Go toolchain, fetched only where no suitable Go is installed.
    pub const GO: Self = Self::known("go");

    const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A name that is not one of the constants, as pins of other sets may have.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The environment variable that overrides this component with a path:
    /// `EGRESS_CONFORMANCE_KUBE_APISERVER` for `kube-apiserver`.
    pub fn variable(&self) -> String {
        let upper: String =
            self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        format!("EGRESS_CONFORMANCE_{upper}")
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_is_upper_case_with_underscores() {
        assert_eq!(ProgramName::KUBE_APISERVER.variable(), "EGRESS_CONFORMANCE_KUBE_APISERVER");
        assert_eq!(ProgramName::new("a.b-c").variable(), "EGRESS_CONFORMANCE_A_B_C");
    }

    #[test]
    fn constant_equals_parsed_name() {
        assert_eq!(ProgramName::ENVOY, ProgramName::new("envoy"));
    }
}
