//! The result model. Version 1; unknown keys of newer minor versions are passed over when reading.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use crate::check::Finding;
use crate::evidence::{ClientResult, Observation};
use crate::path::Path;
use crate::scenario::schema::Expect;

/// The version of the model. It changes when a key changes its meaning, not when one is added.
pub const SCHEMA: u32 = 1;

/// Everything that one run gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the model, [`SCHEMA`].
    pub schema: u32,
    /// The program that wrote it, with its version.
    pub tool: String,
    /// The commit that the program was built from, with `-dirty` if there was more; empty if it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
    /// The command that does the same again; empty if it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// When the run began.
    pub started: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The cluster.
    pub cluster: ClusterInfo,
    /// The scenarios, in the order in which they ran.
    pub scenarios: Vec<ScenarioResult>,
}

/// The cluster that a run used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// `sandbox`, `kind` or `existing`.
    pub kind: String,
    /// Istio's version.
    #[serde(default)]
    pub istio: String,
    /// Envoy's version.
    #[serde(default)]
    pub envoy: String,
    /// Kubernetes' version.
    #[serde(default)]
    pub kubernetes: String,
    /// What the cluster can do, of what scenarios may require.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The addresses that the external servers had in this run, by destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, Vec<IpAddr>>,
}

/// One scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// `group/claim`.
    pub id: String,
    /// The claim, as a sentence.
    pub title: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where the outcome needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The mesh profile.
    #[serde(default)]
    pub profile: String,
    /// The namespace in which its objects and clients were.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// Its steps, as far as they ran.
    #[serde(default)]
    pub steps: Vec<StepResult>,
}

/// One step of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where the outcome needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// How long the configuration took to reach every proxy, in milliseconds. `None`: nothing changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_ms: Option<u64>,
    /// Objects that were applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applied: Vec<String>,
    /// Objects that were deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<String>,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The request, as somebody would type it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What was expected, with variables expanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// What curl said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientSummary>,
    /// The path that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// What was not as expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The findings, written up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// Everything that was seen, so that the step can be judged again without a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
}

/// What curl said, in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientSummary {
    /// curl's exit code.
    pub exit: i32,
    /// HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The address that curl connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<std::net::SocketAddr>,
    /// Total time in milliseconds.
    #[serde(default)]
    pub total_ms: f64,
}

impl From<&ClientResult> for ClientSummary {
    fn from(client: &ClientResult) -> Self {
        Self { exit: client.exit, status: client.status, remote: client.remote, total_ms: client.total_ms }
    }
}

/// How many scenarios had which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// All of them.
    pub scenarios: usize,
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Flaky.
    pub flaky: usize,
    /// Inconclusive.
    pub inconclusive: usize,
    /// Errored.
    pub errored: usize,
    /// Skipped.
    pub skipped: usize,
    /// Unsupported.
    pub unsupported: usize,
}

impl Totals {
    /// How many had this outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> usize {
        match outcome {
            Outcome::Passed => self.passed,
            Outcome::Failed => self.failed,
            Outcome::Flaky => self.flaky,
            Outcome::Inconclusive => self.inconclusive,
            Outcome::Skipped => self.skipped,
            Outcome::Unsupported => self.unsupported,
            Outcome::Errored => self.errored,
        }
    }
}

impl StepResult {
    /// Whether objects were refused, or accepted, against the expectation: what follows such a step says nothing.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.findings.iter().any(|f| f.what == "apply")
    }
}

impl Report {
    /// How many scenarios had which outcome.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let of = |outcome| self.scenarios.iter().filter(|s| s.outcome == outcome).count();
        Totals {
            scenarios: self.scenarios.len(),
            passed: of(Outcome::Passed),
            failed: of(Outcome::Failed),
            flaky: of(Outcome::Flaky),
            inconclusive: of(Outcome::Inconclusive),
            errored: of(Outcome::Errored),
            skipped: of(Outcome::Skipped),
            unsupported: of(Outcome::Unsupported),
        }
    }

    /// The program's exit code, the first that applies: 130 interrupted, 2 nothing selected, 1 something failed or was
    /// flaky, 3 something errored or was inconclusive, else 0.
    #[must_use]
    pub fn exit_code(&self, interrupted: bool) -> u8 {
        let totals = self.totals();
        match () {
            () if interrupted => 130,
            () if totals.scenarios == 0 => 2,
            () if totals.failed + totals.flaky > 0 => 1,
            () if totals.errored + totals.inconclusive > 0 => 3,
            () => 0,
        }
    }
}
