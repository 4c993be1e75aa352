//! What a step expects, as types: of the client, of each hop, of objects and of proxies.
//!
//! Says what can be written; comparing is [`crate::check`]'s business. Start at [`Expect`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matcher::Matcher;

fn yes() -> bool {
    true
}

/// What a step must show.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// What curl saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientExpect>,
    /// The exact, ordered hops of the request. An empty list: it never left the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Vec<Hop>>,
    /// The hops of each exchange, where curl makes several one after another (`-L`); instead of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<Vec<Hop>>>,
    /// What became of `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<ApplyExpect>,
    /// Values inside objects of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectExpect>,
    /// What a proxy is configured with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy: Vec<ProxyExpect>,
}

impl Expect {
    /// Whether nothing at all is expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The hops of each exchange: of `path` as the only one, or of `paths`. `None`: neither is given.
    #[must_use]
    pub fn exchanges(&self) -> Option<Vec<&[Hop]>> {
        match (&self.path, &self.paths) {
            (Some(path), _) => Some(vec![path]),
            (None, Some(paths)) => Some(paths.iter().map(Vec::as_slice).collect()),
            (None, None) => None,
        }
    }

    /// All expected hops, exchange after exchange.
    pub fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.exchanges().into_iter().flatten().flatten()
    }
}

/// What curl must have seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientExpect {
    /// curl's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Matcher>,
    /// The HTTP status; absent where there was no response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Matcher>,
    /// The body, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Matcher>,
    /// curl's standard error (what `-v` prints).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Matcher>,
    /// The address that curl connected to, without the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Matcher>,
    /// The addresses that a name was resolved to, as a set; absent where it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Matcher>,
    /// Response headers by name (any case).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Matcher>,
}

/// One hop of a path: a map with the one key `sidecar`, `gateway` or `destination`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[expect(
    clippy::large_enum_variant,
    reason = "a scenario has a handful of hops, and they are read more often than made"
)]
pub enum Hop {
    /// The client's own sidecar.
    Sidecar(ProxyHop),
    /// The egress gateway.
    Gateway(ProxyHop),
    /// The external server.
    Destination(DestinationHop),
}

/// What a proxy's access-log line must say. Keys are those of Istio's JSON access log (`upstream_cluster`,
/// `response_code`, `route_name`, …) and the short forms `cluster`, `flags`, `upstream` (name of a destination,
/// `gateway`, or an address), `sni`, `route`, `code`, `details`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProxyHop {
    /// How many times in a row the request takes this hop: a loop, a retry. Default: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Matcher>,
    /// Matchers by field.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Matcher>,
}

/// What a proxy's access-log line can be asked for, and what each is: first the short forms, then the keys of Istio's
/// JSON access log (the same since Istio 1.9).
pub const PROXY_FIELDS: [(&str, &str); 31] = [
    ("cluster", "`upstream_cluster`: the Envoy cluster that the request went to"),
    ("flags", "`response_flags` as a set: why Envoy failed the request; absent on success"),
    ("upstream", "`upstream_host`: a destination's name, `gateway`, or an address"),
    ("sni", "`requested_server_name`: the server name that the TLS handshake asked for"),
    ("route", "`route_name`: the route that matched"),
    ("code", "`response_code`: the HTTP status; 0 for TCP"),
    ("details", "`response_code_details`: who decided the status, and why"),
    ("start_time", "when the request began"),
    ("route_name", "the route that matched"),
    ("method", "HTTP method"),
    ("path", "HTTP path, as the client sent it"),
    ("protocol", "`HTTP/1.1`, `HTTP/2`; absent for TCP"),
    ("response_code", "the HTTP status; 0 for TCP"),
    ("response_flags", "why Envoy failed the request; a set"),
    ("response_code_details", "who decided the status, and why"),
    ("connection_termination_details", "why Envoy ended the connection"),
    ("bytes_received", "bytes of the body, or of the TCP stream, from downstream"),
    ("bytes_sent", "bytes of the body, or of the TCP stream, to downstream"),
    ("duration", "milliseconds until the last byte"),
    ("upstream_service_time", "milliseconds that the upstream says it took"),
    ("x_forwarded_for", "the header X-Forwarded-For"),
    ("user_agent", "the header User-Agent"),
    ("request_id", "the header X-Request-Id"),
    ("authority", "the header Host, or `:authority`"),
    ("upstream_host", "address and port that Envoy connected to"),
    ("upstream_cluster", "the Envoy cluster that the request went to"),
    ("upstream_local_address", "Envoy's own socket towards the upstream"),
    ("downstream_local_address", "address and port that the client asked for"),
    ("downstream_remote_address", "the client's socket"),
    ("requested_server_name", "the server name that the TLS handshake asked for"),
    ("upstream_transport_failure_reason", "why the connection to the upstream failed, such as a TLS error"),
];

impl JsonSchema for ProxyHop {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProxyHop".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let matcher = generator.subschema_for::<Matcher>();
        let times = ("times", "how many times in a row the request takes this hop; default: once");
        let fields: serde_json::Map<_, _> = std::iter::once(&times)
            .chain(&PROXY_FIELDS)
            .map(|(name, description)| {
                let mut schema = matcher.clone();
                schema.insert("description".into(), (*description).into());
                ((*name).to_owned(), schema.to_value())
            })
            .collect();
        schemars::json_schema!({
            "description": "What a proxy's access-log line must say, by field.",
            "type": "object",
            "properties": fields,
            "additionalProperties": false,
        })
    }
}

/// What the external server's record must say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationHop {
    /// Which destination it is.
    pub name: String,
    /// What it got: `request`, `connection` (no readable request) or `tls-error`. Default: `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<Got>,
    /// How many times in a row it got this: retries. Default: once; attempts of one proxy that all failed in the same
    /// way then count as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Matcher>,
    /// The server name that the TLS handshake asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<Matcher>,
    /// The `Host` header (`:authority`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Matcher>,
    /// Request headers by name (any case).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Matcher>,
    /// Whose address the server saw: `client` (the client's pod, with or without its sidecar) or `gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// What arrived at an external server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Got {
    /// A request that it could read.
    #[default]
    Request,
    /// A connection without a readable request.
    Connection,
    /// A TLS handshake that failed.
    TlsError,
}

/// Whose address an external server saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The client's pod.
    Client,
    /// The egress gateway's pod.
    Gateway,
}

/// What must become of `apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyExpect {
    /// The API server, or Istio's validation, refuses with a message that matches.
    pub rejected: Matcher,
}

/// A value inside an object of the cluster. It is waited for, within the step's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectExpect {
    /// The object's kind, such as `Service` or `Pod`.
    pub kind: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A label selector instead of a name; some object that it selects must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Its namespace; default: the scenario's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A JSON path (RFC 9535) into it.
    pub at: String,
    /// What the value found there must be; with several values, one of them must match.
    pub is: Matcher,
}

/// What a proxy must be configured with. It is waited for, within the step's time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyExpect {
    /// `gateway`, or the name of a client.
    pub of: String,
    /// The name of a listener, such as `0.0.0.0_2234`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The name of a cluster, such as `outbound|80||httpbin.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Whether it is there.
    #[serde(default = "yes")]
    pub present: bool,
}
