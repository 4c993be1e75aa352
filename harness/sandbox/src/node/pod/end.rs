//! How a pod ends: who says so, by when, and what is removed in which order.
//!
//! Start at [`Ending::drive`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::context::{Node, PodContext, spec};
use super::super::status::Phase;
use super::super::volumes::remove_folder;
use super::{RETRY, Signals};

/// How long the removal of an object is tried. The API server may be restarting.
const REMOVAL: Duration = Duration::from_secs(60);

/// Watches for the end of a pod.
pub(super) struct Ending {
    signals: Signals,
}

impl Ending {
    pub(super) fn new(signals: Signals) -> Self {
        Self { signals }
    }

    /// Waits until somebody has deleted the pod, or the node ends.
    pub(super) async fn wait_for_deletion(&mut self) {
        let deleted = self.signals.pod.wait_for(|pod| pod.metadata.deletion_timestamp.is_some());
        tokio::select! {
            // The watch ends only with the node.
            _ = deleted => {}
            () = self.signals.gone.cancelled() => {}
            () = self.signals.shutdown.cancelled() => {}
        }
    }

    /// Runs `life` to its end, and passes on by when it must have ended.
    pub(super) async fn drive(
        &mut self,
        context: &PodContext,
        stop: watch::Sender<Option<Instant>>,
        life: impl Future<Output = ()>,
    ) {
        tokio::select! {
            () = life => {}
            never = self.announce(context, stop) => match never {},
        }
    }

    async fn announce(&self, context: &PodContext, stop: watch::Sender<Option<Instant>>) -> std::convert::Infallible {
        let mut pods = self.signals.pod.clone();
        let tell = |deadline: Instant| {
            stop.send_if_modified(|told| {
                let sooner = told.is_none_or(|told| deadline < told);
                if sooner {
                    *told = Some(deadline);
                }
                sooner
            });
        };
        let limit = spec(&pods.borrow()).active_deadline_seconds.and_then(|s| u64::try_from(s).ok());
        let overdue = async {
            match limit {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        let mut overdue = std::pin::pin!(overdue);
        let mut late = false;
        loop {
            let pod = pods.borrow_and_update().clone();
            let gates = closed_gates(&pod);
            if context.state.borrow().closed_gates != gates {
                context.state.send_modify(|state| state.closed_gates = gates);
            }
            if let Some(deadline) = deadline(&pod) {
                tell(deadline);
            }
            tokio::select! {
                changed = pods.changed() => if changed.is_err() { break },
                () = self.signals.gone.cancelled() => break,
                () = self.signals.shutdown.cancelled() => break,
                () = &mut overdue, if !late => {
                    late = true;
                    let message = format!("Pod was active on the node longer than the {} s of activeDeadlineSeconds", limit.unwrap_or(0));
                    context.state.send_modify(|state| {
                        state.ended = Some((Phase::Failed, "DeadlineExceeded".into(), message));
                    });
                    let grace = spec(&pod).termination_grace_period_seconds.unwrap_or(30);
                    tell(Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
                }
            }
        }
        tell(Instant::now());
        std::future::pending().await
    }
}

/// By when a deleted pod must have ended.
fn deadline(pod: &Pod) -> Option<Instant> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    Some(Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0)))
}

/// The pod's readiness gates whose condition is not true.
pub(super) fn closed_gates(pod: &Pod) -> Vec<String> {
    let holds = |name: &str| {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == name && c.status == "True")
    };
    spec(pod)
        .readiness_gates
        .into_iter()
        .flatten()
        .map(|gate| gate.condition_type)
        .filter(|name| !holds(name))
        .collect()
}

/// Removes what the pod had on the node. Its containers have ended. With `keep_logs`, because the sandbox stops, their
/// logs stay until its folder goes: its owner may want to keep them.
pub(super) async fn clean_up(context: &PodContext, keep_logs: bool) {
    context.node.registry.remove(&context.namespace, &context.name, &context.uid);
    if let Err(error) = context.node.network.remove_pod(&context.uid).await {
        tracing::warn!(pod = context.name, %error, "cannot remove the network of a pod");
    }
    remove_folder(&context.folder);
    if !keep_logs {
        remove_folder(&context.logs);
    }
}

/// Removes the object of a deleted pod, which its finalizers may still hold.
pub(super) async fn remove_object(node: &Arc<Node>, pod: &Pod, signals: &Signals) {
    if signals.gone.is_cancelled() || signals.shutdown.is_cancelled() {
        return;
    }
    let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else { return };
    let api = Api::<Pod>::namespaced(node.client.clone(), namespace);
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() }),
        ..DeleteParams::default()
    };
    let removal = async {
        let mut ticks = tokio::time::interval(RETRY);
        let mut last = "no answer".to_owned();
        let ended = tokio::time::timeout(REMOVAL, async {
            loop {
                ticks.tick().await;
                match api.delete(name, &now).await {
                    Ok(_) => return,
                    // Gone already, or another pod has the name.
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                    Err(error) => last = error.to_string(),
                }
            }
        });
        if ended.await.is_err() {
            tracing::warn!(pod = name, last, "a pod's object could not be removed within {REMOVAL:?}");
        }
    };
    tokio::select! {
        () = removal => {}
        () = signals.shutdown.cancelled() => {}
    }
}
