//! One step of a scenario: apply and delete, pass the gate, look at objects and proxies, send the probe, check.
//!
//! Decides nothing: the core's check says what was found. Start at [`Running::step`].

use std::path::Path;
use std::time::{Duration, Instant};

use egress_core::check::{self, Fault, Finding};
use egress_core::path::State;
use egress_core::report::{ClientSummary, Outcome, StepResult};
use egress_core::scenario::schema::{self, Expect, Probe, Step};
use egress_core::scenario::{self, GatewayValues, Scenario, Values};
use external_server::model::Behaviour;
use kube::core::GroupVersionKind;

use super::look;
use super::readiness;
use super::stage::Stage;
use crate::cluster::istio::{GATEWAY_SELECTOR, GATEWAY_SERVICE, ISTIO_NAMESPACE};
use crate::cluster::objects::{Applied, ObjectError, gvk_of};
use crate::cluster::workload::Workload;
use crate::gate::{Change, GateError};
use crate::probe::{self, Probed, Request};

/// How long a configuration may take to reach every proxy.
pub const GATE_BOUND: Duration = Duration::from_secs(30);

/// A scenario that is being run.
pub struct Running<'a> {
    /// What it runs on.
    pub stage: &'a Stage,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Clients that were started for this scenario alone.
    pub special: Vec<Workload>,
    /// Objects that the scenario has applied and not deleted.
    pub live: Vec<Applied>,
    /// What variables stand for.
    pub values: Values,
}

/// The environment or the harness failed in the middle of a step: the mesh is not to blame.
#[derive(Debug)]
pub struct StepError(pub String);

impl<'a> Running<'a> {
    /// A scenario at its beginning.
    #[must_use]
    pub fn new(stage: &'a Stage, scenario: &'a Scenario, special: Vec<Workload>) -> Self {
        let values = Values {
            namespace: stage.namespace.clone(),
            namespaces: stage.namespaces.clone(),
            destinations: stage.world.destinations.clone(),
            gateway: GatewayValues {
                host: format!("{GATEWAY_SERVICE}.{ISTIO_NAMESPACE}.svc.cluster.local"),
                namespace: ISTIO_NAMESPACE.to_owned(),
                address: stage.gateway_address.clone(),
                selector: GATEWAY_SELECTOR.to_owned(),
            },
            unused: stage.world.unused.into(),
            ca: stage.world.ca.clone(),
            objects: std::collections::BTreeMap::new(),
        };
        Self { stage, scenario, special, live: Vec::new(), values }
    }

    /// The client that a probe names.
    pub fn client(&self, name: &str) -> Option<&Workload> {
        self.special.iter().chain(&self.stage.clients).find(|c| c.name == name)
    }

    /// Runs one step.
    pub async fn step(&mut self, step: &Step) -> StepResult {
        let start = Instant::now();
        let mut result = StepResult { name: step.name.clone(), outcome: Outcome::Passed, ..StepResult::default() };
        if let Err(StepError(reason)) = self.run(step, &mut result).await {
            result.outcome = Outcome::Errored;
            result.reason = Some(reason);
        }
        result.duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        result
    }

