//! A kind cluster in a contained Docker engine as a [`Provider`].
//!
//! Only a translation between `egress-kind` and the runner. Start at [`KindProvider::start`].

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_component::ProgramName;
use egress_image::Images;
use egress_kind::{Kind, KindOptions, Phase};
use egress_sandbox::Names;
use external_server::client::ControlClient;
use futures::future::BoxFuture;

use super::{EnvironmentError, Provider};
use crate::components::image_error;
use crate::progress::Console;

/// A running kind cluster.
pub struct KindProvider {
    kind: Kind,
}

impl KindProvider {
    /// Makes missing images, starts an engine and a cluster in it; all of it ends with this process.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the part that failed and its last words.
    pub async fn start(
        images: &Images,
        name: String,
        timeout: Duration,
        console: &Console,
        phase: impl Fn(&Phase) + Send + Sync,
    ) -> Result<Self, EnvironmentError> {
        let made = images.ensure().await.map_err(|e| image_error(&e))?;
        let options = KindOptions {
            name,
            kind: images.programs.path(&ProgramName::KIND).to_owned(),
            kubectl: images.programs.path(&ProgramName::KUBECTL).to_owned(),
            images: made,
            dns: crate::embedded::text("workloads/dns.yaml").map_err(EnvironmentError::new)?.to_owned(),
            timeout,
        };
        let kind = Kind::start((&images.cache, &images.host), &options, console, &phase).await;
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
