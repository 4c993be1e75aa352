//! Scenarios that are wrong on purpose, on a real mesh: each must turn out as its `expected.txt` says, and name what is
//! wrong. A suite that cannot fail proves nothing.
//!
//! `expected.txt` has the outcome in its first line; each further line must stand in the report of the failure.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use egress_conformance::cluster::preflight;
use egress_core::report::{Report, from_json, text};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/verdicts")
}

/// One run of all of them, as a user would start it.
fn run() -> Result<Report, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = dir.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_egress-conformance"))
        .args(["run", "--scenarios"])
        .arg(fixtures())
        .arg("--report")
        .arg(format!("json={}", file.display()))
        .env("XDG_STATE_HOME", dir.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(1) {
        return Err(format!("the run ended with {}, wanted 1 (something failed):\n{}", output.status, said()));
    }
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{e}:\n{}", said()))?;
    from_json(&text).map_err(|e| e.to_string())
}

fn judge(report: &Report, id: &str, expected: &str) -> Result<(), Failed> {
    let result = report.scenarios.iter().find(|s| s.id == id).ok_or_else(|| format!("{id} is not in the report"))?;
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

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let unfit = preflight().err().map(|e| e.to_string());
    let report = Arc::new(OnceLock::new());
    let mut trials = Vec::new();
    for entry in std::fs::read_dir(fixtures().join("wrong")).expect("the folder of wrong scenarios") {
        let folder = entry.expect("an entry").path();
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let (unfit, report) = (unfit.clone(), Arc::clone(&report));
        trials.push(Trial::ignorable_test(name.clone(), move || {
            if let Some(why) = unfit {
                return Ok(Completion::ignored_with(why));
            }
            let expected = std::fs::read_to_string(folder.join("expected.txt"))?;
            let report: &Result<Report, String> = report.get_or_init(run);
            judge(report.as_ref()?, &format!("wrong/{name}"), &expected)?;
            Ok(Completion::Completed)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