    async fn run(&mut self, step: &Step, result: &mut StepResult) -> Result<(), StepError> {
        let absent = self.change(step, result).await?;
        if result.refused() {
            // The step never came to be as the scenario has it: there is nothing to look at.
            result.outcome = Outcome::Failed;
            return Ok(());
        }
        for (name, behaviour) in &step.set {
            let behaviour = match behaviour {
                schema::Behaviour::Up => Behaviour::Up,
                schema::Behaviour::Refusing => Behaviour::Refusing,
                schema::Behaviour::Silent => Behaviour::Silent,
            };
            let set = self.stage.servers.set_behaviour(name, behaviour).await;
            set.map_err(|e| StepError(format!("external server {name} cannot be set: {e}")))?;
        }
        if !step.apply.is_empty() || !step.delete.is_empty() {
            let change = Change { present: self.live.clone(), absent: absent.clone() };
            let proxies = self.stage.proxies(&self.special);
            match self.stage.gate.pass(&change, &proxies, GATE_BOUND).await {
                Ok(took) => result.gate_ms = u64::try_from(took.as_millis()).ok(),
                Err(GateError::Refused(why)) => result.findings.push(Finding {
                    what: "configuration".into(),
                    expected: "accepted by every proxy".into(),
                    seen: why,
                    at: "gate".into(),
                    fault: Fault::Mesh,
                }),
                Err(error) => return Err(StepError(error.to_string())),
            }
            if let Some(plain) = self.stage.clients.iter().find(|c| !c.has_proxy) {
                result.notes.extend(readiness::services(self.stage, plain, &self.live, &absent).await);
            }
        }
        result.findings.extend(self.read_references(step).await?);
        if result.findings.iter().any(|f| f.what.starts_with("${")) {
            // What the variable stands for is unknown, so there is nothing to send or to compare.
            result.outcome = Outcome::Failed;
            return Ok(());
        }
        let expect = scenario::expand_in(&step.expect, &self.values).map_err(|e| StepError(e.to_string()))?;
        result.findings.extend(look::objects(self.stage, &expect.objects).await?);
        result.findings.extend(look::proxies(self, &expect.proxy).await?);
        if !result.findings.is_empty() {
            result.outcome = Outcome::Failed;
        }
        if let Some(probe) = &step.probe {
            self.probe(probe, &expect, result).await?;
        }
        result.expect = (!expect.is_empty()).then_some(expect);
        Ok(())
    }

    /// Applies and deletes what the step says. Returns what was deleted.
    async fn change(&mut self, step: &Step, result: &mut StepResult) -> Result<Vec<Applied>, StepError> {
        let objects = &self.stage.objects;
        let mut refused = Vec::new();
        for name in &step.apply {
            for (document, place) in self.documents(name)? {
                match objects.apply(&document, &self.values.namespace).await {
                    Ok(applied) => {
                        result.applied.push(applied.describe());
                        self.live.retain(|o| {
                            o.gvk != applied.gvk || o.name != applied.name || o.namespace != applied.namespace
                        });
                        self.live.push(applied);
                    }
                    Err(ObjectError::Refused { object, message }) => {
                        refused.push(format!("{object} ({place}): {message}"));
                    }
                    Err(error) => return Err(StepError(format!("{place}: {error}"))),
                }
            }
        }
        result.findings.extend(check::check_apply(step.expect.apply.as_ref(), &refused));
        let mut absent = Vec::new();
        for name in &step.delete {
            for (document, place) in self.documents(name)? {
                let gvk = gvk_of(&document).map_err(|e| StepError(format!("{place}: {e}")))?;
                let object = document["metadata"]["name"].as_str().unwrap_or_default();
                let namespace = document["metadata"]["namespace"].as_str().unwrap_or(&self.values.namespace);
                let found = self.live.iter().position(|o| {
                    o.gvk == gvk && o.name == object && o.namespace.as_deref().is_none_or(|n| n == namespace)
                });
                // What an earlier step failed to apply is not there to be deleted; that step has said so.
                let Some(at) = found else { continue };
                let applied = self.live.remove(at);
                let failed = |e: ObjectError| StepError(format!("{place}: {e}"));
                objects.delete(&applied).await.map_err(failed)?;
                objects.gone(&applied, GATE_BOUND).await.map_err(failed)?;
                result.deleted.push(applied.describe());
                absent.push(applied);
            }
        }
        Ok(absent)
    }

    /// The objects of a manifest, each with its file and line.
    fn documents(&self, manifest: &str) -> Result<Vec<(serde_json::Value, String)>, StepError> {
        let found = self.scenario.manifests.get(manifest);
        let found = found.ok_or_else(|| StepError(format!("manifest {manifest} was not loaded")))?;
        let file = found.path.display();
        let expanded = found.expanded(&self.values).map_err(|e| StepError(format!("{file}: {e}")))?;
        let places = found.objects.iter().map(|object| format!("{file}:{}", object.line));
        Ok(expanded.into_iter().zip(places).collect())
    }

