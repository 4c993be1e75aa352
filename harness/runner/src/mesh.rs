//! A mesh that scenarios can run on: a cluster with Istio under one profile, its gateways, its gate and its slot.
//!
//! [`Mesh::up`] brings everything up; [`Mesh::switch`] changes the profile. What a scenario does with it is
//! [`crate::schedule`]'s business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use egress_core::access_log::Format;
use egress_core::scenario::schema::ClientSpec;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::cluster::istio::{self, GATEWAY_SERVICE, ISTIO_NAMESPACE, MeshFacts};
use crate::cluster::objects::Objects;
use crate::cluster::workload::{self, Workload};
use crate::cluster::{EnvironmentError, Provider};
use crate::gate::{Change, Gate, ProxyRef, SYSTEM_NAMESPACE};
use crate::progress::Progress;
use crate::wait;

/// How long one try to find the mesh settled may take after a disturbance.
const SETTLE_BOUND: Duration = Duration::from_secs(10);

/// A running mesh.
pub struct Mesh {
    /// Who made the cluster.
    pub provider: Box<dyn Provider>,
    /// Objects of this run.
    pub objects: Arc<Objects>,
    /// The gate.
    pub gate: Gate,
    /// The egress gateway's pods.
    pub gateways: Vec<Workload>,
    /// Cluster address of the egress gateway's Service.
    pub gateway_address: String,
    /// The warm slot.
    pub slot: Slot,
    /// Told when any followed log has news.
    pub news: Arc<Notify>,
    /// The profile in force.
    pub profile: String,
    /// How access logs are written.
    pub format: Format,
    /// What the cluster's parts say their versions are.
    pub versions: Versions,
    /// How many requests have been sent.
    pub probes: AtomicU32,
    istioctl: PathBuf,
    timeout: Duration,
}

/// Versions of the system under test, as its parts report them.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// istiod.
    pub istio: String,
    /// The proxies' Envoy.
    pub envoy: String,
    /// The API server.
    pub kubernetes: String,
}

/// A namespace with warm clients.
#[derive(Debug)]
pub struct Slot {
    /// The namespace.
    pub namespace: String,
    /// The warm clients: `meshed` and `plain`.
    pub clients: Vec<Workload>,
}

