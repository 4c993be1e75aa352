//! The scenario language as types: one scenario file, deserialised strictly.
//!
//! These types say what can be written; they never look at other files, and they do not know what is declared where:
//! that is [`super::load`]. What a step expects is in [`super::expect`]. Start at [`ScenarioFile`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::expect::{
    ApplyExpect, ClientExpect, DestinationHop, Expect, Got, Hop, ObjectExpect, PROXY_FIELDS, ProxyExpect, ProxyHop,
    Source,
};
pub use super::variant::{ClusterKind, Variant, When};

/// One scenario: a claim about Istio egress and the steps that prove it. The content of one `scenario.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// The claim, as one sentence.
    pub title: String,
    /// Why users care, and what goes wrong without it: one or two sentences.
    pub about: String,
    /// Where the claim comes from: documentation, issues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Whether every conformant mesh must keep the claim.
    #[serde(default)]
    pub level: Level,
    /// How far the scenario's objects reach.
    pub scope: Scope,
    /// The mesh profile it runs under: the name of a file in `fixtures/mesh/`.
    pub mesh: String,
    /// Capabilities that the cluster must have; without one of them the scenario is `unsupported`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The Istio versions for which the claim holds (`>=1.22`, compared by major.minor); outside it the scenario is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio: Option<String>,
    /// Further namespaces of the scenario's own, by the names that stand for them: `${namespace.NAME}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The workloads that requests are sent from. Default: `meshed` (with a sidecar) and `plain` (without).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<BTreeMap<String, ClientSpec>>,
    /// The external servers, which the harness owns.
    #[serde(default)]
    pub destinations: BTreeMap<String, DestinationSpec>,
    /// Further DNS names: `unused` is an address that is routed but has nobody behind it, `nxdomain` does not exist.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, NameSpec>,
    /// Manifests that are known to change nothing, each with the reason why the scenario brings it all the same. Leaving
    /// out any other manifest must turn the scenario red.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inert: BTreeMap<String, String>,
    /// What is done and expected, in this order.
    pub steps: Vec<Step>,
}

/// Conformance level of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every conformant mesh keeps this claim.
    #[default]
    Core,
    /// Holds where the mesh offers the feature at all.
    Extended,
}

/// How far the objects of a scenario reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Objects are exported to the scenario's own namespace only (and the gateway's where the path uses it).
    Namespace,
    /// Objects as a tutorial writes them, visible to the whole mesh; the scenario runs alone.
    Mesh,
}

/// One workload that sends requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSpec {
    /// Whether Istio injects a sidecar.
    #[serde(default = "yes")]
    pub sidecar: bool,
    /// Annotations of its pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Which of the scenario's `namespaces` it runs in; default: the scenario's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

fn yes() -> bool {
    true
}

/// One external server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSpec {
    /// What it answers.
    pub serves: Serves,
    /// Its TCP port.
    pub port: u16,
    /// Whether it speaks TLS on that port, with a certificate for its hosts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls: bool,
    /// Whether it wants a client's certificate in the TLS handshake, such as `${ca.client.certificate}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mutual: bool,
    /// The DNS names that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// How many addresses of its own it has. `${NAME.address}` is the first, `${NAME.address.2}` the second.
    #[serde(default = "one")]
    pub addresses: u8,
    /// The title of its pages; default: its first host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Titles of its pages under some of its hosts, where one server has several sites.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub titles: BTreeMap<String, String>,
    /// Another destination whose addresses it shares: one machine with several ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

fn one() -> u8 {
    1
}

/// What an external server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Serves {
    /// A directory listing at `/`, like `python -m http.server`, and a few files.
    Files,
    /// `/headers`, `/status/N`, `/delay/N`, `/ip`, `/anything` as httpbin.org has them.
    Httpbin,
    /// One HTML page with a title.
    Page,
    /// A redirection (301) of every URL to the same one under `https`.
    Redirect,
    /// Raw TCP: a banner at once, then an echo of each line.
    Tcp,
    /// An HTTP proxy: `CONNECT` opens a tunnel to another external server.
    Proxy,
}

/// What a DNS name leads to, other than a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NameSpec {
    /// An address that is routed, where nobody answers.
    Unused,
    /// The name does not exist.
    Nxdomain,
}

/// One step: what changes, what is sent, what must be seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Names the step within its scenario.
    pub name: String,
    /// Manifests that are applied, one request after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apply: Vec<String>,
    /// Manifests whose objects are deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
    /// How external servers behave from here on, by destination; each stays so until a later step sets it or the
    /// scenario ends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Behaviour>,
    /// The request that is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// What must be seen.
    #[serde(default, skip_serializing_if = "Expect::is_empty")]
    pub expect: Expect,
    /// For a probe that is expected to be blocked: the step which shows that the same request can succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What is expected instead under other circumstances; the first that holds counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
}

/// How an external server treats new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Behaviour {
    /// It answers, as it does from the start.
    #[default]
    Up,
    /// Nobody listens on its port: a connection is refused at once.
    Refusing,
    /// It takes connections and what comes on them, and never answers.
    Silent,
}

/// One request, sent by a client: of `curl`, `resolve` and `tcp` exactly one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The client that sends it.
    pub from: String,
    /// Arguments of `curl`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curl: Vec<String>,
    /// A name that is looked up as the client's programs look names up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<String>,
    /// Bytes that are sent on a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
}

/// Bytes on a TCP connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// Where to: `HOST:PORT`.
    pub to: String,
    /// What is sent, once the connection stands.
    pub send: String,
}

impl std::fmt::Display for Probe {
    /// What is sent, without who sends it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.resolve, &self.tcp) {
            (Some(name), _) => write!(f, "resolve {name}"),
            (None, Some(tcp)) => write!(f, "tcp {} {:?}", tcp.to, tcp.send),
            (None, None) => write!(f, "curl {}", self.curl.join(" ")),
        }
    }
}

impl std::fmt::Display for Behaviour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Refusing => "refusing",
            Self::Silent => "silent",
        })
    }
}
