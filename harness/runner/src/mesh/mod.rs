//! A mesh that scenarios can run on: a cluster with Istio under one profile, its gateways, and slots of warm clients.
//!
//! [`Mesh::up`] brings everything up; [`Mesh::switch`] changes the profile; [`clean`] takes back what a lease left. Who may
//! use it when is [`crate::supervisor`]'s business, and what a scenario does with it [`crate::schedule`]'s.

pub mod clean;
pub mod profile;
pub mod slot;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cluster::istio::{self, GATEWAY_SERVICE, ISTIO_NAMESPACE, MeshFacts};
use crate::cluster::objects::Objects;
use crate::cluster::workload::{self, PodFacts};
use crate::cluster::{EnvironmentError, Provider};
use crate::gate::{Change, Gate, ProxyRef, SYSTEM_NAMESPACE};
use crate::progress::Progress;
use crate::wait;
use slot::{Slot, make_namespace, proxies_of, start_clients};

/// How long one try to find the mesh settled may take after a disturbance.
const SETTLE_BOUND: Duration = Duration::from_secs(10);

/// A cluster with Istio.
pub struct Mesh {
    /// Who made the cluster.
    pub provider: Box<dyn Provider>,
    /// The harness's own objects: namespaces, clients, markers.
    pub objects: Arc<Objects>,
    istioctl: PathBuf,
    timeout: Duration,
}

/// What is installed, as it was found: it changes with the profile, and when a pod is replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Installed {
    /// The profile in force.
    pub profile: String,
    /// The egress gateway's pods.
    pub gateways: Vec<PodFacts>,
    /// Cluster address of the egress gateway's Service.
    pub gateway_address: String,
    /// The name of istiod's pod.
    pub istiod: String,
    /// What the mesh's configuration says.
    pub facts: MeshFacts,
    /// What the cluster's parts say their versions are.
    pub versions: Versions,
}

/// Versions of the system under test, as its parts report them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Versions {
    /// istiod.
    pub istio: String,
    /// The proxies' Envoy.
    pub envoy: String,
    /// The API server.
    pub kubernetes: String,
}

