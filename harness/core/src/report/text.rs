//! Results as text for a terminal: one line per scenario, failures explained, a summary.
//!
//! Colour is the caller's decision (`NO_COLOR`, not a terminal); every text ends with a line break.

use std::fmt::Write;

use super::model::{Report, ScenarioResult, StepResult};
use super::outcome::Outcome;
use super::redact::redact;

/// The line of one scenario: outcome, id, time, and the reason where there is one.
#[must_use]
pub fn scenario_line(scenario: &ScenarioResult, color: bool) -> String {
    let outcome = paint(scenario.outcome, &format!("{:12}", scenario.outcome), color);
    let mut line = format!("{outcome} {} ({})", scenario.id, seconds(scenario.duration_ms));
    if let Some(reason) = &scenario.reason {
        let _ = write!(line, ": {}", redact(reason));
    }
    line.push('\n');
    line
}

/// What went wrong in a scenario, step by step; empty if nothing did.
#[must_use]
pub fn failure(scenario: &ScenarioResult, color: bool) -> String {
    let wrong = |outcome| !matches!(outcome, Outcome::Passed | Outcome::Skipped | Outcome::Unsupported);
    if !wrong(scenario.outcome) {
        return String::new();
    }
    let mut text = String::new();
    let title = paint(scenario.outcome, &scenario.id, color);
    let _ = writeln!(text, "{title}: {}", scenario.title);
    let steps: Vec<_> = scenario.steps.iter().filter(|step| wrong(step.outcome)).collect();
    if steps.is_empty() {
        let _ =
            writeln!(text, "  {}: {}", scenario.outcome, scenario.reason.as_deref().unwrap_or("no reason was given"));
    }
    for step in steps {
        step_failure(&mut text, step);
    }
    redact(&text).into_owned()
}

fn step_failure(text: &mut String, step: &StepResult) {
    let reason = step.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let _ = writeln!(text, "  step {:?} {}{reason}", step.name, step.outcome);
    if let Some(command) = &step.command {
        let _ = writeln!(text, "    $ {command}");
    }
    if let Some(explanation) = &step.explanation {
        for line in explanation.lines() {
            let _ = writeln!(text, "    {line}");
        }
    } else {
        for finding in &step.findings {
            let _ = writeln!(text, "    {}: expected {}, seen {}", finding.what, finding.expected, finding.seen);
            let _ = writeln!(text, "      at {}", finding.at);
        }
    }
    for note in &step.notes {
        let _ = writeln!(text, "    note: {note}");
    }
}

/// How many scenarios had which outcome, in how long, on what.
#[must_use]
pub fn summary(report: &Report, color: bool) -> String {
    let totals = report.totals();
    let counts: Vec<_> = Outcome::ALL
        .into_iter()
        .filter(|outcome| totals.of(*outcome) > 0)
        .map(|outcome| paint(outcome, &format!("{} {outcome}", totals.of(outcome)), color))
        .collect();
    let counts = if counts.is_empty() { "nothing was run".to_owned() } else { counts.join(", ") };
    let cluster = &report.cluster;
    let versions = [("Istio", &cluster.istio), ("Envoy", &cluster.envoy), ("Kubernetes", &cluster.kubernetes)];
    let versions = versions.iter().filter(|(_, v)| !v.is_empty()).map(|(name, version)| format!("{name} {version}"));
    let on: Vec<_> = [cluster.kind.clone()].into_iter().chain(versions).collect();
    let noun = if totals.scenarios == 1 { "scenario" } else { "scenarios" };
    format!("{} {noun}: {counts} in {} on {}\n", totals.scenarios, seconds(report.duration_ms), on.join(", "))
}

#[expect(clippy::cast_precision_loss, reason = "a duration of a run, shown in tenths of a second")]
fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", milliseconds as f64 / 1000.0)
}

fn paint(outcome: Outcome, text: &str, color: bool) -> String {
    let code = match outcome {
        Outcome::Passed => 32,
        Outcome::Failed => 31,
        Outcome::Flaky | Outcome::Inconclusive => 33,
        Outcome::Errored => 35,
        Outcome::Skipped | Outcome::Unsupported => 2,
    };
    if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
