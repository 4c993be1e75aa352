//! What running a page showed, and how it is told.
//!
//! Start at [`PageReport`] and [`PageReport::text`].

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::drift::Drift;
use super::page::{Note, Place};
use crate::path::{Joined, SeenHop, State, render_path};

/// What came of one page.
#[derive(Debug, Clone, Serialize)]
pub struct PageReport {
    /// The page's file.
    pub page: PathBuf,
    /// Its title.
    pub title: String,
    /// The mesh profile that it started from.
    pub profile: String,
    /// Its commands, as far as they were run.
    pub steps: Vec<StepReport>,
    /// Commands of the page that were not run, and why.
    pub skipped: Vec<Note>,
    /// What the harness did that the page does not say.
    pub remarks: Vec<String>,
    /// What the page left in the cluster, and what it took away.
    pub left: Vec<String>,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// What came of one command.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Where it stands.
    pub at: Place,
    /// Its name, `SECTION_N`.
    pub name: String,
    /// The command.
    pub command: String,
    /// Its exit code; `None`: it did not end by itself.
    pub exit: Option<i32>,
    /// What it printed.
    pub output: String,
    /// Whether an output was compared.
    pub compared: bool,
    /// The ways of its requests: for each pod that sent some, all that it sent.
    pub paths: Vec<PodPath>,
    /// What it came to.
    pub verdict: Verdict,
    /// Milliseconds.
    pub duration_ms: u64,
}

/// The way of what one pod sent under one command.
#[derive(Debug, Clone, Serialize)]
pub struct PodPath {
    /// `namespace/name`.
    pub pod: String,
    /// The way.
    pub joined: Joined,
}

/// What a command came to.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that the page says is true.
    Passed,
    /// What the page says was true for another version.
    Drift {
        /// What, and since when.
        drifts: Vec<Drift>,
    },
    /// Something that the page says is not true.
    Failed {
        /// What, and where.
        findings: Vec<Finding>,
    },
}

/// One thing that is not as the page says.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The line of the page that says it.
    pub at: Place,
    /// What it is about.
    pub what: String,
    /// What the page says.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

impl PodPath {
    /// Whether the way is known from its beginning to its end.
    #[must_use]
    pub fn proved(&self) -> bool {
        self.joined.state == State::Closed
    }

    /// The hops in words, as a page promises them.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        words(&self.joined.path.hops)
    }
}

/// Hops in words: `sidecar`, `gateway`, names of destinations.
#[must_use]
pub fn words(hops: &[SeenHop]) -> Vec<String> {
    let word = |hop: &SeenHop| match hop {
        SeenHop::Destination(seen) => seen.name.clone(),
        proxy => proxy.kind().to_owned(),
    };
    hops.iter().map(word).collect()
}

/// A way in one line.
#[must_use]
pub fn in_words(words: &[String]) -> String {
    if words.is_empty() { "nothing left the client".to_owned() } else { words.join(" > ") }
}

/// The numbers of one or several pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that were run.
    pub commands: usize,
    /// Outputs that were compared.
    pub outputs: usize,
    /// Ways that are known to their end.
    pub paths: usize,
    /// Commands whose text has drifted.
    pub drifted: usize,
    /// Commands that failed.
    pub failed: usize,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            outputs: self.outputs + other.outputs,
            paths: self.paths + other.paths,
            drifted: self.drifted + other.drifted,
            failed: self.failed + other.failed,
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { commands, outputs, paths, drifted, failed } = self;
        write!(
            f,
            "{commands} commands, {outputs} outputs compared, {paths} paths proved, {drifted} drifted, {failed} failed"
        )
    }
}

impl PageReport {
    /// Its numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |holds: &dyn Fn(&StepReport) -> bool| self.steps.iter().filter(|s| holds(s)).count();
        Counts {
            commands: self.steps.len(),
            outputs: count(&|s| s.compared),
            paths: self.steps.iter().flat_map(|s| &s.paths).filter(|p| p.proved()).count(),
            drifted: count(&|s| matches!(s.verdict, Verdict::Drift { .. })),
            failed: count(&|s| matches!(s.verdict, Verdict::Failed { .. })),
        }
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}: {} (starts from {})", self.page.display(), self.title, self.profile);
        for remark in &self.remarks {
            let _ = writeln!(out, "  note: {remark}");
        }
        for step in &self.steps {
            step.write(&mut out);
        }
        for note in &self.skipped {
            let _ = writeln!(out, "  not run  {note}");
        }
        for what in &self.left {
            let _ = writeln!(out, "  left behind: {what}");
        }
        let seconds = self.duration_ms as f64 / 1000.0;
        let _ = writeln!(out, "  {}, {seconds:.1} s", self.counts());
        out
    }
}