impl Slot {
    /// The clients that every slot keeps warm.
    #[must_use]
    pub fn warm_clients() -> [(&'static str, ClientSpec); 2] {
        let spec = |sidecar| ClientSpec { sidecar, annotations: std::collections::BTreeMap::new(), namespace: None };
        [("meshed", spec(true)), ("plain", spec(false))]
    }
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

impl Mesh {
    /// Installs Istio under a profile, starts the slot's clients, and waits until the gate passes.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up, with its last state. The provider is stopped then.
    pub async fn up(
        provider: Box<dyn Provider>,
        istioctl: PathBuf,
        profile: &str,
        run: &str,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> Result<Self, EnvironmentError> {
        match Self::build(&*provider, &istioctl, profile, run, timeout, progress).await {
            Ok(parts) => {
                let Parts { objects, gate, gateways, gateway_address, slot, news, format, versions } = parts;
                Ok(Self {
                    provider,
                    objects,
                    gate,
                    gateways,
                    gateway_address,
                    slot,
                    news,
                    profile: profile.to_owned(),
                    format,
                    versions,
                    probes: AtomicU32::new(0),
                    istioctl,
                    timeout,
                })
            }
            Err(mut error) => {
                for fault in provider.faults() {
                    error.message.push_str("\n  ");
                    error.message.push_str(&fault);
                }
                if let Err(also) = provider.stop().await {
                    error.message.push_str("\n  ");
                    error.message.push_str(&also.message);
                }
                Err(error)
            }
        }
    }

    async fn build(
        provider: &dyn Provider,
        istioctl: &Path,
        profile: &str,
        run: &str,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> Result<Parts, EnvironmentError> {
        let client = connect(provider.kubeconfig()).await?;
        let objects = Arc::new(Objects::new(client.clone(), run.to_owned()));
        let start = Instant::now();
        let namespace = format!("ec-{run}");
        let install = install_profile(provider, istioctl, profile, timeout);
        let namespaces = async {
            make_namespace(&objects, SYSTEM_NAMESPACE, false).await?;
            make_namespace(&objects, &namespace, true).await
        };
        tokio::try_join!(install, namespaces)?;
        progress.phase("istio installed", start.elapsed());
        let start = Instant::now();
        let news = Arc::new(Notify::new());
        let (gateways, slot) = tokio::try_join!(
            workload::find_gateways(&client, &news, timeout),
            start_slot(&objects, namespace.clone(), &news, timeout)
        )?;
        progress.phase("clients ready", start.elapsed());
        let start = Instant::now();
        let gate = Gate::new(Arc::clone(&objects)).await.map_err(|e| EnvironmentError::new(e.to_string()))?;
        let facts = profile_in_force(&gate, profile, timeout).await?;
        let proxies = proxies_of(&gateways, &slot.clients);
        gate.pass(&Change::default(), &proxies, timeout)
            .await
            .map_err(|e| EnvironmentError::new(format!("the mesh does not settle: {e}")))?;
        progress.phase("gate passed", start.elapsed());
        let versions = versions(&client, &gate, &proxies).await?;
        let format = access_log_format(&facts, &versions.istio)?;
        let gateway_address = service_address(&objects).await?;
        Ok(Parts { objects, gate, gateways, gateway_address, slot, news, format, versions })
    }

    /// Every Envoy that a scenario in this slot concerns: the gateways', the warm clients' and those of `others`.
    #[must_use]
    pub fn proxies<'a>(&'a self, others: impl IntoIterator<Item = &'a Workload>) -> Vec<ProxyRef> {
        let mut all = proxies_of(&self.gateways, &self.slot.clients);
        all.extend(others.into_iter().filter_map(Workload::proxy));
        all
    }

    /// How the pods stand that every probe depends on: istiod, the gateway, the warm clients. While nothing disturbs
    /// them the answer stays the same.
    pub async fn standing(&self) -> BTreeMap<String, String> {
        let client = self.objects.client();
        let istiod = (ISTIO_NAMESPACE, self.gate.istiod());
        let workloads = self.gateways.iter().chain(&self.slot.clients);
        let pods = workloads.map(|w| (w.namespace.as_str(), w.pod.as_str())).chain([istiod]);
        let ask = pods.map(async |(namespace, pod)| {
            (format!("{namespace}/{pod}"), workload::standing(client, namespace, pod).await)
        });
        join_all(ask).await.into_iter().collect()
    }

    /// Finds the pods again after something disturbed them, and waits until the mesh has settled.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come back.
    pub async fn recover(&mut self) -> Result<(), EnvironmentError> {
        let client = self.objects.client().clone();
        let namespace = self.slot.namespace.clone();
        let (gateways, slot) = tokio::try_join!(
            workload::find_gateways(&client, &self.news, self.timeout),
            start_slot(&self.objects, namespace, &self.news, self.timeout)
        )?;
        (self.gateways, self.slot) = (gateways, slot);
        let gate = wait::until("a ready istiod", self.timeout, async || {
            Gate::new(Arc::clone(&self.objects)).await.map_err(|e| e.to_string())
        });
        self.gate = gate.await.map_err(|e| EnvironmentError::new(e.to_string()))?;
        // A pod that died may still be called ready for a moment, and Istio's webhook be out of reach.
        let proxies = self.proxies([]);
        let settled = wait::until("the mesh's settling after a disturbance", self.timeout, async || {
            let passed = self.gate.pass(&Change::default(), &proxies, SETTLE_BOUND).await;
            passed.map_err(|e| e.to_string())
        });
        settled.await.map_err(|e| EnvironmentError::new(e.to_string()))?;
        Ok(())
    }

    /// Puts another profile in force. The slot's clients are started anew where injection changes.
    ///
    /// # Errors
    /// [`EnvironmentError`]: what did not come up, with its last state.
    pub async fn switch(&mut self, profile: &str, progress: &dyn Progress) -> Result<(), EnvironmentError> {
        if self.profile == profile {
            return Ok(());
        }
        let start = Instant::now();
        install_profile(&*self.provider, &self.istioctl, profile, self.timeout).await?;
        let facts = profile_in_force(&self.gate, profile, self.timeout).await?;
        if include_ip_ranges(profile)? != include_ip_ranges(&self.profile)? {
            self.restart_clients(profile).await?;
        }
        self.format = access_log_format(&facts, &self.versions.istio)?;
        let proxies = self.proxies([]);
        self.gate
            .pass(&Change::default(), &proxies, self.timeout)
            .await
            .map_err(|e| EnvironmentError::new(format!("the mesh does not settle under {profile}: {e}")))?;
        profile.clone_into(&mut self.profile);
        progress.phase(&format!("profile {profile} in force"), start.elapsed());
        Ok(())
    }

    /// Restarts the slot's clients until injection follows the profile: istiod reads its injection values on its own
    /// time, and no page of its tells which are in force.
    async fn restart_clients(&mut self, profile: &str) -> Result<(), EnvironmentError> {
        let wanted = include_ip_ranges(profile)?;
        let client = self.objects.client().clone();
        let api: Api<Pod> = Api::namespaced(client.clone(), &self.slot.namespace);
        let deadline = Instant::now() + self.timeout;
        loop {
            for old in &self.slot.clients {
                delete_pod(&api, &old.pod, self.timeout).await?;
            }
            self.slot = start_slot(&self.objects, self.slot.namespace.clone(), &self.news, self.timeout).await?;
            let meshed = self.slot.clients.iter().find(|c| c.proxy_log.is_some());
            let meshed = meshed.ok_or_else(|| EnvironmentError::new("the slot has no client with a sidecar"))?;
            let pod = api.get(&meshed.pod).await.map_err(|e| EnvironmentError::new(e.to_string()))?;
            let seen = redirected_ranges(&pod);
            if seen == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(EnvironmentError::new(format!(
                    "injection does not follow profile {profile}: istio-init redirects {seen:?}, wanted {wanted:?}"
                )));
            }
        }
    }
}

struct Parts {
    objects: Arc<Objects>,
    gate: Gate,
    gateways: Vec<Workload>,
    gateway_address: String,
    slot: Slot,
    news: Arc<Notify>,
    format: Format,
    versions: Versions,
}

fn proxies_of(gateways: &[Workload], clients: &[Workload]) -> Vec<ProxyRef> {
    gateways.iter().chain(clients).filter_map(Workload::proxy).collect()
}

async fn install_profile(
    provider: &dyn Provider,
    istioctl: &Path,
    profile: &str,
    timeout: Duration,
) -> Result<(), EnvironmentError> {
    let dir = tempfile::tempdir().map_err(|e| EnvironmentError::new(format!("no temporary folder: {e}")))?;
    let mut files = Vec::new();
    let profile_file = format!("mesh/{profile}.yaml");
    for (n, name) in std::iter::once(profile_file.as_str()).chain(provider.overlays().iter().copied()).enumerate() {
        let path = dir.path().join(format!("{n}.yaml"));
        let text = crate::embedded::text(name).map_err(EnvironmentError::new)?;
        std::fs::write(&path, text)
            .map_err(|e| EnvironmentError::new(format!("{} cannot be written: {e}", path.display())))?;
        files.push(path);
    }
    istio::install(istioctl, provider.kubeconfig(), &files, timeout).await
}

async fn make_namespace(objects: &Objects, name: &str, injected: bool) -> Result<(), EnvironmentError> {
    let injection = if injected { "enabled" } else { "disabled" };
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"istio-injection": injection}},
    });
    objects.apply(&namespace, name).await.map_err(|e| EnvironmentError::new(e.to_string()))?;
    Ok(())
}

