//! One suite on several combinations of versions: a table scenario by combination, with what changed marked, and beneath it
//! how each combination differs from the first.
//!
//! Only reports are read here; nothing is run. Start at [`Matrix`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::compare::{Comparison, Difference, compare};
use super::github::escape;
use super::model::Report;
use super::outcome::Outcome;

/// One combination.
#[derive(Debug, Clone)]
pub struct Column {
    /// Short and unlike the others, as people would call it: `Envoy 1.38.3`.
    pub name: String,
    /// Its report. `None`: it could not be run.
    pub report: Option<Report>,
    /// Where the report lies, relative to the table.
    pub link: String,
    /// Why there is no report, or what else went wrong.
    pub problem: Option<String>,
}

/// Several combinations beside each other. The first is what the others are compared with.
#[derive(Debug, Clone)]
pub struct Matrix {
    columns: Vec<Column>,
    comparisons: Vec<Comparison>,
}

/// The mark of a cell that is not as in the first combination.
const CHANGED: char = '*';

impl Matrix {
    /// Puts combinations beside each other.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        let first = columns.first().and_then(|c| c.report.as_ref());
        let comparisons = columns
            .iter()
            .map(|column| match (first, &column.report) {
                (Some(first), Some(report)) => compare(first, report),
                _ => Comparison::default(),
            })
            .collect();
        Self { columns, comparisons }
    }

    /// Whether every combination was run and is as the first.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.columns.iter().all(|c| c.report.is_some()) && self.comparisons.iter().all(Comparison::is_empty)
    }

    /// The scenarios of all reports, in order.
    fn scenarios(&self) -> BTreeSet<&str> {
        self.columns
            .iter()
            .filter_map(|c| c.report.as_ref())
            .flat_map(|r| &r.scenarios)
            .map(|s| s.id.as_str())
            .collect()
    }

    /// What a combination has for a scenario: the weightiest outcome of its runs.
    fn outcome(column: &Column, id: &str) -> Option<Outcome> {
        let runs = column.report.as_ref()?.scenarios.iter().filter(|s| s.id == id);
        runs.map(|s| s.outcome).max_by_key(|outcome| outcome.weight())
    }

    fn changes<'m>(&'m self, column: usize, id: &'m str) -> impl Iterator<Item = &'m Difference> {
        let of_it = move |d: &&Difference| d.scenario == id || d.scenario.starts_with(&format!("{id} (run "));
        self.comparisons[column].differences.iter().filter(of_it)
    }

    fn changed(&self, column: usize, id: &str) -> bool {
        self.changes(column, id).next().is_some()
    }

    /// The table for a terminal, the comparison under it. Scenarios that are `passed` everywhere and the same everywhere
    /// take one line together, unless `all`.
    #[must_use]
    pub fn to_text(&self, all: bool) -> String {
        let mut out = String::new();
        let ids = self.scenarios();
        let same = |id: &str| {
            self.columns
                .iter()
                .enumerate()
                .all(|(i, c)| Self::outcome(c, id) == Some(Outcome::Passed) && !self.changed(i, id))
        };
        let (quiet, shown): (Vec<&str>, Vec<&str>) = ids.iter().partition(|id| !all && same(id));
        let first = shown.iter().map(|id| id.len()).max().unwrap_or(0).max("scenario".len());
        let widths: Vec<_> = self.columns.iter().map(|c| c.name.chars().count().max("inconclusive*".len())).collect();
        let line = |first_cell: &str, cells: Vec<String>| {
            let cells: String = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}")).collect();
            format!("{first_cell:<first$}{cells}").trim_end().to_owned() + "\n"
        };
        out.push_str(&line("scenario", self.columns.iter().map(|c| c.name.clone()).collect()));
        for id in shown {
            let cell = |(i, column)| {
                let outcome = Self::outcome(column, id).map_or("-".to_owned(), |o| o.to_string());
                if self.changed(i, id) { format!("{outcome}{CHANGED}") } else { outcome }
            };
            out.push_str(&line(id, self.columns.iter().enumerate().map(cell).collect()));
        }
        if !quiet.is_empty() {
            let _ = writeln!(out, "and {} that passed in the same way everywhere", quiet.len());
        }
        let totals = self.columns.iter().map(|c| match &c.report {
            Some(report) => format!("{}/{} passed", report.totals().passed, report.scenarios.len()),
            None => "not run".to_owned(),
        });
        out.push_str(&line("", totals.collect()));
        for column in &self.columns {
            if let Some(problem) = &column.problem {
                let _ = writeln!(out, "\n{}: {problem}", column.name);
            }
        }
        self.compared(&mut out);
        out
    }

    fn compared(&self, out: &mut String) {
        for (text, columns) in self.by_difference() {
            let _ = write!(out, "\n{} against {}:\n{text}", columns.join(", "), self.columns[0].name);
        }
    }

    /// The texts of the comparisons with the first, and the combinations that each is true of, in order.
    fn by_difference(&self) -> Vec<(String, Vec<&str>)> {
        let mut texts: Vec<(String, Vec<&str>)> = Vec::new();
        for (column, comparison) in self.columns.iter().zip(&self.comparisons).skip(1) {
            if column.report.is_none() || self.columns[0].report.is_none() {
                continue;
            }
            let text = comparison.to_string();
            match texts.iter_mut().find(|(other, _)| *other == text) {
                Some((_, columns)) => columns.push(&column.name),
                None => texts.push((text, vec![&column.name])),
            }
        }
        texts
    }

    /// The table as Markdown: each combination linked to its report, each changed cell to what changed.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut out = "| scenario |".to_owned();
        for column in &self.columns {
            let _ = match &column.report {
                Some(_) => write!(out, " [{}]({}) |", escape(&column.name), column.link),
                None => write!(out, " {} (not run) |", escape(&column.name)),
            };
        }
        let _ = writeln!(out, "\n|---|{}", "---|".repeat(self.columns.len()));
        let mut changed: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for id in self.scenarios() {
            let _ = write!(out, "| {} |", escape(id));
            for (i, column) in self.columns.iter().enumerate() {
                let outcome = Self::outcome(column, id).map_or("-".to_owned(), |o| o.to_string());
                if self.changed(i, id) {
                    changed.entry(id).or_default().push(i);
                    let _ = write!(out, " [**{outcome}** changed](#{}) |", anchor(id));
                } else {
                    let _ = write!(out, " {outcome} |");
                }
            }
            out.push('\n');
        }
        for column in &self.columns {
            if let Some(problem) = &column.problem {
                let _ = writeln!(out, "\n**{}**: {}", escape(&column.name), escape(problem));
            }
        }
        if changed.is_empty() && self.agrees() {
            let _ = writeln!(out, "\nEvery verdict and path is the same everywhere.");
        }
        for (id, columns) in changed {
            // A place of our own: what a heading is called by is up to who shows it.
            let _ = writeln!(out, "\n<a id=\"{}\"></a>\n\n### {}", anchor(id), escape(id));
            for i in columns {
                for d in self.changes(i, id) {
                    let step = d.step.as_ref().map(|s| format!(", step {}", escape(s))).unwrap_or_default();
                    let _ = writeln!(out, "\n{}{step}: {}\n", escape(&self.columns[i].name), escape(&d.what));
                    let _ = writeln!(out, "- {}: {}", escape(&self.columns[0].name), escape(&d.first));
                    let _ = writeln!(out, "- {}: {}", escape(&self.columns[i].name), escape(&d.second));
                }
            }
        }
        out
    }
}

fn anchor(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
