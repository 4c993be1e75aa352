//! The life of one pod: network, volumes, init containers, sidecars, containers, end.
//!
//! One task per pod, from the first sight of it to the removal of its object. What a single container does is
//! [`super::runner`]'s; what the API server is told, [`publish`]'s. Start at [`run`].

mod end;
mod maintain;
mod publish;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::end::Ending;
use super::context::{Node, PodContext, spec};
use super::runner::{Runner, Slot, Stop};
use super::security;
use super::status::{ContainerState, PodState, RestartPolicy, Run};
use super::volumes::{VolumeError, Volumes};

/// When something that failed is tried again although nothing has been heard.
const RETRY: Duration = Duration::from_secs(2);

/// What the watch tells a pod's task.
#[derive(Clone)]
pub(crate) struct Signals {
    /// The pod as last seen.
    pub(crate) pod: watch::Receiver<Arc<Pod>>,
    /// The object no longer exists.
    pub(crate) gone: CancellationToken,
    /// The node ends.
    pub(crate) shutdown: CancellationToken,
}

/// Takes a pod from its binding to its removal.
pub(crate) async fn run(node: Arc<Node>, signals: Signals) {
    let pod = signals.pod.borrow().clone();
    let mut ending = Ending::new(signals.clone());
    let pod_spec = spec(&pod);
    let state = initial_state(&pod);
    let done_before = matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    if done_before || pod.metadata.deletion_timestamp.is_some() {
        ending.wait_for_deletion().await;
        end::remove_object(&node, &pod, &signals).await;
        return;
    }
    if let Err(refusal) = security::check_pod(&pod_spec) {
        node.warn(&pod, "FailedCreatePodSandBox", &refusal.to_string());
        let waiting = Run::Waiting { reason: "CreateContainerConfigError".into(), message: refusal.to_string() };
        let state = waiting_state(state, &waiting);
        let publisher = publish::start(node.clone(), &pod, watch::Sender::new(state));
        ending.wait_for_deletion().await;
        drop(publisher);
        end::remove_object(&node, &pod, &signals).await;
        return;
    }
    let state = watch::Sender::new(state);
    let publisher = publish::start(node.clone(), &pod, state.clone());
    let Some(context) = connect(&node, &pod, &signals, &state, &mut ending).await else {
        drop(publisher);
        end::remove_object(&node, &pod, &signals).await;
        return;
    };
    let volumes = Arc::new(Mutex::new(Volumes::new(context.folder.join("volumes"), node.client.clone())));
    let (stop, told) = watch::channel(None);
    ending.drive(&context, stop.clone(), live(&context, &volumes, &told)).await;
    if !signals.shutdown.is_cancelled() {
        // Whatever ended it: its containers have stopped, and its last state is told before the object may go.
        publish::now(&node, &pod, &state).await;
        ending.wait_for_deletion().await;
    }
    drop(publisher);
    volumes.lock().await.remove();
    end::clean_up(&context, signals.shutdown.is_cancelled()).await;
    end::remove_object(&node, &pod, &signals).await;
}

fn initial_state(pod: &Pod) -> PodState {
    let pod_spec = spec(pod);
    let state = |container: &Container, sidecar| {
        ContainerState::new(&container.name, container.image.as_deref().unwrap_or_default(), sidecar)
    };
    let init: Vec<_> = pod_spec.init_containers.iter().flatten().map(|c| state(c, is_sidecar(c))).collect();
    let has_init = !init.is_empty();
    let mut main: Vec<_> = pod_spec.containers.iter().map(|c| state(c, false)).collect();
    if !has_init {
        for container in &mut main {
            container.run = Run::Waiting { reason: "ContainerCreating".into(), message: String::new() };
        }
    }
    let policy = RestartPolicy::parse(pod_spec.restart_policy.as_deref());
    let mut state = PodState::new(Timestamp::now(), policy, init, main);
    state.closed_gates = end::closed_gates(pod);
    state
}

