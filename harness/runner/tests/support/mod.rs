//! A mesh for tests: every test process has a part in one and the same, which its first test joins.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress_component::Versions;
use egress_conformance::cluster::kind::KindChoice;
use egress_conformance::cluster::preflight;
use egress_conformance::components;
use egress_conformance::progress::{Console, Quiet};
use egress_conformance::schedule::session::{Session, SessionOptions, default_jobs};
use egress_conformance::supervisor::link::NotJoined;
use egress_conformance::supervisor::protocol::Purpose;
use egress_core::report::ScenarioResult;
use egress_core::scenario::{ClusterKind, Plan, Planned, ScenarioSet, Selection, plan};
use tokio::runtime::Runtime;

/// The kind of cluster that the tests run on: `EGRESS_CLUSTER=kind`, or a sandbox.
fn cluster() -> Result<ClusterKind, String> {
    match std::env::var("EGRESS_CLUSTER").as_deref() {
        Ok("kind") => Ok(ClusterKind::Kind),
        Ok("sandbox" | "") | Err(_) => Ok(ClusterKind::Sandbox),
        Ok(other) => Err(format!("EGRESS_CLUSTER={other}: expected sandbox or kind")),
    }
}

/// This process's part in the mesh.
pub(crate) struct Mesh {
    /// What may be run.
    pub(crate) plan: Plan,
    cluster: ClusterKind,
    kind: KindChoice,
    versions: Versions,
    runtime: Runtime,
    session: Mutex<Option<Arc<Session>>>,
    console: Console,
}

impl Mesh {
    /// For the scenarios of a set; nothing is started yet.
    pub(crate) fn of(set: &ScenarioSet) -> Result<Arc<Self>, String> {
        let cluster = cluster()?;
        let versions = components::versions_of_environment()?;
        let kind = KindChoice::from_env()?.at(versions.istio.as_deref())?;
        let mut circumstances = components::circumstances(cluster, &versions).map_err(|e| e.to_string())?;
        if cluster == ClusterKind::Kind {
            circumstances = kind.circumstances(circumstances);
        }
        Ok(Arc::new(Self {
            cluster,
            kind,
            plan: plan(set, &Selection::default(), &circumstances).map_err(|e| e.render())?,
            versions,
            runtime: Runtime::new().map_err(|e| e.to_string())?,
            session: Mutex::new(None),
            console: Console::new(),
        }))
    }

    /// Why no mesh can be had here, if none can.
    pub(crate) fn unfit() -> Option<String> {
        preflight().err().map(|e| match &e.remedy {
            Some(remedy) => format!("{e}; {remedy}"),
            None => e.to_string(),
        })
    }

    fn session(&self, profile: &str) -> Result<Arc<Session>, String> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let options = SessionOptions {
            cluster: self.cluster,
            versions: self.versions.clone(),
            kind: self.kind.clone(),
            profile: profile.to_owned(),
            timeout: Duration::from_secs(180),
            purpose: Purpose::Test,
            jobs: default_jobs(),
            logs: None,
            snapshots: true,
        };
        let joined = self.runtime.block_on(Session::join(&options, &self.plan.world, &self.console, pending()));
        let joined = joined.map_err(|not_joined| match not_joined {
            NotJoined::BrokenOff => "no mesh: interrupted".to_owned(),
            NotJoined::Environment(e) => format!("no mesh: {e}\n{}", e.remedy.as_deref().unwrap_or_default()),
        })?;
        Ok(Arc::clone(session.insert(Arc::new(joined))))
    }

    /// Runs a scenario. A mesh that is lost is left; the next one begins with another.
    pub(crate) fn run(&self, planned: &Planned) -> Result<ScenarioResult, String> {
        let session = self.session(&planned.scenario.file.mesh)?;
        let ran = self.runtime.block_on(async {
            let mut worker = session.worker().await?;
            let ran = session.run(&mut worker, planned, &Quiet).await;
            worker.finish().await;
            ran
        });
        if !matches!(ran, Ok((_, None))) {
            self.session.lock().unwrap_or_else(PoisonError::into_inner).take_if(|s| Arc::ptr_eq(s, &session));
        }
        ran.map(|(result, _)| result).map_err(|e| e.to_string())
    }

    /// Leaves the mesh.
    pub(crate) fn leave(&self) -> Result<(), String> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        match session.and_then(Arc::into_inner) {
            Some(session) => self.runtime.block_on(session.leave()).map(drop).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }
}
