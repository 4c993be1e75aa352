//! The middle of `run`: several hands that take one scenario after another, on a mesh that may be lost on the way.
//!
//! It selects nothing and writes no report. Start at [`execute`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use egress_core::report::{self, ClusterInfo, Outcome, ScenarioResult};
use egress_core::scenario::{Plan, Planned, World};

use super::{Failure, color, interrupted};
use crate::cluster::EnvironmentError;
use crate::progress::{Console, Progress};
use crate::schedule::session::{Session, SessionOptions};
use crate::supervisor::link::NotJoined;
use crate::supervisor::protocol::Fate;

/// How often a run goes on with another mesh after it has lost one.
const RESTARTS: usize = 2;

/// What is to be run.
pub(crate) struct Job<'a> {
    pub(crate) options: SessionOptions,
    pub(crate) world: &'a World,
    /// One for each round.
    pub(crate) plans: &'a [Plan],
    pub(crate) fail_fast: bool,
}

/// Runs every round, adding to `results`. Returns what is known of the cluster, and whether the run was interrupted.
///
/// # Errors
/// [`Failure`] when no mesh comes up for the first scenario, or the mesh does not end in order.
pub(crate) async fn execute(
    job: &Job<'_>,
    console: &Console,
    results: &mut Vec<ScenarioResult>,
) -> Result<(ClusterInfo, bool), Failure> {
    let rounds = job.plans.iter().map(|plan| plan.scenarios().collect()).collect();
    let run =
        Run { job, console, results: Mutex::new(results), rounds: Mutex::new(rounds), stop: AtomicBool::new(false) };
    let mut cluster = None;
    for mesh in 1.. {
        let session = match Session::join(&job.options, job.world, console, interrupted()).await {
            Ok(session) => session,
            Err(NotJoined::BrokenOff) => return Err(Failure::Interrupted),
            Err(NotJoined::Environment(error)) if cluster.is_none() => {
                // One message is enough for people; the report has it for each scenario.
                let left: Vec<_> = lock(&run.rounds).drain(..).flatten().collect();
                let not_run = left.into_iter().map(|planned| errored(planned, format!("not run: {error}")));
                lock(&run.results).extend(not_run);
                return Err(error.into());
            }
            // What has been seen so far is worth a report.
            Err(NotJoined::Environment(error)) => {
                run.give_up(&error.message);
                break;
            }
        };
        cluster.get_or_insert_with(|| session.cluster());
        let ended = run.all_rounds(&session).await;
        console.working("leaving the mesh");
        run.keep_logs(&session, mesh);
        let left = session.leave().await;
        match ended {
            End::Lost(why) if run.is_done() => drop(why),
            End::Lost(why) if mesh <= RESTARTS => {
                console.line(&format!("the mesh is lost: {why}"));
                console.line("going on with another one");
                continue;
            }
            End::Lost(why) => run.give_up(&why.message),
            End::Interrupted => {
                if let Err(error) = left {
                    console.line(&format!("error: {error}"));
                }
                return Ok((cluster.unwrap_or_default(), true));
            }
            End::Done => {
                if left? == Fate::Kept {
                    console.line("the mesh stays up; `egress-conformance down` ends it");
                }
            }
        }
        break;
    }
    Ok((cluster.unwrap_or_default(), false))
}

/// How the work on one mesh ended.
enum End {
    Done,
    Interrupted,
    Lost(EnvironmentError),
}

/// A run, with what is left to do.
struct Run<'p, 'r> {
    job: &'p Job<'p>,
    console: &'p Console,
    results: Mutex<&'r mut Vec<ScenarioResult>>,
    rounds: Mutex<VecDeque<VecDeque<&'p Planned>>>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_, '_> {
    async fn all_rounds(&self, session: &Session) -> End {
        let total = self.job.plans.len();
        loop {
            let left = lock(&self.rounds).len();
            if left == 0 {
                return End::Done;
            }
            if total > 1 {
                self.console.line(&format!("round {} of {total}", total - left + 1));
            }
            let hands = (0..self.job.options.jobs).map(|_| self.hand(session));
            let ended = tokio::select! {
                ended = futures::future::join_all(hands) => ended,
                () = interrupted() => {
                    self.console.line("interrupted: ending the run");
                    return End::Interrupted;
                }
            };
            if self.stop.load(Ordering::Relaxed) {
                lock(&self.rounds).clear();
            } else if let Some(lost) = ended.into_iter().find_map(Result::err) {
                return End::Lost(lost);
            } else {
                lock(&self.rounds).pop_front();
            }
        }
    }

    fn next(&self) -> Option<&Planned> {
        if self.stop.load(Ordering::Relaxed) { None } else { lock(&self.rounds).front_mut()?.pop_front() }
    }

    /// Takes one scenario of the round after another until there is none, or the mesh is lost.
    async fn hand(&self, session: &Session) -> Result<(), EnvironmentError> {
        let mut worker = session.worker().await?;
        while let Some(planned) = self.next() {
            let (result, lost) = match session.run(&mut worker, planned, self.console).await {
                Ok(ran) => ran,
                Err(error) => (errored(planned, error.message.clone()), Some(error)),
            };
            let passed = result.outcome == Outcome::Passed;
            self.say(result);
            if self.job.fail_fast && !passed {
                self.stop.store(true, Ordering::Relaxed);
            }
            if let Some(lost) = lost {
                return Err(lost);
            }
        }
        worker.finish().await;
        Ok(())
    }

    fn is_done(&self) -> bool {
        lock(&self.rounds).iter().all(VecDeque::is_empty)
    }

    /// Reports what cannot be run any more.
    fn give_up(&self, why: &str) {
        let left: Vec<_> = lock(&self.rounds).drain(..).flatten().collect();
        left.into_iter().for_each(|planned| self.say(errored(planned, format!("not run: {why}"))));
    }

    fn say(&self, result: ScenarioResult) {
        let text = report::text::scenario_line(&result, color());
        self.console.print(text.trim_end());
        if !matches!(result.outcome, Outcome::Passed | Outcome::Skipped | Outcome::Unsupported) {
            self.console.print(report::text::failure(&result, color()).trim_end());
        }
        lock(&self.results).push(result);
    }

    fn keep_logs(&self, session: &Session, mesh: usize) {
        let Some(folder) = &self.job.options.logs else { return };
        let folder = if mesh == 1 { folder.clone() } else { folder.join(format!("mesh-{mesh}")) };
        if let Err(error) = session.keep_logs(&folder) {
            self.console.line(&format!("warning: {error}"));
        }
    }
}

fn errored(planned: &Planned, reason: String) -> ScenarioResult {
    let scenario = &planned.scenario;
    ScenarioResult {
        id: scenario.id.to_string(),
        title: scenario.file.title.clone(),
        profile: scenario.file.mesh.clone(),
        outcome: Outcome::Errored,
        reason: Some(reason),
        ..ScenarioResult::default()
    }
}
