//! A session: a mesh that comes up with the first scenario and serves all of one run.
//!
//! It brings up, switches profiles, and takes down; the engine runs the scenarios. Start at [`Session::start`].

use std::path::PathBuf;
use std::time::Duration;

use egress_component::ProgramName;
use egress_core::report::{ClusterInfo, ScenarioResult};
use egress_core::scenario::{Scenario, World as WorldPlan};

use super::engine::Engine;
use super::world;
use crate::cluster::sandbox::{self, SandboxProvider};
use crate::cluster::{EnvironmentError, Provider, preflight};
use crate::components::{SANDBOX_PROGRAMS, component_error, store};
use crate::mesh::Mesh;
use crate::progress::{Console, Progress};

/// What a session is made with.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The profile that comes up first.
    pub profile: String,
    /// How long each step of the start may take.
    pub timeout: Duration,
    /// Where the components' logs are kept after the end.
    pub logs: Option<PathBuf>,
}

/// Makes missing components, starts a sandbox and installs Istio.
///
/// # Errors
/// [`EnvironmentError`]: what is missing or did not come up, with a remedy where there is one.
pub async fn start_mesh(
    options: &SessionOptions,
    console: &Console,
) -> Result<(Mesh, egress_component::Programs), EnvironmentError> {
    preflight()?;
    let store = store()?;
    let programs = store.ensure(&SANDBOX_PROGRAMS, console).await.map_err(|e| component_error(&e))?;
    let kubernetes = programs.get(&ProgramName::KUBE_APISERVER).map(|p| p.version.clone()).unwrap_or_default();
    let start = std::time::Instant::now();
    let listener = console.clone();
    let provider = SandboxProvider::start(
        sandbox::programs(&programs),
        kubernetes,
        options.logs.clone(),
        options.timeout,
        move |event| listener.sandbox_event(&event),
    )
    .await?;
    let istioctl = programs.path(&ProgramName::ISTIOCTL).to_path_buf();
    let run = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
    let provider: Box<dyn Provider> = Box::new(provider);
    let mesh = Mesh::up(provider, istioctl, &options.profile, &run, options.timeout, console).await?;
    console.phase("mesh up", start.elapsed());
    Ok((mesh, programs))
}

/// A mesh with its world, ready for scenarios.
pub struct Session {
    engine: Engine,
    console: Console,
}

impl Session {
    /// Brings up a mesh and the world of a plan.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up. Nothing is left then.
    pub async fn start(
        options: &SessionOptions,
        plan: &WorldPlan,
        console: &Console,
    ) -> Result<Self, EnvironmentError> {
        let (mesh, _) = start_mesh(options, console).await?;
        match world::deploy(&*mesh.provider, plan).await {
            Ok(world) => Ok(Self { engine: Engine::new(mesh, world), console: console.clone() }),
            Err(error) => {
                if let Err(also) = mesh.provider.stop().await {
                    tracing::warn!("{also}");
                }
                Err(error)
            }
        }
    }

    /// What is known about the cluster, for the report.
    #[must_use]
    pub fn cluster(&self) -> ClusterInfo {
        let mesh = &self.engine.mesh;
        ClusterInfo {
            kind: mesh.provider.kind().to_owned(),
            istio: mesh.versions.istio.clone(),
            envoy: mesh.versions.envoy.clone(),
            kubernetes: mesh.versions.kubernetes.clone(),
            capabilities: mesh.provider.capabilities().iter().map(|c| (*c).to_owned()).collect(),
            namespace: mesh.slot.namespace.clone(),
            servers: self.engine.world.destinations.clone(),
        }
    }

    /// Runs one scenario under its profile.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the profile cannot be put in force; the mesh is of no use then.
    pub async fn run(&mut self, scenario: &Scenario) -> Result<ScenarioResult, EnvironmentError> {
        self.engine.mesh.switch(&scenario.file.mesh, &self.console).await?;
        Ok(self.engine.scenario(scenario).await)
    }

    /// Takes everything down and checks that nothing is left.
    ///
    /// # Errors
    /// [`EnvironmentError`] with what is left.
    pub async fn stop(self) -> Result<(), EnvironmentError> {
        let Engine { mesh, .. } = self.engine;
        mesh.provider.stop().await
    }
}
