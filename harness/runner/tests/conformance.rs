//! Every scenario as a test: `cargo test --test conformance`, or `cargo nextest run`. They share one mesh, also from
//! process to process: it starts with the first test that runs, and ends when none has come for half a minute.
//!
//! `EGRESS_REQUIRE_SANDBOX=1` (set by `scripts/test`) or `CI=true` turns "nothing was run" into a failure.

mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use egress_conformance::embedded;
use egress_core::report::{Outcome, text};
use egress_core::scenario::{Scenario, load};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use support::Mesh;

fn main() -> ExitCode {
    egress_conformance::run_if_child();
    let arguments = Arguments::from_args();
    let (trials, mesh) = match trials() {
        Ok(both) => both,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(message) = mesh.leave() {
        eprintln!("{message}");
        return ExitCode::from(101);
    }
    let required =
        ["CI", "EGRESS_REQUIRE_SANDBOX"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    if required && !listing && conclusion.num_passed + conclusion.num_failed == 0 {
        eprintln!(
            "no scenario was run ({} ignored), and this machine was expected to run them",
            conclusion.num_ignored
        );
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}

fn trials() -> Result<(Vec<Trial>, Arc<Mesh>), String> {
    let files = embedded::scenarios();
    let files = files.into_iter().map(|(path, text)| (Path::new("scenarios").join(path), text)).collect();
    let mesh = Mesh::of(&load(&files, &embedded::profiles()).map_err(|e| e.render(false))?)?;
    let unfit = Mesh::unfit();
    let name = |s: &Scenario| s.id.to_string().replace('/', "::");
    let mut trials = Vec::new();
    for planned in mesh.plan.scenarios() {
        let (planned, mesh, unfit) = (planned.clone(), Arc::clone(&mesh), unfit.clone());
        trials.push(Trial::ignorable_test(name(&planned.scenario), move || {
            if let Some(why) = unfit {
                return Ok(Completion::ignored_with(why));
            }
            let result = mesh.run(&planned)?;
            match result.outcome {
                Outcome::Passed => Ok(Completion::Completed),
                Outcome::Skipped | Outcome::Unsupported => {
                    Ok(Completion::ignored_with(result.reason.unwrap_or_default()))
                }
                _ => Err(Failed::from(text::failure(&result, false))),
            }
        }));
    }
    let left_out = mesh.plan.skipped.iter().map(|(id, why)| (id, why.to_string()));
    let left_out = left_out.chain(mesh.plan.unsupported.iter().map(|(id, lacks)| (id, lacks.to_string())));
    for (id, why) in left_out {
        let test = id.to_string().replace('/', "::");
        trials.push(Trial::ignorable_test(test, move || Ok(Completion::ignored_with(why))));
    }
    Ok((trials, mesh))
}
