//! A session: this process's part in a mesh that others may share. It runs scenarios, each under a lease.
//!
//! The supervisor owns the mesh and cleans up; the engine runs the steps. Start at [`Session::join`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use egress_component::{ProgramName, Programs, Versions};
use egress_core::report::{self, ClusterInfo, Outcome, ScenarioResult};
use egress_core::scenario::{ClusterKind, Lease, Locks, Planned, World as WorldPlan};
use external_server::client::ControlClient;
use tokio::sync::Mutex;

use super::engine;
use super::stage::Stage;
use super::world::World;
use crate::cluster::kind::{KindChoice, KindStart};
use crate::cluster::objects::Objects;
use crate::cluster::sandbox::SandboxStart;
use crate::cluster::saved::Shelf;
use crate::cluster::workload::{Logs, PodFacts, Workload};
use crate::cluster::{EnvironmentError, preflight};
use crate::components::{self, SANDBOX_PROGRAMS, store, store_at};
use crate::gate::Gate;
use crate::mesh::{connect, profile};
use crate::progress::{Console, Progress};
use crate::supervisor::link::{Link, NotJoined};
use crate::supervisor::protocol::{ClusterStart, Fate, Grant, Purpose, Start, Wanted, Welcome};

/// What a session is made with.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Which kind of cluster.
    pub cluster: ClusterKind,
    /// What it is made of, where that is not the usual.
    pub versions: Versions,
    /// How a kind cluster is wanted.
    pub kind: KindChoice,
    /// The profile that comes up first, if the mesh is not up yet.
    pub profile: String,
    /// How long each step of the mesh's start may take.
    pub timeout: Duration,
    /// Until when the mesh is wanted.
    pub purpose: Purpose,
    /// How many scenarios may run side by side.
    pub jobs: usize,
    /// Whether a mesh may start from a snapshot, and leave one.
    pub snapshots: bool,
    /// Where the logs of the cluster's parts are kept, if they are.
    pub logs: Option<PathBuf>,
}

/// How many scenarios run side by side if nobody says: as many as there are processors, up to 4.
#[must_use]
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(4))
}

/// A part in a mesh.
pub struct Session {
    /// What the supervisor told of the mesh.
    pub welcome: Welcome,
    /// The programs that it was made of.
    pub programs: Programs,
    link: Link,
    objects: Objects,
    logs: Arc<Logs>,
    gates: Mutex<BTreeMap<String, Arc<Gate>>>,
    world: Arc<World>,
    jobs: usize,
}

/// One of the hands of a session: it runs one scenario at a time.
pub struct Worker {
    link: Link,
}

/// Makes what a kind of cluster is made of, as far as it is missing. Beside it come the programs for people.
async fn prepare(options: &SessionOptions, console: &Console) -> Result<(ClusterStart, Programs), EnvironmentError> {
    match options.cluster {
        ClusterKind::Sandbox => {
            preflight()?;
            let store = store_at(&options.versions)?;
            let programs = store.ensure(&SANDBOX_PROGRAMS, console).await.map_err(|e| EnvironmentError::of(&e))?;
            let promised = components::has_istio_extensions(&options.versions)?;
            Ok((ClusterStart::Sandbox(SandboxStart::prepare(&programs, promised).await?), programs))
        }
        ClusterKind::Kind => {
            let start = KindStart::prepare(&options.kind, console).await?;
            let people = [ProgramName::KUBECTL, ProgramName::ISTIOCTL];
            let programs =
                store_at(&options.versions)?.ensure(&people, console).await.map_err(|e| EnvironmentError::of(&e))?;
            Ok((ClusterStart::Kind(start), programs))
        }
        ClusterKind::Existing => Err(EnvironmentError::new("runs on existing clusters are not there yet")),
    }
}

