//! The rule of `scope: namespace`: nothing that a scenario makes reaches clients that are not its own.
//!
//! Says nothing about what scenarios share on purpose, such as a port of the gateway: those become locks when a run is
//! planned. Start at [`check`].

use super::error::Problem;
use super::manifest::{GATEWAYS, is_own, report, text};
use super::node::{Content, Node};

const EXPORT_ANNOTATION: &str = "networking.istio.io/exportTo";

/// Kinds that act on a whole cluster, whatever they are called.
const CLUSTER_WIDE: [&str; 7] = [
    "APIService",
    "CustomResourceDefinition",
    "MutatingAdmissionPolicy",
    "MutatingWebhookConfiguration",
    "Node",
    "ValidatingAdmissionPolicy",
    "ValidatingWebhookConfiguration",
];

/// Kinds that in Istio's root namespace, which may be the gateway's, apply to the whole mesh unless they select
/// workloads, each with the fields that select.
const MESH_WIDE_IN_THE_ROOT: [(&str, &[&str]); 8] = [
    ("AuthorizationPolicy", &["selector", "targetRef", "targetRefs"]),
    ("EnvoyFilter", &["workloadSelector", "targetRefs"]),
    ("PeerAuthentication", &["selector"]),
    ("ProxyConfig", &["selector"]),
    ("RequestAuthentication", &["selector", "targetRef", "targetRefs"]),
    ("Sidecar", &["workloadSelector"]),
    ("Telemetry", &["selector", "targetRef", "targetRefs"]),
    ("WasmPlugin", &["selector", "targetRef", "targetRefs"]),
];

/// ConfigMaps of Istio's own, from which the mesh reads its settings.
const SETTINGS: [&str; 2] = ["istio", "istio-sidecar-injector"];

/// Reports an object that reaches further than the scenario's own namespace.
pub(super) fn check(node: &Node, through_gateway: bool, problems: &mut Vec<Problem>) {
    cluster_wide(node, problems);
    if node.get("metadata").and_then(|m| text(m, "namespace")) == Some(GATEWAYS) {
        mesh_wide(node, problems);
    }
    export(node, through_gateway, problems);
}

fn cluster_wide(node: &Node, problems: &mut Vec<Problem>) {
    let Some(kind) = node.get("kind") else { return };
    let Some(word) =
        kind.text().filter(|word| CLUSTER_WIDE.iter().any(|k| word.strip_suffix("Binding").unwrap_or(word) == *k))
    else {
        return;
    };
    let message = format!("`scope: namespace`: the kind {word} acts on the whole cluster");
    report(problems, kind.place, message, Some("leave it out, or use `scope: mesh`".to_owned()));
}

fn mesh_wide(node: &Node, problems: &mut Vec<Problem>) {
    let kind = text(node, "kind").unwrap_or_default();
    let place = node.get("metadata").and_then(|m| m.get("namespace")).unwrap_or(node).place;
    let name = node.get("metadata").and_then(|m| text(m, "name")).unwrap_or_default();
    if kind == "ConfigMap" && SETTINGS.contains(&name) {
        let message = format!("`scope: namespace`: the ConfigMap `{name}` holds settings of the whole mesh");
        report(problems, place, message, Some("settings of the mesh are a profile: see `mesh`".to_owned()));
    }
    let Some((_, selectors)) = MESH_WIDE_IN_THE_ROOT.iter().find(|(k, _)| *k == kind) else { return };
    let selects = |field: &&str| {
        let found = node.get("spec").and_then(|spec| spec.get(field));
        found.is_some_and(|found| !matches!(&found.content, Content::Map(map) if map.is_empty()))
    };
    if !selectors.iter().any(selects) {
        let message =
            format!("`scope: namespace`: the {kind} acts on the whole mesh, because it selects nothing in {GATEWAYS}");
        let help = format!("select the gateway's pods with `spec.{}`, or use `scope: mesh`", selectors[0]);
        report(problems, place, message, Some(help));
    }
}

/// What Istio shows to the whole mesh unless it is told otherwise is exported to its own namespace, and to the
/// gateway's only where a path goes through the gateway.
fn export(node: &Node, through_gateway: bool, problems: &mut Vec<Problem>) {
    let kind = text(node, "kind").unwrap_or_default();
    let spec = node.get("spec");
    let empty = Vec::new();
    let (field, found, around): (&str, Option<Vec<&str>>, &Node) = match kind {
        "ServiceEntry" | "VirtualService" | "DestinationRule" => {
            let list = spec.and_then(|s| s.get("exportTo"));
            (
                "spec.exportTo",
                list.map(|l| l.items().iter().filter_map(Node::text).collect()),
                list.or(spec).unwrap_or(node),
            )
        }
        "Service" => {
            let metadata = node.get("metadata").unwrap_or(node);
            let value = metadata.get("annotations").and_then(|a| a.get(EXPORT_ANNOTATION));
            let list = value.and_then(Node::text).map(|t| t.split(',').map(str::trim).collect());
            ("the annotation networking.istio.io/exportTo", list, value.unwrap_or(metadata))
        }
        _ => return,
    };
    let at_gateway = node.get("metadata").and_then(|m| text(m, "namespace")) == Some(GATEWAYS);
    let selects = kind == "DestinationRule" && spec.is_some_and(|s| s.get("workloadSelector").is_some());
    let may_reach_gateway = through_gateway && !at_gateway && !selects;
    let seen = found.as_ref().unwrap_or(&empty);
    let own = |to: &str| to == "." || is_own(to);
    let fits = seen.iter().any(|to| own(to)) && seen.iter().all(|to| own(to) || (*to == GATEWAYS && may_reach_gateway));
    if fits {
        return;
    }
    let shown = match &found {
        Some(list) => format!("[{}]", list.join(", ")),
        None => "nothing".to_owned(),
    };
    let message = format!("`scope: namespace`: expected {field} to be `.`, found {shown}");
    let help = match (may_reach_gateway, kind) {
        (true, "Service") => format!("write \".\", or \".,{GATEWAYS}\" where the gateway needs it"),
        (true, _) => format!("write [\".\"], or [\".\", \"{GATEWAYS}\"] where the gateway needs it"),
        (false, "Service") => "write \".\"".to_owned(),
        (false, _) => "write [\".\"]".to_owned(),
    };
    report(problems, around.place, message, Some(help));
}