/// A client of a cluster by its kubeconfig.
///
/// # Errors
/// [`EnvironmentError`] naming the file.
pub async fn connect(kubeconfig: &Path) -> Result<Client, EnvironmentError> {
    let failed = |e: &dyn std::fmt::Display| EnvironmentError::new(format!("kubeconfig {}: {e}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|e| failed(&e))?;
    let mut config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| failed(&e))?;
    // Logs are followed for as long as a run lasts.
    config.read_timeout = None;
    Client::try_from(config).map_err(|e| failed(&e))
}

fn environment(error: impl ToString) -> EnvironmentError {
    EnvironmentError::new(error.to_string())
}

impl Mesh {
    /// Installs Istio under a profile, starts a first slot, and waits until its gate passes; gives up when `stop` is
    /// cancelled.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up, with its last state. The provider is stopped then.
    pub async fn up(
        provider: Box<dyn Provider>,
        istioctl: PathBuf,
        profile: &str,
        timeout: Duration,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(Self, Installed, Slot), EnvironmentError> {
        let run = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
        let mesh = Self::of(provider, istioctl, run, timeout).await?;
        let installed = async {
            mesh.install(profile, progress).await?;
            mesh.settle_first(profile, progress).await
        };
        let came = tokio::select! {
            came = installed => came,
            () = stop.cancelled() => Err(broken_off()),
        };
        match came {
            Ok((installed, slot)) => Ok((mesh, installed, slot)),
            Err(error) => Err(given_up(mesh.provider, error).await),
        }
    }

    /// Waits until a mesh settles that was saved once [`Mesh::up`] had returned; `run` is the label of that run's objects.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up, with its last state. The provider is stopped then.
    pub async fn resume(
        provider: Box<dyn Provider>,
        istioctl: PathBuf,
        run: String,
        profile: &str,
        timeout: Duration,
        progress: &dyn Progress,
        stop: &CancellationToken,
    ) -> Result<(Self, Installed, Slot), EnvironmentError> {
        let mesh = Self::of(provider, istioctl, run, timeout).await?;
        let came = tokio::select! {
            came = mesh.settle_first(profile, progress) => came,
            () = stop.cancelled() => Err(broken_off()),
        };
        match came {
            Ok((installed, slot)) => Ok((mesh, installed, slot)),
            Err(error) => Err(given_up(mesh.provider, error).await),
        }
    }

    async fn of(
        provider: Box<dyn Provider>,
        istioctl: PathBuf,
        run: String,
        timeout: Duration,
    ) -> Result<Self, EnvironmentError> {
        match connect(provider.kubeconfig()).await {
            Ok(client) => Ok(Self { provider, objects: Arc::new(Objects::new(client, run)), istioctl, timeout }),
            Err(error) => Err(given_up(provider, error).await),
        }
    }

    async fn install(&self, profile: &str, progress: &dyn Progress) -> Result<(), EnvironmentError> {
        let start = Instant::now();
        let namespace = self.slot_namespace(1);
        let install = profile::install(&*self.provider, &self.istioctl, profile, self.timeout);
        let namespaces = async {
            make_namespace(&self.objects, SYSTEM_NAMESPACE, false).await?;
            make_namespace(&self.objects, &namespace, true).await
        };
        tokio::try_join!(install, namespaces)?;
        progress.phase("istio installed", start.elapsed());
        Ok(())
    }

    /// Starts the first slot, or finds it, and waits until its gate passes.
    async fn settle_first(
        &self,
        profile: &str,
        progress: &dyn Progress,
    ) -> Result<(Installed, Slot), EnvironmentError> {
        let namespace = self.slot_namespace(1);
        let start = Instant::now();
        let (gateways, clients) = tokio::try_join!(
            workload::find_gateways(self.objects.client(), self.timeout),
            start_clients(&self.objects, &namespace, self.timeout)
        )?;
        progress.phase("clients ready", start.elapsed());
        let start = Instant::now();
        let gate =
            wait::until("a ready istiod", self.timeout, async || self.gate(&namespace).await.map_err(|e| e.message));
        let gate = Arc::new(gate.await.map_err(environment)?);
        let facts = profile::in_force(&gate, profile, self.timeout).await?;
        let proxies = proxies_of(gateways.iter().chain(&clients));
        // Where everything starts at once, Istio's webhook may be out of reach for a moment.
        let settled = wait::until("the mesh's settling", self.timeout, async || {
            gate.pass(&Change::default(), &proxies, self.timeout).await.map_err(|e| e.to_string())
        });
        settled.await.map_err(environment)?;
        progress.phase("gate passed", start.elapsed());
        let installed = Installed {
            profile: profile.to_owned(),
            gateway_address: gateway_address(&self.objects).await?,
            istiod: gate.istiod().to_owned(),
            versions: versions(self.objects.client(), &gate, &proxies).await?,
            facts,
            gateways,
        };
        // A format that cannot be read is better known now than at the first probe.
        profile::access_log_format(&installed.facts, &installed.versions.istio)?;
        Ok((installed, Slot { namespace, further: BTreeSet::new(), clients, gate, probes: 0, before: None }))
    }

    fn slot_namespace(&self, number: usize) -> String {
        format!("ec-{}-{number}", self.objects.run())
    }

    async fn gate(&self, namespace: &str) -> Result<Gate, EnvironmentError> {
        Gate::new(Arc::clone(&self.objects), namespace).await.map_err(environment)
    }

    /// Starts another slot.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up, with its last state.
    pub async fn add_slot(&self, installed: &Installed, number: usize) -> Result<Slot, EnvironmentError> {
        let namespace = self.slot_namespace(number);
        make_namespace(&self.objects, &namespace, true).await?;
        let clients = start_clients(&self.objects, &namespace, self.timeout).await?;
        let gate = Arc::new(self.gate(&namespace).await?);
        let slot = Slot { namespace, further: BTreeSet::new(), clients, gate, probes: 0, before: None };
        self.settle(installed, [&slot], &Change::default(), self.timeout).await?;
        Ok(slot)
    }

    /// Makes the further namespaces that a lease wants and the slot does not have yet, and waits until pods can start in
    /// them.
    ///
    /// # Errors
    /// [`EnvironmentError`] with what is missing in them.
    pub async fn furnish(&self, slot: &mut Slot, wanted: &BTreeSet<String>) -> Result<(), EnvironmentError> {
        let missing: Vec<String> = wanted.difference(&slot.further).cloned().collect();
        let made = missing.iter().map(async |name| {
            let namespace = slot.further_namespace(name);
            make_namespace(&self.objects, &namespace, true).await?;
            slot::furnished(&self.objects, &namespace, self.timeout).await
        });
        try_join_all(made).await?;
        slot.further.extend(missing);
        Ok(())
    }

    /// Waits until a change has reached the gateways and the clients of these slots.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the question that stayed open.
    pub async fn settle<'a>(
        &self,
        installed: &Installed,
        slots: impl IntoIterator<Item = &'a Slot>,
        change: &Change,
        bound: Duration,
    ) -> Result<(), EnvironmentError> {
        let gates = slots.into_iter().map(async |slot| {
            let proxies = proxies_of(installed.gateways.iter().chain(&slot.clients));
            slot.gate.pass(change, &proxies, bound).await
        });
        try_join_all(gates).await.map_err(environment)?;
        Ok(())
    }

    /// How the pods stand that every probe of a slot depends on: istiod, the gateway, the warm clients. While nothing
    /// disturbs them the answer stays the same.
    pub async fn standing(&self, installed: &Installed, slot: &Slot) -> BTreeMap<String, String> {
        let client = self.objects.client();
        let workloads = installed.gateways.iter().chain(&slot.clients);
        let pods = workloads
            .map(|w| (w.namespace.as_str(), w.pod.as_str()))
            .chain([(ISTIO_NAMESPACE, installed.istiod.as_str())]);
        let ask = pods.map(async |(namespace, pod)| {
            (format!("{namespace}/{pod}"), workload::standing(client, namespace, pod).await)
        });
        join_all(ask).await.into_iter().collect()
    }

    /// What has changed of [`Mesh::standing`], in words; empty when nothing disturbed the mesh.
    pub async fn changed(&self, installed: &Installed, slot: &Slot, before: &BTreeMap<String, String>) -> Vec<String> {
        let now = self.standing(installed, slot).await;
        let changed = before.iter().filter(|(pod, was)| now.get(*pod) != Some(was));
        changed
            .map(|(pod, was)| format!("{pod} was {was}, is {}", now.get(pod).map_or("unknown", String::as_str)))
            .collect()
    }

    /// Whether every component still runs.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the last words of those that ended.
    pub fn intact(&self) -> Result<(), EnvironmentError> {
        let faults = self.provider.faults();
        if faults.is_empty() { Ok(()) } else { Err(EnvironmentError::new(faults.join("; "))) }
    }

    /// Waits until a component dies; gives its last words.
    pub async fn broken(&self) -> String {
        loop {
            let asked = wait::until("a component's end", self.timeout, async || match self.intact() {
                Ok(()) => Err("every component runs".to_owned()),
                Err(error) => Ok(error.message),
            });
            if let Ok(why) = asked.await {
                return why;
            }
        }
    }

    /// Does something that is in vain once a component has died, and breaks it off then: the API server keeps requests
    /// waiting for minutes when etcd is gone.
    ///
    /// # Errors
    /// What the task says, or the last words of the components that ended.
    pub async fn while_intact<T>(&self, task: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        tokio::select! {
            done = task => done,
            why = self.broken() => Err(why),
        }
    }

    /// Lets a slot ask the istiod that there is now: another slot's lease may have seen it replaced.
    ///
    /// # Errors
    /// [`EnvironmentError`] when there is none.
    pub async fn follow_istiod(&self, installed: &Installed, slot: &mut Slot) -> Result<(), EnvironmentError> {
        if slot.gate.istiod() != installed.istiod {
            slot.gate = Arc::new(self.gate(&slot.namespace).await?);
        }
        Ok(())
    }

    /// Finds the pods again after something disturbed them, and waits until the mesh has settled.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come back.
    pub async fn recover(&self, installed: &mut Installed, slot: &mut Slot) -> Result<(), EnvironmentError> {
        (installed.gateways, slot.clients) = tokio::try_join!(
            workload::find_gateways(self.objects.client(), self.timeout),
            start_clients(&self.objects, &slot.namespace, self.timeout)
        )?;
        let gate = wait::until("a ready istiod", self.timeout, async || {
            self.gate(&slot.namespace).await.map_err(|e| e.message)
        });
        slot.gate = Arc::new(gate.await.map_err(environment)?);
        slot.gate.istiod().clone_into(&mut installed.istiod);
        // A pod that died may still be called ready for a moment, and Istio's webhook be out of reach.
        let settled = wait::until("the mesh's settling after a disturbance", self.timeout, async || {
            let passed = self.settle(installed, [&*slot], &Change::default(), SETTLE_BOUND).await;
            passed.map_err(|e| e.message)
        });
        settled.await.map_err(environment)?;
        Ok(())
    }

    /// Puts back what commands of others may have changed beside objects: the label of the namespace `default` that decides
    /// about injection, and Istio's installation, where `disturbed` or istiod's own word says that it is another one.
    /// Returns whether Istio was installed anew.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come back.
    pub async fn put_back(
        &self,
        installed: &mut Installed,
        slot: &mut Slot,
        disturbed: bool,
    ) -> Result<bool, EnvironmentError> {
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
            kube::Api::all(self.objects.client().clone());
        let without = serde_json::json!({"metadata": {"labels": {"istio-injection": null}}});
        let patched = namespaces.patch("default", &PatchParams::default(), &Patch::Merge(&without)).await;
        patched.map_err(environment)?;
        let page = slot.gate.istiod_page("/debug/mesh").await.map_err(environment)?;
        let same = istio::mesh_facts(&page).is_ok_and(|facts| facts == installed.facts);
        if same && !disturbed {
            return Ok(false);
        }
        let profile = installed.profile.clone();
        profile::install(&*self.provider, &self.istioctl, &profile, self.timeout).await?;
        // Istiod and the gateway may be other pods now.
        self.recover(installed, slot).await?;
        installed.facts = profile::in_force(&slot.gate, &profile, self.timeout).await?;
        self.settle(installed, [&*slot], &Change::default(), self.timeout).await?;
        Ok(true)
    }

    /// Puts another profile in force. The slots' clients are started anew where injection changes.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up, with its last state.
    pub async fn switch(
        &self,
        installed: &mut Installed,
        slots: &mut [Slot],
        profile: &str,
    ) -> Result<(), EnvironmentError> {
        profile::install(&*self.provider, &self.istioctl, profile, self.timeout).await?;
        let Some(first) = slots.first() else { return Err(EnvironmentError::new("the mesh has no slot")) };
        installed.facts = profile::in_force(&first.gate, profile, self.timeout).await?;
        let wanted = profile::include_ip_ranges(profile)?;
        if wanted != profile::include_ip_ranges(&installed.profile)? {
            for slot in &mut *slots {
                slot.clients = slot::restart_clients(&self.objects, slot, &wanted, self.timeout).await?;
            }
        }
        profile::access_log_format(&installed.facts, &installed.versions.istio)?;
        let settled = self.settle(installed, &*slots, &Change::default(), self.timeout).await;
        settled.map_err(|e| EnvironmentError::new(format!("the mesh does not settle under {profile}: {e}")))?;
        profile.clone_into(&mut installed.profile);
        Ok(())
    }
}

/// Stops a cluster that did not come up, and says what else was wrong with it.
/// Why a start ended that nobody wants any more.
pub(crate) fn broken_off() -> EnvironmentError {
    EnvironmentError::new("the start of the mesh was broken off")
}

async fn given_up(provider: Box<dyn Provider>, mut error: EnvironmentError) -> EnvironmentError {
    for fault in provider.faults() {
        error.message.push_str("\n  ");
        error.message.push_str(&fault);
    }
    if let Err(also) = provider.stop().await {
        error.message.push_str("\n  ");
        error.message.push_str(&also.message);
    }
    error
}

async fn versions(client: &Client, gate: &Gate, proxies: &[ProxyRef]) -> Result<Versions, EnvironmentError> {
    let failed = |what: &str, e: &dyn std::fmt::Display| EnvironmentError::new(format!("{what} tells no version: {e}"));
    let kubernetes = client.apiserver_version().await.map_err(|e| failed("the API server", &e))?.git_version;
    let page = gate.istiod_page("/version").await.map_err(|e| failed("istiod", &e))?;
    let istio = version_in(&page).ok_or_else(|| failed("istiod", &format!("it said {page:?}")))?;
    let envoy = match proxies.first() {
        Some(proxy) => {
            let page = gate.envoy_page(proxy, "/server_info").await.map_err(|e| failed("Envoy", &e))?;
            let info: Value = serde_json::from_str(&page).unwrap_or(Value::Null);
            info["version"].as_str().and_then(|v| v.split('/').nth(1)).unwrap_or_default().to_owned()
        }
        None => String::new(),
    };
    Ok(Versions { istio, envoy, kubernetes })
}

/// The first `x.y.z` in a text.
fn version_in(text: &str) -> Option<String> {
    let pattern = regex::Regex::new(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?").expect("a constant pattern");
    pattern.find(text).map(|m| m.as_str().to_owned())
}

async fn gateway_address(objects: &Objects) -> Result<String, EnvironmentError> {
    let gvk = kube::core::GroupVersionKind::gvk("", "v1", "Service");
    let found = objects.read(&gvk, ISTIO_NAMESPACE, Some(GATEWAY_SERVICE), None).await.map_err(environment)?;
    let address = found.first().and_then(|s| s["spec"]["clusterIP"].as_str());
    address.map(str::to_owned).ok_or_else(|| {
        EnvironmentError::new(format!("Service {ISTIO_NAMESPACE}/{GATEWAY_SERVICE} has no cluster address"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_prose() {
        assert_eq!(version_in("version.BuildInfo{Version:\"1.31.0\"").as_deref(), Some("1.31.0"));
        assert_eq!(version_in("unknown"), None);
    }
}
