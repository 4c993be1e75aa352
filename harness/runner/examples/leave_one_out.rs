//! Writes one variant of every scenario for each of its manifests, with that manifest left out; or reads the report of
//! a run of such variants and tells which of them did not turn red.
//!
//! `scripts/leave-one-out` calls it: a manifest whose absence nobody notices is not tested.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use egress_conformance::embedded;
use egress_core::report::{self, Outcome};
use egress_core::scenario::{Scenario, ScenarioSet, load};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", from, to] => write(Path::new(from), Path::new(to)),
        ["judge", from, file] => judge(Path::new(from), Path::new(file)),
        _ => Err("usage: leave_one_out write SCENARIOS DIR | leave_one_out judge SCENARIOS REPORT".into()),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(3)
        }
    }
}

fn read(dir: &Path) -> Result<ScenarioSet, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                files.insert(path, text);
            }
        }
    }
    load(&files, &embedded::profiles()).map_err(|e| e.render(false))
}

/// The claim of the variant without the N-th manifest. Claims are short, so the manifest's name has no room in it.
fn variant(scenario: &Scenario, manifest: &str) -> String {
    let n = scenario.manifests.keys().position(|name| name == manifest).unwrap_or_default();
    format!("{}-no-{n}", scenario.id.claim)
}

fn write(from: &Path, to: &Path) -> Result<ExitCode, String> {
    let mut count = 0;
    for scenario in &read(from)?.scenarios {
        for left_out in scenario.manifests.keys() {
            let dir: PathBuf = to.join(&scenario.id.group).join(variant(scenario, left_out));
            write_variant(scenario, left_out, &dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            count += 1;
        }
    }
    eprintln!("{count} variants in {}", to.display());
    Ok(ExitCode::SUCCESS)
}

fn write_variant(scenario: &Scenario, left_out: &str, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut file = scenario.file.clone();
    for step in &mut file.steps {
        step.apply.retain(|m| m != left_out);
        step.delete.retain(|m| m != left_out);
    }
    file.inert.remove(left_out);
    // JSON is YAML, and the scenario's own types write it.
    std::fs::write(dir.join("scenario.yaml"), serde_json::to_string_pretty(&file)?)?;
    for (name, manifest) in scenario.manifests.iter().filter(|(name, _)| *name != left_out) {
        std::fs::write(dir.join(name), &manifest.text)?;
    }
    Ok(())
}

fn judge(from: &Path, file: &Path) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let report = report::from_json(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let (mut red, mut inert, mut wrong) = (0, Vec::new(), Vec::new());
    for scenario in &read(from)?.scenarios {
        for manifest in scenario.manifests.keys() {
            let id = format!("{}/{}", scenario.id.group, variant(scenario, manifest));
            let result = report.scenarios.iter().find(|s| s.id == id);
            match (result.map(|r| r.outcome), scenario.file.inert.get(manifest)) {
                (Some(Outcome::Failed), None) => red += 1,
                (Some(Outcome::Passed), Some(why)) => inert.push(format!("{} {manifest}: {why}", scenario.id)),
                (Some(Outcome::Passed), None) => wrong.push(format!("{} {manifest}: nobody noticed", scenario.id)),
                (Some(other), Some(_)) => {
                    wrong.push(format!("{} {manifest}: said to be inert, and {other}", scenario.id))
                }
                (Some(other), None) => {
                    let why = result.and_then(|r| r.reason.clone()).unwrap_or_default();
                    wrong.push(format!("{} {manifest}: {other} instead of failed ({why})", scenario.id));
                }
                (None, _) => wrong.push(format!("{} {manifest}: not in the report", scenario.id)),
            }
        }
    }
    println!("{red} manifests are missed when they are left out");
    println!("{} change nothing, and say so:", inert.len());
    inert.iter().for_each(|line| println!("  {line}"));
    println!("{} are not as they should be:", wrong.len());
    wrong.iter().for_each(|line| println!("  {line}"));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
