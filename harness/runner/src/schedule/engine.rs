//! The engine: one scenario on its stage, from its special clients to its last step.
//!
//! It leaves everything that it applied; who gave the lease cleans up. Which scenarios run, and on which stage, is
//! [`super::session`]'s business. Start at [`run`].

use std::time::Duration;

use egress_core::report::{Outcome, StepResult};
use egress_core::scenario::Scenario;
use egress_core::scenario::schema::ClientSpec;

use super::stage::Stage;
use super::step::{GATE_BOUND, Running};
use crate::cluster::EnvironmentError;
use crate::cluster::objects::Applied;
use crate::cluster::workload::{self, Workload};
use crate::gate::Change;
use crate::mesh::slot::warm_clients;

/// How long a special client may take to start.
const CLIENT_BOUND: Duration = Duration::from_secs(60);

/// Runs a scenario's steps in order. What it has applied and not deleted is added to `live`, also where it fails.
///
/// # Errors
/// [`EnvironmentError`] when a client of the scenario does not start.
pub async fn run(
    stage: &Stage,
    scenario: &Scenario,
    live: &mut Vec<Applied>,
) -> Result<Vec<StepResult>, EnvironmentError> {
    let special = start_special(stage, scenario, live).await?;
    let mut running = Running::new(stage, scenario, special);
    let mut steps = Vec::new();
    for step in &scenario.file.steps {
        steps.push(running.step(step).await);
        // Whatever such a step left undone, later steps would be judged on something else.
        if steps.last().is_some_and(|s| s.outcome == Outcome::Errored || s.refused()) {
            break;
        }
    }
    live.append(&mut running.live);
    Ok(steps)
}

/// Starts the clients that no slot keeps warm.
async fn start_special(
    stage: &Stage,
    scenario: &Scenario,
    live: &mut Vec<Applied>,
) -> Result<Vec<Workload>, EnvironmentError> {
    let warm = warm_clients();
    let is_warm = |name: &str, spec: &ClientSpec| warm.iter().any(|(n, s)| *n == name && s == spec);
    let wanted: Vec<_> = scenario.clients().into_iter().filter(|(name, spec)| !is_warm(name, spec)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    if let Some((name, _)) = wanted.iter().find(|(name, _)| warm.iter().any(|(n, _)| n == name)) {
        return Err(EnvironmentError::new(format!(
            "scenario {} declares a client {name} that differs from the slot's own: give it another name",
            scenario.id
        )));
    }
    let namespace = |spec: &ClientSpec| match &spec.namespace {
        Some(further) => stage.namespaces.get(further).cloned().ok_or_else(|| {
            EnvironmentError::new(format!("the lease has no namespace for {further:?} of scenario {}", scenario.id))
        }),
        None => Ok(stage.namespace.clone()),
    };
    for (name, spec) in &wanted {
        live.push(workload::start_client(&stage.objects, &namespace(spec)?, name, spec).await?);
    }
    let client = stage.objects.client();
    let ready = wanted.iter().map(async |(name, spec)| {
        let facts = workload::client_ready(client, &namespace(spec)?, name, spec, CLIENT_BOUND).await?;
        stage.logs.follow(client, facts).await
    });
    let clients = futures::future::try_join_all(ready).await?;
    let settled = stage.gate.pass(&Change::default(), &stage.proxies(&clients), GATE_BOUND).await;
    settled.map_err(|e| EnvironmentError::new(e.to_string()))?;
    Ok(clients)
}
