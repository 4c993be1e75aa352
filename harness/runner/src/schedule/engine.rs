//! The engine: one scenario from its first step to a clean mesh.
//!
//! [`Engine::scenario`] starts special clients, runs the steps in order, and cleans up whatever happened. Which
//! scenarios run, and on which mesh, is [`super::session`]'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use egress_core::report::{self, Outcome, ScenarioResult, StepResult};
use egress_core::scenario::Scenario;
use egress_core::scenario::schema::ClientSpec;

use super::step::{GATE_BOUND, Running};
use super::world::World;
use crate::cluster::objects::Applied;
use crate::cluster::workload::{self, Workload};
use crate::cluster::{EnvironmentError, snapshot};
use crate::gate::Change;
use crate::mesh::{Mesh, Slot};
use crate::wait;

/// How long a special client may take to start.
const CLIENT_BOUND: Duration = Duration::from_secs(60);

/// Runs scenarios on one mesh, one at a time.
pub struct Engine {
    /// The mesh.
    pub mesh: Mesh,
    /// The external servers.
    pub world: World,
    /// What was there before the first scenario.
    baseline: Option<BTreeSet<String>>,
    /// Set when a clean-up failed: what follows would not start from a baseline.
    spoiled: Option<String>,
}

impl Engine {
    /// An engine on a mesh whose world is deployed.
    #[must_use]
    pub fn new(mesh: Mesh, world: World) -> Self {
        Self { mesh, world, baseline: None, spoiled: None }
    }

