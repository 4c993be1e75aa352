//! The sandbox as a [`Provider`].
//!
//! Only a translation between `egress-sandbox` and the runner; it starts nothing but the sandbox. Start at
//! [`SandboxProvider::start`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use egress_component::{ProgramName, Programs};
use egress_core::scenario::Capability;
use egress_sandbox::{Event, Names, Options, Restore, Sandbox};
use external_server::client::ControlClient;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::extensions::has_istio_extensions;
use super::istio::ISTIOD_LABEL;
use super::{EnvironmentError, Provider, capabilities};

/// What a sandbox's data plane needs beside a profile if it runs stock Envoy.
const STOCK_ENVOY: &[&str] = &["mesh/data-plane/stock-envoy.yaml"];
/// Stands in `images.yaml` for the version of Istio.
const ISTIO_VERSION: &str = "${istio.version}";

/// What a sandbox is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxStart {
    /// Its programs.
    pub programs: egress_sandbox::Programs,
    /// The version of Kubernetes.
    pub kubernetes_version: String,
    /// The version of Istio.
    pub istio_version: String,
    /// Whether Envoy has Istio's extensions.
    pub istio_extensions: bool,
}

impl SandboxStart {
    /// Makes ready what components there are, and asks an Envoy that came from an image what it can do.
    ///
    /// # Errors
    /// [`EnvironmentError`] when Envoy cannot be used, or is not what Istio's images promise.
    pub async fn prepare(cached: &Programs, promised: bool) -> Result<Self, EnvironmentError> {
        let version = |name: &ProgramName| cached.get(name).map(|p| p.version.clone()).unwrap_or_default();
        if promised && !has_istio_extensions(cached.path(&ProgramName::ENVOY)).await? {
            return Err(EnvironmentError::new("the Envoy of Istio's image lacks Istio's extensions").with_remedy(
                "is it an official image? With --envoy-version upstream's Envoy is used, and the extensions are off",
            ));
        }
        Ok(Self {
            programs: programs(cached),
            kubernetes_version: version(&ProgramName::KUBE_APISERVER),
            istio_version: version(&ProgramName::PILOT_DISCOVERY),
            istio_extensions: promised,
        })
    }

    /// What its data plane needs beside a profile.
    #[must_use]
    pub fn overlays(&self) -> &'static [&'static str] {
        if self.istio_extensions { &[] } else { STOCK_ENVOY }
    }
}

/// A running sandbox.
pub struct SandboxProvider {
    sandbox: Sandbox,
    capabilities: Vec<Capability>,
    overlays: &'static [&'static str],
    /// What broke so far: the sandbox tells each only once.
    faults: Mutex<Vec<String>>,
}

/// The sandbox's own names for the programs that the component cache holds.
fn programs(cached: &Programs) -> egress_sandbox::Programs {
    let path = |name: ProgramName| cached.path(&name).to_path_buf();
    egress_sandbox::Programs {
        etcd: path(ProgramName::ETCD),
        kube_apiserver: path(ProgramName::KUBE_APISERVER),
        kube_controller_manager: path(ProgramName::KUBE_CONTROLLER_MANAGER),
        kube_proxy: path(ProgramName::KUBE_PROXY),
        pilot_discovery: path(ProgramName::PILOT_DISCOVERY),
        pilot_agent: path(ProgramName::PILOT_AGENT),
        envoy: path(ProgramName::ENVOY),
        envoy_bootstrap: path(ProgramName::ENVOY_BOOTSTRAP),
        kubectl: path(ProgramName::KUBECTL),
        istioctl: path(ProgramName::ISTIOCTL),
    }
}

impl SandboxProvider {
    /// Starts a sandbox that ends with this process, from `snapshot` if there is one.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the part that failed and its last words.
    pub async fn start(
        start: SandboxStart,
        snapshot: Option<PathBuf>,
        timeout: Duration,
        progress: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Self, EnvironmentError> {
        let images = crate::embedded::text("images.yaml").map_err(EnvironmentError::new)?;
        let images = images.replace(ISTIO_VERSION, &start.istio_version);
        let (istio_extensions, overlays) = (start.istio_extensions, start.overlays());
        let SandboxStart { programs, kubernetes_version, .. } = start;
        let first = ISTIOD_LABEL.map(str::to_owned).into();
        let restore = snapshot.map(|snapshot| Restore { snapshot, first: Some(first) });
        let options = Options { programs, images, kubernetes_version, log_dir: None, restore, timeout };
        let sandbox = Sandbox::start(options, progress).await.map_err(|e| {
            EnvironmentError::new(format!("the sandbox did not start: {e}"))
                .with_remedy("`egress-conformance doctor` tells what this machine lacks")
        })?;
        Ok(Self { sandbox, capabilities: capabilities(istio_extensions), overlays, faults: Mutex::default() })
    }
}

impl Provider for SandboxProvider {
    fn kind(&self) -> &'static str {
        "sandbox"
    }

    fn kubeconfig(&self) -> &Path {
        self.sandbox.kubeconfig()
    }

    fn overlays(&self) -> &'static [&'static str] {
        self.overlays
    }

    fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    fn set_outside<'a>(
        &'a self,
        addresses: Vec<Ipv4Addr>,
        names: Names,
    ) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let failed = |e| EnvironmentError::new(format!("the world outside could not be set up: {e}"));
            self.sandbox.set_outside_addresses(addresses).await.map_err(failed)?;
            self.sandbox.set_names(names).await.map_err(failed)
        })
    }

    fn trust<'a>(&'a self, authority: Option<String>) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let trusted = self.sandbox.trust(authority).await;
            trusted.map_err(|e| EnvironmentError::new(format!("the servers' authority cannot be trusted: {e}")))
        })
    }

    fn servers(&self) -> ControlClient {
        ControlClient::unix(self.sandbox.world_socket())
    }

    fn logs(&self) -> Option<PathBuf> {
        Some(self.sandbox.logs_dir().to_owned())
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(self.sandbox.take_faults().iter().map(ToString::to_string));
        faults.clone()
    }

    fn save<'a>(&'a self, into: &'a Path) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let saved = self.sandbox.save(into).await;
            saved.map_err(|e| EnvironmentError::new(format!("the sandbox could not be saved: {e}")))
        })
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let stopped = self.sandbox.stop().await;
            stopped.map_err(|e| EnvironmentError::new(format!("the sandbox did not end cleanly: {e}")))
        })
    }
}

/// Addresses by host name, as the sandbox's DNS takes them.
#[must_use]
pub fn names(addresses: &BTreeMap<String, Vec<Ipv4Addr>>) -> Names {
    addresses
        .iter()
        .map(|(host, addresses)| {
            let answer = if addresses.is_empty() {
                egress_sandbox::NameAnswer::NxDomain
            } else {
                egress_sandbox::NameAnswer::Addresses(addresses.iter().map(|a| (*a).into()).collect())
            };
            (host.clone(), answer)
        })
        .collect()
}
