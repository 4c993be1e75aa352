//! The report as JUnit XML: one suite per group, one case per scenario.
//!
//! Skips keep their reason, and what the harness or the cluster failed at is an error, not a failure.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::model::{Report, ScenarioResult};
use super::outcome::Outcome;
use super::redact::redact;
use super::text;

/// The report could not be written as XML.
#[derive(Debug, thiserror::Error)]
#[error("the JUnit report cannot be written: {0}")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The report as JUnit XML, secrets removed.
///
/// # Errors
/// [`JunitError`] if the XML writer refuses something.
pub fn to_junit(report: &Report) -> Result<String, JunitError> {
    let mut junit = Junit::new("egress-conformance");
    junit.set_time(Duration::from_millis(report.duration_ms));
    let mut suites: Vec<TestSuite> = Vec::new();
    for scenario in &report.scenarios {
        let (group, claim) = scenario.id.split_once('/').unwrap_or(("", &scenario.id));
        let at = suites.iter().position(|suite| suite.name.as_str() == group).unwrap_or_else(|| {
            suites.push(suite(group, report));
            suites.len() - 1
        });
        suites[at].add_test_case(case(group, claim, scenario));
    }
    for suite in &mut suites {
        suite.set_time(suite.test_cases.iter().filter_map(|case| case.time).sum());
    }
    junit.add_test_suites(suites);
    Ok(junit.to_string()?)
}

fn suite(group: &str, report: &Report) -> TestSuite {
    let mut suite = TestSuite::new(group);
    let cluster = &report.cluster;
    for (name, value) in [
        ("tool", &report.tool),
        ("cluster", &cluster.kind),
        ("istio", &cluster.istio),
        ("envoy", &cluster.envoy),
        ("kubernetes", &cluster.kubernetes),
    ] {
        suite.add_property((name, value.as_str()));
    }
    suite
}

fn case(group: &str, claim: &str, scenario: &ScenarioResult) -> TestCase {
    let mut case = TestCase::new(claim, status(scenario));
    case.set_classname(group).set_time(Duration::from_millis(scenario.duration_ms));
    case.add_property(("outcome", scenario.outcome.as_str()));
    case.add_property(("title", scenario.title.as_str()));
    case
}

fn status(scenario: &ScenarioResult) -> TestCaseStatus {
    let of_a_step = || scenario.steps.iter().find(|s| s.outcome == scenario.outcome).and_then(|s| s.reason.as_deref());
    let reason = redact(scenario.reason.as_deref().or_else(of_a_step).unwrap_or_default()).into_owned();
    let with = |kind: NonSuccessKind| {
        let mut status = TestCaseStatus::non_success(kind);
        let finding = scenario.steps.iter().flat_map(|step| &step.findings).next();
        let message = match finding {
            Some(f) if reason.is_empty() => {
                redact(&format!("{}: expected {}, seen {}", f.what, f.expected, f.seen)).into_owned()
            }
            _ => reason.clone(),
        };
        status.set_type(scenario.outcome.as_str()).set_message(message);
        status.set_description(text::failure(scenario, false));
        status
    };
    match scenario.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        // A flaky promise is a broken one: that a second attempt passed does not make it good.
        Outcome::Failed | Outcome::Flaky => with(NonSuccessKind::Failure),
        Outcome::Errored | Outcome::Inconclusive => with(NonSuccessKind::Error),
        Outcome::Skipped | Outcome::Unsupported => {
            let mut status = TestCaseStatus::skipped();
            status.set_type(scenario.outcome.as_str()).set_message(reason);
            status
        }
    }
}
