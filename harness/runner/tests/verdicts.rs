//! Scenarios that are wrong on purpose, on a real mesh: each must turn out as its `expected.txt` says, and name what is
//! wrong. A suite that cannot fail proves nothing.
//!
//! `expected.txt` has the outcome in its first line; each further line must stand in the report of the failure.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use egress_conformance::embedded;
use egress_core::report::{ScenarioResult, text};
use egress_core::scenario::load;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use support::Mesh;

fn judge(result: &ScenarioResult, expected: &str) -> Result<(), Failed> {
    let failure = text::failure(result, false);
    let mut lines = expected.lines();
    let outcome = lines.next().unwrap_or_default();
    if result.outcome.to_string() != outcome {
        return Err(format!("expected {outcome}, seen {}:\n{failure}", result.outcome).into());
    }
    match lines.find(|line| !failure.contains(line.trim())) {
        None => Ok(()),
        Some(missing) => Err(format!("the report does not say {missing:?}:\n{failure}").into()),
    }
}

/// Every file of the wrong scenarios.
fn files(folder: &Path, into: &mut BTreeMap<PathBuf, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, into)?;
        } else {
            into.insert(path.clone(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    egress_conformance::run_if_child();
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/verdicts");
    let mut all = BTreeMap::new();
    files(&folder, &mut all).expect("the folder of wrong scenarios");
    let set = load(&all, &embedded::profiles()).unwrap_or_else(|e| panic!("{}", e.render(false)));
    let mesh = Mesh::of(&set).unwrap_or_else(|e| panic!("{e}"));
    let unfit = Mesh::unfit();
    let mut trials = Vec::new();
    for planned in mesh.plan.scenarios() {
        let (planned, mesh, unfit) = (planned.clone(), Arc::clone(&mesh), unfit.clone());
        let expected = planned.scenario.source.with_file_name("expected.txt");
        trials.push(Trial::ignorable_test(planned.scenario.id.claim.clone(), move || {
            if let Some(why) = unfit {
                return Ok(Completion::ignored_with(why));
            }
            judge(&mesh.run(&planned)?, &std::fs::read_to_string(expected)?)?;
            Ok(Completion::Completed)
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(message) = mesh.leave() {
        eprintln!("{message}");
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}