    /// Runs one scenario. The mesh is as before when it returns, or the result says why not.
    pub async fn scenario(&mut self, scenario: &Scenario) -> ScenarioResult {
        let start = Instant::now();
        let mut result = ScenarioResult {
            id: scenario.id.to_string(),
            title: scenario.file.title.clone(),
            profile: scenario.file.mesh.clone(),
            ..ScenarioResult::default()
        };
        if let Some(why) = &self.spoiled {
            result.outcome = Outcome::Errored;
            result.reason = Some(format!("not run: an earlier clean-up failed: {why}"));
            return result;
        }
        let before = self.mesh.standing().await;
        match self.run(scenario).await {
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
        if let Some(why) = self.disturbed(&before, result.outcome).await {
            result.outcome = Outcome::Errored;
            result.reason = Some(why);
        }
        result.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        result
    }

    /// What broke beside the scenario, if anything did: then its verdict says nothing about the mesh. A scenario that
    /// passed although a pod was restarted has passed. The mesh is found again for the next one.
    async fn disturbed(&mut self, before: &BTreeMap<String, String>, outcome: Outcome) -> Option<String> {
        let faults = self.mesh.provider.faults();
        if !faults.is_empty() {
            let why = faults.join("; ");
            self.spoiled = Some(why.clone());
            return Some(why);
        }
        let now = self.mesh.standing().await;
        let changed: Vec<String> = before
            .iter()
            .filter(|(pod, was)| now.get(*pod) != Some(was))
            .map(|(pod, was)| format!("{pod} was {was}, is {}", now.get(pod).map_or("unknown", String::as_str)))
            .collect();
        if !changed.is_empty() {
            match self.mesh.recover().await {
                // A clean-up that failed while a pod was away is made good by the check of what is left.
                Ok(()) if self.spoiled.is_some() && self.nothing_left().await.is_ok() => self.spoiled = None,
                Ok(()) => {}
                Err(error) => self.spoiled = Some(error.to_string()),
            }
        }
        if let Some(why) = &self.spoiled {
            return Some(format!("the clean-up failed: {why}"));
        }
        (!changed.is_empty() && outcome != Outcome::Passed)
            .then(|| format!("a part of the mesh was disturbed meanwhile: {}", changed.join("; ")))
    }

    async fn run(&mut self, scenario: &Scenario) -> Result<Vec<StepResult>, EnvironmentError> {
        if self.baseline.is_none() {
            let taken = snapshot::take(&self.mesh.objects).await;
            self.baseline = Some(taken.map_err(|e| EnvironmentError::new(e.to_string()))?);
        }
        let (deployments, special) = self.start_special(scenario).await?;
        let mut running = Running::new(&self.mesh, &self.world, scenario, special);
        let mut steps = Vec::new();
        for step in &scenario.file.steps {
            steps.push(running.step(step).await);
            // Whatever such a step left undone, later steps would be judged on something else.
            if steps.last().is_some_and(|s| s.outcome == Outcome::Errored || s.refused()) {
                break;
            }
        }
        let Running { live, special, .. } = running;
        drop(special);
        if let Err(why) = self.clean(live, &deployments).await {
            self.spoiled = Some(why);
        }
        Ok(steps)
    }

    /// Starts the clients that no slot keeps warm.
    async fn start_special(&self, scenario: &Scenario) -> Result<(Vec<Applied>, Vec<Workload>), EnvironmentError> {
        let warm = Slot::warm_clients();
        let is_warm = |name: &str, spec: &ClientSpec| warm.iter().any(|(n, s)| *n == name && s == spec);
        let wanted: Vec<_> = scenario.clients().into_iter().filter(|(name, spec)| !is_warm(name, spec)).collect();
        if let Some((name, _)) = wanted.iter().find(|(name, _)| warm.iter().any(|(n, _)| n == name)) {
            return Err(EnvironmentError::new(format!(
                "scenario {} declares a client {name} that differs from the slot's own: give it another name",
                scenario.id
            )));
        }
        let namespace = &self.mesh.slot.namespace;
        let objects = &self.mesh.objects;
        let mut deployments = Vec::new();
        for (name, spec) in &wanted {
            deployments.push(workload::start_client(objects, namespace, name, spec).await?);
        }
        let ready = wanted.iter().map(|(name, spec)| {
            workload::client_ready(objects.client(), namespace, name, spec, &self.mesh.news, CLIENT_BOUND)
        });
        match futures::future::try_join_all(ready).await {
            Ok(clients) => {
                let proxies = self.mesh.proxies(&clients);
                self.mesh
                    .gate
                    .pass(&Change::default(), &proxies, GATE_BOUND)
                    .await
                    .map_err(|e| EnvironmentError::new(e.to_string()))?;
                Ok((deployments, clients))
            }
            Err(error) => {
                for deployment in &deployments {
                    if let Err(also) = objects.delete(deployment).await {
                        tracing::warn!("{also}");
                    }
                }
                Err(error)
            }
        }
    }

    /// Deletes everything that the scenario left, newest first, and waits until every proxy is back at its baseline.
    async fn clean(&self, mut live: Vec<Applied>, deployments: &[Applied]) -> Result<(), String> {
        live.reverse();
        let objects = &self.mesh.objects;
        for object in live.iter().chain(deployments) {
            objects.delete(object).await.map_err(|e| e.to_string())?;
        }
        for object in live.iter().chain(deployments) {
            objects.gone(object, GATE_BOUND).await.map_err(|e| e.to_string())?;
        }
        self.nothing_left().await?;
        if live.is_empty() {
            return Ok(());
        }
        let change = Change { present: Vec::new(), absent: live };
        self.mesh.gate.pass(&change, &self.mesh.proxies([]), GATE_BOUND).await.map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Waits until the cluster holds what it held before: controllers remove what they made a little later.
    async fn nothing_left(&self) -> Result<(), String> {
        let Some(baseline) = &self.baseline else { return Ok(()) };
        wait::until("the cluster's return to what it was", GATE_BOUND, || async {
            let now = snapshot::take(&self.mesh.objects).await.map_err(|e| e.to_string())?;
            let changed = snapshot::difference(baseline, &now);
            if changed.is_empty() { Ok(()) } else { Err(changed.join(", ")) }
        })
        .await
        .map_err(|e| e.to_string())
    }
}
