//! Which of the pods that are there at the node's beginning start first.
//!
//! After a restore all pods exist at once. What depends on another pod would find nobody there, and try again only after
//! seconds. Start at [`Order::turn`].

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long others wait at most: then they can look after themselves.
const BOUND: Duration = Duration::from_secs(20);

/// Lets pods with a label start first.
#[derive(Debug)]
pub(super) struct Order {
    label: Option<(String, String)>,
    begin: CancellationToken,
    open: watch::Sender<bool>,
}

impl Order {
    /// Without a label there is no order. No container starts before `begin` is cancelled.
    pub(super) fn new(label: Option<(String, String)>, begin: CancellationToken) -> Self {
        Order { open: watch::Sender::new(label.is_none()), label, begin }
    }

    /// Waits until containers may start at all.
    pub(super) async fn begun(&self) {
        self.begin.cancelled().await;
    }

    fn is_first(&self, pod: &Pod) -> bool {
        let Some((name, value)) = &self.label else { return true };
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)) == Some(value)
    }

    /// Looks at a pod's state; one that is first and ready lets the others start.
    pub(super) fn see(&self, pod: &Pod) {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        if self.is_first(pod) && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True") {
            self.open.send_replace(true);
        }
    }

    /// Lets all start: none of those that were listed is first.
    pub(super) fn listed<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) {
        if !pods.into_iter().any(|pod| self.is_first(pod)) {
            self.open.send_replace(true);
        }
    }

    /// Waits until it is the turn of a pod's containers; those that only initialize it may run before.
    pub(super) async fn turn(&self, pod: &Pod) {
        if self.is_first(pod) {
            return;
        }
        let mut open = self.open.subscribe();
        if tokio::time::timeout(BOUND, open.wait_for(|open| *open)).await.is_err() {
            tracing::warn!("the pods that should be first were not ready within {BOUND:?}: others start all the same");
            self.open.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodStatus};

    fn pod(app: &str, ready: bool) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        let status = if ready { "True" } else { "False" };
        let condition = PodCondition { type_: "Ready".into(), status: status.into(), ..PodCondition::default() };
        pod.status = Some(PodStatus { conditions: Some(vec![condition]), ..PodStatus::default() });
        pod
    }

    fn order() -> Order {
        Order::new(Some(("app".into(), "first".into())), CancellationToken::new())
    }

    async fn starts(order: &Order, pod: &Pod) -> bool {
        tokio::time::timeout(Duration::from_secs(1), order.turn(pod)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn others_start_once_a_first_one_is_ready() {
        let order = order();
        assert!(starts(&order, &pod("first", false)).await);
        order.see(&pod("first", false));
        order.see(&pod("other", true));
        assert!(!starts(&order, &pod("other", false)).await);
        order.see(&pod("first", true));
        assert!(starts(&order, &pod("other", false)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_pods_that_do_not_exist() {
        let order = order();
        order.listed(&[pod("first", false), pod("other", false)]);
        assert!(!starts(&order, &pod("other", false)).await);
        order.listed(&[pod("other", false)]);
        assert!(starts(&order, &pod("other", false)).await);
        assert!(starts(&Order::new(None, CancellationToken::new()), &pod("other", false)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_has_a_bound() {
        let order = order();
        tokio::time::timeout(BOUND * 2, order.turn(&pod("other", false))).await.unwrap();
    }
}
