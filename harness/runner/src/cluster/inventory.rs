//! What there is in the cluster, by name: taken before and after a scenario, so that nothing is left behind unseen.
//!
//! Covers the kinds that scenarios and tutorials make, in every namespace. Pods and what controllers number by themselves
//! are left out: they come and go with their owners, which are covered. So is what controllers put into every namespace:
//! when it comes is theirs to say, and nobody's leftover. Start at [`take`].

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::objects::{Applied, ObjectError, Objects, RUN_LABEL};

/// Group, version and kinds.
const KINDS: [(&str, &str, &[&str]); 11] = [
    ("", "v1", &["Namespace", "Service", "Endpoints", "ConfigMap", "Secret", "ServiceAccount"]),
    ("apps", "v1", &["Deployment", "DaemonSet", "StatefulSet"]),
    ("batch", "v1", &["Job"]),
    ("discovery.k8s.io", "v1", &["EndpointSlice"]),
    ("networking.k8s.io", "v1", &["NetworkPolicy"]),
    ("rbac.authorization.k8s.io", "v1", &["Role", "RoleBinding"]),
    (
        "networking.istio.io",
        "v1",
        &["DestinationRule", "Gateway", "ServiceEntry", "Sidecar", "VirtualService", "WorkloadEntry", "WorkloadGroup"],
    ),
    ("networking.istio.io", "v1alpha3", &["EnvoyFilter"]),
    ("networking.istio.io", "v1beta1", &["ProxyConfig"]),
    ("security.istio.io", "v1", &["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"]),
    ("telemetry.istio.io", "v1", &["Telemetry"]),
];

/// How much of the cluster is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Cluster,
    /// These namespaces, and what carries the label of one run anywhere.
    Namespaces(BTreeSet<String>),
}

/// What there is.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Everything covered: `Kind namespace/name`.
    pub names: BTreeSet<String>,
    /// The objects that carry the label of the run that was asked for.
    pub labelled: Vec<Applied>,
    /// Everything covered, by [`Inventory::names`]; of each only its metadata.
    pub objects: BTreeMap<String, Applied>,
    /// What controllers put into every namespace.
    pub furniture: Vec<Applied>,
}

impl Inventory {
    /// Objects in these namespaces, as far as the namespaces are gone. The API server may admit an object from a
    /// controller that has not heard yet that a namespace ends, and then nobody removes it any more.
    pub fn stranded<'i>(&'i self, namespaces: &'i BTreeSet<String>) -> impl Iterator<Item = &'i Applied> {
        self.objects.values().chain(&self.furniture).filter(move |object| {
            let there = |namespace: &String| self.names.contains(&format!("Namespace {namespace}"));
            object.namespace.as_ref().is_some_and(|namespace| namespaces.contains(namespace) && !there(namespace))
        })
    }
}

/// Lists everything covered, and what of it carries the label of `run`.
///
/// # Errors
/// [`ObjectError`] when the cluster cannot be asked; a kind that it does not know has no objects.
pub async fn take(objects: &Objects, extent: Extent, run: &str) -> Result<Inventory, ObjectError> {
    let kinds = KINDS
        .iter()
        .flat_map(|(group, version, kinds)| kinds.iter().map(move |kind| GroupVersionKind::gvk(group, version, kind)));
    let lists = try_join_all(kinds.map(|gvk| async move {
        match objects.everywhere(&gvk).await {
            Ok(found) => Ok(found.into_iter().map(|object| (gvk.clone(), object)).collect::<Vec<_>>()),
            Err(ObjectError::UnknownKind { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }))
    .await?;
    let mut inventory = Inventory::default();
    for (gvk, object) in lists.into_iter().flatten() {
        let label = object.pointer("/metadata/labels").and_then(|labels| labels[RUN_LABEL].as_str());
        let labelled = label == Some(run);
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let inside = match &extent {
            Extent::Cluster => true,
            Extent::Namespaces(names) => namespace.is_some_and(|namespace| names.contains(namespace)),
        };
        if inside && is_furniture(&gvk.kind, &object) {
            inventory.furniture.push(applied(gvk.clone(), object.clone()));
        } else if inside || labelled {
            let name = describe(&gvk.kind, &object);
            inventory.names.insert(name.clone());
            inventory.objects.insert(name, applied(gvk.clone(), object.clone()));
        }
        if labelled {
            inventory.labelled.push(applied(gvk, object));
        }
    }
    Ok(inventory)
}

/// Whether Kubernetes or istiod puts this into every namespace. istiod labels what it puts there.
fn is_furniture(kind: &str, object: &Value) -> bool {
    let metadata = &object["metadata"];
    match kind {
        "ServiceAccount" => metadata["name"] == "default",
        "ConfigMap" => metadata["name"] == "kube-root-ca.crt" || metadata["labels"]["istio.io/config"] == "true",
        _ => false,
    }
}

fn applied(gvk: GroupVersionKind, object: Value) -> Applied {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Applied {
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name").unwrap_or_default(),
        uid: text("/metadata/uid").unwrap_or_default(),
        generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
        gvk,
        object,
    }
}

fn describe(kind: &str, object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/metadata/namespace") {
        "" => format!("{kind} {}", text("/metadata/name")),
        namespace => format!("{kind} {namespace}/{}", text("/metadata/name")),
    }
}

/// What is there now and was not before, and what is missing now; empty when nothing changed.
#[must_use]
pub fn difference(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let left = now.difference(before).map(|name| format!("{name} is left"));
    let gone = before.difference(now).map(|name| format!("{name} is gone"));
    left.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_and_what_is_gone_are_both_told() {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(difference(&set(&["a", "b"]), &set(&["a", "b"])), Vec::<String>::new());
        assert_eq!(difference(&set(&["a", "b"]), &set(&["b", "c"])), ["c is left", "a is gone"]);
    }

    #[test]
    fn what_is_in_a_namespace_that_is_gone_is_stranded() {
        let object = |namespace: &str| {
            let object = json!({"metadata": {"name": "istio-ca-crl", "namespace": namespace}});
            applied(GroupVersionKind::gvk("", "v1", "ConfigMap"), object)
        };
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let inventory = Inventory {
            names: set(&["Namespace ending", "Namespace elsewhere"]),
            furniture: ["ending", "gone", "elsewhere", "of-another-lease"].map(object).into(),
            ..Inventory::default()
        };
        let own = set(&["ending", "gone"]);
        let stranded: Vec<_> = inventory.stranded(&own).filter_map(|object| object.namespace.as_deref()).collect();
        assert_eq!(stranded, ["gone"]);
    }

    #[test]
    fn what_every_namespace_has_is_nobodys_leftover() {
        let labelled = json!({"metadata": {"name": "istio-ca-crl", "labels": {"istio.io/config": "true"}}});
        let named = |name: &str| json!({"metadata": {"name": name}});
        assert!(is_furniture("ConfigMap", &labelled) && !is_furniture("Secret", &labelled));
        assert!(is_furniture("ConfigMap", &named("kube-root-ca.crt")) && !is_furniture("ConfigMap", &named("a")));
        assert!(is_furniture("ServiceAccount", &named("default")) && !is_furniture("ServiceAccount", &named("a")));
    }

    #[test]
    fn objects_are_named_with_their_namespace() {
        assert_eq!(describe("Service", &json!({"metadata": {"name": "a", "namespace": "n"}})), "Service n/a");
        assert_eq!(describe("Namespace", &json!({"metadata": {"name": "n"}})), "Namespace n");
    }
}