impl StepReport {
    fn write(&self, out: &mut String) {
        let word = match self.verdict {
            Verdict::Passed => "ok   ",
            Verdict::Drift { .. } => "drift",
            Verdict::Failed { .. } => "FAIL ",
        };
        let first = self.command.lines().next().unwrap_or_default();
        let short: String = first.chars().take(76).collect();
        let dots = if short.len() < self.command.len() { " …" } else { "" };
        let seconds = self.duration_ms as f64 / 1000.0;
        let _ = writeln!(out, "  {word} {:>4}  {short}{dots} ({seconds:.1} s)", self.at.line);
        for path in &self.paths {
            let state = match &path.joined.state {
                State::Closed => String::new(),
                State::Open { waiting_for } => format!(" (not proved: {waiting_for})"),
                State::Inconclusive { why } => format!(" (not proved: {why})"),
            };
            let _ = writeln!(out, "              {}: {}{state}", path.pod, in_words(&path.words()));
        }
        match &self.verdict {
            Verdict::Passed => {}
            Verdict::Drift { drifts } => {
                for drift in drifts {
                    let _ = writeln!(out, "        {}: drift: {} ({})", self.at, drift.what, drift.since);
                }
            }
            Verdict::Failed { findings } => self.write_findings(findings, out),
        }
    }

    fn write_findings(&self, findings: &[Finding], out: &mut String) {
        for finding in findings {
            let _ = writeln!(out, "        {}: {}", finding.at, finding.what);
            indented(out, "expected", &finding.expected);
            indented(out, "seen", &finding.seen);
        }
        for path in &self.paths {
            let _ = writeln!(out, "          path of {}:", path.pod);
            for line in render_path(&path.joined.path).lines() {
                let _ = writeln!(out, "            {line}");
            }
        }
    }
}

fn indented(out: &mut String, what: &str, text: &str) {
    const MOST: usize = 12;
    let lines: Vec<&str> = text.lines().collect();
    let _ = writeln!(out, "          {what}: {}", if lines.is_empty() { "(nothing)" } else { lines[0] });
    for line in lines.iter().skip(1).take(MOST) {
        let _ = writeln!(out, "            {line}");
    }
    if lines.len() > MOST + 1 {
        let _ = writeln!(out, "            … {} more lines", lines.len() - MOST - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(verdict: Verdict, compared: bool) -> StepReport {
        StepReport {
            at: Place { file: PathBuf::from("p.md"), line: 7 },
            name: "s_1".into(),
            command: "kubectl get pod".into(),
            exit: Some(0),
            output: String::new(),
            compared,
            paths: vec![PodPath {
                pod: "default/curl".into(),
                joined: Joined { path: Default::default(), leftovers: vec![], state: State::Closed },
            }],
            verdict,
            duration_ms: 1500,
        }
    }

    #[test]
    fn a_report_tells_what_expected_seen_and_where() {
        let at = Place { file: PathBuf::from("p.md"), line: 8 };
        let finding =
            Finding { at, what: "the output".into(), expected: "HTTP/2 200".into(), seen: "HTTP/2 502".into() };
        let drift = Drift { what: "text".into(), since: "Istio 1.24".into() };
        let report = PageReport {
            page: PathBuf::from("p.md"),
            title: "A page".into(),
            profile: "registry-only".into(),
            steps: vec![
                step(Verdict::Passed, true),
                step(Verdict::Drift { drifts: vec![drift] }, false),
                step(Verdict::Failed { findings: vec![finding] }, true),
            ],
            skipped: vec![],
            remarks: vec!["a remark".into()],
            left: vec!["Service default/a is left".into()],
            duration_ms: 4500,
        };
        assert_eq!(report.counts(), Counts { commands: 3, outputs: 2, paths: 3, drifted: 1, failed: 1 });
        insta::assert_snapshot!(report.text());
    }
}
