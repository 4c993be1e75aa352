//! What no proxy can show, waited for by name and with a bound: kube-proxy's rules and the cluster's DNS, as a client
//! without a sidecar meets them.
//!
//! A condition that does not come true is no verdict: the probe is sent all the same and shows what the mesh does.
//! Start at [`services`].

use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use serde_json::Value;

use crate::cluster::exec::exec;
use crate::cluster::objects::Applied;
use crate::cluster::workload::{CURL, Workload};
use crate::gate::istiod::endpoint_addresses;
use crate::schedule::stage::Stage;
use crate::wait;

/// How long the node may take to follow a Service.
const BOUND: Duration = Duration::from_secs(5);

/// Waits until the client meets every Service as the API server has it: its name resolves, and its cluster address
/// takes connections if it has endpoints; a deleted Service's name resolves no longer. Returns what did not come true.
pub async fn services(stage: &Stage, client: &Workload, present: &[Applied], absent: &[Applied]) -> Vec<String> {
    let mut conditions: Vec<BoxFuture<'_, Result<(), String>>> = Vec::new();
    for service in present.iter().filter(|o| is_service(o)) {
        if resolvable(service, present) {
            conditions.push(Box::pin(resolves(stage, client, host(service), true)));
        }
        for (address, port) in listening(service, present) {
            conditions.push(Box::pin(connects(stage, client, address, port)));
        }
    }
    for service in absent.iter().filter(|o| is_service(o)) {
        conditions.push(Box::pin(resolves(stage, client, host(service), false)));
    }
    join_all(conditions).await.into_iter().filter_map(Result::err).collect()
}

fn is_service(object: &Applied) -> bool {
    object.gvk.group.is_empty() && object.gvk.kind == "Service"
}

fn host(service: &Applied) -> String {
    format!("{}.{}.svc.cluster.local", service.name, service.namespace.as_deref().unwrap_or("default"))
}

/// Whether the Service's name has an answer at all: a headless Service without endpoints has none.
fn resolvable(service: &Applied, present: &[Applied]) -> bool {
    service.object["spec"]["clusterIP"] != "None" || !endpoints_of(service, present).is_empty()
}

fn endpoints_of(service: &Applied, present: &[Applied]) -> Vec<String> {
    present
        .iter()
        .filter(|o| o.namespace == service.namespace)
        .filter(|o| match o.gvk.kind.as_str() {
            "Endpoints" => o.name == service.name,
            "EndpointSlice" => {
                o.object["metadata"]["labels"]["kubernetes.io/service-name"].as_str() == Some(&service.name)
            }
            _ => false,
        })
        .flat_map(|o| endpoint_addresses(&o.object))
        .collect()
}

/// The cluster address and TCP ports of a Service that has endpoints.
fn listening(service: &Applied, present: &[Applied]) -> Vec<(String, u64)> {
    let spec = &service.object["spec"];
    let Some(address) = spec["clusterIP"].as_str().filter(|a| *a != "None" && !a.is_empty()) else { return Vec::new() };
    if endpoints_of(service, present).is_empty() {
        return Vec::new();
    }
    let ports = spec["ports"].as_array().into_iter().flatten();
    let tcp = ports.filter(|p| p["protocol"].as_str().is_none_or(|protocol| protocol == "TCP"));
    tcp.filter_map(|p| Value::as_u64(&p["port"])).map(|port| (address.to_owned(), port)).collect()
}

async fn resolves(stage: &Stage, client: &Workload, name: String, wanted: bool) -> Result<(), String> {
    let what = format!("{} in the DNS of {}", if wanted { name.clone() } else { format!("no {name}") }, client.pod);
    wait::until(&what, BOUND, || async {
        let output = run(stage, client, &["getent", "ahostsv4", &name]).await?;
        if (output == 0) == wanted { Ok(()) } else { Err(format!("getent ended with {output}")) }
    })
    .await
    .map_err(|e| e.to_string())
}

async fn connects(stage: &Stage, client: &Workload, address: String, port: u64) -> Result<(), String> {
    let url = format!("http://{address}:{port}/");
    wait::until(&format!("a connection of {} to {address}:{port}", client.pod), BOUND, || async {
        // 7 is "could not connect"; what else may go wrong goes wrong over a connection.
        match run(stage, client, &["curl", "-q", "-s", "-o", "/dev/null", "-m", "0.5", &url]).await? {
            7 => Err("refused".to_owned()),
            _ => Ok(()),
        }
    })
    .await
    .map_err(|e| e.to_string())
}

async fn run(stage: &Stage, client: &Workload, command: &[&str]) -> Result<i32, String> {
    exec(stage.objects.client(), &client.namespace, &client.pod, CURL, command)
        .await
        .map(|output| output.exit)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    fn applied(kind: &str, name: &str, object: Value) -> Applied {
        Applied {
            gvk: GroupVersionKind::gvk("", "v1", kind),
            namespace: Some("ns".into()),
            name: name.into(),
            uid: String::new(),
            generation: 0,
            object,
        }
    }

    #[test]
    fn only_a_service_with_endpoints_must_take_connections() {
        let service = applied("Service", "w", json!({"spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 443}]}}));
        let endpoints = applied("Endpoints", "w", json!({"subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}));
        assert_eq!(listening(&service, &[]), []);
        assert_eq!(listening(&service, &[endpoints]), [("10.96.7.7".to_owned(), 443)]);
    }

    #[test]
    fn a_headless_service_without_endpoints_has_no_name() {
        let headless = applied("Service", "w", json!({"spec": {"clusterIP": "None"}}));
        let alias = applied("Service", "x", json!({"spec": {"type": "ExternalName"}}));
        assert!(!resolvable(&headless, &[]));
        assert!(resolvable(&alias, &[]));
    }
}