    /// Reads the objects that the step's variables point into; one that has no such value is a finding.
    async fn read_references(&mut self, step: &Step) -> Result<Vec<Finding>, StepError> {
        let mut findings = Vec::new();
        for reference in scenario::references_in(step) {
            let gvk = self
                .live
                .iter()
                .find(|o| o.gvk.kind == reference.kind && o.name == reference.name)
                .map_or_else(|| GroupVersionKind::gvk("", "v1", &reference.kind), |o| o.gvk.clone());
            match look::value_at(self.stage, &gvk, &self.values.namespace, &reference).await? {
                Ok(value) => drop(self.values.objects.insert(reference, value)),
                Err(last) => findings.push(Finding {
                    what: format!("${{{reference}}}"),
                    expected: "a value".into(),
                    seen: last,
                    at: format!("{} {}/{}", reference.kind, self.values.namespace, reference.name),
                    fault: Fault::Mesh,
                }),
            }
        }
        Ok(findings)
    }

    async fn probe(&self, probe: &Probe, expect: &Expect, result: &mut StepResult) -> Result<(), StepError> {
        let client = self.client(&probe.from).ok_or_else(|| StepError(format!("no client {:?} runs", probe.from)))?;
        let probe = scenario::expand_in(probe, &self.values).map_err(|e| StepError(e.to_string()))?;
        result.command = Some(scenario::by_hand::command(&client.namespace, &client.name, &probe));
        let request = match (probe.resolve, probe.tcp) {
            (Some(name), _) => Request::Resolve(name),
            (None, Some(tcp)) => Request::Tcp(tcp),
            (None, None) => Request::Curl(probe.curl),
        };
        let first = self.judged(client, &request, expect).await?;
        let outcome = first.outcome;
        self.record(first, expect, result);
        if outcome == Outcome::Failed && result.outcome == Outcome::Failed {
            // One more try classifies; it never makes a failure good.
            let again = self.judged(client, &request, expect).await?;
            if again.outcome == Outcome::Passed && result.findings.iter().all(|f| !f.what.starts_with("objects")) {
                result.outcome = Outcome::Flaky;
                result.reason = Some("the same request failed, then passed".into());
            }
        }
        Ok(())
    }

    async fn judged(&self, client: &Workload, request: &Request, expect: &Expect) -> Result<Judged, StepError> {
        let probed = probe::send(self.stage, client, request).await.map_err(|e| StepError(e.to_string()))?;
        let directory = self.stage.world.directory(self.stage.gateways.iter().map(|g| g.ip).collect());
        let findings = check::check(expect, &probed.observation, &probed.joined, &directory);
        let unclear = match &probed.joined.state {
            _ if probed.observation.client.is_none() => Some("curl's answer did not come back whole".to_owned()),
            State::Inconclusive { why } => Some(why.clone()),
            State::Open { waiting_for } => Some(format!("evidence is missing: {waiting_for}")),
            State::Closed => None,
        };
        let outcome = match (&unclear, findings.is_empty()) {
            (Some(_), _) => Outcome::Inconclusive,
            (None, true) => Outcome::Passed,
            (None, false) => Outcome::Failed,
        };
        Ok(Judged { probed, findings, outcome, unclear })
    }

    fn record(&self, judged: Judged, expect: &Expect, result: &mut StepResult) {
        let Judged { probed, findings, outcome, unclear } = judged;
        result.findings.extend(findings);
        if outcome != Outcome::Passed {
            // What objects or proxies failed to show stays a failure, whatever the probe adds.
            if result.outcome == Outcome::Passed {
                result.outcome = outcome;
                result.reason = unclear;
            }
            let reproduce = reproduce(self.scenario);
            result.explanation =
                Some(check::explain(expect, &probed.observation, &probed.joined, &result.findings, &reproduce));
        }
        result.client = probed.observation.client.as_ref().map(ClientSummary::from);
        result.path = Some(probed.joined.path);
        result.observation = Some(probed.observation);
    }
}

struct Judged {
    probed: Probed,
    findings: Vec<Finding>,
    outcome: Outcome,
    unclear: Option<String>,
}

/// The command that runs this scenario again, with its folder if it is not of the usual one.
fn reproduce(scenario: &Scenario) -> String {
    let command = format!("egress-conformance run {}", scenario.id);
    match scenario.source.ancestors().nth(3) {
        Some(folder) if folder != Path::new("scenarios") => format!("{command} --scenarios {}", folder.display()),
        _ => command,
    }
}
