//! What a pod may ask about itself: the downward API's fields and resources.
//!
//! Pure: answers from the pod object and the node's capacity. Start at [`Facts::field`] and [`Facts::resource`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::quantity;

/// The node's size, which is also the limit of a container that has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Number of processors.
    pub(crate) cpus: u64,
    /// Memory in bytes.
    pub(crate) memory: u64,
}

/// A pod with what the node knows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The pod as the API server has it.
    pub(crate) pod: &'a Pod,
    /// Its address.
    pub(crate) pod_ip: Ipv4Addr,
    /// The node's address.
    pub(crate) host_ip: Ipv4Addr,
    /// The node's name.
    pub(crate) node: &'a str,
    /// The node's size.
    pub(crate) capacity: Capacity,
}

/// Why a field or resource has no value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FactError {
    /// The path names no field of the downward API.
    #[error(
        "fieldPath {0:?} is not served; known: metadata.name, .namespace, .uid, .labels, .annotations, spec.nodeName, \
         spec.serviceAccountName, status.hostIP(s), status.podIP(s)"
    )]
    Field(String),
    /// The resource is not one the node measures.
    #[error("resource {0:?} is not served; known: limits and requests of cpu, memory and ephemeral-storage")]
    Resource(String),
    /// A quantity cannot be read.
    #[error("{0:?} is not a quantity")]
    Quantity(String),
    /// `containerName` names no container of the pod.
    #[error("resourceFieldRef names container {0:?}, which the pod does not have")]
    Container(String),
}

impl Facts<'_> {
    /// The value of a `fieldRef`.
    pub(crate) fn field(&self, path: &str) -> Result<String, FactError> {
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        if let Some((group, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
            let map = match group {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => return Err(FactError::Field(path.to_owned())),
            };
            return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => meta.name.clone().unwrap_or_default(),
            "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
            "metadata.uid" => meta.uid.clone().unwrap_or_default(),
            "metadata.labels" => lines(meta.labels.as_ref()),
            "metadata.annotations" => lines(meta.annotations.as_ref()),
            "spec.nodeName" => self.node.to_owned(),
            "spec.serviceAccountName" => {
                spec.and_then(|s| s.service_account_name.clone()).unwrap_or_else(|| "default".to_owned())
            }
            "status.hostIP" | "status.hostIPs" => self.host_ip.to_string(),
            "status.podIP" | "status.podIPs" => self.pod_ip.to_string(),
            _ => return Err(FactError::Field(path.to_owned())),
        })
    }

    /// The value of a `resourceFieldRef` of `container`.
    pub(crate) fn resource(&self, container: &str, selector: &ResourceFieldSelector) -> Result<String, FactError> {
        let name = selector.container_name.as_deref().unwrap_or(container);
        let owner = self.containers().find(|c| c.name == name).ok_or_else(|| FactError::Container(name.to_owned()))?;
        let unknown = || FactError::Resource(selector.resource.clone());
        let (kind, resource) = selector.resource.split_once('.').ok_or_else(unknown)?;
        let (default, requests) = match (kind, resource) {
            ("limits", "cpu") => (i128::from(self.capacity.cpus), false),
            ("limits", "memory") => (i128::from(self.capacity.memory), false),
            ("requests", "cpu" | "memory" | "ephemeral-storage") => (0, true),
            ("limits", "ephemeral-storage") => (0, false),
            _ => return Err(unknown()),
        };
        let given = owner.resources.as_ref().and_then(|r| {
            let map = if requests { r.requests.as_ref() } else { r.limits.as_ref() };
            map.and_then(|m| m.get(resource))
        });
        let value = match given {
            Some(q) => quantity::parse(&q.0).ok_or_else(|| FactError::Quantity(q.0.clone()))?,
            None => default * 1_000_000_000,
        };
        let divisor = match selector.divisor.as_ref() {
            Some(q) => quantity::parse(&q.0).ok_or_else(|| FactError::Quantity(q.0.clone()))?,
            None => 0,
        };
        let divisor = if divisor == 0 { 1_000_000_000 } else { divisor };
        Ok(quantity::in_units_of(value, divisor).to_string())
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = self.pod.spec.as_ref();
        spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.as_deref().unwrap_or_default()))
    }
}

/// Labels or annotations as a downward API file has them.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u1",
                "labels": {"app": "web", "tier": "a\"b"}, "annotations": {"istio.io/rev": "default"}},
            "spec": {"serviceAccountName": "robot", "containers": [
                {"name": "app", "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "100m"}}}]}
        }))
        .unwrap()
    }

    fn facts(pod: &Pod) -> Facts<'_> {
        Facts {
            pod,
            pod_ip: Ipv4Addr::new(10, 244, 0, 5),
            host_ip: Ipv4Addr::new(10, 20, 0, 1),
            node: "sandbox-node",
            capacity: Capacity { cpus: 2, memory: 4 << 30 },
        }
    }

    #[test]
    fn fields_come_from_the_pod_and_the_node() {
        let pod = pod();
        let facts = facts(&pod);
        assert_eq!(facts.field("metadata.name").unwrap(), "web-1");
        assert_eq!(facts.field("metadata.annotations['istio.io/rev']").unwrap(), "default");
        assert_eq!(facts.field("metadata.labels['none']").unwrap(), "");
        assert_eq!(facts.field("metadata.labels").unwrap(), "app=\"web\"\ntier=\"a\\\"b\"");
        assert_eq!(facts.field("status.podIP").unwrap(), "10.244.0.5");
        assert_eq!(facts.field("spec.serviceAccountName").unwrap(), "robot");
        assert!(facts.field("spec.hostname").is_err());
    }

    #[test]
    fn resources_default_to_the_node() {
        let pod = pod();
        let facts = facts(&pod);
        let get = |resource: &str, divisor: Option<&str>| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(serde_json::json!({"resource": resource, "divisor": divisor})).unwrap();
            facts.resource("app", &selector)
        };
        assert_eq!(get("limits.cpu", None).unwrap(), "2");
        assert_eq!(get("limits.memory", Some("1Mi")).unwrap(), "128");
        assert_eq!(get("requests.cpu", Some("1m")).unwrap(), "100");
        assert_eq!(get("requests.cpu", None).unwrap(), "1");
        assert!(get("limits.gpu", None).is_err());
    }
}
