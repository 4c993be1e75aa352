//! A kind cluster as a [`Provider`]: in a contained Docker engine or in the machine's Docker, with images made here or given.
//!
//! Only a translation between `egress-kind` and the runner. Start at [`KindChoice`], then [`KindStart::prepare`] and
//! [`KindProvider::start`].

mod choice;
mod start;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_component::{Cache, Host};
use egress_core::scenario::Capability;
use egress_image::Silent;
use egress_kind::{Control, Kind, KindOptions, Phase, Where};
use egress_sandbox::Names;
use external_server::client::ControlClient;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{EnvironmentError, Provider};
use crate::progress::Progress;

pub use choice::{EngineChoice, KindChoice, PullPolicy};
pub use start::KindStart;

/// A running kind cluster.
pub struct KindProvider {
    kind: Kind,
    settings: Vec<String>,
    capabilities: Vec<Capability>,
}

impl KindProvider {
    /// Starts a cluster, in an engine that ends with this process or in the machine's Docker, unless `stop` comes first.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the part that failed and its last words; then nothing is left.
    pub async fn start(
        start: KindStart,
        timeout: Duration,
        progress: impl Progress + 'static,
        stop: CancellationToken,
    ) -> Result<Self, EnvironmentError> {
        let cache = Cache::open(start.cache, None).map_err(|e| EnvironmentError::of(&e))?;
        let docker = match start.machine {
            Some(found) => Where::Machine(found),
            None => {
                let address = std::env::var("DOCKER_HOST").unwrap_or_default();
                Where::Own(address.trim_start_matches("unix://").into())
            }
        };
        let options = KindOptions {
            docker,
            name: start.name,
            kind: start.kind,
            kubectl: start.kubectl,
            node: start.node,
            config: start.config,
            outside: start.outside,
            inside: start.inside,
            dns: crate::embedded::text("workloads/dns.yaml").map_err(EnvironmentError::new)?.to_owned(),
            timeout,
        };
        let (settings, capabilities) = (start.settings, start.capabilities);
        // Its futures stay on one thread, so they get one; what drops this one breaks them off.
        let stop = stop.child_token();
        let (stopped, _ended_with_this) = (stop.clone(), stop.drop_guard());
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            let phase = |phase: &Phase| progress.phase(&phase.name, phase.took);
            let host = Host::current();
            let started = Kind::start((&cache, &host), &options, &Silent, &phase, stopped.cancelled());
            runtime.block_on(started).map_err(|error| EnvironmentError::of(&error))
        });
        match started.await {
            Ok(started) => started.map(|kind| Self { kind, settings, capabilities }),
            Err(error) => Err(EnvironmentError::new(format!("the start of the kind cluster ended: {error}"))),
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
        if self.capabilities.contains(&Capability::IstioExtensions) {
            &["mesh/data-plane/small.yaml"]
        } else {
            &["mesh/data-plane/stock-envoy.yaml", "mesh/data-plane/small.yaml"]
        }
    }

    fn settings(&self) -> &[String] {
        &self.settings
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
            let names = serde_json::to_string(&names)
                .map_err(|e| EnvironmentError::new(format!("external names cannot be written: {e}")))?;
            self.kind.set_outside(&addresses, &names).await.map_err(|e| EnvironmentError::of(&e))
        })
    }

    fn trust<'a>(&'a self, authority: Option<String>) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move { self.kind.trust(authority.as_deref()).await.map_err(|e| EnvironmentError::of(&e)) })
    }

    fn servers(&self) -> ControlClient {
        match self.kind.servers() {
            Control::Unix(path) => ControlClient::unix(path),
            Control::Tcp(address) => ControlClient::tcp(address),
        }
    }

    fn save<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async { Err(EnvironmentError::new("a kind cluster cannot be saved")) })
    }

    fn logs(&self) -> Option<PathBuf> {
        self.kind.logs()
    }

    fn faults(&self) -> Vec<String> {
        self.kind.take_deaths()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>> {
        Box::pin(async move { self.kind.stop().await.map_err(|e| EnvironmentError::of(&e)) })
    }
}
