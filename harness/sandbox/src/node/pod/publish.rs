//! Telling the API server what a pod's state is, whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::super::context::Node;
use super::super::status::PodState;

/// How long a failed write waits for a change before it is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// Publishes every change until the handle is dropped. Changes that come faster than writes are joined.
pub(super) fn start(node: Arc<Node>, pod: &Pod, state: watch::Sender<PodState>) -> AbortOnDropHandle<()> {
    let pod = pod.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut changes = state.subscribe();
        let mut last = Value::Null;
        loop {
            changes.mark_unchanged();
            let status = status(&node, &state);
            let written = status == last || write(&node, &pod, &status).await;
            if written {
                last = status;
                if changes.changed().await.is_err() {
                    return;
                }
            } else {
                let _ = tokio::time::timeout(RETRY, changes.changed()).await;
            }
        }
    }))
}

/// Publishes the state once, as well as it can.
pub(super) async fn now(node: &Arc<Node>, pod: &Pod, state: &watch::Sender<PodState>) {
    write(node, pod, &status(node, state)).await;
}

fn status(node: &Node, state: &watch::Sender<PodState>) -> Value {
    let mut status = Value::Null;
    // Conditions remember when they changed; nobody needs to hear of that.
    state.send_if_modified(|state| {
        status = state.status(node.config.address, Timestamp::now());
        false
    });
    status
}

/// True when the API server has it, or will never take it.
async fn write(node: &Node, pod: &Pod, status: &Value) -> bool {
    let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else { return true };
    let api = Api::<Pod>::namespaced(node.client.clone(), namespace);
    // With the uid a pod that took over the name is never written to.
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
        Err(error) => {
            tracing::warn!(pod = name, %error, "a pod's status was not written");
            false
        }
    }
}
