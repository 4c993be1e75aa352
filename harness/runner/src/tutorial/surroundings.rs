//! The cluster around a page's commands: what they changed, the pods that they made, and when both are ready.
//!
//! A reader waits between two commands until pods run and configurations have arrived; so does [`Surroundings::settle`],
//! by conditions. It judges nothing. Start at [`Surroundings::new`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::Value;

use crate::cluster::EnvironmentError;
use crate::cluster::inventory::{self, Extent, Inventory};
use crate::cluster::istio::{GATEWAY_SELECTOR, ISTIO_NAMESPACE};
use crate::cluster::objects::{Applied, RUN_LABEL};
use crate::cluster::workload::{self, Workload, is_ready};
use crate::gate::{Change, Gate, SYSTEM_NAMESPACE};
use crate::schedule::stage::Stage;
use crate::wait;

/// How long pods may take to run, and to go.
const PODS: Duration = Duration::from_secs(60);
/// How long a configuration may take to arrive.
const GATE: Duration = Duration::from_secs(30);

/// What a page's commands act on.
pub struct Surroundings<'s> {
    stage: &'s Stage,
    /// Asks the istiod that there is now: a page may install another one.
    pub gate: Arc<Gate>,
    before: BTreeMap<String, Applied>,
    now: BTreeMap<String, Applied>,
    /// What the last command changed.
    changed: Change,
    /// The pods of the page, and the clients that it may use.
    pub pods: Vec<Workload>,
    /// The egress gateway's pods.
    pub gateways: Vec<Workload>,
    /// Addresses in the cluster where nobody keeps a record for us: the page's pods, and Services.
    pub inside: Vec<IpAddr>,
}

fn environment(error: impl ToString) -> EnvironmentError {
    EnvironmentError::new(error.to_string())
}

impl<'s> Surroundings<'s> {
    /// The cluster as it is before the page's first command.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the cluster cannot be asked.
    pub async fn new(stage: &'s Stage) -> Result<Self, EnvironmentError> {
        let mut new = Self {
            stage,
            gate: Arc::clone(&stage.gate),
            before: BTreeMap::new(),
            now: BTreeMap::new(),
            changed: Change::default(),
            pods: Vec::new(),
            gateways: Vec::new(),
            inside: Vec::new(),
        };
        new.before = new.inventory().await?;
        new.now = new.before.clone();
        new.find_pods().await?;
        Ok(new)
    }

    /// What there is, without the harness's own markers.
    async fn inventory(&self) -> Result<BTreeMap<String, Applied>, EnvironmentError> {
        let taken: Inventory = inventory::take(&self.stage.objects, Extent::Cluster, self.stage.objects.run())
            .await
            .map_err(environment)?;
        let ours =
            |object: &Applied| object.object.pointer("/metadata/labels").is_some_and(|l| !l[RUN_LABEL].is_null());
        Ok(taken.objects.into_iter().filter(|(_, object)| !ours(object)).collect())
    }

    /// Waits until what the last command changed is in force: Deployments run, pods that were to go are gone, and the
    /// proxies have the configuration. Returns what did not come to be, in words.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the cluster cannot be asked.
    pub async fn settle(&mut self) -> Result<Vec<String>, EnvironmentError> {
        let mut open = Vec::new();
        if let Err(error) = wait::until("the pods of the page", PODS, || self.pods_settled()).await {
            open.push(error.to_string());
        }
        let now = self.inventory().await?;
        let change = change(&self.now, &now);
        self.now = now;
        self.changed = change.clone();
        self.find_pods().await?;
        let proxies: Vec<_> = self.pods.iter().chain(&self.gateways).filter_map(|w| w.proxy()).collect();
        let gate = self.gate.renewed().await.map_err(environment)?;
        if gate.istiod() != self.gate.istiod() {
            self.gate = Arc::new(gate);
        }
        if let Err(error) = self.gate.pass(&change, &proxies, GATE).await {
            open.push(error.to_string());
        }
        Ok(open)
    }

    async fn pods_settled(&self) -> Result<(), String> {
        let client = self.stage.objects.client();
        let deployments: Api<Deployment> = Api::all(client.clone());
        let all = deployments.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        for deployment in &all {
            let wanted = deployment.spec.replicas.unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            let current = status.observed_generation == deployment.metadata.generation;
            let (ready, updated) = (status.ready_replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
            let total = status.replicas.unwrap_or(0);
            if !current || ready < wanted || updated < wanted || total > wanted {
                let name = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
                let why = self.waiting_pods(deployment).await;
                return Err(format!("Deployment {name} has {ready} of {wanted} pods ready{why}"));
            }
        }
        let pods: Api<Pod> = Api::all(client.clone());
        let pods = pods.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        match pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_some()) {
            Some(pod) => {
                Err(format!("pod {}/{} has not gone yet", pod.namespace().unwrap_or_default(), pod.name_any()))
            }
            None => Ok(()),
        }
    }

