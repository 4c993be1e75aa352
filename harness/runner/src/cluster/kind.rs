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
use tokio_util::sync::CancellationToken;

use super::{EnvironmentError, Provider};
use crate::components;
use crate::progress::{Console, Progress};

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
        let made = images.ensure().await.map_err(|e| EnvironmentError::of(&e))?;
        ENGINE_ROOT.folder(&images.cache, &images.host, console).await.map_err(|e| EnvironmentError::of(&e))?;
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
    /// Starts an engine and a cluster in it; all of it ends with this process.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the part that failed and its last words.
    pub async fn start(
        start: KindStart,
        timeout: Duration,
        progress: impl Progress + 'static,
    ) -> Result<Self, EnvironmentError> {
        let cache = Cache::open(start.cache, None).map_err(|e| EnvironmentError::of(&e))?;
        let options = KindOptions {
            name: NAME.to_owned(),
            kind: start.kind,
            kubectl: start.kubectl,
            images: start.images,
            dns: crate::embedded::text("workloads/dns.yaml").map_err(EnvironmentError::new)?.to_owned(),
            timeout,
        };
        // Its futures stay on one thread, so they get one; what ends this one ends them.
        let stop = CancellationToken::new();
        let (stopped, _ended_with_this) = (stop.clone(), stop.drop_guard());
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            let phase = |phase: &Phase| progress.phase(&phase.name, phase.took);
            let host = Host::current();
            runtime.block_on(async {
                tokio::select! {
                    kind = Kind::start((&cache, &host), &options, &Silent, &phase) => Some(kind),
                    () = stopped.cancelled() => None,
                }
            })
        });
        match started.await {
            Ok(Some(Ok(kind))) => Ok(Self { kind }),
            Ok(Some(Err(error))) => Err(EnvironmentError::of(&error)),
            Ok(None) | Err(_) => Err(EnvironmentError::new("the start of the kind cluster was broken off")),
        }
    }
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

    fn set_outside<'a>(
        &'a self,
        addresses: Vec<Ipv4Addr>,
        names: Names,
    ) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let names = serde_json::to_string(&names)
                .map_err(|e| EnvironmentError::new(format!("external names cannot be written: {e}")))?;
            self.kind.set_outside(&addresses, &names).await.map_err(|e| EnvironmentError::of(&e))
        })
    }

    fn servers(&self) -> ControlClient {
        ControlClient::unix(self.kind.servers())
    }

    fn save<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async { Err(EnvironmentError::new("a kind cluster cannot be saved")) })
    }

    fn logs(&self) -> Option<PathBuf> {
        Some(self.kind.logs())
    }

    fn faults(&self) -> Vec<String> {
        self.kind.take_deaths()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>> {
        Box::pin(async move { self.kind.stop().await.map_err(|e| EnvironmentError::of(&e)) })
    }
}
