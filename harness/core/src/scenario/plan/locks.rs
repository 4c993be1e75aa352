//! Locks: what scenarios of `scope: namespace` share all the same, and may not use at the same time.
//!
//! A scenario's objects stay in its namespace, but a Gateway reaches the shared egress gateway, what is exported to the
//! gateway's namespace is seen there, and an external server has one behaviour for all. Each such use is a [`Lock`]. Two
//! scenarios may run side by side unless a lock of one conflicts with a lock of the other, whatever plans they are from.
//! Start at [`Locks::conflict`].

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scenario::model::{ManifestObject, Scenario};
use crate::scenario::schema::Scope;

/// What a scenario holds while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Locks(BTreeSet<Lock>);

impl Locks {
    /// Whether who holds these and who holds the others would disturb each other.
    #[must_use]
    pub fn conflict(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.conflicts(two)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Lock> {
        self.0.iter()
    }
}

impl FromIterator<Lock> for Locks {
    fn from_iter<I: IntoIterator<Item = Lock>>(locks: I) -> Self {
        Self(locks.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Locks {
    type Item = &'a Lock;
    type IntoIter = std::collections::btree_set::Iter<'a, Lock>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(Lock::to_string).collect();
        f.write_str(&words.join(", "))
    }
}

/// One use of something that scenarios share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock(Use);

impl Lock {
    /// A lock that conflicts with itself alone.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(Use::Named(name.into()))
    }

    /// Whether two scenarios may not hold these at the same time.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.0.against(&other.0) || other.0.against(&self.0)
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Use::Gateway => f.write_str("gateway"),
            Use::Port(port, family, hosts) => write!(f, "gateway-port {port} {} host {hosts}", family.as_str()),
            Use::Known(host) => write!(f, "gateway-registry host {host}"),
            Use::Server(name) => write!(f, "destination {name}"),
            Use::Client(name) => write!(f, "destination {name} as it is"),
            Use::Named(name) => f.write_str(name),
        }
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

/// What is used, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    /// The egress gateway as a whole: a policy on it, or a look at what it is configured with.
    Gateway,
    /// A port of the gateway, for the hosts of a pattern.
    Port(u64, Family, String),
    /// A host in the registry as the gateway sees it.
    Known(String),
    /// An external server whose behaviour the scenario changes.
    Server(String),
    /// An external server that the scenario uses as it is.
    Client(String),
    /// Something that is the same for all who name it.
    Named(String),
}

/// How the gateway tells one host from another on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Family {
    /// By the request's Host header.
    Http,
    /// By the server name of the TLS handshake.
    Tls,
    /// Not at all.
    Tcp,
}

impl Family {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
        }
    }
}

impl Use {
    /// Whether this disturbs the other; seen from one side only.
    fn against(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gateway, Self::Gateway | Self::Port(..) | Self::Known(_)) => true,
            // A port speaks one family of protocols, and of TCP it carries one route.
            (Self::Port(port, family, pattern), Self::Port(other, others, hosts)) => {
                port == other && (family != others || *family == Family::Tcp || includes(pattern, hosts))
            }
            (Self::Known(pattern), Self::Known(host)) => includes(pattern, host),
            (Self::Server(name), Self::Server(other) | Self::Client(other)) => name == other,
            (Self::Named(name), Self::Named(other)) => name == other,
            _ => false,
        }
    }
}

/// Whether a pattern of hosts (`*`, `*.a.com`, `b.a.com`) includes another.
fn includes(pattern: &str, other: &str) -> bool {
    pattern == other || pattern.strip_prefix('*').is_some_and(|suffix| other.ends_with(suffix))
}

/// The locks of a scenario. One of `scope: mesh` has none: it runs alone.
pub(super) fn of(scenario: &Scenario) -> Locks {
    let mut uses = BTreeSet::new();
    if scenario.file.scope == Scope::Mesh {
        return Locks::default();
    }
    // Two scenarios write the same text for namespaces that differ.
    let own = |text: &str| text.replace("${namespace", &format!("${{{} namespace", scenario.id));
    for object in scenario.manifests.values().flat_map(|manifest| &manifest.objects) {
        of_object(object, &own, &mut uses);
    }
    let looks = scenario.file.steps.iter().flat_map(|step| &step.expect.proxy);
    if looks.into_iter().any(|look| look.of == "gateway") {
        uses.insert(Use::Gateway);
    }
    uses.extend(scenario.file.steps.iter().flat_map(|step| step.set.keys()).cloned().map(Use::Server));
    uses.extend(scenario.file.destinations.keys().cloned().map(Use::Client));
    uses.into_iter().map(Lock).collect()
}

fn of_object(object: &ManifestObject, own: &dyn Fn(&str) -> String, uses: &mut BTreeSet<Use>) {
    let (kind, spec) = (object.kind(), &object.value["spec"]);
    let istio = object.value["apiVersion"].as_str().is_some_and(|v| v.starts_with("networking.istio.io/"));
    let at_gateway = object.value["metadata"]["namespace"] == GATEWAYS;
    if at_gateway {
        uses.insert(Use::Named(format!("object {kind} {} in {GATEWAYS}", own(object.name()))));
        if !HARMLESS_AT_THE_GATEWAY.contains(&kind) {
            uses.insert(Use::Gateway);
        }
    } else if CLUSTER_SCOPED.contains(&kind) {
        uses.insert(Use::Named(format!("object {kind} {}", own(object.name()))));
    }
    let seen_there = at_gateway || texts(&spec["exportTo"]).any(|to| to == GATEWAYS);
    match kind {
        "Gateway" if istio => spec["servers"].as_array().into_iter().flatten().for_each(|s| port(s, own, uses)),
        "ServiceEntry" if seen_there => uses.extend(texts(&spec["hosts"]).map(|host| Use::Known(own(host)))),
        "DestinationRule" if seen_there => uses.extend(spec["host"].as_str().map(|host| Use::Known(own(host)))),
        _ => {}
    }
}

/// One server of a Gateway object.
fn port(server: &Value, own: &dyn Fn(&str) -> String, uses: &mut BTreeSet<Use>) {
    let number = &server["port"]["number"];
    let Some(number) = number.as_u64().or_else(|| number.as_str()?.parse().ok()) else { return };
    let protocol = server["port"]["protocol"].as_str().unwrap_or_default().to_ascii_uppercase();
    let family = match protocol.as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => Family::Http,
        "HTTPS" | "TLS" => Family::Tls,
        _ => Family::Tcp,
    };
    if family == Family::Tcp {
        // Nothing tells one host from another: whoever is first on the port gets all of it.
        uses.insert(Use::Port(number, family, "*".to_owned()));
        return;
    }
    for host in texts(&server["hosts"]) {
        let host = host.rsplit_once('/').map_or(host, |(_, host)| host);
        uses.insert(Use::Port(number, family, own(host).to_ascii_lowercase()));
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