    /// Why the pods of a Deployment do not run, as far as they say it.
    async fn waiting_pods(&self, deployment: &Deployment) -> String {
        let api: Api<Pod> =
            Api::namespaced(self.stage.objects.client().clone(), &deployment.namespace().unwrap_or_default());
        let Ok(pods) = api.list(&ListParams::default()).await else { return String::new() };
        let name = format!("{}-", deployment.name_any());
        let own = pods.iter().filter(|pod| pod.name_any().starts_with(&name) && !is_ready(pod));
        let said: Vec<String> = own.map(workload::describe).collect();
        if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) }
    }

    async fn find_pods(&mut self) -> Result<(), EnvironmentError> {
        let client = self.stage.objects.client();
        let api: Api<Pod> = Api::all(client.clone());
        let list = api.list(&ListParams::default()).await.map_err(environment)?;
        let (mut pods, mut gateways) = (Vec::new(), Vec::new());
        let gateway = GATEWAY_SELECTOR.split_once('=').unwrap_or_default();
        for pod in list.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)) {
            let namespace = pod.namespace().unwrap_or_default();
            let is_gateway =
                namespace == ISTIO_NAMESPACE && pod.labels().get(gateway.0).is_some_and(|v| v == gateway.1);
            let own = [ISTIO_NAMESPACE, SYSTEM_NAMESPACE].contains(&namespace.as_str())
                || namespace.starts_with("kube-")
                || namespace.starts_with(slots(&self.stage.namespace));
            if own && !is_gateway {
                continue;
            }
            let name = if is_gateway { "gateway".to_owned() } else { pod.name_any() };
            // One that ends at this moment is no matter.
            let Ok(facts) = workload::facts(pod, &name, is_gateway) else { continue };
            let followed = self.stage.logs.follow(client, facts).await?;
            if is_gateway { gateways.push(followed) } else { pods.push(followed) }
        }
        let services: Api<Service> = Api::all(client.clone());
        let services = services.list(&ListParams::default()).await.map_err(environment)?;
        let addresses = services.iter().filter_map(|s| s.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok());
        self.inside = addresses.chain(pods.iter().map(|pod| pod.ip)).collect();
        (self.pods, self.gateways) = (pods, gateways);
        Ok(())
    }

    /// What is there now and was not before the page, and what is gone; controllers' own objects, which go with their
    /// owners, are left out.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the cluster cannot be asked.
    pub async fn left(&self) -> Result<Vec<String>, EnvironmentError> {
        let now = self.inventory().await?;
        let names = |objects: &BTreeMap<String, Applied>| {
            let made = |o: &Applied| {
                matches!(o.gvk.kind.as_str(), "EndpointSlice" | "Endpoints")
                    || o.object.pointer("/metadata/ownerReferences").is_some()
            };
            objects.iter().filter(|(_, o)| !made(o)).map(|(name, _)| name.clone()).collect()
        };
        Ok(inventory::difference(&names(&self.before), &names(&now)))
    }

    /// What the last command changed: the objects that it made or changed, whole, and those that are gone by kind, namespace
    /// and name.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the cluster cannot be asked.
    pub async fn changed(&self) -> Result<(Vec<Value>, Vec<(String, String, String)>), EnvironmentError> {
        let mut present = Vec::new();
        for object in &self.changed.present {
            let namespace = object.namespace.as_deref().unwrap_or_default();
            let read = self.stage.objects.read(&object.gvk, namespace, Some(&object.name), None).await;
            for mut whole in read.map_err(environment)? {
                whole["apiVersion"] = object.gvk.api_version().into();
                whole["kind"] = object.gvk.kind.clone().into();
                present.push(whole);
            }
        }
        let gone = |o: &Applied| (o.gvk.kind.clone(), o.namespace.clone().unwrap_or_default(), o.name.clone());
        Ok((present, self.changed.absent.iter().map(gone).collect()))
    }
}

/// What all slots of a mesh have in common in the names of their namespaces.
fn slots(namespace: &str) -> &str {
    namespace.rsplit_once('-').map_or(namespace, |(first, _)| first)
}

fn change(before: &BTreeMap<String, Applied>, now: &BTreeMap<String, Applied>) -> Change {
    let same = |a: &Applied, b: &Applied| a.uid == b.uid && a.generation == b.generation;
    let new = now.iter().filter(|(name, object)| !before.get(*name).is_some_and(|known| same(known, object)));
    let gone = before.iter().filter(|(name, object)| now.get(*name).is_none_or(|o| o.uid != object.uid));
    Change {
        present: new.map(|(_, object)| object.clone()).collect(),
        absent: gone.map(|(_, object)| object.clone()).collect(),
    }
}
