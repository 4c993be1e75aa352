//! Which of the pods that are there at the node's beginning start first.
//!
//! After a restore all pods exist at once. What depends on another pod would find nobody there, and try again only after
//! seconds. Start at [`Order::turn`] and [`open_when_reached`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, select_ok};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::Node;
use crate::wait::{self, Seen};

/// How long others wait at most: then they can look after themselves.
const BOUND: Duration = Duration::from_secs(20);

/// How long a Service of a ready pod may take to lead there.
const REACH: Duration = Duration::from_secs(5);
/// How often that is tried.
const INTERVAL: Duration = Duration::from_millis(10);

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

    /// Looks at a pod's state. True for one that is first and ready, while others still wait for that.
    pub(super) fn awaits(&self, pod: &Pod) -> bool {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        !*self.open.borrow()
            && self.is_first(pod)
            && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    /// Lets the others start.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Lets all start: none of those that were listed is first.
    pub(super) fn listed<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) {
        if !pods.into_iter().any(|pod| self.is_first(pod)) {
            self.open();
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

/// Lets the others start once a ready pod is reached through its Services: their rules follow its readiness a moment
/// later, and who is refused tries again only after a second.
pub(super) async fn open_when_reached(node: Arc<Node>, pod: Arc<Pod>) {
    let (Some(namespace), Some(labels)) = (&pod.metadata.namespace, &pod.metadata.labels) else { return };
    let api = Api::<Service>::namespaced(node.client.clone(), namespace);
    let services = match api.list(&ListParams::default()).await {
        Ok(services) => services.items,
        Err(error) => {
            tracing::warn!(%error, "the Services of the first pods are not known: others start at once");
            Vec::new()
        }
    };
    let selected: Vec<(String, Vec<SocketAddr>)> = services
        .into_iter()
        .filter(|service| selects(service, labels))
        .map(|service| (service.metadata.name.clone().unwrap_or_default(), addresses(&service)))
        .collect();
    for (name, addresses) in selected {
        if let Err(error) = reach(name, addresses).await {
            tracing::warn!(%error, "others start all the same");
        }
    }
    node.order.open();
}

fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|selector| !selector.is_empty());
    selector.is_some_and(|selector| selector.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

/// Waits until one of these addresses takes a connection. A Service without any is not waited for.
fn reach(name: String, addresses: Vec<SocketAddr>) -> BoxFuture<'static, Result<(), wait::TimedOut>> {
    if addresses.is_empty() {
        return std::future::ready(Ok(())).boxed();
    }
    let what = format!("an answer from Service {name}");
    async move { wait::until(what, INTERVAL, REACH, move || try_all(addresses.clone())).await }.boxed()
}

async fn try_all(addresses: Vec<SocketAddr>) -> Seen<()> {
    let tries = addresses.iter().map(|address| TcpStream::connect(*address).boxed());
    match tokio::time::timeout(INTERVAL * 5, select_ok(tries)).await {
        Ok(Ok(_)) => Seen::Done(()),
        Ok(Err(error)) => Seen::NotYet(error.to_string()),
        Err(_) => Seen::NotYet(format!("no answer from any of {addresses:?}")),
    }
}

/// Where a Service takes TCP connections.
fn addresses(service: &Service) -> Vec<SocketAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(ip) = spec.cluster_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok()) else { return Vec::new() };
    let tcp = spec.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    tcp.filter_map(|port| Some(SocketAddr::new(ip, u16::try_from(port.port).ok()?))).collect()
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
        assert!(!order.awaits(&pod("first", false)));
        assert!(!order.awaits(&pod("other", true)));
        assert!(!starts(&order, &pod("other", false)).await);
        assert!(order.awaits(&pod("first", true)));
        order.open();
        assert!(!order.awaits(&pod("first", true)));
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
