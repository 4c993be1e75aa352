//! What is known of a pod's containers, and the `status` that follows from it.
//!
//! Pure: lifecycle code changes [`PodState`], the publisher turns it into what the API server is told.
//! Start at [`PodState::status`].

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// State of a whole pod on this node.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    /// When the node took the pod.
    pub(crate) start_time: Timestamp,
    /// Its address, once it has one.
    pub(crate) pod_ip: Option<Ipv4Addr>,
    /// Init containers and native sidecars, in the order of the spec.
    pub(crate) init: Vec<ContainerState>,
    /// The other containers.
    pub(crate) main: Vec<ContainerState>,
    /// The pod's `restartPolicy`.
    pub(crate) restart_policy: RestartPolicy,
    /// Set when the pod has ended for a reason of its own, such as its deadline.
    pub(crate) ended: Option<(Phase, String, String)>,
    /// Conditions named by `readinessGates` that do not hold.
    pub(crate) closed_gates: Vec<String>,
    /// Last change of each condition.
    transitions: Vec<(&'static str, bool, Timestamp)>,
}

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// Reads the API's word; the default is `Always`.
    pub(crate) fn parse(word: Option<&str>) -> Self {
        match word {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended so is started again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// A pod's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// State of one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// An init container that goes on beside the others.
    pub(crate) sidecar: bool,
    pub(crate) run: Run,
    pub(crate) last: Option<Terminated>,
    pub(crate) restarts: i32,
    pub(crate) started: bool,
    pub(crate) ready: bool,
}

/// What a container does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Waiting { reason: String, message: String },
    Running { since: Timestamp, id: String },
    Terminated(Terminated),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) id: String,
}

impl ContainerState {
    /// A container that has not been started.
    pub(crate) fn new(name: &str, image: &str, sidecar: bool) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            image_id: String::new(),
            sidecar,
            run: Run::Waiting { reason: "PodInitializing".into(), message: String::new() },
            last: None,
            restarts: 0,
            started: false,
            ready: false,
        }
    }

    /// Whether it has ended, and not been started again.
    pub(crate) fn terminated(&self) -> Option<&Terminated> {
        match &self.run {
            Run::Terminated(t) => Some(t),
            _ => None,
        }
    }

    /// Whether an init container lets the next one start.
    pub(crate) fn init_done(&self) -> bool {
        if self.sidecar { self.started } else { self.terminated().is_some_and(|t| t.exit_code == 0) }
    }

    fn to_json(&self, init: bool) -> Value {
        // An ordinary init container counts as ready once it has done its work.
        let ready = if init && !self.sidecar { self.init_done() } else { self.ready };
        let mut status = json!({
            "name": self.name, "image": self.image, "imageID": self.image_id, "restartCount": self.restarts,
            "ready": ready, "started": self.started, "state": self.run.to_json(),
            "lastState": self.last.as_ref().map_or_else(|| json!({}), |t| json!({"terminated": t.to_json()})),
        });
        let id = match &self.run {
            Run::Running { id, .. } => Some(id),
            Run::Terminated(t) => Some(&t.id),
            Run::Waiting { .. } => self.last.as_ref().map(|t| &t.id),
        };
        if let (Some(id), Some(map)) = (id, status.as_object_mut()) {
            map.insert("containerID".into(), json!(id));
        }
        status
    }
}

impl Run {
    fn to_json(&self) -> Value {
        match self {
            Self::Waiting { reason, message } => {
                let mut inner = Map::from_iter([("reason".to_owned(), json!(reason))]);
                if !message.is_empty() {
                    inner.insert("message".into(), json!(message));
                }
                json!({"waiting": inner})
            }
            Self::Running { since, .. } => json!({"running": {"startedAt": seconds(*since)}}),
            Self::Terminated(t) => json!({"terminated": t.to_json()}),
        }
    }
}

impl Terminated {
    fn to_json(&self) -> Value {
        let mut value = json!({
            "exitCode": self.exit_code, "reason": self.reason, "containerID": self.id,
            "startedAt": seconds(self.started_at), "finishedAt": seconds(self.finished_at),
        });
        if let (false, Some(map)) = (self.message.is_empty(), value.as_object_mut()) {
            map.insert("message".into(), json!(self.message));
        }
        value
    }
}

/// The API's times have whole seconds.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

impl PodState {
    /// A pod of which nothing has been started.
    pub(crate) fn new(
        start_time: Timestamp,
        restart_policy: RestartPolicy,
        init: Vec<ContainerState>,
        main: Vec<ContainerState>,
    ) -> Self {
        Self {
            start_time,
            pod_ip: None,
            init,
            main,
            restart_policy,
            ended: None,
            closed_gates: vec![],
            transitions: vec![],
        }
    }

