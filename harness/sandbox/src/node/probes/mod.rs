//! Probes and lifecycle hooks: asking a container how it is.
//!
//! Until a startup or readiness probe succeeds for the first time it is asked every 0.1 s, not every `periodSeconds`: a
//! mesh comes up sooner, and the outcome is the same. Failures count by `periodSeconds`. Start at [`attend`].

mod action;
mod http;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::{Instant, MissedTickBehavior};

pub(crate) use self::action::{Action, Target};

/// How often a probe is asked that has not succeeded yet.
const EAGER: Duration = Duration::from_millis(100);

/// What probes tell of a container.
pub(crate) trait Observer {
    /// The startup probe succeeded (or there is none).
    fn started(&self);
    /// The readiness probe's answer changed; with the reason when it is not ready.
    fn ready(&self, ready: bool, why: &str);
}

/// A container that its probes have given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    /// What the last probe said.
    pub(crate) message: String,
    /// Grace period of the probe's own, in seconds.
    pub(crate) grace: Option<i64>,
}

struct Settings {
    action: Action,
    period: Duration,
    timeout: Duration,
    delay: Duration,
    failures: u32,
    successes: u32,
    grace: Option<i64>,
}

impl Settings {
    fn of(probe: &Probe, container: &Container) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(u64::from(positive(value, default)));
        Self {
            action: Action::of_probe(probe, container),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            delay: Duration::from_secs(u64::from(positive(probe.initial_delay_seconds, 0))),
            failures: positive(probe.failure_threshold, 3),
            successes: positive(probe.success_threshold, 1),
            grace: probe.termination_grace_period_seconds,
        }
    }

    async fn ask(&self, target: &Target<'_>) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.action.perform(target)).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(_) => Err(format!("{}: no answer within {} s", self.action, self.timeout.as_secs())),
        }
    }
}

/// Runs all probes of a container that has just started. Ends only when the container must be restarted.
pub(crate) async fn attend(container: &Container, target: &Target<'_>, observer: &impl Observer) -> Unhealthy {
    let settings = |probe: &Option<Probe>| probe.as_ref().map(|p| Settings::of(p, container));
    if let Some(probe) = settings(&container.startup_probe)
        && let Err(unhealthy) = startup(&probe, target).await
    {
        return unhealthy;
    }
    observer.started();
    let readiness = async {
        match settings(&container.readiness_probe) {
            Some(probe) => readiness(&probe, target, observer).await,
            None => {
                observer.ready(true, "");
                std::future::pending().await
            }
        }
    };
    let liveness = async {
        match settings(&container.liveness_probe) {
            Some(probe) => liveness(&probe, target).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        never = readiness => never,
        unhealthy = liveness => unhealthy,
    }
}

async fn startup(probe: &Settings, target: &Target<'_>) -> Result<(), Unhealthy> {
    let deadline = Instant::now() + probe.delay + probe.period * probe.failures;
    let mut ticks = tokio::time::interval(EAGER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match probe.ask(target).await {
            Ok(()) => return Ok(()),
            Err(message) if Instant::now() >= deadline => {
                let message = format!("startup probe failed: {message}");
                return Err(Unhealthy { message, grace: probe.grace });
            }
            Err(_) => {}
        }
    }
}

async fn readiness(probe: &Settings, target: &Target<'_>, observer: &impl Observer) -> Unhealthy {
    let mut ready = false;
    let (mut good, mut bad) = (0, 0);
    let mut last = Instant::now();
    let mut ticks = tokio::time::interval(EAGER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slow = false;
    loop {
        ticks.tick().await;
        match probe.ask(target).await {
            Ok(()) => {
                (good, bad) = (good + 1, 0);
                if !ready && good >= probe.successes {
                    ready = true;
                    observer.ready(true, "");
                }
            }
            Err(message) => {
                good = 0;
                // Eager failures count once per period.
                if slow || last.elapsed() >= probe.period {
                    (bad, last) = (bad + 1, Instant::now());
                }
                if !ready {
                    observer.ready(false, &message);
                } else if bad >= probe.failures {
                    ready = false;
                    observer.ready(false, &message);
                }
            }
        }
        if ready && !slow {
            slow = true;
            ticks = tokio::time::interval_at(Instant::now() + probe.period, probe.period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
    }
}

async fn liveness(probe: &Settings, target: &Target<'_>) -> Unhealthy {
    let mut bad = 0;
    let mut ticks = tokio::time::interval_at(Instant::now() + probe.delay.max(EAGER), probe.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match probe.ask(target).await {
            Ok(()) => bad = 0,
            Err(message) => {
                bad += 1;
                if bad >= probe.failures {
                    let message = format!("liveness probe failed: {message}");
                    return Unhealthy { message, grace: probe.grace };
                }
            }
        }
    }
}
