//! Reading istiod's debug pages: does it know these objects, and what has each proxy acknowledged?
//!
//! Pure: pages come in as text, answers go out. The pages are those of `pilot/pkg/xds/debug.go`: `configz`, `registryz`,
//! `endpointShardz`, `syncz`, `mesh`. Start at [`unknown_objects`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::objects::Applied;

/// The three pages that together say which objects istiod has read.
#[derive(Debug, Clone)]
pub struct Pages {
    configs: Vec<Value>,
    services: Vec<Value>,
    shards: Value,
}

/// A debug page was not what this Istio version is known to print.
#[derive(Debug, thiserror::Error)]
#[error("istiod's page {page} is not what was expected ({source}); it begins {begins:?}")]
pub struct PageError {
    page: &'static str,
    begins: String,
    source: serde_json::Error,
}

fn parse<T: for<'de> Deserialize<'de>>(page: &'static str, text: &str) -> Result<T, PageError> {
    serde_json::from_str(text).map_err(|source| PageError { page, begins: text.chars().take(80).collect(), source })
}

impl Pages {
    /// Parses the pages `configz`, `registryz` and `endpointShardz`.
    ///
    /// # Errors
    /// [`PageError`] names the page that is not as expected.
    pub fn parse(configz: &str, registryz: &str, shardz: &str) -> Result<Self, PageError> {
        let list = |page, text: &str| Ok::<_, PageError>(parse::<Option<Vec<Value>>>(page, text)?.unwrap_or_default());
        Ok(Self {
            configs: list("configz", configz)?,
            services: list("registryz", registryz)?,
            shards: parse("endpointShardz", shardz)?,
        })
    }

    fn config(&self, object: &Applied) -> Option<&Value> {
        self.configs.iter().find(|c| {
            c["kind"] == object.gvk.kind.as_str()
                && c["metadata"]["name"] == object.name.as_str()
                && c["metadata"]["namespace"].as_str() == object.namespace.as_deref()
        })
    }

    fn knows_service(&self, hostname: &str) -> bool {
        self.services.iter().any(|s| s["hostname"] == hostname)
    }
}

/// Whether istiod reads objects of this group as configuration.
fn is_config(group: &str) -> bool {
    group.ends_with(".istio.io") || group == "gateway.networking.k8s.io"
}

/// Whether istiod shows the object among services or endpoints, and not among configurations.
#[must_use]
pub fn is_service_or_endpoints(object: &Applied) -> bool {
    matches!(object.gvk.kind.as_str(), "Service" | "Endpoints" | "EndpointSlice") && !is_config(&object.gvk.group)
}

fn hostname(object: &Applied) -> String {
    format!("{}.{}.svc.cluster.local", object.name, object.namespace.as_deref().unwrap_or("default"))
}

/// Which of the objects istiod does not show as they are now; empty when it has read them all.
///
/// An Istio or Gateway API object must be there with its uid and generation (a status write moves only the resource
/// version), a Service by its host name, endpoints with each address under their Service's host name (where that
/// Service exists). Other kinds are not istiod's business.
#[must_use]
pub fn unknown_objects(pages: &Pages, present: &[Applied]) -> Vec<String> {
    present
        .iter()
        .filter_map(|object| missing(pages, object).map(|why| format!("{}: {why}", object.describe())))
        .collect()
}

fn missing(pages: &Pages, object: &Applied) -> Option<String> {
    match (object.gvk.group.as_str(), object.gvk.kind.as_str()) {
        (group, _) if is_config(group) => {
            let Some(seen) = pages.config(object) else { return Some("not in configz".into()) };
            let generation = seen["metadata"]["generation"].as_i64().unwrap_or(0);
            let uid = seen["metadata"]["uid"].as_str().unwrap_or_default();
            (uid != object.uid || generation < object.generation)
                .then(|| format!("configz has generation {generation} of {uid:?}, wanted {}", object.generation))
        }
        ("", "Service") => (!pages.knows_service(&hostname(object))).then(|| "not in registryz".into()),
        ("", "Endpoints") | ("discovery.k8s.io", "EndpointSlice") => {
            let host = service_host(object);
            if !pages.knows_service(&host) {
                return None;
            }
            let shards = pages.shards[&host].to_string();
            let absent: Vec<_> = endpoint_addresses(&object.object)
                .into_iter()
                .filter(|a| !shards.contains(&format!("{a:?}")))
                .collect();
            (!absent.is_empty()).then(|| format!("endpointShardz lacks {}", absent.join(", ")))
        }
        _ => None,
    }
}

