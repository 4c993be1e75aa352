//! The cluster that scenarios run on: who provides it ([`Provider`]), Istio's installation ([`istio`]), objects
//! ([`objects`]) and commands in containers ([`exec`]).
//!
//! Everything above this module sees a kubeconfig and a world of external servers, and does not know which kind of
//! cluster it is. Start at [`Provider`].

pub mod exec;
pub mod extensions;
pub mod forward;
pub mod inventory;
pub mod istio;
pub mod kind;
pub mod objects;
pub mod sandbox;
pub mod saved;
pub mod workload;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use egress_core::scenario::Capability;
use egress_sandbox::Names;
use external_server::client::ControlClient;
use futures::future::BoxFuture;

/// The environment is not fit, or broke: neither the mesh nor a scenario is to blame.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct EnvironmentError {
    /// What is wrong, and where.
    pub message: String,
    /// What to do about it.
    #[help]
    pub remedy: Option<String>,
}

impl EnvironmentError {
    /// An error without a remedy of its own.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: None }
    }

    /// Any error with its causes and, if it has one, its own remedy.
    #[must_use]
    pub fn of(error: &(dyn miette::Diagnostic + 'static)) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self { message, remedy: error.help().map(|help| help.to_string()) }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What every cluster can do that we make; Istio's own Envoy has extensions that the stock one lacks.
#[must_use]
pub fn capabilities(istio_extensions: bool) -> Vec<Capability> {
    use Capability::{EgressGateway, IstioExtensions, PublicInternet, SourceAddress};
    let always = [EgressGateway, SourceAddress, PublicInternet];
    always.into_iter().chain(istio_extensions.then_some(IstioExtensions)).collect()
}

/// Makes one kind of cluster and the world outside it.
pub trait Provider: Send + Sync {
    /// The word for `--cluster` and reports.
    fn kind(&self) -> &'static str;

    /// An administrator's kubeconfig that works from this process.
    fn kubeconfig(&self) -> &Path;

    /// IstioOperator files (paths below `fixtures/mesh/`) that this kind's data plane needs beside a profile.
    fn overlays(&self) -> &'static [&'static str];

    /// Settings of the installation beside the files, as `istioctl install --set` takes them.
    fn settings(&self) -> &[String] {
        &[]
    }

    /// Addresses that external servers may have. They are the same in all clusters that we make, so that reports can be
    /// compared line by line.
    fn address_pool(&self) -> Vec<Ipv4Addr> {
        (78..=199).map(|last| Ipv4Addr::new(192, 168, 0, last)).collect()
    }

    /// An address of their network that is routed, where nobody answers.
    fn unused_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 0, 200)
    }

    /// What this cluster can do, by the words of a scenario's `requires`.
    fn capabilities(&self) -> &[Capability];

    /// Gives the world outside these addresses and names; both are in force when it returns.
    fn set_outside<'a>(&'a self, addresses: Vec<Ipv4Addr>, names: Names)
    -> BoxFuture<'a, Result<(), EnvironmentError>>;

    /// Has every pod trust this certificate authority (PEM) as one of its system's own; `None`: none but its own.
    fn trust<'a>(&'a self, authority: Option<String>) -> BoxFuture<'a, Result<(), EnvironmentError>>;

    /// The control of the external servers.
    fn servers(&self) -> ControlClient;

    /// The folder with the logs of the cluster's parts, where there is one. It goes with the cluster.
    fn logs(&self) -> Option<PathBuf>;

    /// What broke so far: components that died, each with its last words. It does not mend by itself, so whoever asks
    /// is told, side by side or one after another.
    fn faults(&self) -> Vec<String>;

    /// Keeps the cluster's state of this moment in a new folder, from which another of its kind can start.
    fn save<'a>(&'a self, into: &'a Path) -> BoxFuture<'a, Result<(), EnvironmentError>>;

    /// Ends everything and checks that nothing is left.
    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>>;
}

/// Whether a sandbox can be started at all by this user on this system. The program must begin with
/// [`egress_sandbox::run_if_child`].
///
/// # Errors
/// [`EnvironmentError`] with what is missing; `doctor` looks closer.
pub fn preflight() -> Result<(), EnvironmentError> {
    if !cfg!(target_os = "linux") {
        return Err(EnvironmentError::new("a sandbox needs Linux"));
    }
    egress_sandbox::preflight()
        .map_err(|e| EnvironmentError::new(format!("this user cannot have a sandbox: {e}")).with_remedy(e.remedy()))
}
