//! Workloads that send requests, and the gateway that passes them on: their pods, and the logs of their proxies.
//!
//! A client is a Deployment of one replica in a slot's namespace; Istio's own webhook injects its sidecar. Start at
//! [`start_client`] and [`find_gateways`] for pods, at [`Logs`] for what their proxies write.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use egress_core::scenario::schema::ClientSpec;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::EnvironmentError;
use super::istio::{GATEWAY_SELECTOR, ISTIO_NAMESPACE};
use super::objects::{Applied, Objects};
use crate::collect::logs::Follower;
use crate::gate::ProxyRef;
use crate::wait;

const PROXY: &str = "istio-proxy";
/// The container of a client in which curl runs.
pub const CURL: &str = "curl";

/// A running pod that matters to a probe: plain data, which crosses from the supervisor to its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its name in scenarios (`meshed`, `plain`, …) or `gateway`.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// The uid that the API server gave it.
    pub uid: String,
    /// Address of the pod.
    pub ip: IpAddr,
    /// Whether it has a sidecar or is a gateway.
    pub has_proxy: bool,
    /// Whether it is the egress gateway.
    pub gateway: bool,
}

impl PodFacts {
    /// How the gate asks its Envoy; `None` without one.
    #[must_use]
    pub fn proxy(&self) -> Option<ProxyRef> {
        self.has_proxy.then(|| ProxyRef {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            gateway: self.gateway,
        })
    }
}

/// A pod with its proxy's log, as far as it has one.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The pod.
    pub facts: PodFacts,
    /// The log of its Envoy, if it has one.
    pub proxy_log: Option<Arc<Follower>>,
}

impl std::ops::Deref for Workload {
    type Target = PodFacts;

    fn deref(&self) -> &PodFacts {
        &self.facts
    }
}

/// The Deployment of a client.
///
/// # Errors
/// A message if the embedded fixture is not what it should be.
pub fn client_manifest(name: &str, spec: &ClientSpec) -> Result<Value, String> {
    let text = crate::embedded::text("workloads/client.yaml")?;
    let mut object: Value =
        serde_saphyr::from_str(text).map_err(|e| format!("the fixture workloads/client.yaml is no YAML: {e}"))?;
    object["metadata"]["name"] = name.into();
    object["spec"]["selector"]["matchLabels"]["app"] = name.into();
    let template = &mut object["spec"]["template"];
    template["metadata"]["labels"] = json!({"app": name, "sidecar.istio.io/inject": spec.sidecar.to_string()});
    template["metadata"]["annotations"] = json!(spec.annotations);
    Ok(object)
}

/// Applies a client's Deployment; [`client_ready`] waits for it.
///
/// # Errors
/// [`EnvironmentError`] with the API server's message.
pub async fn start_client(
    objects: &Objects,
    namespace: &str,
    name: &str,
    spec: &ClientSpec,
) -> Result<Applied, EnvironmentError> {
    let manifest = client_manifest(name, spec).map_err(EnvironmentError::new)?;
    objects
        .apply(&manifest, namespace)
        .await
        .map_err(|e| EnvironmentError::new(format!("client {name} could not be started: {e}")))
}

/// Waits for the client's pod.
///
/// # Errors
/// [`EnvironmentError`] with the pod's last state.
pub async fn client_ready(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: &ClientSpec,
    bound: Duration,
) -> Result<PodFacts, EnvironmentError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = ListParams::default().labels(&format!("app={name}"));
    let pod = wait::until(&format!("readiness of client {namespace}/{name}"), bound, || async {
        let pods = api.list(&selector).await.map_err(|e| e.to_string())?;
        let alive: Vec<_> = pods.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
        match alive.as_slice() {
            [pod] if is_ready(pod) => Ok(pod.clone()),
            [pod] => Err(describe(pod)),
            pods => Err(format!("{} pods", pods.len())),
        }
    })
    .await
    .map_err(|e| EnvironmentError::new(e.to_string()))?;
    if has_proxy(&pod) != spec.sidecar {
        let (has, wanted) = if spec.sidecar { ("no sidecar", "one") } else { ("a sidecar", "none") };
        let message = format!("client {namespace}/{name} has {has}, wanted {wanted}");
        return Err(EnvironmentError::new(message).with_remedy("is Istio's injection webhook installed and reachable?"));
    }
    facts(&pod, name, false)
}

/// Finds the egress gateway's pods.
///
/// # Errors
/// [`EnvironmentError`] when there is no ready gateway.
pub async fn find_gateways(client: &Client, bound: Duration) -> Result<Vec<PodFacts>, EnvironmentError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let selector = ListParams::default().labels(GATEWAY_SELECTOR);
    let pods = wait::until("a ready egress gateway", bound, || async {
        let pods = api.list(&selector).await.map_err(|e| e.to_string())?;
        let alive: Vec<_> = pods.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
        if !alive.is_empty() && alive.iter().all(is_ready) {
            Ok(alive)
        } else {
            Err(alive.iter().map(describe).collect::<Vec<_>>().join("; "))
        }
    })
    .await
    .map_err(|e| EnvironmentError::new(format!("{e} (label {GATEWAY_SELECTOR} in {ISTIO_NAMESPACE})")))?;
    pods.iter().map(|pod| facts(pod, "gateway", true)).collect()
}

