//! The gate: has this configuration reached these proxies?
//!
//! Three questions, in this order, for applied and deleted objects alike. (1) Does istiod show every object at its uid
//! and generation, or no longer ([`istiod`])? (2) A marker of ours is then changed, so that istiod pushes once more. It is
//! a VirtualService route, and routes are pushed after clusters, endpoints and listeners. (3) Does every proxy's own
//! Envoy show that marker, has it acknowledged everything it was sent, and is nothing in it warming?
//!
//! The gate never sleeps blindly and never guesses: it passes, or says which question is open. Start at [`Gate::pass`].

pub mod istiod;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::cluster::forward::{Forward, ForwardError, Server};
use crate::cluster::istio::ISTIO_NAMESPACE;
use crate::cluster::objects::{Applied, ObjectError, Objects};
use crate::cluster::workload;
use crate::wait::{self, TimedOut};
use istiod::{Pages, Synced};

/// The namespace of the harness's own objects.
pub const SYSTEM_NAMESPACE: &str = "egress-conformance";
/// The Gateway through which the egress gateway sees markers.
const MARKER_GATEWAY: &str = "egress-conformance-marker";
const MARKER_PORT: u16 = 15990;
/// istiod's port for its own pages.
const ISTIOD_PORT: u16 = 15014;
/// Envoy's port for administration.
const ENVOY_PORT: u16 = 15000;

/// One Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRef {
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// Whether it is the egress gateway (its routes are named otherwise).
    pub gateway: bool,
}

impl ProxyRef {
    fn id(&self) -> String {
        format!("{}.{}", self.pod, self.namespace)
    }
}

/// What must have reached the proxies.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Objects that exist.
    pub present: Vec<Applied>,
    /// Objects that were deleted.
    pub absent: Vec<Applied>,
}

