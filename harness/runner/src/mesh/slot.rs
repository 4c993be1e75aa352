//! Slots: namespaces with warm clients, of which a scenario leases one.
//!
//! Starting an injected client costs about a second of both cores, so a slot's clients outlive scenarios. Who has which
//! slot is the supervisor's business. Start at [`Slot`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress_core::scenario::schema::ClientSpec;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams};
use serde_json::json;

use crate::cluster::EnvironmentError;
use crate::cluster::inventory::Extent;
use crate::cluster::objects::Objects;
use crate::cluster::workload::{self, PodFacts};
use crate::gate::{Gate, ProxyRef};
use crate::wait;

/// A namespace with warm clients.
#[derive(Clone)]
pub struct Slot {
    /// The namespace.
    pub namespace: String,
    /// Further namespaces that scenarios of this slot have wanted, by their names for them. They stay: the end of a
    /// namespace takes five seconds.
    pub further: BTreeSet<String>,
    /// The warm clients: `meshed` and `plain`.
    pub clients: Vec<PodFacts>,
    /// Asks whether configurations have reached its proxies.
    pub gate: Arc<Gate>,
    /// How many requests its clients have sent: each probe has source ports of its own (decision 4).
    pub probes: u32,
    /// What its namespace holds while nobody has it, as far as it is known.
    pub before: Option<Arc<BTreeSet<String>>>,
}

impl Slot {
    /// The namespace that stands for a scenario's further one.
    #[must_use]
    pub fn further_namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// How much of the cluster a lease of this slot may change.
    #[must_use]
    pub fn extent(&self, whole: bool) -> Extent {
        if whole {
            return Extent::Cluster;
        }
        let further = self.further.iter().map(|name| self.further_namespace(name));
        Extent::Namespaces(further.chain([self.namespace.clone()]).collect())
    }
}

/// The clients that every slot keeps warm.
#[must_use]
pub fn warm_clients() -> [(&'static str, ClientSpec); 2] {
    let spec = |sidecar| ClientSpec { sidecar, annotations: BTreeMap::new(), namespace: None };
    [("meshed", spec(true)), ("plain", spec(false))]
}

/// Every Envoy of these pods.
#[must_use]
pub fn proxies_of<'a>(pods: impl IntoIterator<Item = &'a PodFacts>) -> Vec<ProxyRef> {
    pods.into_iter().filter_map(PodFacts::proxy).collect()
}

/// Makes a namespace, or finds it.
///
/// # Errors
/// [`EnvironmentError`] with the API server's message.
pub async fn make_namespace(objects: &Objects, name: &str, injected: bool) -> Result<(), EnvironmentError> {
    let injection = if injected { "enabled" } else { "disabled" };
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"istio-injection": injection}},
    });
    objects.apply(&namespace, name).await.map_err(|e| EnvironmentError::new(e.to_string()))?;
    Ok(())
}

/// Waits until controllers have put into a new namespace what its pods need.
///
/// # Errors
/// [`EnvironmentError`] with what is missing.
pub async fn furnished(objects: &Objects, namespace: &str, timeout: Duration) -> Result<(), EnvironmentError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(objects.client().clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(objects.client().clone(), namespace);
    wait::until(&format!("what pods need in {namespace}"), timeout, || async {
        let has = |found: Result<bool, kube::Error>, what: &str| match found {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("no {what}")),
            Err(error) => Err(error.to_string()),
        };
        has(accounts.get_opt("default").await.map(|o| o.is_some()), "ServiceAccount default")?;
        for name in ["kube-root-ca.crt", "istio-ca-root-cert"] {
            has(maps.get_opt(name).await.map(|o| o.is_some()), &format!("ConfigMap {name}"))?;
        }
        Ok(())
    })
    .await
    .map_err(|e| EnvironmentError::new(e.to_string()))
}

/// Starts the warm clients of a namespace, or finds them, and waits until they are ready.
///
/// # Errors
/// [`EnvironmentError`] with the last state of the one that is not.
pub async fn start_clients(
    objects: &Objects,
    namespace: &str,
    timeout: Duration,
) -> Result<Vec<PodFacts>, EnvironmentError> {
    let warm = warm_clients();
    for (name, spec) in &warm {
        workload::start_client(objects, namespace, name, spec).await?;
    }
    let ready =
        warm.iter().map(|(name, spec)| workload::client_ready(objects.client(), namespace, name, spec, timeout));
    futures::future::try_join_all(ready).await
}

/// Starts the clients anew until injection redirects `wanted`: istiod reads its injection values on its own time, and no
/// page of its tells which are in force.
///
/// # Errors
/// [`EnvironmentError`] with what is redirected instead.
pub async fn restart_clients(
    objects: &Objects,
    slot: &Slot,
    wanted: &str,
    timeout: Duration,
) -> Result<Vec<PodFacts>, EnvironmentError> {
    let api: Api<Pod> = Api::namespaced(objects.client().clone(), &slot.namespace);
    let failed = |e: String| EnvironmentError::new(e);
    let deadline = Instant::now() + timeout;
    let mut clients = slot.clients.clone();
    loop {
        for client in &clients {
            delete_pod(&api, &client.pod, timeout).await.map_err(failed)?;
        }
        clients = start_clients(objects, &slot.namespace, timeout).await?;
        let meshed = clients.iter().find(|c| c.has_proxy);
        let meshed = meshed.ok_or_else(|| EnvironmentError::new("the slot has no client with a sidecar"))?;
        let pod = api.get(&meshed.pod).await.map_err(|e| failed(e.to_string()))?;
        let seen = super::profile::redirected_ranges(&pod);
        if seen == wanted {
            return Ok(clients);
        }
        if Instant::now() > deadline {
            return Err(failed(format!("injection does not follow: istio-init redirects {seen:?}, wanted {wanted:?}")));
        }
    }
}

async fn delete_pod(api: &Api<Pod>, name: &str, timeout: Duration) -> Result<(), String> {
    if let Err(error) = api.delete(name, &DeleteParams::default()).await
        && !matches!(&error, kube::Error::Api(status) if status.code == 404)
    {
        return Err(format!("pod {name} cannot be deleted: {error}"));
    }
    wait::until(&format!("the end of pod {name}"), timeout, || async {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .map_err(|e| e.to_string())
}