/// How a pod stands, in words that stay the same as long as it runs undisturbed: another pod of that name, a restart of
/// a container and a lost readiness all show.
pub async fn standing(client: &Client, namespace: &str, pod: &str) -> String {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    match api.get_opt(pod).await {
        Ok(Some(pod)) => {
            let status = pod.status.clone().unwrap_or_default();
            let containers = status.init_container_statuses.into_iter().flatten();
            let containers = containers.chain(status.container_statuses.into_iter().flatten());
            let restarts: i32 = containers.map(|c| c.restart_count).sum();
            let ready = if is_ready(&pod) { "ready" } else { "not ready" };
            let ending = if pod.metadata.deletion_timestamp.is_some() { ", being deleted" } else { "" };
            format!("{ready}, {restarts} restarts{ending}, uid {}", pod.uid().unwrap_or_default())
        }
        Ok(None) => "gone".to_owned(),
        Err(error) => format!("unknown ({error})"),
    }
}

/// What of a pod matters to a probe.
///
/// # Errors
/// [`EnvironmentError`] when it has no address.
pub fn facts(pod: &Pod, name: &str, gateway: bool) -> Result<PodFacts, EnvironmentError> {
    let (namespace, pod_name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    let ip = ip.ok_or_else(|| EnvironmentError::new(format!("pod {namespace}/{pod_name} has no address")))?;
    Ok(PodFacts {
        name: name.to_owned(),
        namespace,
        pod: pod_name,
        uid: pod.uid().unwrap_or_default(),
        ip,
        has_proxy: has_proxy(pod),
        gateway,
    })
}

/// Pods with their proxies' logs. A log is followed once, however many scenarios of this process use the pod.
#[derive(Debug, Default)]
pub struct Logs {
    /// Told when any followed log has news.
    pub news: Arc<Notify>,
    followers: tokio::sync::Mutex<BTreeMap<String, Arc<Follower>>>,
}

impl Logs {
    /// The pod with its proxy's log, which is followed from now on.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the log cannot be followed.
    pub async fn follow(&self, client: &Client, facts: PodFacts) -> Result<Workload, EnvironmentError> {
        if !facts.has_proxy {
            return Ok(Workload { facts, proxy_log: None });
        }
        let mut followers = self.followers.lock().await;
        // A log that has ended is followed anew: its pod may have been restarted.
        followers.retain(|_, follower| follower.ended().is_none());
        if let Some(known) = followers.get(&facts.uid) {
            return Ok(Workload { proxy_log: Some(Arc::clone(known)), facts });
        }
        let news = Arc::clone(&self.news);
        let started = Follower::start(client, &facts.namespace, &facts.pod, PROXY, news).await;
        let follower = Arc::new(started.map_err(|e| {
            let pod = format!("{}/{}", facts.namespace, facts.pod);
            EnvironmentError::new(format!("the log of {pod} ({PROXY}) cannot be followed: {e}"))
        })?);
        followers.insert(facts.uid.clone(), Arc::clone(&follower));
        Ok(Workload { facts, proxy_log: Some(follower) })
    }
}

fn has_proxy(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let native = spec.init_containers.iter().flatten();
    spec.containers.iter().chain(native).any(|c| c.name == PROXY)
}

/// Whether a pod's condition `Ready` is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// A pod's state in one line, for people.
#[must_use]
pub fn describe(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.init_container_statuses.into_iter().flatten();
    let containers = containers.chain(status.container_statuses.into_iter().flatten());
    let states: BTreeMap<_, _> = containers
        .map(|c| {
            let state = c.state.unwrap_or_default();
            let waiting =
                state.waiting.map(|w| [w.reason, w.message].into_iter().flatten().collect::<Vec<_>>().join(": "));
            let ended = state.terminated.map(|t| format!("ended with {}", t.exit_code));
            (c.name, waiting.or(ended).unwrap_or_else(|| if c.ready { "ready".into() } else { "not ready".into() }))
        })
        .collect();
    format!("pod {} {} {states:?}", pod.name_any(), status.phase.unwrap_or_else(|| "without a phase".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_whether_it_wants_a_sidecar() {
        let spec =
            ClientSpec { sidecar: false, annotations: BTreeMap::from([("a".into(), "b".into())]), namespace: None };
        let object = client_manifest("plain", &spec).expect("fixture");
        let template = &object["spec"]["template"]["metadata"];
        assert_eq!(template["labels"]["sidecar.istio.io/inject"], "false");
        assert_eq!(template["labels"]["app"], object["spec"]["selector"]["matchLabels"]["app"]);
        assert_eq!(template["annotations"]["a"], "b");
    }
}
