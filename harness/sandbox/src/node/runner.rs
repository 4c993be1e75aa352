//! The life of one container: start, probes, hooks, end, back-off, restart, until it is told to stop.
//!
//! One task per container. It writes its part of [`PodState`] and knows nothing of its neighbours; the order between
//! containers is [`super::pod`]'s. Start at [`Runner::run`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use rustix::process::Signal;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::context::{PodContext, spec};
use super::env;
use super::launch::Running;
use super::prepare::{Problem, prepare};
use super::probes::{self, Action, Observer, Target, Unhealthy};
use super::registry::{ExecTarget, Instance};
use super::status::{ContainerState, RestartPolicy, Run, Terminated};

/// First pause before a restart; doubled each time, as the kubelet does.
const BACK_OFF: Duration = Duration::from_secs(10);
/// Longest pause before a restart.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// A container that ran so long has recovered.
const RECOVERED: Duration = Duration::from_secs(600);
/// When a problem is looked at again although nothing has been heard.
const RETRY: Duration = Duration::from_secs(10);

/// Which list of the pod a container is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Runs to its end before the next one.
    Init(usize),
    /// Starts among the init containers and goes on.
    Sidecar(usize),
    /// An ordinary container.
    Main(usize),
}

/// Told to stop: by then it must have ended.
pub(crate) type Stop = watch::Receiver<Option<Instant>>;

/// One container of a pod.
pub(crate) struct Runner {
    context: Arc<PodContext>,
    container: Container,
    slot: Slot,
    stop: Stop,
    starts: u32,
}

/// How one run of the container went.
enum Outcome {
    /// It ended, or could not start.
    Ended(Terminated, Duration),
    /// It was told to stop.
    Stopped,
}

impl Runner {
    /// A container that has not been started.
    pub(crate) fn new(context: Arc<PodContext>, container: Container, slot: Slot, stop: Stop) -> Self {
        Self { context, container, slot, stop, starts: 0 }
    }

