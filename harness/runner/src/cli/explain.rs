//! `explain SCENARIO`: what it claims and does, and the path that its last run saw, hop by hop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use egress_core::report::{self, Report, ScenarioResult};
use egress_core::scenario::Scenario;

use super::source::SourceArguments;
use super::{Failure, color, usage};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The scenario, as `group/claim`
    scenario: String,
    #[command(flatten)]
    source: SourceArguments,
    /// The JSON report to take the seen paths from [default: that of the last run]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let set = arguments.source.load()?;
    let scenario = super::run::one(&set, &arguments.scenario)?;
    describe(scenario);
    let (file, asked) = match &arguments.report {
        Some(file) => (file.clone(), true),
        None => (last_report().ok_or_else(|| usage("no home folder, so no last report: give --report FILE"))?, false),
    };
    if !asked && !file.exists() {
        println!("\nIt has not been run yet: egress-conformance run {}", scenario.id);
        return Ok(ExitCode::SUCCESS);
    }
    let report = read_report(&file)?;
    match report.scenarios.iter().rev().find(|s| s.id == scenario.id.to_string()) {
        Some(result) => seen(&report, result),
        None => println!("\nThe last run ({}) did not include it.", file.display()),
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(scenario: &Scenario) {
    let file = &scenario.file;
    println!("{}: {}\n", scenario.id, file.title);
    println!("{}\n", file.about.trim());
    for link in &file.links {
        println!("  {link}");
    }
    println!("mesh {}, {}", file.mesh, scenario.source.display());
    for (n, step) in file.steps.iter().enumerate() {
        println!("\n{}. {}", n + 1, step.name);
        for manifest in &step.apply {
            println!("   apply {manifest}");
        }
        for manifest in &step.delete {
            println!("   delete {manifest}");
        }
        for (destination, behaviour) in &step.set {
            println!("   set {destination} {behaviour}");
        }
        if let Some(probe) = &step.probe {
            println!("   {}: {probe}", probe.from);
        }
        for variant in &step.variants {
            println!("   expects differently with {} ({})", variant.when, variant.because);
        }
    }
}

fn seen(report: &Report, result: &ScenarioResult) {
    let cluster = &report.cluster;
    println!(
        "\nLast run {} on {}: Istio {}, Envoy {}, Kubernetes {}",
        report.started, cluster.kind, cluster.istio, cluster.envoy, cluster.kubernetes
    );
    print!("{}", report::text::scenario_line(result, color()));
    println!();
    for step in &result.steps {
        println!("\n{}: {}", step.name, step.outcome);
        if let Some(command) = &step.command {
            println!("  {command}");
        }
        if let Some(path) = &step.path {
            for line in report::render_path(path).lines() {
                println!("  {line}");
            }
        }
        if let Some(explanation) = &step.explanation {
            println!("{explanation}");
        }
    }
}

/// Where the report of the last run is kept for `explain`.
pub(crate) fn last_report() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("egress-conformance/last-report.json"))
}

/// Reads a JSON report.
pub(crate) fn read_report(file: &Path) -> Result<Report, Failure> {
    let text =
        std::fs::read_to_string(file).map_err(|e| usage(format!("report {} cannot be read: {e}", file.display())))?;
    report::from_json(&text).map_err(|e| usage(format!("{} is no report: {e}", file.display())))
}
