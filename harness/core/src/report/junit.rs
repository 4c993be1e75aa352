//! The report as JUnit XML, as CI systems read it: one suite per group, one case per scenario.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use super::model::{Report, ScenarioResult};
use super::outcome::Outcome;
use super::redact::redact;
use super::text;

/// Why JUnit XML could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the results could not be written as JUnit XML: {0}")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The report as JUnit XML.
///
/// `failed` and `flaky` are failures, because neither is conformant; `errored` and `inconclusive` are errors; `skipped`
/// and `unsupported` are skipped with their reason. Secrets are taken out.
///
/// # Errors
/// [`JunitError`], where the XML cannot be written.
pub fn to_junit(report: &Report) -> Result<String, JunitError> {
    let mut junit = quick_junit::Report::new("egress-conformance");
    // The field's type has no constructor from jiff; both read and write RFC 3339.
    junit.timestamp = report.started.to_string().parse().ok();
    junit.set_time(Duration::from_millis(report.duration_ms));
    let mut groups: Vec<&str> = Vec::new();
    for scenario in &report.scenarios {
        let group = split(&scenario.id).0;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        let mut suite = TestSuite::new(group);
        let members: Vec<_> = report.scenarios.iter().filter(|s| split(&s.id).0 == group).collect();
        suite.set_time(Duration::from_millis(members.iter().map(|s| s.duration_ms).sum()));
        for (name, value) in properties(report) {
            suite.add_property(Property::new(name, value));
        }
        suite.add_test_cases(members.into_iter().map(case));
        junit.add_test_suite(suite);
    }
    Ok(junit.to_string()?)
}

fn case(scenario: &ScenarioResult) -> TestCase {
    let (group, claim) = split(&scenario.id);
    let mut case = TestCase::new(claim, status(scenario));
    case.set_classname(group).set_time(Duration::from_millis(scenario.duration_ms));
    case.add_property(Property::new("title", scenario.title.as_str()));
    case.add_property(Property::new("outcome", scenario.outcome.as_str()));
    case.add_property(Property::new("profile", scenario.profile.as_str()));
    case
}

fn status(scenario: &ScenarioResult) -> TestCaseStatus {
    let mut status = match scenario.outcome {
        Outcome::Passed => return TestCaseStatus::success(),
        Outcome::Failed | Outcome::Flaky => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Errored | Outcome::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::Skipped | Outcome::Unsupported => TestCaseStatus::skipped(),
    };
    status.set_type(scenario.outcome.as_str());
    if let Some(reason) = text::reason(scenario) {
        status.set_message(redact(&reason).as_ref());
    }
    let explained = text::failure(scenario, false);
    if !explained.is_empty() {
        status.set_description(redact(explained.trim()).as_ref());
    }
    status
}

fn properties(report: &Report) -> impl Iterator<Item = (&'static str, String)> {
    let cluster = &report.cluster;
    [
        ("tool", report.tool.clone()),
        ("cluster", cluster.kind.clone()),
        ("istio", cluster.istio.clone()),
        ("envoy", cluster.envoy.clone()),
        ("kubernetes", cluster.kubernetes.clone()),
        ("capabilities", cluster.capabilities.join(" ")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
}

/// Group and claim of an id.
fn split(id: &str) -> (&str, &str) {
    id.rsplit_once('/').unwrap_or(("", id))
}
