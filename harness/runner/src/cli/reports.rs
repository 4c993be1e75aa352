//! `--report FORMAT=FILE`: what is written, where, and that it can be before anything runs.
//!
//! What stands in a report is the core's business. Start at [`write`].

use std::path::{Path, PathBuf};
use std::str::FromStr;

use egress_component::{Host, Tool};
use egress_core::report::{self, Report};
use egress_core::scenario::ScenarioSet;

use super::{Failure, explain, usage};
use crate::cluster::EnvironmentError;
use crate::components::VARIABLES;

/// A report that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct ReportTarget {
    format: ReportFormat,
    file: PathBuf,
}

#[derive(Debug, Clone, Copy)]
enum ReportFormat {
    Text,
    Json,
    Junit,
    Github,
    Conformance,
}

impl FromStr for ReportTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "expected FORMAT=FILE with FORMAT one of text, json, junit, github, conformance";
        let (format, file) = text.split_once('=').ok_or(wanted)?;
        let format = match format {
            "text" => ReportFormat::Text,
            "json" => ReportFormat::Json,
            "junit" => ReportFormat::Junit,
            "github" => ReportFormat::Github,
            "conformance" => ReportFormat::Conformance,
            other => return Err(format!("unknown report format {other:?}: {wanted}")),
        };
        if file.is_empty() { Err(wanted.to_owned()) } else { Ok(Self { format, file: file.into() }) }
    }
}

impl ReportTarget {
    /// Where it goes.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder of its file. A summary goes where somebody else's files are: nothing may be put beside it.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.file.parent().filter(|_| !matches!(self.format, ReportFormat::Github))
    }

    /// Makes the report's folder before anything runs: a report that cannot be written should not cost a run.
    ///
    /// # Errors
    /// [`Failure::Usage`] with the file.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let file = &self.file;
        let failed = |e: std::io::Error| usage(format!("report {} cannot be written: {e}", file.display()));
        if let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(failed)?;
        Ok(())
    }
}

/// The command line of this process without its reports, after the variables that change what it does.
pub(crate) fn command() -> String {
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--report" {
            arguments.next();
        } else if !argument.starts_with("--report=") {
            words.push(argument);
        }
    }
    let host = Host::current();
    let on_kind = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("EGRESS_KIND_"));
    let names = VARIABLES.iter().map(|name| (*name).to_owned()).chain(on_kind);
    let set = names.filter_map(|name| Some(format!("{name}={} ", host.get(&name)?.to_string_lossy())));
    set.collect::<String>() + &Tool::new(Path::new("egress-conformance"), &host).args(words).display()
}

/// Writes every report. `set` is the suite that scenarios were selected from.
///
/// # Errors
/// [`EnvironmentError`] with the first file that cannot be written.
pub(crate) fn write(targets: &[ReportTarget], report: &Report, set: &ScenarioSet) -> Result<(), EnvironmentError> {
    let failed = |e: &dyn std::fmt::Display, file: &Path| {
        EnvironmentError::new(format!("report {} cannot be written: {e}", file.display()))
    };
    let json = report::to_json(report);
    if let Some(last) = explain::last_report() {
        // `explain` reads it; without it only `explain` without --report has nothing to say.
        let written = last.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&last, &json));
        if let Err(error) = written {
            tracing::warn!("{}: {error}", last.display());
        }
    }
    for target in targets {
        let text = match target.format {
            ReportFormat::Json => json.clone(),
            ReportFormat::Junit => report::to_junit(report).map_err(|e| failed(&e, &target.file))?,
            ReportFormat::Github => report::to_github(report),
            ReportFormat::Conformance => {
                let suite: Vec<_> = set.scenarios.iter().map(|s| (s.id.to_string(), s.file.level)).collect();
                report::to_conformance(report, suite.iter().map(|(id, level)| (id.as_str(), *level)))
            }
            ReportFormat::Text => {
                let mut text: String = report.scenarios.iter().map(|s| report::text::scenario_line(s, false)).collect();
                text.extend(report.scenarios.iter().map(|s| report::text::failure(s, false)));
                text + &report::text::summary(report, false)
            }
        };
        // GITHUB_STEP_SUMMARY may have something of an earlier step's tool in it.
        let written = match target.format {
            ReportFormat::Github => append(&target.file, &text),
            _ => std::fs::write(&target.file, text),
        };
        written.map_err(|e| failed(&e, &target.file))?;
    }
    Ok(())
}

fn append(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_asked_for_by_format_and_file() {
        assert!(matches!(
            "junit=a/b.xml".parse::<ReportTarget>(),
            Ok(ReportTarget { format: ReportFormat::Junit, file }) if file == Path::new("a/b.xml")
        ));
        for wrong in ["json", "json=", "pdf=x"] {
            let message = wrong.parse::<ReportTarget>().expect_err(wrong);
            assert!(message.contains("FORMAT=FILE"), "{message}");
        }
    }
}
