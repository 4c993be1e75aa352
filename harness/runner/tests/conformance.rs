//! Every scenario as a test: `cargo test --test conformance`. All of them share one sandbox, which starts with the
//! first test that runs and ends with the process.
//!
//! `EGRESS_REQUIRE_SANDBOX=1` (set by `scripts/test`) or `CI=true` turns "nothing was run" into a failure.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress_conformance::cluster::preflight;
use egress_conformance::progress::Console;
use egress_conformance::schedule::session::{Session, SessionOptions};
use egress_conformance::{components, embedded};
use egress_core::report::{self, Outcome};
use egress_core::scenario::{Capability, Circumstances, ClusterKind, Plan, Scenario, Selection, load, plan};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

/// The one mesh of this process: not started, running, or unable to start.
enum State {
    Idle,
    Running(Box<Session>),
    Broken(String),
}

struct Shared {
    runtime: Runtime,
    state: Mutex<State>,
    plan: Plan,
    console: Console,
}

impl Shared {
    fn run(&self, scenario: &Scenario) -> Result<Completion, Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Idle = *state {
            let options =
                SessionOptions { profile: scenario.file.mesh.clone(), timeout: Duration::from_secs(180), logs: None };
            let started = self.runtime.block_on(Session::start(&options, &self.plan.world, &self.console));
            *state = match started {
                Ok(session) => State::Running(Box::new(session)),
                Err(error) => State::Broken(format!("{error}\n{}", error.remedy.as_deref().unwrap_or_default())),
            };
        }
        let session = match &mut *state {
            State::Running(session) => session,
            State::Broken(why) => return Err(Failed::from(format!("no mesh: {why}"))),
            State::Idle => unreachable!("it was started above"),
        };
        match self.runtime.block_on(session.run(scenario)) {
            Ok(result) => match result.outcome {
                Outcome::Passed => Ok(Completion::Completed),
                Outcome::Skipped | Outcome::Unsupported => {
                    Ok(Completion::ignored_with(result.reason.unwrap_or_default()))
                }
                _ => Err(Failed::from(report::text::failure(&result, false))),
            },
            Err(error) => {
                *state = State::Broken(error.to_string());
                Err(Failed::from(error.to_string()))
            }
        }
    }

    fn stop(&self) -> Result<(), String> {
        let state = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Idle);
        match state {
            State::Running(session) => self.runtime.block_on(session.stop()).map_err(|e| e.to_string()),
            State::Idle | State::Broken(_) => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    egress_sandbox::run_if_child();
    let arguments = Arguments::from_args();
    let trials_and_shared = trials();
    let (trials, shared) = match trials_and_shared {
        Ok(both) => both,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(message) = shared.stop() {
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

fn trials() -> Result<(Vec<Trial>, Arc<Shared>), String> {
    let files = embedded::scenarios();
    let files = files.into_iter().map(|(path, text)| (std::path::Path::new("scenarios").join(path), text)).collect();
    let set = load(&files, &embedded::profiles()).map_err(|e| e.render(false))?;
    let istio = components::pinned_istio().map_err(|e| e.to_string())?;
    let on =
        Circumstances { capabilities: Capability::ALL.into(), istio: Some(istio), cluster: Some(ClusterKind::Sandbox) };
    let plan = plan(&set, &Selection::default(), &on).map_err(|e| e.render())?;
    let unfit = preflight().err().map(|e| match &e.remedy {
        Some(remedy) => format!("{e}; {remedy}"),
        None => e.to_string(),
    });
    let shared = Arc::new(Shared {
        runtime: Runtime::new().map_err(|e| e.to_string())?,
        state: Mutex::new(State::Idle),
        plan,
        console: Console::new(),
    });
    let name = |s: &Scenario| s.id.to_string().replace('/', "::");
    let mut trials = Vec::new();
    for planned in shared.plan.scenarios() {
        let scenario = Arc::clone(&planned.scenario);
        let (owner, unfit) = (Arc::clone(&shared), unfit.clone());
        trials.push(Trial::ignorable_test(name(&scenario), move || match unfit {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => owner.run(&scenario),
        }));
    }
    let left_out = shared.plan.skipped.iter().map(|(id, why)| (id, why.to_string()));
    let left_out = left_out.chain(shared.plan.unsupported.iter().map(|(id, lacks)| (id, lacks.to_string())));
    for (id, why) in left_out {
        let test = id.to_string().replace('/', "::");
        trials.push(Trial::ignorable_test(test, move || Ok(Completion::ignored_with(why))));
    }
    Ok((trials, shared))
}