    /// The phase that follows from the containers.
    pub(crate) fn phase(&self) -> Phase {
        if let Some((phase, ..)) = &self.ended {
            return *phase;
        }
        let init_failed =
            self.init.iter().filter(|c| !c.sidecar).any(|c| {
                c.terminated().is_some_and(|t| t.exit_code != 0) && self.restart_policy == RestartPolicy::Never
            });
        if init_failed {
            return Phase::Failed;
        }
        let begun = |c: &ContainerState| c.last.is_some() || !matches!(c.run, Run::Waiting { .. });
        if !self.main.iter().any(begun) {
            return Phase::Pending;
        }
        let ends: Vec<i32> = self.main.iter().filter_map(|c| Some(c.terminated()?.exit_code)).collect();
        if ends.len() < self.main.len() || ends.iter().any(|code| self.restart_policy.restarts(*code)) {
            return Phase::Running;
        }
        if ends.iter().all(|code| *code == 0) { Phase::Succeeded } else { Phase::Failed }
    }

    /// The `status` to publish. Conditions keep the time of their last change.
    pub(crate) fn status(&mut self, host_ip: Ipv4Addr, now: Timestamp) -> Value {
        let phase = self.phase();
        let running = matches!(phase, Phase::Pending | Phase::Running);
        let sidecars = self.init.iter().filter(|c| c.sidecar);
        let unready: Vec<&str> = sidecars.chain(&self.main).filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
        let incomplete: Vec<&str> = self.init.iter().filter(|c| !c.init_done()).map(|c| c.name.as_str()).collect();
        let list = |names: &[&str]| names.join(" ");
        let done = phase == Phase::Succeeded;
        let initialized = incomplete.is_empty() || done;
        let init_why =
            ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", list(&incomplete)));
        let containers_ready = running && unready.is_empty() && incomplete.is_empty();
        let why = match (done, phase == Phase::Failed) {
            (true, _) => ("PodCompleted", String::new()),
            (_, true) => ("PodFailed", String::new()),
            _ => ("ContainersNotReady", format!("containers with unready status: [{}]", list(&unready))),
        };
        let ready = containers_ready && self.closed_gates.is_empty();
        let ready_why = if containers_ready {
            ("ReadinessGatesNotReady", format!("conditions that do not hold: [{}]", self.closed_gates.join(" ")))
        } else {
            why.clone()
        };
        let has_network = self.pod_ip.is_some();
        let conditions = [
            self.condition("PodScheduled", true, now, ("", String::new())),
            self.condition("PodReadyToStartContainers", has_network, now, ("", String::new())),
            self.condition("Initialized", initialized, now, init_why),
            self.condition("ContainersReady", containers_ready, now, why),
            self.condition("Ready", ready, now, ready_why),
        ];
        let mut status = json!({
            "phase": format!("{phase:?}"),
            "startTime": seconds(self.start_time),
            "hostIP": host_ip.to_string(),
            "hostIPs": [{"ip": host_ip.to_string()}],
            "conditions": conditions,
            "containerStatuses": self.main.iter().map(|c| c.to_json(false)).collect::<Vec<_>>(),
        });
        let map = status.as_object_mut().expect("built as an object above");
        if !self.init.is_empty() {
            let init: Vec<Value> = self.init.iter().map(|c| c.to_json(true)).collect();
            map.insert("initContainerStatuses".into(), json!(init));
        }
        if let Some(ip) = self.pod_ip {
            map.insert("podIP".into(), json!(ip.to_string()));
            // The list is merged by address: one from an earlier run of the node must go.
            map.insert("podIPs".into(), json!([{"$patch": "replace"}, {"ip": ip.to_string()}]));
        }
        if let Some((_, reason, message)) = &self.ended {
            map.insert("reason".into(), json!(reason));
            map.insert("message".into(), json!(message));
        }
        status
    }

    fn condition(&mut self, name: &'static str, holds: bool, now: Timestamp, why: (&str, String)) -> Value {
        let since = match self.transitions.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, was, since)) => {
                if *was != holds {
                    (*was, *since) = (holds, now);
                }
                *since
            }
            None => {
                self.transitions.push((name, holds, now));
                now
            }
        };
        let told = |text: &str| if holds || text.is_empty() { Value::Null } else { json!(text) };
        let (reason, message) = (told(why.0), told(&why.1));
        json!({
            "type": name, "status": if holds { "True" } else { "False" }, "lastTransitionTime": seconds(since),
            "reason": reason, "message": message,
        })
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
