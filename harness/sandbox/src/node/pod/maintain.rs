//! Keeping a running pod's volumes up to date: objects that change, labels, tokens that end.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};
use tokio::time::Instant;

use super::super::context::PodContext;
use super::super::env::Reference;
use super::super::objects::Change;
use super::super::volumes::Volumes;
use super::RETRY;

/// Runs until it is aborted.
pub(super) async fn run(context: Arc<PodContext>, volumes: Arc<Mutex<Volumes>>) {
    let mut pods = context.pod.clone();
    loop {
        // Before the look, so that no change falls between the two.
        let mut changes = context.node.changes.subscribe();
        let pod = pods.borrow_and_update().clone();
        let wanted = Volumes::references(&pod);
        let renew_at = match volumes.lock().await.sync(&context.facts(&pod)).await {
            Ok(renew_at) => renew_at,
            Err(error) => {
                tracing::debug!(pod = context.name, %error, "volumes keep what they had");
                Some(Instant::now() + RETRY)
            }
        };
        let metadata = (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
        let relabelled =
            pods.wait_for(|pod| (&pod.metadata.labels, &pod.metadata.annotations) != (&metadata.0, &metadata.1));
        let renewal = async {
            match renew_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = relevant(&mut changes, &context.namespace, &wanted) => {}
            seen = relabelled => if seen.is_err() { return },
            () = renewal => {}
        }
    }
}

/// Waits until one of the wanted objects changes, or might have.
pub(super) async fn relevant(changes: &mut broadcast::Receiver<Change>, namespace: &str, wanted: &BTreeSet<Reference>) {
    loop {
        match changes.recv().await {
            Ok(change) if change.namespace == namespace && wanted.contains(&change.reference) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
