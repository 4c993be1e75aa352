//! Locks: what scenarios of `scope: namespace` share all the same, and may not use at the same time.
//!
//! A scenario's objects stay in its namespace, but a Gateway reaches the shared egress gateway, what is exported to the
//! gateway's namespace is seen there, and an external server has one behaviour for all. Each such use is a [`Claim`];
//! a claim may cover others (a port all its hosts). A scenario's locks are the names of its own claims, of every claim in
//! its group that they cover, and of the pairs that cannot be together, so two scenarios get in each other's way exactly where their sets intersect.
//! Locks are opaque: nobody reads a meaning out of them. Start at [`of_group`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scenario::model::{ManifestObject, Scenario};
use crate::scenario::schema::Scope;

/// The name of something that one scenario at a time may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock(String);

impl Lock {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const GATEWAYS: &str = "${gateway.namespace}";

/// Kinds that mean nothing to the gateway but by what names them, or by the hosts that they are about.
const HARMLESS_AT_THE_GATEWAY: [&str; 12] = [
    "ConfigMap",
    "DestinationRule",
    "Gateway",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
    "ServiceEntry",
    "VirtualService",
    "WorkloadEntry",
    "HTTPRoute",
    "ReferenceGrant",
];

/// Kinds that are in no namespace.
const CLUSTER_SCOPED: [&str; 9] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "GatewayClass",
    "IngressClass",
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
];

/// One use of something shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// The egress gateway as a whole: a policy on it, or a look at all that it is configured with.
    Gateway,
    /// A port of the gateway, for the hosts of a pattern.
    Port(u64, Family, String),
    /// A host in the registry as the gateway sees it.
    Known(String),
    /// An object whose name is not the scenario's alone.
    Object(String, String),
    /// An external server whose behaviour the scenario changes.
    Server(String),
    /// An external server that a scenario (the second text) uses as it is.
    Client(String, String),
}

/// How the gateway tells one host from another on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    /// By the request's Host header.
    Http,
    /// By the server name of the TLS handshake.
    Sni,
    /// Not at all.
    Tcp,
}

impl Claim {
    fn lock(&self) -> Lock {
        Lock(match self {
            Self::Gateway => "gateway".to_owned(),
            Self::Port(port, _, hosts) => format!("gateway-port {port} host {hosts}"),
            Self::Known(host) => format!("gateway-registry host {host}"),
            Self::Object(kind, name) => format!("object {kind} {name}"),
            Self::Server(name) => format!("destination {name}"),
            Self::Client(name, scenario) => format!("destination {name} for {scenario}"),
        })
    }

    /// Whether who holds this can disturb who holds the other, whatever else the other does.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gateway, Self::Gateway | Self::Port(..) | Self::Known(_)) => true,
            (Self::Port(port, _, pattern), Self::Port(other, _, hosts)) => port == other && includes(pattern, hosts),
            (Self::Known(pattern), Self::Known(host)) => includes(pattern, host),
            (Self::Server(name), Self::Server(other) | Self::Client(other, _)) => name == other,
            _ => self == other,
        }
    }

    /// The lock of two claims that want different protocols on one port: it carries one family of them.
    fn at_odds(&self, other: &Self) -> Option<Lock> {
        let (Self::Port(port, family, hosts), Self::Port(other_port, other_family, other_hosts)) = (self, other) else {
            return None;
        };
        let (one, two) = match (family, other_family) {
            (Family::Http, Family::Sni) => (hosts, other_hosts),
            (Family::Sni, Family::Http) => (other_hosts, hosts),
            _ => return None,
        };
        (port == other_port).then(|| Lock(format!("gateway-port {port} HTTP for {one} or TLS for {two}")))
    }
}

/// Whether a pattern of hosts (`*`, `*.a.com`, `b.a.com`) includes another.
fn includes(pattern: &str, other: &str) -> bool {
    pattern == other || pattern == "*" || pattern.strip_prefix('*').is_some_and(|suffix| other.ends_with(suffix))
}

