//! A kind cluster in a contained Docker engine as a [`Provider`].
//!
//! Only a translation between `egress-kind` and the runner. Start at [`KindStart::prepare`], then
//! [`KindProvider::start`].

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_component::{Cache, Host, ProgramName};
use egress_image::{Made, Silent};
use egress_kind::{ENGINE_ROOT, Kind, KindOptions, Phase};
use egress_sandbox::Names;
use external_server::client::ControlClient;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{EnvironmentError, Provider};
use crate::components::{self, image_error};
use crate::progress::Console;

/// The cluster's name. Each has an engine of its own, so names cannot meet.
const NAME: &str = "egress";

/// Everything that a kind cluster is started from, all of it made: what a client hands to the process that owns the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStart {
    /// The component cache, which also keeps the engine's data.
    pub cache: PathBuf,
    /// The images.
    pub images: Made,
    /// The program kind.
    pub kind: PathBuf,
    /// The program kubectl.
    pub kubectl: PathBuf,
    /// The program istioctl.
    pub istioctl: PathBuf,
}

impl KindStart {
    /// Makes what is missing: components, images, the engine's programs.
    ///
    /// # Errors
    /// [`EnvironmentError`] with what cannot be had.
    pub async fn prepare(console: &Console) -> Result<Self, EnvironmentError> {
        let images = components::images(console).await?;
        let made = images.ensure().await.map_err(|e| image_error(&e))?;
        ENGINE_ROOT.folder(&images.cache, &images.host, console).await.map_err(|e| image_error(&e))?;
        let program = |name: ProgramName| images.programs.path(&name).to_owned();
        Ok(Self {
            cache: images.cache.dir().to_owned(),
            images: made,
            kind: program(ProgramName::KIND),
            kubectl: program(ProgramName::KUBECTL),
            istioctl: program(ProgramName::ISTIOCTL),
        })
    }
}

/// A running kind cluster.
pub struct KindProvider {
    kind: Kind,
}

impl KindProvider {
    /// Starts an engine and a cluster in it; all of it ends with this process. `phase` hears what took how long.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the part that failed and its last words.
    pub async fn start(
        start: &KindStart,
        timeout: Duration,
        phase: impl Fn(&str, Duration) + Send + Sync,
    ) -> Result<Self, EnvironmentError> {
        let cache = Cache::open(start.cache.clone(), None).map_err(|e| components::component_error(&e))?;
        let options = KindOptions {
            name: NAME.to_owned(),
            kind: start.kind.clone(),
            kubectl: start.kubectl.clone(),
            images: start.images.clone(),
            dns: crate::embedded::text("workloads/dns.yaml").map_err(EnvironmentError::new)?.to_owned(),
            timeout,
        };
        let heard = |p: &Phase| phase(&p.name, p.took);
        let kind = Kind::start((&cache, &Host::current()), &options, &Silent, &heard).await;
        Ok(Self { kind: kind.map_err(|e| kind_error(&e))? })
    }

    /// The folder with the daemon's log. It goes with the cluster.
    #[must_use]
    pub fn logs(&self) -> Option<PathBuf> {
        Some(self.kind.logs())
    }
}

/// An error of the engine or of a cluster in it, with its causes and its own remedy.
#[must_use]
pub fn kind_error(error: &egress_kind::Error) -> EnvironmentError {
    let remedy = miette::Diagnostic::help(error).map(|help| help.to_string());
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    EnvironmentError { message, remedy }
}

impl Provider for KindProvider {
    fn kind(&self) -> &'static str {
        "kind"
    }

    fn kubeconfig(&self) -> &Path {
        self.kind.kubeconfig()
    }

    fn overlays(&self) -> &'static [&'static str] {
        &["mesh/data-plane/stock-envoy.yaml", "mesh/data-plane/own-images.yaml"]
    }

    /// The same as the sandbox's, so that reports of both can be compared line by line.
    fn address_pool(&self) -> Vec<Ipv4Addr> {
        (78..=120).map(|last| Ipv4Addr::new(192, 168, 0, last)).collect()
    }

    fn unused_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 0, 200)
    }

    fn capabilities(&self) -> &'static [&'static str] {
        &["egress-gateway", "source-address"]
    }

    fn set_outside<'a>(
        &'a self,
        addresses: Vec<Ipv4Addr>,
        names: Names,
    ) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let names = serde_json::to_string(&names)
                .map_err(|e| EnvironmentError::new(format!("external names cannot be written: {e}")))?;
            self.kind.set_outside(&addresses, &names).await.map_err(|e| kind_error(&e))
        })
    }

    fn servers(&self) -> ControlClient {
        ControlClient::unix(self.kind.servers())
    }

    fn faults(&self) -> Vec<String> {
        self.kind.take_deaths()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>> {
        Box::pin(async move { self.kind.stop().await.map_err(|e| kind_error(&e)) })
    }
}