async fn start_slot(
    objects: &Objects,
    namespace: String,
    news: &Arc<Notify>,
    timeout: Duration,
) -> Result<Slot, EnvironmentError> {
    let warm = Slot::warm_clients();
    for (name, spec) in &warm {
        workload::start_client(objects, &namespace, name, spec).await?;
    }
    let ready =
        warm.iter().map(|(name, spec)| workload::client_ready(objects.client(), &namespace, name, spec, news, timeout));
    let clients = futures::future::try_join_all(ready).await?;
    Ok(Slot { namespace, clients })
}

async fn delete_pod(api: &Api<Pod>, name: &str, timeout: Duration) -> Result<(), EnvironmentError> {
    if let Err(error) = api.delete(name, &kube::api::DeleteParams::default()).await
        && !matches!(&error, kube::Error::Api(status) if status.code == 404)
    {
        return Err(EnvironmentError::new(format!("pod {name} cannot be deleted: {error}")));
    }
    wait::until(&format!("the end of pod {name}"), timeout, || async {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .map_err(|e| EnvironmentError::new(e.to_string()))
}

/// The mesh-wide `includeIPRanges` of a profile; `*` where it says nothing (Istio's default).
fn include_ip_ranges(profile: &str) -> Result<String, EnvironmentError> {
    let text = crate::embedded::text(&format!("mesh/{profile}.yaml")).map_err(EnvironmentError::new)?;
    let operator: Value = serde_saphyr::from_str(text)
        .map_err(|e| EnvironmentError::new(format!("the profile {profile} is no YAML: {e}")))?;
    let ranges = operator.pointer("/spec/values/global/proxy/includeIPRanges").and_then(Value::as_str);
    Ok(ranges.unwrap_or("*").to_owned())
}

/// What a pod's `istio-init` was told to redirect (`-i`).
fn redirected_ranges(pod: &Pod) -> String {
    let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let arguments: Vec<String> =
        inits.filter(|c| c.name == "istio-init").flat_map(|c| c.args.clone()).flatten().collect();
    arguments.iter().position(|a| a == "-i").and_then(|at| arguments.get(at + 1)).cloned().unwrap_or_default()
}

/// Waits until istiod's own mesh configuration says what the profile asks for.
async fn profile_in_force(gate: &Gate, profile: &str, timeout: Duration) -> Result<MeshFacts, EnvironmentError> {
    let text = crate::embedded::text(&format!("mesh/{profile}.yaml")).map_err(EnvironmentError::new)?;
    let operator: Value = serde_saphyr::from_str(text)
        .map_err(|e| EnvironmentError::new(format!("the profile {profile} is no YAML: {e}")))?;
    let mode = operator.pointer("/spec/meshConfig/outboundTrafficPolicy/mode").and_then(Value::as_str);
    let wanted = mode.unwrap_or("ALLOW_ANY");
    wait::until(&format!("profile {profile} in istiod"), timeout, || async {
        let page = gate.istiod_page("/debug/mesh").await.map_err(|e| e.to_string())?;
        let facts = istio::mesh_facts(&page)?;
        if facts.outbound_policy == wanted {
            Ok(facts)
        } else {
            Err(format!("outbound policy {}", facts.outbound_policy))
        }
    })
    .await
    .map_err(|e| EnvironmentError::new(e.to_string()))
}

fn access_log_format(facts: &MeshFacts, istio: &str) -> Result<Format, EnvironmentError> {
    let format = match (facts.access_log_format.as_str(), facts.access_log_json) {
        ("", false) => Format::istio_text(istio),
        ("", true) => Format::istio_json(istio),
        (text, false) => Format::text(text),
        (text, true) => Format::json(text),
    };
    format.map_err(|e| EnvironmentError::new(format!("the mesh's access-log format cannot be read: {e}")))
}

async fn versions(client: &Client, gate: &Gate, proxies: &[ProxyRef]) -> Result<Versions, EnvironmentError> {
    let failed = |what: &str, e: &dyn std::fmt::Display| EnvironmentError::new(format!("{what} tells no version: {e}"));
    let kubernetes = client.apiserver_version().await.map_err(|e| failed("the API server", &e))?.git_version;
    let page = gate.istiod_page("/version").await.map_err(|e| failed("istiod", &e))?;
    let istio = version_in(&page).ok_or_else(|| failed("istiod", &format!("it said {page:?}")))?;
    let envoy = match proxies.first() {
        Some(proxy) => {
            let page = gate.envoy_page(proxy, "server_info").await.map_err(|e| failed("Envoy", &e))?;
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

async fn service_address(objects: &Objects) -> Result<String, EnvironmentError> {
    let gvk = kube::core::GroupVersionKind::gvk("", "v1", "Service");
    let found = objects
        .read(&gvk, ISTIO_NAMESPACE, Some(GATEWAY_SERVICE), None)
        .await
        .map_err(|e| EnvironmentError::new(e.to_string()))?;
    let address = found.first().and_then(|s| s["spec"]["clusterIP"].as_str());
    address.map(str::to_owned).ok_or_else(|| {
        EnvironmentError::new(format!("Service {ISTIO_NAMESPACE}/{GATEWAY_SERVICE} has no cluster address"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_say_which_ranges_are_redirected() {
        assert_eq!(include_ip_ranges("registry-only").expect("profile"), "*");
        assert_eq!(include_ip_ranges("include-ip-ranges").expect("profile"), "10.96.0.0/12");
    }

    #[test]
    fn a_version_is_found_in_prose() {
        assert_eq!(version_in("version.BuildInfo{Version:\"1.31.0\"").as_deref(), Some("1.31.0"));
        assert_eq!(version_in("unknown"), None);
    }
}
