//! The result model: what one run found, as it is written to `report.json` and read back.
//!
//! Values only: no writer and no judgement lives here. Unknown fields of a newer report are ignored on reading.
//! Start at [`Report`].

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use crate::check::Finding;
use crate::evidence::{ClientResult, Observation};
use crate::path::Path;

/// The version of the report's format. A reader accepts reports of this version; added fields do not raise it.
pub const SCHEMA: u32 = 1;

/// What one run found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// The version of this format: [`SCHEMA`].
    pub schema: u32,
    /// The version of the tool that wrote it.
    pub tool: String,
    /// When the run started.
    pub started: jiff::Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it ran against.
    #[serde(default)]
    pub cluster: ClusterInfo,
    /// The scenarios, in the order in which they were planned.
    #[serde(default)]
    pub scenarios: Vec<ScenarioResult>,
}

/// What a run ran against.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterInfo {
    /// Kind of cluster: `sandbox`, `kind`, `existing`.
    pub kind: String,
    /// Istio's version.
    pub istio: String,
    /// Envoy's version.
    pub envoy: String,
    /// The version of the Kubernetes API server.
    pub kubernetes: String,
    /// What the cluster can do, as scenarios require it.
    pub capabilities: Vec<String>,
}

/// What became of one scenario.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// `group/claim`.
    pub id: String,
    /// The claim as a sentence.
    #[serde(default)]
    pub title: String,
    /// The verdict.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The mesh profile that it ran under.
    #[serde(default)]
    pub profile: String,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// Its steps, as far as they were reached.
    #[serde(default)]
    pub steps: Vec<StepResult>,
}

/// What became of one step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepResult {
    /// The step's name.
    pub name: String,
    /// The verdict.
    pub outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// How long the gate waited until every proxy had the configuration, in milliseconds; `None`: it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_ms: Option<u64>,
    /// Objects that were applied, as `KIND/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applied: Vec<String>,
    /// Objects that were deleted, as `KIND/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<String>,
    /// What else is worth telling: the marker that was used, the second attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The command that was run in the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What curl said, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientSummary>,
    /// The path that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Where expectation and evidence disagree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The disagreement in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// Everything that was seen, so that it can be judged again without a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
}

/// What curl said, in short.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientSummary {
    /// curl's exit code.
    pub exit: i32,
    /// The HTTP status; `None` where there was no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The address that curl connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Size of the body, in bytes, as far as it was kept.
    pub body_bytes: usize,
    /// The last line of standard error that is curl's own message (`curl: (52) …`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl From<&ClientResult> for ClientSummary {
    fn from(client: &ClientResult) -> Self {
        let message = client.stderr.lines().rev().find(|line| line.starts_with("curl: ("));
        Self {
            exit: client.exit,
            status: client.status,
            remote: client.remote.map(|remote| remote.to_string()),
            body_bytes: client.body.len(),
            message: message.map(|line| super::redact::redact(line).into_owned()),
        }
    }
}

/// How many scenarios had each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// All of them.
    pub scenarios: usize,
    /// See [`Outcome::Passed`].
    pub passed: usize,
    /// See [`Outcome::Failed`].
    pub failed: usize,
    /// See [`Outcome::Flaky`].
    pub flaky: usize,
    /// See [`Outcome::Inconclusive`].
    pub inconclusive: usize,
    /// See [`Outcome::Errored`].
    pub errored: usize,
    /// See [`Outcome::Skipped`].
    pub skipped: usize,
    /// See [`Outcome::Unsupported`].
    pub unsupported: usize,
}

impl Totals {
    /// The count of one outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> usize {
        match outcome {
            Outcome::Passed => self.passed,
            Outcome::Failed => self.failed,
            Outcome::Flaky => self.flaky,
            Outcome::Inconclusive => self.inconclusive,
            Outcome::Errored => self.errored,
            Outcome::Skipped => self.skipped,
            Outcome::Unsupported => self.unsupported,
        }
    }
}

impl Report {
    /// How many scenarios had each outcome.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { scenarios: self.scenarios.len(), ..Totals::default() };
        for scenario in &self.scenarios {
            *match scenario.outcome {
                Outcome::Passed => &mut totals.passed,
                Outcome::Failed => &mut totals.failed,
                Outcome::Flaky => &mut totals.flaky,
                Outcome::Inconclusive => &mut totals.inconclusive,
                Outcome::Errored => &mut totals.errored,
                Outcome::Skipped => &mut totals.skipped,
                Outcome::Unsupported => &mut totals.unsupported,
            } += 1;
        }
        totals
    }
}
