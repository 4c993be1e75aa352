//! Which pods are the node's: binds those that have none, and keeps one task per pod.
//!
//! Start at [`run`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::context::Node;
use super::order;
use super::pod::{self, Signals};

struct Known {
    pod: watch::Sender<Arc<Pod>>,
    gone: CancellationToken,
}

/// Watches all pods until `shutdown`, then waits for the pods' tasks.
pub(crate) async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut listed: HashSet<String> = HashSet::new();
    let events = watcher(Api::<Pod>::all(node.client.clone()), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shutdown.cancelled() => break,
        };
        let seen = |pod: Pod, known: &mut HashMap<String, Known>| see(&node, pod, known, &tasks, &shutdown);
        match event {
            None => break,
            Some(Ok(Event::Apply(pod))) => seen(pod, &mut known),
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                seen(pod, &mut known);
            }
            Some(Ok(Event::InitDone)) => {
                known.retain(|uid, known| {
                    let there = listed.contains(uid);
                    if !there {
                        known.gone.cancel();
                    }
                    there
                });
                let pods: Vec<Arc<Pod>> = known.values().map(|known| known.pod.borrow().clone()).collect();
                node.order.listed(pods.iter().map(Arc::as_ref));
            }
            Some(Ok(Event::Delete(pod))) => {
                if let Some(known) = pod.metadata.uid.and_then(|uid| known.remove(&uid)) {
                    known.gone.cancel();
                }
            }
            Some(Err(error)) => tracing::warn!(%error, "watching pods"),
        }
    }
    tasks.close();
    tasks.wait().await;
}

fn see(
    node: &Arc<Node>,
    pod: Pod,
    known: &mut HashMap<String, Known>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let assigned = pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|name| !name.is_empty());
    match assigned {
        None if pod.metadata.deletion_timestamp.is_none() => {
            // Several sightings may try; the API server takes the first.
            tasks.spawn(bind(node.clone(), pod));
        }
        Some(name) if name == node.config.name => {
            if node.order.awaits(&pod) {
                tasks.spawn(order::open_when_reached(node.clone(), Arc::new(pod.clone())));
            }
            if let Some(known) = known.get(&uid) {
                known.pod.send_replace(Arc::new(pod));
                return;
            }
            let (sender, receiver) = watch::channel(Arc::new(pod));
            let gone = CancellationToken::new();
            known.insert(uid, Known { pod: sender, gone: gone.clone() });
            let signals = Signals { pod: receiver, gone, shutdown: shutdown.clone() };
            tasks.spawn(pod::run(node.clone(), signals));
        }
        _ => {}
    }
}

async fn bind(node: Arc<Node>, pod: Pod) {
    let gated = pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.as_ref().is_some_and(|g| !g.is_empty()));
    let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) else { return };
    if gated {
        return;
    }
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: pod.metadata.uid,
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.config.name.clone()),
            ..ObjectReference::default()
        },
    };
    let api = Api::<Pod>::namespaced(node.client.clone(), &namespace);
    let bound =
        api.create_subresource::<_, kube::core::Status>("binding", &name, &PostParams::default(), &binding).await;
    match bound {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(%error, pod = name, "a pod was not bound"),
    }
}
