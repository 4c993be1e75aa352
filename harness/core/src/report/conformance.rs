//! The conformance report: by profile (a group of scenarios) and level, what this mesh keeps, and why the rest is not known.
//!
//! Only `passed` counts. A scenario of the suite that was not selected is listed as such, so that a part of the suite never
//! looks like all of it. Start at [`to_conformance`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::model::{Report, ScenarioResult};
use super::outcome::Outcome;
use super::redact::redact;
use crate::scenario::schema::Level;

/// The version of this format.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document<'r> {
    format: u32,
    tool: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    commit: &'r str,
    started: String,
    cluster: Cluster<'r>,
    #[serde(skip_serializing_if = "str::is_empty")]
    command: &'r str,
    profiles: Vec<Profile>,
}

#[derive(Serialize)]
struct Cluster<'r> {
    kind: &'r str,
    istio: &'r str,
    envoy: &'r str,
    kubernetes: &'r str,
    capabilities: &'r [String],
}

#[derive(Serialize)]
struct Profile {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<Kept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended: Option<Kept>,
}

/// What is known of the scenarios of one level in one profile.
#[derive(Serialize)]
struct Kept {
    result: Verdict,
    passed: usize,
    scenarios: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_passed: Vec<NotPassed>,
}

/// Whether a level is kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// Every scenario passed.
    Conformant,
    /// Nothing is known against it, but not every scenario was run.
    Partial,
    /// A scenario was run and did not pass.
    NotConformant,
}

#[derive(Serialize)]
struct NotPassed {
    id: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// A scenario, and the worst of its runs.
type Known<'r> = (String, Option<&'r ScenarioResult>);

const NOT_SELECTED: &str = "not-selected";

/// A conformance report as YAML, secrets removed. `suite` is every scenario that there is, with its level; of those that
/// ran more than once each run has to pass.
///
/// # Panics
/// Never: the document is plain data with string keys.
#[must_use]
pub fn to_conformance<'s>(report: &Report, suite: impl IntoIterator<Item = (&'s str, Level)>) -> String {
    let mut levels: BTreeMap<(&str, &str), Level> = BTreeMap::new();
    for (id, level) in suite {
        levels.insert(split(id), level);
    }
    // What ran is part of it, too, if it came from somewhere else.
    for result in &report.scenarios {
        levels.entry(split(&result.id)).or_default();
    }
    let mut profiles: BTreeMap<&str, [Vec<Known>; 2]> = BTreeMap::new();
    for ((group, claim), level) in levels {
        let id = if group.is_empty() { claim.to_owned() } else { format!("{group}/{claim}") };
        let worst = report.scenarios.iter().filter(|r| r.id == id).max_by_key(|r| r.outcome.weight());
        let at = usize::from(level == Level::Extended);
        profiles.entry(group).or_default()[at].push((id, worst));
    }
    let cluster = &report.cluster;
    let document = Document {
        format: FORMAT,
        tool: &report.tool,
        commit: &report.commit,
        started: report.started.to_string(),
        cluster: Cluster {
            kind: &cluster.kind,
            istio: &cluster.istio,
            envoy: &cluster.envoy,
            kubernetes: &cluster.kubernetes,
            capabilities: &cluster.capabilities,
        },
        command: &report.command,
        profiles: profiles
            .into_iter()
            .map(|(name, [core, extended])| Profile {
                name: name.to_owned(),
                core: kept(core),
                extended: kept(extended),
            })
            .collect(),
    };
    serde_saphyr::to_string(&document).expect("plain data with string keys")
}

fn split(id: &str) -> (&str, &str) {
    id.split_once('/').unwrap_or(("", id))
}

/// `None` where the level has no scenario.
fn kept(scenarios: Vec<Known>) -> Option<Kept> {
    if scenarios.is_empty() {
        return None;
    }
    let total = scenarios.len();
    let passed = |result: Option<&ScenarioResult>| result.is_some_and(|r| r.outcome == Outcome::Passed);
    let not_run = |result: Option<&ScenarioResult>| {
        result.is_none_or(|r| matches!(r.outcome, Outcome::Skipped | Outcome::Unsupported))
    };
    let result = match &scenarios {
        all if all.iter().all(|(_, r)| passed(*r)) => Verdict::Conformant,
        all if all.iter().all(|(_, r)| passed(*r) || not_run(*r)) => Verdict::Partial,
        _ => Verdict::NotConformant,
    };
    let not_passed: Vec<_> = scenarios
        .into_iter()
        .filter(|(_, result)| !passed(*result))
        .map(|(id, result)| match result {
            None => NotPassed { id, outcome: NOT_SELECTED, reason: String::new() },
            Some(result) => NotPassed { id, outcome: result.outcome.as_str(), reason: reason(result) },
        })
        .collect();
    Some(Kept { result, passed: total - not_passed.len(), scenarios: total, not_passed })
}

fn reason(result: &ScenarioResult) -> String {
    if let Some(reason) = &result.reason {
        let lacks = if result.outcome == Outcome::Unsupported { "the cluster lacks " } else { "" };
        return format!("{lacks}{}", redact(reason));
    }
    let Some(step) = result.steps.iter().find(|s| s.outcome == result.outcome) else { return String::new() };
    let why = match (&step.reason, step.findings.first()) {
        (Some(reason), _) => reason.clone(),
        (None, Some(f)) => format!("{}: expected {}, seen {}", f.what, f.expected, f.seen),
        (None, None) => return String::new(),
    };
    redact(&format!("step {:?}: {why}", step.name)).into_owned()
}