/// The locks of each scenario of a group, in the order of the group. A scenario of `scope: mesh` has none: it runs alone.
pub(super) fn of_group(scenarios: &[Arc<Scenario>]) -> Vec<BTreeSet<Lock>> {
    let claims: Vec<BTreeSet<Claim>> = scenarios.iter().map(|scenario| of_scenario(scenario)).collect();
    let all: BTreeSet<Claim> = claims.iter().flatten().cloned().collect();
    let is_set = |name: &String| all.contains(&Claim::Server(name.clone()));
    let matters = |claim: &&Claim| !matches!(claim, Claim::Client(name, _) if !is_set(name));
    let of_claim = |claim: &Claim| -> Vec<Lock> {
        let covered = all.iter().filter(|other| claim.covers(other)).map(Claim::lock);
        covered.chain(all.iter().filter_map(|other| claim.at_odds(other))).collect()
    };
    claims.iter().map(|own| own.iter().filter(matters).flat_map(of_claim).collect()).collect()
}

fn of_scenario(scenario: &Scenario) -> BTreeSet<Claim> {
    let mut claims = BTreeSet::new();
    if scenario.file.scope == Scope::Mesh {
        return claims;
    }
    // Two scenarios write the same text for namespaces that differ.
    let own = |text: &str| text.replace("${namespace", &format!("${{{} namespace", scenario.id));
    for object in scenario.manifests.values().flat_map(|manifest| &manifest.objects) {
        of_object(object, &own, &mut claims);
    }
    let looks = scenario.file.steps.iter().flat_map(|step| &step.expect.proxy);
    if looks.into_iter().any(|look| look.of == "gateway") {
        claims.insert(Claim::Gateway);
    }
    claims.extend(scenario.file.steps.iter().flat_map(|step| step.set.keys()).cloned().map(Claim::Server));
    for name in scenario.file.destinations.keys() {
        claims.insert(Claim::Client(name.clone(), scenario.id.to_string()));
    }
    claims
}

fn of_object(object: &ManifestObject, own: &dyn Fn(&str) -> String, claims: &mut BTreeSet<Claim>) {
    let (kind, spec) = (object.kind(), &object.value["spec"]);
    let istio = object.value["apiVersion"].as_str().is_some_and(|v| v.starts_with("networking.istio.io/"));
    let at_gateway = object.value["metadata"]["namespace"] == GATEWAYS;
    if at_gateway {
        claims.insert(Claim::Object(format!("{kind} in {GATEWAYS}"), own(object.name())));
        if !HARMLESS_AT_THE_GATEWAY.contains(&kind) {
            claims.insert(Claim::Gateway);
        }
    } else if CLUSTER_SCOPED.contains(&kind) {
        claims.insert(Claim::Object(kind.to_owned(), own(object.name())));
    }
    let seen_there = at_gateway || texts(&spec["exportTo"]).any(|to| to == GATEWAYS);
    match kind {
        "Gateway" if istio => spec["servers"].as_array().into_iter().flatten().for_each(|s| port(s, own, claims)),
        "ServiceEntry" if seen_there => claims.extend(texts(&spec["hosts"]).map(|host| Claim::Known(own(host)))),
        "DestinationRule" if seen_there => claims.extend(spec["host"].as_str().map(|host| Claim::Known(own(host)))),
        _ => {}
    }
}

/// One server of a Gateway object.
fn port(server: &Value, own: &dyn Fn(&str) -> String, claims: &mut BTreeSet<Claim>) {
    let number = &server["port"]["number"];
    let Some(number) = number.as_u64().or_else(|| number.as_str()?.parse().ok()) else { return };
    let protocol = server["port"]["protocol"].as_str().unwrap_or_default().to_ascii_uppercase();
    let family = match protocol.as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Family::Http,
        "HTTPS" | "TLS" => Family::Sni,
        _ => Family::Tcp,
    };
    if family == Family::Tcp {
        // Nothing tells one host from another: whoever is first on the port gets all of it.
        claims.insert(Claim::Port(number, family, "*".to_owned()));
        return;
    }
    for host in texts(&server["hosts"]) {
        let host = host.rsplit_once('/').map_or(host, |(_, host)| host);
        claims.insert(Claim::Port(number, family, own(host).to_ascii_lowercase()));
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