impl Session {
    /// Makes missing components, and joins the mesh of this build, which is brought up if there is none; then has a
    /// plan's external servers in force. Once `broken_off` is over it gives up, and returns when nothing is left of it.
    ///
    /// # Errors
    /// [`NotJoined`]: what is missing or did not come up, with a remedy where there is one.
    pub async fn join(
        options: &SessionOptions,
        plan: &WorldPlan,
        console: &Console,
        broken_off: impl Future<Output = ()> + Send,
    ) -> Result<Self, NotJoined> {
        let mut broken_off = std::pin::pin!(broken_off);
        let (cluster, programs) = tokio::select! {
            // First, so that it listens before the work begins.
            biased;
            () = broken_off.as_mut() => return Err(NotJoined::BrokenOff),
            prepared = prepare(options, console) => prepared?,
        };
        let shelf = Shelf::in_cache(store()?.cache().dir());
        let start = Start {
            cluster,
            istioctl: programs.path(&ProgramName::ISTIOCTL).to_owned(),
            profile: options.profile.clone(),
            timeout: options.timeout,
            snapshots: options.snapshots.then(|| shelf.folder().to_owned()),
        };
        let (mut link, welcome) = Link::open(&start, options.purpose, console, broken_off.as_mut()).await?;
        let joining = async {
            let world = link.world(plan, console).await?;
            Ok((world, connect(&welcome.kubeconfig).await?))
        };
        let joined = tokio::select! {
            joined = joining => joined,
            () = broken_off => return Err(link.break_off(console).await),
        };
        let (world, client) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                // The mesh ends with this connection, and its logs with it.
                if let Some(folder) = &options.logs
                    && let Err(also) = egress_sandbox::copy_logs(&welcome.logs, folder)
                {
                    tracing::warn!("the logs cannot be kept in {}: {also}", folder.display());
                }
                return Err(NotJoined::Environment(error));
            }
        };
        Ok(Self {
            objects: Objects::new(client, welcome.run.clone()),
            logs: Arc::default(),
            gates: Mutex::default(),
            world: Arc::new(world),
            jobs: options.jobs,
            link,
            programs,
            welcome,
        })
    }

    /// What is known about the cluster, for the report.
    #[must_use]
    pub fn cluster(&self) -> ClusterInfo {
        let versions = &self.welcome.installed.versions;
        ClusterInfo {
            kind: self.welcome.kind.clone(),
            istio: versions.istio.clone(),
            envoy: versions.envoy.clone(),
            kubernetes: versions.kubernetes.clone(),
            capabilities: self.welcome.capabilities.clone(),
            servers: self.world.destinations.clone(),
        }
    }

    /// Another hand.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the supervisor is gone.
    pub async fn worker(&self) -> Result<Worker, EnvironmentError> {
        Ok(Worker { link: self.link.another().await? })
    }

    /// Runs one scenario under a lease of its own. `progress` hears when it has to wait. Beside the result stands why the
    /// mesh is of no more use, if this scenario's end has shown that.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the mesh is of no more use, and nothing could be run.
    pub async fn run(
        &self,
        worker: &mut Worker,
        planned: &Planned,
        progress: &dyn Progress,
    ) -> Result<(ScenarioResult, Option<EnvironmentError>), EnvironmentError> {
        let scenario = &planned.scenario;
        let wanted = Wanted {
            profile: scenario.file.mesh.clone(),
            whole: planned.lease == Lease::Mesh,
            unlabelled: false,
            locks: planned.locks.clone(),
            namespaces: scenario.file.namespaces.iter().cloned().collect(),
            servers: scenario.file.steps.iter().flat_map(|step| step.set.keys().cloned()).collect(),
            most_slots: self.jobs,
        };
        let grant = worker.link.lease(wanted, progress).await?;
        progress.working(&scenario.id.to_string());
        let start = Instant::now();
        let mut result = ScenarioResult {
            id: scenario.id.to_string(),
            title: scenario.file.title.clone(),
            profile: scenario.file.mesh.clone(),
            namespace: grant.namespace.clone(),
            ..ScenarioResult::default()
        };
        let (mut live, mut probes, first) = (Vec::new(), 0, grant.probes);
        let running = async {
            let stage = self.stage(grant).await?;
            let ran = engine::run(&stage, scenario, &mut live).await;
            probes = stage.probes.into_inner().wrapping_sub(first);
            ran
        };
        // Nothing that waits for a component that has died would see its end.
        let ran = tokio::select! {
            ran = running => ran,
            error = worker.link.broken() => Err(error),
        };
        match ran {
            Ok(steps) => {
                result.outcome = report::combine(&steps);
                result.reason = steps.iter().find(|s| s.outcome == result.outcome).and_then(|s| s.reason.clone());
                result.steps = steps;
            }
            Err(error) => {
                result.outcome = Outcome::Errored;
                result.reason = Some(error.to_string());
            }
        }
        let aftermath = worker.link.release(live, probes).await?;
        // A scenario that passed although a pod was restarted has passed; any other verdict says nothing about the mesh.
        let disturbed = aftermath.disturbed.filter(|_| result.outcome != Outcome::Passed);
        let disturbed = disturbed.map(|what| format!("a part of the mesh was disturbed meanwhile: {what}"));
        if let Some(why) = aftermath.spoiled.clone().or(disturbed) {
            result.outcome = Outcome::Errored;
            result.reason = Some(why);
        }
        result.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok((result, aftermath.spoiled.map(EnvironmentError::new)))
    }

    async fn stage(&self, grant: Grant) -> Result<Stage, EnvironmentError> {
        let installed = &grant.installed;
        let client = self.objects.client();
        let follow = async |pods: &[PodFacts]| -> Result<Vec<Workload>, EnvironmentError> {
            let followed = pods.iter().map(|pod| self.logs.follow(client, pod.clone()));
            futures::future::try_join_all(followed).await
        };
        let (gateways, clients) = tokio::try_join!(follow(&installed.gateways), follow(&grant.clients))?;
        let servers = self.welcome.servers.parse();
        let servers = servers.map_err(|e| EnvironmentError::new(format!("the external servers' control: {e}")))?;
        Ok(Stage {
            objects: self.objects.of_run(grant.lease),
            gate: self.gate(&grant.namespace, &installed.istiod).await?,
            gateways,
            gateway_address: installed.gateway_address.clone(),
            namespace: grant.namespace,
            namespaces: grant.namespaces,
            clients,
            logs: Arc::clone(&self.logs),
            format: profile::access_log_format(&installed.facts, &installed.versions.istio)?,
            world: Arc::clone(&self.world),
            servers: ControlClient::new(servers),
            probes: AtomicU32::new(grant.probes),
        })
    }

    /// The gate of a slot; a new one when istiod's pod is another.
    async fn gate(&self, namespace: &str, istiod: &str) -> Result<Arc<Gate>, EnvironmentError> {
        let mut gates = self.gates.lock().await;
        if let Some(gate) = gates.get(namespace).filter(|gate| gate.istiod() == istiod) {
            return Ok(Arc::clone(gate));
        }
        let objects = Arc::new(self.objects.of_run(self.objects.run().to_owned()));
        let gate = Gate::new(objects, namespace).await.map_err(|e| EnvironmentError::new(e.to_string()))?;
        let gate = Arc::new(gate);
        gates.insert(namespace.to_owned(), Arc::clone(&gate));
        Ok(gate)
    }

    /// Takes the whole mesh for commands that are not ours: what they apply carries no label.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the mesh is of no more use.
    pub async fn borrow(
        &self,
        worker: &mut Worker,
        profile: &str,
        progress: &dyn Progress,
    ) -> Result<Stage, EnvironmentError> {
        let grant = worker.link.lease(whole(profile, true), progress).await?;
        self.stage(grant).await
    }

    /// Gives back what [`Session::borrow`] took; waits until nothing is left of it.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the supervisor is gone, or the mesh is of no more use.
    pub async fn give_back(&self, worker: &mut Worker, stage: Stage) -> Result<(), EnvironmentError> {
        // The probes of the slot's own clients are not counted: none was sent.
        drop(stage);
        let aftermath = worker.link.release(Vec::new(), 0).await?;
        aftermath.spoiled.map_or(Ok(()), |why| Err(EnvironmentError::new(why)))
    }

    /// Has other external servers in force from now on.
    ///
    /// # Errors
    /// [`EnvironmentError`] when they cannot be had.
    pub async fn change_world(&mut self, plan: &WorldPlan, progress: &dyn Progress) -> Result<(), EnvironmentError> {
        self.world = Arc::new(self.link.world(plan, progress).await?);
        Ok(())
    }

    /// Puts a profile in force, for people who look at the mesh by hand.
    ///
    /// # Errors
    /// [`EnvironmentError`] when it cannot be put in force.
    pub async fn switch(&self, profile: &str, progress: &dyn Progress) -> Result<(), EnvironmentError> {
        let mut worker = self.worker().await?;
        let wanted = whole(profile, false);
        worker.link.lease(wanted, progress).await?;
        worker.link.release(Vec::new(), 0).await?;
        worker.link.leave().await?;
        Ok(())
    }

    /// Copies the logs of the cluster's parts.
    ///
    /// # Errors
    /// [`EnvironmentError`] naming the folder.
    pub fn keep_logs(&self, to: &Path) -> Result<(), EnvironmentError> {
        let failed = |e| EnvironmentError::new(format!("the logs cannot be kept in {}: {e}", to.display()));
        egress_sandbox::copy_logs(&self.welcome.logs, to).map_err(failed)
    }

    /// Leaves the mesh, and waits for its end if nobody else wants it.
    ///
    /// # Errors
    /// [`EnvironmentError`] with what was not in order.
    pub async fn leave(self) -> Result<Fate, EnvironmentError> {
        self.link.leave().await
    }
}

/// A lease of the whole mesh without locks, since nobody else can want any.
fn whole(profile: &str, unlabelled: bool) -> Wanted {
    Wanted {
        profile: profile.to_owned(),
        whole: true,
        unlabelled,
        locks: Locks::default(),
        namespaces: BTreeSet::new(),
        servers: BTreeSet::new(),
        most_slots: 1,
    }
}

impl Worker {
    /// What to do about a component that dies while the lease is held: waits for it.
    pub async fn broken(&mut self) -> EnvironmentError {
        self.link.broken().await
    }

    /// Ends this hand's part.
    pub async fn finish(self) {
        // What was not in order at the mesh's end is the session's to tell.
        let _ = self.link.leave().await;
    }
}