/// The gate did not open.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A question stayed open.
    #[error(transparent)]
    Timeout(#[from] TimedOut),
    /// Envoy refused what istiod made of the objects.
    #[error("a proxy refused its configuration: {0}")]
    Refused(String),
    /// The marker could not be changed.
    #[error("the gate's marker could not be changed: {0}")]
    Marker(#[from] ObjectError),
    /// istiod is not there.
    #[error("no ready istiod pod in istio-system ({0})")]
    NoIstiod(String),
    /// istiod or a proxy could not be asked.
    #[error(transparent)]
    Page(#[from] ForwardError),
}

/// Asks istiod and the proxies.
pub struct Gate {
    objects: Arc<Objects>,
    pages: Forward,
    istiod: String,
    /// The namespace whose sidecars it asks; it names the marker, so that several gates do not move the same one.
    namespace: String,
    /// Whether the marker's Gateway has been made.
    marked: AtomicBool,
}

impl Gate {
    /// A gate for the gateways and the sidecars of one namespace; its marker objects are made at the first
    /// [`Gate::pass`].
    ///
    /// # Errors
    /// [`GateError::NoIstiod`].
    pub async fn new(objects: Arc<Objects>, namespace: &str) -> Result<Self, GateError> {
        let api: Api<Pod> = Api::namespaced(objects.client().clone(), "istio-system");
        let pods = api
            .list(&ListParams::default().labels("app=istiod"))
            .await
            .map_err(|e| GateError::NoIstiod(e.to_string()))?;
        let istiod = pods
            .iter()
            .find(|pod| pod.metadata.deletion_timestamp.is_none() && workload::is_ready(pod))
            .map(ResourceExt::name_any)
            .ok_or_else(|| GateError::NoIstiod(format!("{} pods with label app=istiod", pods.items.len())))?;
        let pages = Forward::new(objects.client().clone());
        Ok(Self { objects, pages, istiod, namespace: namespace.to_owned(), marked: AtomicBool::new(false) })
    }

    /// The same gate, asking the istiod that there is now.
    ///
    /// # Errors
    /// [`GateError::NoIstiod`].
    pub async fn renewed(&self) -> Result<Self, GateError> {
        Self::new(Arc::clone(&self.objects), &self.namespace).await
    }

    /// The host name of the marker: nobody else's, and sidecars answer it themselves.
    #[must_use]
    pub fn marker_host(&self) -> String {
        format!("{}.marker.egress-conformance.internal", self.namespace)
    }

    /// The name of istiod's pod.
    #[must_use]
    pub fn istiod(&self) -> &str {
        &self.istiod
    }

    /// Asks istiod for one of its pages (`/debug/…`, `/version`), on its own localhost.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn istiod_page(&self, path: &str) -> Result<String, ForwardError> {
        let server = Server { namespace: ISTIO_NAMESPACE, pod: &self.istiod, port: ISTIOD_PORT };
        self.pages.get(server, path).await
    }

    /// Asks a proxy's Envoy for one of its admin pages.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub async fn envoy_page(&self, proxy: &ProxyRef, path: &str) -> Result<String, ForwardError> {
        let server = Server { namespace: &proxy.namespace, pod: &proxy.pod, port: ENVOY_PORT };
        self.pages.get(server, path).await
    }

    /// Waits until the change has reached every one of the proxies. Returns how long it took.
    ///
    /// # Errors
    /// [`GateError::Timeout`] says which question was open; [`GateError::Refused`] carries Envoy's own words.
    pub async fn pass(&self, change: &Change, proxies: &[ProxyRef], bound: Duration) -> Result<Duration, GateError> {
        let start = Instant::now();
        wait::until_soon("istiod's reading of the objects", bound, || self.istiod_has_read(change)).await?;
        let value = self.move_marker(proxies).await?;
        try_join_all(proxies.iter().map(|proxy| self.reached(proxy, &value, bound))).await?;
        Ok(start.elapsed())
    }

    async fn istiod_has_read(&self, change: &Change) -> Result<(), String> {
        if change.present.is_empty() && change.absent.is_empty() {
            return Ok(());
        }
        // What the change does not touch is not asked for.
        let services = change.present.iter().chain(&change.absent).any(istiod::is_service_or_endpoints);
        let service_page = async |path, otherwise: &str| {
            if services { self.istiod_page(path).await } else { Ok(otherwise.to_owned()) }
        };
        let (configs, services, shards) = tokio::try_join!(
            self.istiod_page("/debug/configz"),
            service_page("/debug/registryz", "[]"),
            service_page("/debug/endpointShardz", "{}"),
        )
        .map_err(|e| e.to_string())?;
        let pages = Pages::parse(&configs, &services, &shards).map_err(|e| e.to_string())?;
        let mut open = istiod::unknown_objects(&pages, &change.present);
        open.extend(istiod::remembered_objects(&pages, &change.absent));
        if open.is_empty() { Ok(()) } else { Err(open.join("; ")) }
    }

    async fn move_marker(&self, proxies: &[ProxyRef]) -> Result<String, GateError> {
        // Never a value that was there before, so that an old one cannot be taken for it.
        let value = format!("{}-{:016x}", self.objects.run(), rand::random::<u64>());
        if !self.marked.swap(true, Ordering::Relaxed) {
            self.objects.apply(&marker_gateway(), SYSTEM_NAMESPACE).await?;
        }
        self.objects.apply(&self.marker_routes(&value, proxies), SYSTEM_NAMESPACE).await?;
        Ok(value)
    }

    fn marker_routes(&self, value: &str, proxies: &[ProxyRef]) -> Value {
        // Proxies of other namespaces are not to be pushed for this one's sake.
        let mut seen_in: BTreeSet<&str> = proxies.iter().map(|proxy| proxy.namespace.as_str()).collect();
        seen_in.extend([self.namespace.as_str(), ISTIO_NAMESPACE]);
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": format!("marker-{}", self.namespace)},
            "spec": {
                "hosts": [self.marker_host()],
                "gateways": ["mesh", MARKER_GATEWAY],
                "exportTo": seen_in,
                "http": [{"name": value, "directResponse": {"status": 200, "body": {"string": value}}}],
            },
        })
    }

    async fn reached(&self, proxy: &ProxyRef, marker: &str, bound: Duration) -> Result<(), GateError> {
        let settled = wait::until_soon(&format!("the configuration's arrival at {}", proxy.id()), bound, || async {
            match self.proxy_state(proxy, marker).await {
                Ok(Synced::NotYet(open)) => Err(open),
                Ok(settled) => Ok(settled),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        match settled {
            Synced::Refused(why) => Err(GateError::Refused(why)),
            Synced::Yes | Synced::NotYet(_) => Ok(()),
        }
    }

    async fn proxy_state(&self, proxy: &ProxyRef, marker: &str) -> Result<Synced, ForwardError> {
        let routes = if proxy.gateway { format!("http.{MARKER_PORT}") } else { "80".to_owned() };
        let page = format!("/config_dump?resource=dynamic_route_configs&name_regex=^{}$", routes.replace('.', "[.]"));
        if !self.envoy_page(proxy, &page).await?.contains(marker) {
            return Ok(Synced::NotYet(format!("{} does not show marker {marker} in route {routes}", proxy.id())));
        }
        let (syncz, warming) = tokio::try_join!(
            self.istiod_page("/debug/syncz"),
            self.envoy_page(proxy, "/stats?filter=warming&format=json"),
        )?;
        match istiod::parse_syncz(&syncz).map(|page| istiod::synced(&page, &proxy.id())) {
            Ok(Synced::Yes) => {}
            Ok(other) => return Ok(other),
            Err(error) => return Ok(Synced::NotYet(error.to_string())),
        }
        Ok(match still_warming(&warming) {
            None => Synced::Yes,
            Some(what) => Synced::NotYet(format!("{}: {what}", proxy.id())),
        })
    }
}

/// What is warming, by Envoy's `stats?filter=warming&format=json`; `None` when nothing is.
fn still_warming(page: &str) -> Option<String> {
    let Ok(page) = serde_json::from_str::<Value>(page) else {
        return Some(format!("the statistics are not JSON: {page:.80}"));
    };
    let stats = page["stats"].as_array().into_iter().flatten();
    let gauges: Vec<_> = stats.filter_map(|s| Some((s["name"].as_str()?, s["value"].as_u64()?))).collect();
    if gauges.is_empty() {
        return Some("no statistics about warming".into());
    }
    let warming = gauges.iter().find(|(_, value)| *value > 0)?;
    Some(format!("{} = {}", warming.0, warming.1))
}

fn marker_gateway() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": MARKER_GATEWAY},
        "spec": {
            "selector": {"istio": "egressgateway"},
            "servers": [{
                "port": {"number": MARKER_PORT, "name": "http-marker", "protocol": "HTTP"},
                "hosts": ["*.marker.egress-conformance.internal"],
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warming_is_read_from_the_statistics() {
        let page = |n: u64| json!({"stats": [{"name": "cluster_manager.warming_clusters", "value": n}]}).to_string();
        assert_eq!(still_warming(&page(0)), None);
        assert_eq!(still_warming(&page(2)).as_deref(), Some("cluster_manager.warming_clusters = 2"));
        assert!(still_warming("{}").is_some());
        assert!(still_warming("not found").is_some());
    }
}
