//! Workloads that send requests, and the gateway that passes them on: their pods, and the logs of their proxies.
//!
//! A client is a Deployment of one replica in a slot's namespace; Istio's own webhook injects its sidecar. Start at
//! [`start_client`] and [`find_gateways`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use egress_core::scenario::schema::ClientSpec;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
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

/// A running pod that matters to a probe, with its proxy's log if it has a proxy.
#[derive(Debug)]
pub struct Workload {
    /// Its name in scenarios (`meshed`, `plain`, …) or `gateway`.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Address of the pod.
    pub ip: IpAddr,
    /// The log of its Envoy, if it has one.
    pub proxy_log: Option<Follower>,
    gateway: bool,
}

impl Workload {
    /// How the gate asks its Envoy; `None` without one.
    #[must_use]
    pub fn proxy(&self) -> Option<ProxyRef> {
        self.proxy_log.as_ref().map(|_| ProxyRef {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            gateway: self.gateway,
        })
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

/// Waits for the client's pod and follows its sidecar's log.
///
/// # Errors
/// [`EnvironmentError`] with the pod's last state.
pub async fn client_ready(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: &ClientSpec,
    news: &Arc<Notify>,
    bound: Duration,
) -> Result<Workload, EnvironmentError> {
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
    workload(client, &pod, name, false, news).await
}

/// Finds the egress gateway's pods and follows their logs.
///
/// # Errors
/// [`EnvironmentError`] when there is no ready gateway.
pub async fn find_gateways(
    client: &Client,
    news: &Arc<Notify>,
    bound: Duration,
) -> Result<Vec<Workload>, EnvironmentError> {
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
    let mut found = Vec::new();
    for pod in &pods {
        found.push(workload(client, pod, "gateway", true, news).await?);
    }
    Ok(found)
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

async fn workload(
    client: &Client,
    pod: &Pod,
    name: &str,
    gateway: bool,
    news: &Arc<Notify>,
) -> Result<Workload, EnvironmentError> {
    let namespace = pod.namespace().unwrap_or_default();
    let pod_name = pod.name_any();
    let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    let ip = ip.ok_or_else(|| EnvironmentError::new(format!("pod {namespace}/{pod_name} has no address")))?;
    let proxy_log = if has_proxy(pod) {
        let follower = Follower::start(client, &namespace, &pod_name, PROXY, Arc::clone(news)).await;
        Some(follower.map_err(|e| {
            EnvironmentError::new(format!("the log of {namespace}/{pod_name} ({PROXY}) cannot be followed: {e}"))
        })?)
    } else {
        None
    };
    Ok(Workload { name: name.to_owned(), namespace, pod: pod_name, ip, proxy_log, gateway })
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
fn describe(pod: &Pod) -> String {
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