    /// Runs it until it has ended for good.
    pub(crate) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            match self.once().await {
                Outcome::Stopped => return,
                Outcome::Ended(end, lasted) => {
                    if !self.restarts(&end) || self.stopping() {
                        return;
                    }
                    if lasted >= RECOVERED {
                        pause = Duration::ZERO;
                    }
                    if !pause.is_zero() && self.wait_out(pause, &end).await {
                        return;
                    }
                    pause = (pause * 2).clamp(BACK_OFF, LONGEST_BACK_OFF);
                    self.update(move |state| {
                        state.last = Some(end);
                        state.restarts += 1;
                    });
                }
            }
        }
    }

    fn restarts(&self, end: &Terminated) -> bool {
        let pod = spec(&self.context.object());
        let policy = RestartPolicy::parse(pod.restart_policy.as_deref());
        match self.slot {
            Slot::Sidecar(_) => true,
            Slot::Init(_) => end.exit_code != 0 && policy != RestartPolicy::Never,
            Slot::Main(_) => policy.restarts(end.exit_code),
        }
    }

    fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Waits before a restart; true if it was told to stop meanwhile.
    async fn wait_out(&mut self, pause: Duration, end: &Terminated) -> bool {
        let message = format!("back-off {} s restarting failed container {:?}", pause.as_secs(), self.container.name);
        let waiting = Run::Waiting { reason: "CrashLoopBackOff".into(), message: message.clone() };
        let last = end.clone();
        self.update(move |state| {
            state.last = Some(last);
            state.run = waiting;
        });
        self.context.node.warn(&self.context.object(), "BackOff", &message);
        let stopped = tokio::time::timeout(pause, self.stop.wait_for(Option::is_some)).await.is_ok();
        if stopped {
            let end = end.clone();
            self.update(move |state| state.run = Run::Terminated(end));
        }
        stopped
    }

    /// Starts the container and sees it through to its end.
    async fn once(&mut self) -> Outcome {
        let (running, instance, ended, id) = loop {
            if self.stopping() {
                return Outcome::Stopped;
            }
            let mut changes = self.context.node.changes.subscribe();
            match self.start().await {
                Ok(Started::Runs(parts)) => break *parts,
                Ok(Started::Failed(end)) => {
                    let now = end.clone();
                    self.update(move |state| state.run = Run::Terminated(now));
                    return Outcome::Ended(end, Duration::ZERO);
                }
                Err(problem) => {
                    self.tell(&problem);
                    if self.wait_for_change(&mut changes).await {
                        return Outcome::Stopped;
                    }
                }
            }
        };
        let began = Instant::now();
        let started_at = Timestamp::now();
        let running_id = id.clone();
        self.update(move |state| state.run = Run::Running { since: started_at, id: running_id });
        let (exit_code, reason, message) = self.attend(running, &instance.target).await;
        let _ = ended.send(true);
        let end = Terminated {
            exit_code,
            reason: reason.unwrap_or_else(|| if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
            message,
            started_at,
            finished_at: Timestamp::now(),
            id,
        };
        let now = end.clone();
        let sidecar = matches!(self.slot, Slot::Sidecar(_));
        self.update(move |state| {
            state.run = Run::Terminated(now);
            state.ready = false;
            // A sidecar that restarts does not hold up what it once let through.
            state.started = sidecar && state.started;
        });
        Outcome::Ended(end, began.elapsed())
    }

    /// Watches the running container. Its exit code, and why it was ended if it was not its own doing.
    async fn attend(&mut self, mut running: Running, target: &ExecTarget) -> (i32, Option<String>, String) {
        let context = self.context.clone();
        let container = self.container.clone();
        let target = Target { ip: context.ip, launcher: &context.node.launcher, container: target };
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let watch = async {
            if let Some(hook) = hook {
                let action = Action::of_hook(hook, &container);
                if let Err(error) = action.perform(&target).await {
                    return Unhealthy { message: format!("postStart hook failed: {error}"), grace: None };
                }
            }
            probes::attend(&container, &target, self).await
        };
        let mut stop = self.stop.clone();
        let unhealthy = tokio::select! {
            code = running.wait() => return (code, None, String::new()),
            unhealthy = watch => Some(unhealthy),
            _ = stop.wait_for(Option::is_some) => None,
        };
        let pod = context.object();
        let grace = match &unhealthy {
            Some(unhealthy) => {
                context.node.warn(&pod, "Unhealthy", &format!("{}: {}", container.name, unhealthy.message));
                let grace = unhealthy.grace.or(spec(&pod).termination_grace_period_seconds).unwrap_or(30);
                Some(Duration::from_secs(u64::try_from(grace).unwrap_or(0)))
            }
            None => None,
        };
        let code = self.end(&mut running, &target, grace).await;
        match unhealthy {
            Some(unhealthy) => (code, Some("Error".to_owned()), unhealthy.message),
            None => (code, None, String::new()),
        }
    }

    /// Ends a running container: preStop hook, SIGTERM, and SIGKILL once its time is over.
    async fn end(&self, running: &mut Running, target: &Target<'_>, grace: Option<Duration>) -> i32 {
        let own = grace.map(|grace| Instant::now() + grace);
        let mut stop = self.stop.clone();
        let time_is_up = async {
            loop {
                let told = *stop.borrow_and_update();
                let deadline = match (own, told) {
                    (Some(own), Some(told)) => own.min(told),
                    (Some(one), None) | (None, Some(one)) => one,
                    (None, None) => Instant::now(),
                };
                tokio::select! {
                    () = tokio::time::sleep_until(deadline) => return,
                    // The deadline may be moved forward by a second deletion.
                    changed = stop.changed() => if changed.is_err() { return },
                }
            }
        };
        let hook = self.container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
        let gently = async {
            if let Some(hook) = hook {
                let action = Action::of_hook(hook, &self.container);
                tokio::select! {
                    result = action.perform(target) => if let Err(error) = result {
                        tracing::debug!(%error, container = self.container.name, "preStop hook failed");
                    },
                    code = running.wait() => return code,
                }
            }
            running.signal(Signal::TERM);
            running.wait().await
        };
        tokio::select! {
            code = gently => return code,
            () = time_is_up => {}
        }
        running.signal(Signal::KILL);
        running.wait().await
    }

    async fn start(&mut self) -> Result<Started, Problem> {
        let context = &self.context;
        let name = &self.container.name;
        let pod = context.object();
        let failed = |what: &str, error: &dyn std::fmt::Display| Problem {
            reason: "CreateContainerError",
            message: format!("{what}: {error}"),
        };
        let root = context.folder.join("roots").join(name);
        std::fs::create_dir_all(&root).map_err(|e| failed("the container's root", &e))?;
        let (container_spec, image_id) = prepare(context, &pod, &self.container, root).await?;
        self.starts += 1;
        let id = format!("egress-sandbox://{}/{name}/{}", context.uid, self.starts);
        let folder = context.logs.join(name);
        let path = folder.join(format!("{}.log", self.starts));
        let log = std::fs::create_dir_all(&folder)
            .and_then(|()| super::logs::create(&path))
            .map_err(|e| failed("the container's log", &e))?;
        let arrivals = context.node.arrivals.watch(&path).map_err(|e| failed("watching the container's log", &e))?;
        self.update(move |state| state.image_id = image_id);
        let running = match context.node.launcher.container(&container_spec, log).await {
            Ok(running) => running,
            Err(error) => {
                let now = Timestamp::now();
                context.node.warn(&pod, "Failed", &format!("container {name:?} did not start: {error}"));
                return Ok(Started::Failed(Terminated {
                    exit_code: 128,
                    reason: "StartError".into(),
                    message: error.to_string(),
                    started_at: now,
                    finished_at: now,
                    id,
                }));
            }
        };
        let (ended, ended_receiver) = watch::channel(false);
        let target = ExecTarget { pidfd: running.pidfd.clone(), process: container_spec.process };
        let instance = Instance { log: path, arrivals, ended: ended_receiver, target };
        if let Some(oldest) = context.entry.started(name, instance.clone()) {
            let _ = std::fs::remove_file(oldest.log);
        }
        Ok(Started::Runs(Box::new((running, instance, ended, id))))
    }

    fn tell(&self, problem: &Problem) {
        let waiting = Run::Waiting { reason: problem.reason.to_owned(), message: problem.message.clone() };
        let known = self.with_state(|state| state.run == waiting);
        if !known {
            self.context.node.warn(&self.context.object(), "Failed", &problem.message);
            self.update(move |state| state.run = waiting);
        }
    }

    /// Waits until an object of the environment changes, or for a while; true if it was told to stop.
    async fn wait_for_change(&mut self, changes: &mut broadcast::Receiver<super::objects::Change>) -> bool {
        let wanted = env::references(&self.container);
        let namespace = self.context.namespace.clone();
        let changed = async {
            while let Ok(change) = changes.recv().await {
                if change.namespace == namespace && wanted.contains(&change.reference) {
                    return;
                }
            }
        };
        tokio::select! {
            _ = self.stop.wait_for(Option::is_some) => true,
            () = changed => false,
            () = crate::wait::before_another_try(RETRY) => false,
        }
    }

    fn update(&self, change: impl FnOnce(&mut ContainerState)) {
        self.context.state.send_modify(|pod| {
            change(match self.slot {
                Slot::Init(index) | Slot::Sidecar(index) => &mut pod.init[index],
                Slot::Main(index) => &mut pod.main[index],
            });
        });
    }

    fn with_state<T>(&self, look: impl FnOnce(&ContainerState) -> T) -> T {
        let pod = self.context.state.borrow();
        look(match self.slot {
            Slot::Init(index) | Slot::Sidecar(index) => &pod.init[index],
            Slot::Main(index) => &pod.main[index],
        })
    }
}

enum Started {
    Runs(Box<(Running, Instance, watch::Sender<bool>, String)>),
    Failed(Terminated),
}

impl Observer for Runner {
    fn started(&self) {
        self.update(|state| state.started = true);
    }

    fn ready(&self, ready: bool, why: &str) {
        if self.with_state(|state| state.ready) && !ready {
            let note = format!("{}: readiness probe failed: {why}", self.container.name);
            self.context.node.warn(&self.context.object(), "Unhealthy", &note);
        }
        if self.with_state(|state| state.ready) != ready {
            self.update(|state| state.ready = ready);
        }
    }
}