fn waiting_state(mut state: PodState, waiting: &Run) -> PodState {
    for container in state.init.iter_mut().chain(&mut state.main) {
        container.run = waiting.clone();
    }
    state
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Gives the pod its network. `None` if it was deleted before that worked.
async fn connect(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    signals: &Signals,
    state: &watch::Sender<PodState>,
    ending: &mut Ending,
) -> Option<Arc<PodContext>> {
    let meta = pod.metadata.clone();
    let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
    let uid = meta.uid.unwrap_or_default();
    let network = loop {
        match node.network.add_pod(&uid).await {
            Ok(network) => break network,
            Err(error) => node.warn(pod, "FailedCreatePodSandBox", &error.to_string()),
        }
        tokio::select! {
            () = ending.wait_for_deletion() => return None,
            () = crate::wait::before_another_try(RETRY) => {}
        }
    };
    state.send_modify(|state| state.pod_ip = Some(network.ip));
    let entry = node.registry.insert(&namespace, &name, &uid, signals.pod.clone(), network.netns.clone());
    Some(Arc::new(PodContext {
        folder: node.config.state.join("pods").join(&uid),
        logs: node.config.logs.join("pods").join(format!("{namespace}_{name}_{uid}")),
        node: node.clone(),
        namespace,
        name,
        uid,
        pod: signals.pod.clone(),
        state: state.clone(),
        ip: network.ip,
        netns: network.netns,
        entry,
    }))
}

/// Runs the pod's containers. Ends when all have ended: of themselves, or because `stop` says so.
async fn live(context: &Arc<PodContext>, volumes: &Arc<Mutex<Volumes>>, stop: &Stop) {
    if !make_volumes(context, volumes, stop.clone()).await {
        return;
    }
    let maintenance = maintain::run(context.clone(), volumes.clone());
    let _maintenance = AbortOnDropHandle::new(tokio::spawn(maintenance));
    let pod_spec = spec(&context.object());
    let (stop_sidecars, sidecars_told) = watch::channel(None);
    let mut sidecars = JoinSet::new();
    if unless_stopped(stop, context.node.order.begun()).await
        && initialize(context, stop, &sidecars_told, &mut sidecars).await
    {
        context.state.send_modify(|state| {
            for container in &mut state.main {
                container.run = Run::Waiting { reason: "ContainerCreating".into(), message: String::new() };
            }
        });
        let mut main = JoinSet::new();
        for (index, container) in pod_spec.containers.into_iter().enumerate() {
            main.spawn(Runner::new(context.clone(), container, Slot::Main(index), stop.clone()).run());
        }
        while main.join_next().await.is_some() {}
    }
    let grace = u64::try_from(pod_spec.termination_grace_period_seconds.unwrap_or(30)).unwrap_or(0);
    let own = Instant::now() + Duration::from_secs(grace);
    let mut stop = stop.clone();
    loop {
        let told = *stop.borrow_and_update();
        let _ = stop_sidecars.send(Some(told.map_or(own, |told| told.min(own))));
        tokio::select! {
            ended = sidecars.join_next() => if ended.is_none() { return },
            changed = stop.changed() => if changed.is_err() {
                while sidecars.join_next().await.is_some() {}
                return;
            },
        }
    }
}

/// Runs init containers in order, and starts sidecars. True when the ordinary containers may start.
async fn initialize(context: &Arc<PodContext>, stop: &Stop, stop_sidecars: &Stop, sidecars: &mut JoinSet<()>) -> bool {
    let containers = spec(&context.object()).init_containers.unwrap_or_default();
    for (index, container) in containers.into_iter().enumerate() {
        if is_sidecar(&container) {
            if !unless_stopped(stop, context.node.order.turn(&context.object())).await {
                return false;
            }
            let runner = Runner::new(context.clone(), container, Slot::Sidecar(index), stop_sidecars.clone());
            sidecars.spawn(runner.run());
            let mut state = context.state.subscribe();
            let mut stop = stop.clone();
            tokio::select! {
                _ = state.wait_for(|pod| pod.init[index].started) => {}
                _ = stop.wait_for(Option::is_some) => return false,
            }
        } else {
            Runner::new(context.clone(), container, Slot::Init(index), stop.clone()).run().await;
            let done = context.state.borrow().init[index].init_done();
            if !done {
                return false;
            }
        }
        if stop.borrow().is_some() {
            return false;
        }
    }
    unless_stopped(stop, context.node.order.turn(&context.object())).await
}

/// Waits for something. False if the pod was told to stop meanwhile.
async fn unless_stopped(stop: &Stop, wait: impl Future<Output = ()>) -> bool {
    let mut stop = stop.clone();
    tokio::select! {
        () = wait => true,
        _ = stop.wait_for(Option::is_some) => false,
    }
}

/// Makes the volumes, waiting for objects that are not there yet. False if the pod was told to stop meanwhile.
async fn make_volumes(context: &Arc<PodContext>, volumes: &Arc<Mutex<Volumes>>, mut stop: Stop) -> bool {
    let mut told = String::new();
    loop {
        let mut changes = context.node.changes.subscribe();
        let pod = context.object();
        let error = match volumes.lock().await.sync(&context.facts(&pod)).await {
            Ok(_) => return true,
            Err(error) => error,
        };
        tell(context, &pod, &error, &mut told);
        let wanted = Volumes::references(&pod);
        tokio::select! {
            _ = stop.wait_for(Option::is_some) => return false,
            () = maintain::relevant(&mut changes, &context.namespace, &wanted) => {}
            () = crate::wait::before_another_try(RETRY) => {}
        }
    }
}

fn tell(context: &PodContext, pod: &Pod, error: &VolumeError, told: &mut String) {
    let message = error.to_string();
    if *told == message {
        return;
    }
    context.node.warn(pod, "FailedMount", &message);
    context.state.send_modify(|state| {
        for container in state.init.iter_mut().chain(&mut state.main) {
            if let Run::Waiting { message: text, .. } = &mut container.run {
                text.clone_from(&message);
            }
        }
    });
    *told = message;
}