fn service_host(object: &Applied) -> String {
    let service = object.object["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or(&object.name);
    format!("{service}.{}.svc.cluster.local", object.namespace.as_deref().unwrap_or("default"))
}

/// The addresses in an Endpoints or EndpointSlice object.
#[must_use]
pub fn endpoint_addresses(object: &Value) -> Vec<String> {
    let subsets = object["subsets"].as_array().into_iter().flatten();
    let old = subsets.flat_map(|s| s["addresses"].as_array().into_iter().flatten()).map(|a| &a["ip"]);
    let slices = object["endpoints"].as_array().into_iter().flatten();
    let new = slices.flat_map(|e| e["addresses"].as_array().into_iter().flatten());
    old.chain(new).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Which of the deleted objects istiod still shows; empty when it has seen every deletion.
#[must_use]
pub fn remembered_objects(pages: &Pages, absent: &[Applied]) -> Vec<String> {
    absent
        .iter()
        .filter(|object| match (object.gvk.group.as_str(), object.gvk.kind.as_str()) {
            (group, _) if is_config(group) => {
                pages.config(object).is_some_and(|seen| seen["metadata"]["uid"].as_str() == Some(&object.uid))
            }
            ("", "Service") => pages.knows_service(&hostname(object)),
            _ => false,
        })
        .map(|object| format!("{} is still known", object.describe()))
        .collect()
}

/// What one proxy was sent and has acknowledged, by xDS type.
#[derive(Debug, Clone, Deserialize)]
pub struct ProxySync {
    #[serde(rename = "proxy", default)]
    id: String,
    #[serde(default)]
    resources: BTreeMap<String, ResourceSync>,
}

#[derive(Debug, Clone, Deserialize)]
struct ResourceSync {
    #[serde(default)]
    sent: String,
    #[serde(default)]
    acked: String,
    #[serde(rename = "lastError", default)]
    last_error: String,
}

/// How a proxy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// Everything that was sent is acknowledged.
    Yes,
    /// Something is still on its way.
    NotYet(String),
    /// Envoy refused a configuration.
    Refused(String),
}

/// Parses the page `syncz`.
///
/// # Errors
/// [`PageError`] if the page is not as expected.
pub fn parse_syncz(text: &str) -> Result<Vec<ProxySync>, PageError> {
    parse("syncz", text)
}

/// How the proxy with this id (`pod.namespace`) stands.
#[must_use]
pub fn synced(page: &[ProxySync], proxy: &str) -> Synced {
    let Some(seen) = page.iter().find(|p| p.id == proxy) else {
        return Synced::NotYet(format!("{proxy} is not connected to istiod"));
    };
    let short = |url: &str| url.rsplit('.').next().unwrap_or(url).to_owned();
    if let Some((url, refused)) = seen.resources.iter().find(|(_, r)| !r.last_error.is_empty()) {
        return Synced::Refused(format!("{proxy} refused {}: {}", short(url), refused.last_error));
    }
    // Health and debug subscriptions are requests of the proxy, not configuration.
    let open: Vec<_> = seen
        .resources
        .iter()
        .filter(|(url, r)| url.starts_with("type.googleapis.com/envoy.") && r.sent != r.acked)
        .map(|(url, _)| short(url))
        .collect();
    if open.is_empty() {
        Synced::Yes
    } else {
        Synced::NotYet(format!("{proxy} has not acknowledged {}", open.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    fn applied(group: &str, kind: &str, name: &str, object: Value) -> Applied {
        Applied {
            gvk: GroupVersionKind::gvk(group, "v1", kind),
            namespace: Some("ns".into()),
            name: name.into(),
            uid: "u1".into(),
            generation: 2,
            object,
        }
    }

    fn pages(configs: &Value, services: &Value, shards: &Value) -> Pages {
        Pages::parse(&configs.to_string(), &services.to_string(), &shards.to_string()).expect("pages")
    }

    #[test]
    fn an_object_counts_only_at_its_uid_and_generation() {
        let entry = |uid: &str, generation: i64| json!([{"kind": "ServiceEntry", "metadata": {"name": "a", "namespace": "ns", "uid": uid, "generation": generation}}]);
        let object = [applied("networking.istio.io", "ServiceEntry", "a", Value::Null)];
        let unknown = |configs: &Value| unknown_objects(&pages(configs, &json!(null), &json!({})), &object);
        assert_eq!(unknown(&entry("u1", 2)), Vec::<String>::new());
        assert_eq!(unknown(&entry("u1", 1)).len(), 1);
        assert_eq!(unknown(&entry("u0", 2)).len(), 1);
        assert_eq!(unknown(&json!([])), ["ServiceEntry ns/a: not in configz"]);
    }

    #[test]
    fn endpoints_count_once_their_service_is_known() {
        let object = [applied("", "Endpoints", "w", json!({"subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}))];
        let services = json!([{"hostname": "w.ns.svc.cluster.local"}]);
        let shards = json!({"w.ns.svc.cluster.local": {"ns": {"Shards": {"k": [{"Addresses": ["192.0.2.1"]}]}}}});
        assert!(unknown_objects(&pages(&json!([]), &services, &shards), &object).is_empty());
        assert_eq!(
            unknown_objects(&pages(&json!([]), &services, &json!({})), &object),
            ["Endpoints ns/w: endpointShardz lacks 192.0.2.1"]
        );
        assert!(unknown_objects(&pages(&json!([]), &json!([]), &json!({})), &object).is_empty());
    }

    #[test]
    fn a_deleted_object_is_remembered_by_uid() {
        let configs = json!([{"kind": "ServiceEntry", "metadata": {"name": "a", "namespace": "ns", "uid": "u1"}}]);
        let object = [applied("networking.istio.io", "ServiceEntry", "a", Value::Null)];
        assert_eq!(remembered_objects(&pages(&configs, &json!([]), &json!({})), &object).len(), 1);
        assert!(remembered_objects(&pages(&json!([]), &json!([]), &json!({})), &object).is_empty());
    }

    #[test]
    fn a_proxy_is_synced_when_all_envoy_types_are_acknowledged() {
        let page = |acked: &str, error: &str| {
            parse_syncz(
                &json!([{"proxy": "p.ns", "resources": {
                    "type.googleapis.com/envoy.config.cluster.v3.Cluster": {"sent": "n1", "acked": acked, "lastError": error},
                    "istio.io/debug": {"sent": "x"}}}])
                .to_string(),
            )
            .expect("page")
        };
        assert_eq!(synced(&page("n1", ""), "p.ns"), Synced::Yes);
        assert!(matches!(synced(&page("n0", ""), "p.ns"), Synced::NotYet(why) if why.contains("Cluster")));
        assert!(matches!(synced(&page("n1", "bad"), "p.ns"), Synced::Refused(_)));
        assert!(matches!(synced(&page("n1", ""), "q.ns"), Synced::NotYet(_)));
    }
}
