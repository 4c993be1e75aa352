//! Manifests: whether each document is a Kubernetes object in a namespace that the scenario may use, and whether it
//! reaches no further than the scenario's scope.
//!
//! What an object means is Istio's business. Start at [`check`].

use std::collections::{BTreeMap, BTreeSet};

use super::did_you_mean;
use super::error::Problem;
use super::node::{Content, Node, Place};
use super::scope;
use crate::scenario::model::ManifestObject;
use crate::scenario::schema::{Hop, ScenarioFile, Scope, Step};

pub(super) const OWN: &str = "${namespace}";
pub(super) const GATEWAYS: &str = "${gateway.namespace}";

/// The objects of a manifest whose documents were checked.
pub(super) fn objects(nodes: &[Node]) -> Vec<ManifestObject> {
    nodes.iter().map(|node| ManifestObject { value: node.to_value(), line: node.place.position.line }).collect()
}

/// Reports what is wrong with a manifest's documents.
pub(super) fn check(
    nodes: &[Node],
    file: &ScenarioFile,
    manifests: &BTreeMap<String, Vec<Node>>,
    problems: &mut Vec<Problem>,
) {
    let made = manifests.values().flatten().filter(|n| text(n, "kind") == Some("Namespace"));
    let made: BTreeSet<&str> = made.filter_map(|n| text(n.get("metadata")?, "name")).collect();
    let through_gateway =
        file.steps.iter().flat_map(Step::expectations).any(|e| e.hops().any(|hop| matches!(hop, Hop::Gateway(_))));
    for node in nodes {
        if !matches!(node.content, Content::Map(_)) {
            report(problems, node.place, format!("expected a Kubernetes object, found {}", node.kind()), None);
            continue;
        }
        for key in ["apiVersion", "kind"] {
            required(node, key, key, problems);
        }
        match node.get("metadata") {
            Some(metadata) => required(metadata, "name", "metadata.name", problems),
            None => report(problems, node.place, "the object has no `metadata.name`".into(), None),
        }
        if let Some(namespace) = node.get("metadata").and_then(|m| m.get("namespace"))
            && let Some(name) = namespace.text()
            && let Err((message, help)) = self::namespace(name, &made)
        {
            report(problems, namespace.place, message, help);
        }
        if file.scope == Scope::Namespace {
            scope::check(node, through_gateway, problems);
        }
    }
}

fn required(node: &Node, key: &str, name: &str, problems: &mut Vec<Problem>) {
    match node.get(key) {
        Some(value) if value.text().is_some_and(|t| !t.is_empty()) => {}
        Some(value) => {
            report(problems, value.place, format!("`{name}`: expected text, found {}", value.kind()), None);
        }
        None => report(problems, node.place, format!("the object has no `{name}`"), None),
    }
}

/// Whether a scenario may use a namespace: its own ones, the gateway's, or one that a manifest of it makes. (Whether a
/// further namespace is declared is checked where variables are.)
pub(super) fn namespace(name: &str, made: &BTreeSet<&str>) -> Result<(), (String, Option<String>)> {
    if is_own(name) || name == GATEWAYS || made.contains(name) {
        return Ok(());
    }
    let help = did_you_mean(name, [OWN, GATEWAYS])
        .unwrap_or_else(|| format!("the scenario's own is {OWN}, the gateway's is {GATEWAYS}"));
    Err((format!("the namespace `{name}` is not declared"), Some(help)))
}

/// Whether this is the scenario's own namespace or a further one of it.
pub(super) fn is_own(name: &str) -> bool {
    name == OWN || name.starts_with("${namespace.")
}

pub(super) fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Node::text)
}

pub(super) fn report(problems: &mut Vec<Problem>, place: Place, message: String, help: Option<String>) {
    problems.push(Problem { message, help, place: Some(place) });
}
