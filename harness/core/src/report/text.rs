//! The report for people: one line per scenario, failures explained, a summary.
//!
//! Whether colour is wanted (a terminal, `NO_COLOR`) is the caller's to know. Every text ends with a line break.

use std::fmt::Write;

use super::model::{Report, ScenarioResult, StepResult};
use super::outcome::Outcome;
use super::redact::redact;

/// One scenario in one line: outcome, id, duration, and why where it did not pass.
#[must_use]
pub fn scenario_line(scenario: &ScenarioResult, color: bool) -> String {
    let mut line = format!("{}  {}", paint(scenario.outcome, 12, color), scenario.id);
    if scenario.duration_ms > 0 {
        let _ = write!(line, "  {}", duration(scenario.duration_ms));
    }
    if let Some(why) = reason(scenario).filter(|_| scenario.outcome != Outcome::Passed) {
        let _ = write!(line, "  {}", redact(&first_line(&why)));
    }
    line.push('\n');
    line
}

/// What went wrong in one scenario, step by step. Empty where there is nothing to explain.
#[must_use]
pub fn failure(scenario: &ScenarioResult, color: bool) -> String {
    if !scenario.outcome.needs_explanation() {
        return String::new();
    }
    let mut text = format!("\n{} {}\n", paint(scenario.outcome, 0, color), scenario.id);
    if !scenario.title.is_empty() {
        let _ = writeln!(text, "  {}", scenario.title);
    }
    if let Some(reason) = &scenario.reason {
        text.push_str(&indent(&redact(reason), 2));
    }
    for (n, step) in scenario.steps.iter().enumerate().filter(|(_, step)| step.outcome.needs_explanation()) {
        text.push_str(&step_text(n, step, color));
    }
    text
}

fn step_text(n: usize, step: &StepResult, color: bool) -> String {
    let mut text = format!("\n  step {}, {}: {}\n", n + 1, step.name, paint(step.outcome, 0, color));
    if let Some(reason) = &step.reason {
        text.push_str(&indent(reason, 4));
    }
    for (title, objects) in [("applied", &step.applied), ("deleted", &step.deleted)] {
        if !objects.is_empty() {
            let _ = writeln!(text, "    {title} {}", objects.join(", "));
        }
    }
    if let Some(command) = &step.command {
        let _ = writeln!(text, "    ran {command}");
    }
    if let Some(client) = &step.client {
        let status = client.status.map_or_else(|| "no response".to_owned(), |status| format!("status {status}"));
        let message = client.message.as_deref().map(|message| format!(", {message}")).unwrap_or_default();
        let _ = writeln!(text, "    curl exit {}, {status}{message}", client.exit);
    }
    match &step.explanation {
        Some(explanation) => {
            text.push('\n');
            text.push_str(&indent(explanation, 4));
            // The explanation tells those that the check found; others, such as on objects, come from elsewhere.
            let untold = step.findings.iter().filter(|finding| !explanation.contains(&finding.what));
            untold.for_each(|finding| text.push_str(&indent(&finding.to_string(), 4)));
        }
        None => step.findings.iter().for_each(|finding| text.push_str(&indent(&finding.to_string(), 4))),
    }
    for note in &step.notes {
        text.push_str(&indent(&format!("note: {note}"), 4));
    }
    redact(&text).into_owned()
}

/// The whole run in a few lines: what it ran against, the totals, and what did not hold.
#[must_use]
pub fn summary(report: &Report, color: bool) -> String {
    let (totals, cluster) = (report.totals(), &report.cluster);
    let counts: Vec<_> = Outcome::ALL
        .into_iter()
        .filter(|outcome| totals.of(*outcome) > 0)
        .map(|outcome| painted(outcome, &format!("{} {outcome}", totals.of(outcome)), color))
        .collect();
    let scenarios = if totals.scenarios == 1 { "1 scenario" } else { &format!("{} scenarios", totals.scenarios) };
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let mut text = format!("\n{scenarios} in {}{counts}\n", duration(report.duration_ms));
    let versions = [("Istio", &cluster.istio), ("Envoy", &cluster.envoy), ("Kubernetes", &cluster.kubernetes)];
    let versions = versions.iter().filter(|(_, version)| !version.is_empty()).map(|(name, v)| format!("{name} {v}"));
    let against: Vec<_> = Some(&cluster.kind).filter(|kind| !kind.is_empty()).cloned().into_iter().chain(versions).collect();
    if !against.is_empty() {
        let _ = writeln!(text, "against {}", against.join(", "));
    }
    text
}

/// The scenario's reason, or that of the first step that has one with the same outcome.
pub(super) fn reason(scenario: &ScenarioResult) -> Option<String> {
    scenario.reason.clone().or_else(|| {
        let step = scenario.steps.iter().find(|step| step.outcome == scenario.outcome)?;
        let finding = step.findings.first().map(|f| format!("{}: expected {}, seen {}", f.what, f.expected, f.seen));
        let why = step.reason.clone().or(finding)?;
        Some(format!("{}: {why}", step.name))
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A duration for people: `0.4s`, `12.3s`, `2m05s`.
fn duration(ms: u64) -> String {
    let tenths = (ms + 50) / 100;
    let seconds = (ms + 500) / 1000;
    if tenths < 600 { format!("{}.{}s", tenths / 10, tenths % 10) } else { format!("{}m{:02}s", seconds / 60, seconds % 60) }
}

/// The outcome's word, padded to a width, in its colour.
fn paint(outcome: Outcome, width: usize, color: bool) -> String {
    painted(outcome, &format!("{outcome:width$}"), color)
}

fn painted(outcome: Outcome, text: &str, color: bool) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match outcome {
        Outcome::Passed => "32",
        Outcome::Failed => "1;31",
        Outcome::Flaky | Outcome::Inconclusive => "33",
        Outcome::Errored => "35",
        Outcome::Skipped | Outcome::Unsupported => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Every line that is not empty, moved in; ends with a line break.
pub(super) fn indent(text: &str, by: usize) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") };
    text.trim_end().lines().map(line).collect()
}
