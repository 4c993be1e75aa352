//! The report as Markdown for the summary page of a GitHub Actions job
//! (<https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>, `GITHUB_STEP_SUMMARY`).
//!
//! One table of groups, then everything that did not pass, with its explanation. Start at [`to_github`].

use std::collections::BTreeMap;
use std::fmt::Write;

use super::model::Report;
use super::outcome::Outcome;
use super::redact::redact;
use super::text;

/// GitHub refuses a summary above 1 MiB; explanations beyond this are left to the other reports.
const MOST_BYTES: usize = 900 * 1024;

/// The report as Markdown, secrets removed.
#[must_use]
pub fn to_github(report: &Report) -> String {
    let mut out = format!("## Egress conformance\n\n{}\n", text::summary(report, false));
    let mut groups: BTreeMap<&str, BTreeMap<Outcome, usize>> = BTreeMap::new();
    for scenario in &report.scenarios {
        let group = scenario.id.split_once('/').map_or("", |(group, _)| group);
        *groups.entry(group).or_default().entry(scenario.outcome).or_default() += 1;
    }
    let totals = report.totals();
    let columns: Vec<_> = Outcome::ALL.into_iter().filter(|outcome| totals.of(*outcome) > 0).collect();
    if !columns.is_empty() {
        let heads: String = columns.iter().map(|outcome| format!(" {outcome} |")).collect();
        let _ = writeln!(out, "| group |{heads}\n|---|{}", "---:|".repeat(columns.len()));
        for (group, counts) in &groups {
            let cell = |outcome| counts.get(outcome).map_or_else(String::new, usize::to_string);
            let cells: String = columns.iter().map(|outcome| format!(" {} |", cell(outcome))).collect();
            let _ = writeln!(out, "| {group} |{cells}");
        }
    }
    let mut left = 0;
    for scenario in report.scenarios.iter().filter(|s| s.outcome != Outcome::Passed) {
        let mut part = format!("\n<details><summary><b>{}</b> {}", scenario.outcome, escape(&scenario.id));
        if let Some(reason) = &scenario.reason {
            let _ = write!(part, ": {}", escape(&redact(reason)));
        }
        part.push_str("</summary>\n\n");
        let failure = text::failure(scenario, false);
        if failure.is_empty() {
            let _ = writeln!(part, "{}", escape(&scenario.title));
        } else {
            let fence = fence(&failure);
            let _ = writeln!(part, "{fence}text\n{failure}{fence}");
        }
        part.push_str("\n</details>\n");
        if out.len() + part.len() > MOST_BYTES {
            left += 1;
        } else {
            out.push_str(&part);
        }
    }
    if left > 0 {
        let _ = writeln!(out, "\n{left} more did not pass; the other reports have them.");
    }
    out
}

/// Text that Markdown and HTML leave as it is.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '|' => escaped.push_str("&#124;"),
            '\n' => escaped.push(' '),
            '*' | '_' | '`' | '[' | ']' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// A fence longer than any in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}
