//! Every scenario as a test: `cargo test --test conformance`, or `cargo nextest run`. They share one mesh, also from
//! process to process: it starts with the first test that runs, and ends when none has come for half a minute.
//!
//! `EGRESS_REQUIRE_SANDBOX=1` (set by `scripts/test`) or `CI=true` turns "nothing was run" into a failure.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egress_conformance::cluster::preflight;
use egress_conformance::progress::{Console, Quiet};
use egress_conformance::schedule::session::{Session, SessionOptions, default_jobs};
use egress_conformance::supervisor::protocol::Purpose;
use egress_conformance::{components, embedded};
use egress_core::report::{self, Outcome};
use egress_core::scenario::{Capability, Plan, Planned, Scenario, Selection, load, plan};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

struct Shared {
    runtime: Runtime,
    /// This process's part in the mesh, once a test has run.
    session: Mutex<Option<Arc<Session>>>,
    plan: Plan,
    console: Console,
}

impl Shared {
    /// The session, which is begun by the first test that wants it.
    fn session(&self, profile: &str) -> Result<Arc<Session>, Failed> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let options = SessionOptions {
            profile: profile.to_owned(),
            timeout: Duration::from_secs(180),
            purpose: Purpose::Test,
            jobs: default_jobs(),
        };
        let joined = self.runtime.block_on(Session::join(&options, &self.plan.world, &self.console));
        let joined = joined.map_err(|e| format!("no mesh: {e}\n{}", e.remedy.as_deref().unwrap_or_default()))?;
        Ok(Arc::clone(session.insert(Arc::new(joined))))
    }

    fn run(&self, planned: &Planned) -> Result<Completion, Failed> {
        let session = self.session(&planned.scenario.file.mesh)?;
        let ran = self.runtime.block_on(async {
            let mut worker = session.worker().await?;
            let ran = session.run(&mut worker, planned, &Quiet).await;
            worker.finish().await;
            ran
        });
        let (result, lost) = match ran {
            Ok((result, lost)) => (Ok(result), lost.is_some()),
            Err(error) => (Err(error), true),
        };
        if lost {
            // The next test begins with another mesh.
            self.session.lock().unwrap_or_else(PoisonError::into_inner).take_if(|s| Arc::ptr_eq(s, &session));
        }
        let result = result.map_err(|e| e.to_string())?;
        match result.outcome {
            Outcome::Passed => Ok(Completion::Completed),
            Outcome::Skipped | Outcome::Unsupported => Ok(Completion::ignored_with(result.reason.unwrap_or_default())),
            _ => Err(Failed::from(report::text::failure(&result, false))),
        }
    }

    fn leave(&self) -> Result<(), String> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        match session.and_then(Arc::into_inner) {
            Some(session) => self.runtime.block_on(session.leave()).map(drop).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    egress_conformance::run_if_child();
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
    if let Err(message) = shared.leave() {
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
    let capabilities = Capability::ALL.into_iter().collect();
    let plan = plan(&set, &Selection::default(), &capabilities, Some(&istio)).map_err(|e| e.render())?;
    let unfit = preflight().err().map(|e| match &e.remedy {
        Some(remedy) => format!("{e}; {remedy}"),
        None => e.to_string(),
    });
    let shared = Arc::new(Shared {
        runtime: Runtime::new().map_err(|e| e.to_string())?,
        session: Mutex::new(None),
        plan,
        console: Console::new(),
    });
    let name = |s: &Scenario| s.id.to_string().replace('/', "::");
    let mut trials = Vec::new();
    for planned in shared.plan.scenarios() {
        let planned = planned.clone();
        let (owner, unfit) = (Arc::clone(&shared), unfit.clone());
        trials.push(Trial::ignorable_test(name(&planned.scenario), move || match unfit {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => owner.run(&planned),
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
