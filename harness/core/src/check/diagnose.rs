//! Which object is likely at fault, read from flags, details and clusters.
//!
//! A table of signatures. Sources: Envoy's documentation of response flags and response code details; Istio's
//! `pilot/pkg/networking/core` (httproute.go: `block_all` and `allow_any`; cluster.go: BlackHoleCluster and
//! PassthroughCluster; gateway.go); the issues named beside each rule; and runs of this project's own scenarios. It gives
//! hints, never verdicts. Start at [`diagnose`].

use crate::evidence::Observation;
use crate::path::{Path, ProxySeen, SeenHop};

/// A hint about one hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The hop that it is about, from 0; `None`: about the request as a whole.
    pub hop: Option<usize>,
    /// What happened there.
    pub says: String,
    /// Which object to look at, and for what.
    pub look_at: String,
}

/// What one rule sees.
struct Case<'a> {
    proxy: &'a ProxySeen,
    gateway: bool,
    /// Whether the upstream is a pod of the egress gateway.
    to_gateway: bool,
}

impl Case<'_> {
    fn field(&self, name: &str) -> &str {
        self.proxy.record.get(name).unwrap_or_default()
    }

    fn has(&self, flag: &str) -> bool {
        self.proxy.record.has_flag(flag)
    }

    /// The address that was asked for, with what is known of the name.
    fn asked(&self) -> String {
        let address = self.field("downstream_local_address");
        match (self.field("requested_server_name"), self.field("authority")) {
            ("", "") => address.to_owned(),
            ("", host) => format!("{address} (Host {host})"),
            (sni, _) => format!("{address} (SNI {sni})"),
        }
    }
}

type Rule = fn(&Case<'_>) -> Option<(String, &'static str)>;

/// The rules, the most telling first.
const RULES: &[Rule] = &[
    black_hole,
    block_all,
    access_denied,
    no_filter_chain,
    no_route,
    no_cluster,
    tls_failure,
    refused,
    unreachable,
    no_endpoint,
    timed_out,
    reset_by_next,
    passthrough,
    client_left,
];

/// Hints for every hop that shows a known signature, the last hop first: it is the one that answered.
#[must_use]
pub fn diagnose(path: &Path, observation: &Observation) -> Vec<Diagnosis> {
    let gateways: Vec<_> = observation.gateways.iter().filter_map(|g| g.pod.ip).collect();
    let mut found = Vec::new();
    for (n, hop) in path.hops.iter().enumerate().rev() {
        let Some(proxy) = hop.proxy() else { continue };
        let to_gateway = proxy.record.upstream_host().is_some_and(|host| gateways.contains(&host.ip()));
        let case = Case { proxy, gateway: matches!(hop, SeenHop::Gateway(_)), to_gateway };
        if let Some((says, look_at)) = RULES.iter().find_map(|rule| rule(&case)) {
            found.push(Diagnosis { hop: Some(n), says, look_at: look_at.to_owned() });
        }
    }
    found.extend(whole(path, observation));
    found
}

/// Hints that no single hop gives.
fn whole(path: &Path, observation: &Observation) -> Option<Diagnosis> {
    let whole =
        |says: &str, look_at: &str| Some(Diagnosis { hop: None, says: says.to_owned(), look_at: look_at.to_owned() });
    match path.hops.first() {
        None => match observation.client.as_ref().map(|c| c.exit) {
            Some(5 | 6) => whole(
                "the name did not resolve, so nothing was sent",
                "DNS: the Service or name, and with DNS capture a ServiceEntry with that host",
            ),
            Some(7) => whole(
                "the connection was refused before any hop saw it",
                "a Service without endpoints (kube-proxy rejects it), or a bypassed sidecar and no server",
            ),
            _ => None,
        },
        Some(SeenHop::Destination(_) | SeenHop::Gateway(_)) if observation.sidecar.is_some() => whole(
            "the request went past the client's sidecar",
            "the client's annotations traffic.sidecar.istio.io/{include,exclude}Outbound*, and its user id (1337 is exempt)",
        ),
        _ => None,
    }
}

// istio/istio#33281, #56053
fn black_hole(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.field("upstream_cluster") == "BlackHoleCluster").then(|| {
        (
            format!("no listener or filter chain of this sidecar is for {}: REGISTRY_ONLY blocks it", case.asked()),
            "ServiceEntry: its hosts, addresses, port number and protocol, and whether the client sees it (exportTo, Sidecar)",
        )
    })
}

// istio/istio#28994, #34663
fn block_all(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.field("route_name") == "block_all").then(|| {
        (
            format!("no HTTP route of this port has the Host {}: REGISTRY_ONLY answers 502", case.field("authority")),
            "ServiceEntry: its hosts (an ExternalName Service alone opens nothing since Istio 1.21), its port and protocol HTTP",
        )
    })
}

fn access_denied(case: &Case<'_>) -> Option<(String, &'static str)> {
    let details = [case.field("response_code_details"), case.field("connection_termination_details")];
    let denied = details.into_iter().find(|d| d.starts_with("rbac_access_denied"))?;
    Some((
        format!("an authorization policy refused it ({denied})"),
        "AuthorizationPolicy: the policy and rule named in the details",
    ))
}

// istio/istio#38973, #45854
fn no_filter_chain(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.field("response_code_details") == "filter_chain_not_found").then(|| {
        (
            format!("no filter chain fits {}", case.asked()),
            "Gateway: servers[].hosts against the SNI, and TLS against plain text on that port; VirtualService: tls[].match.sniHosts",
        )
    })
}

// istio/istio#30347, #32494
fn no_route(case: &Case<'_>) -> Option<(String, &'static str)> {
    case.has("NR").then(|| {
        (
            format!("no route fits {}", case.asked()),
            "VirtualService: its hosts, its gateways (the Gateway's namespace/name) and match; Gateway: servers[].hosts",
        )
    })
}

// istio/istio#51616, #45854, #30730
fn no_cluster(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.has("NC") || case.field("response_code_details") == "cluster_not_found").then(|| {
        let who = if case.gateway { "the gateway" } else { "this sidecar" };
        (
            format!("the route leads to a cluster that {who} does not know"),
            "VirtualService: destination host, subset and port; the Service must have that port, a DestinationRule visible here that subset",
        )
    })
}

// istio/istio#37348, #32907
fn tls_failure(case: &Case<'_>) -> Option<(String, &'static str)> {
    let reason = case.field("upstream_transport_failure_reason");
    let upstream = case.field("upstream_host");
    if reason.contains("CERTIFICATE_VERIFY_FAILED") {
        let says = format!("the certificate of {upstream} was not accepted");
        return Some((says, "DestinationRule: tls.caCertificates, subjectAltNames, sni (or insecureSkipVerify)"));
    }
    if reason.contains("WRONG_VERSION_NUMBER") {
        let says = format!("{upstream} does not speak TLS there");
        return Some((
            says,
            "DestinationRule: tls.mode against what the server speaks; ServiceEntry: port and targetPort",
        ));
    }
    reason.contains("TLS_error").then(|| {
        (
            format!("the TLS handshake with {upstream} failed: {reason}"),
            "DestinationRule: tls; the server's certificate",
        )
    })
}

fn refused(case: &Case<'_>) -> Option<(String, &'static str)> {
    if !case.field("upstream_transport_failure_reason").contains("Connection_refused") {
        return None;
    }
    let upstream = case.field("upstream_host");
    Some(if case.to_gateway {
        (
            format!("no listener of the egress gateway is at {upstream}"),
            "Gateway: is there one whose selector fits the gateway and that opens this port? Service: port and targetPort",
        )
    } else {
        (
            format!("nobody listens at {upstream}"),
            "ServiceEntry or DestinationRule: endpoint address and port (targetPort); and whether the server is up",
        )
    })
}

fn unreachable(case: &Case<'_>) -> Option<(String, &'static str)> {
    case.has("UF").then(|| {
        let reason = case.field("upstream_transport_failure_reason");
        let upstream = case.field("upstream_host");
        (
            format!("no connection to {upstream}: {}", if reason.is_empty() { "no reason given" } else { reason }),
            "ServiceEntry: endpoint addresses; routing and NetworkPolicy between the proxy and that address",
        )
    })
}

// istio/istio#50075, #55788
fn no_endpoint(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.has("UH") || case.field("response_code_details") == "no_healthy_upstream").then(|| {
        (
            format!("cluster {} has no healthy endpoint", case.field("upstream_cluster")),
            "ServiceEntry: endpoints and resolution (NONE has none on a gateway), the DNS name it resolves; outlierDetection",
        )
    })
}

fn timed_out(case: &Case<'_>) -> Option<(String, &'static str)> {
    case.has("UT").then(|| {
        (
            format!("{} did not answer in time", case.field("upstream_host")),
            "VirtualService: timeout and retries; the server",
        )
    })
}

fn reset_by_next(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.has("UR") || case.has("UC")).then(|| {
        (
            format!("the next hop, {}, ended the connection", case.field("upstream_host")),
            "the next hop's own line; TLS on one side only (DestinationRule: tls, Gateway: servers[].tls)",
        )
    })
}

fn passthrough(case: &Case<'_>) -> Option<(String, &'static str)> {
    (case.field("upstream_cluster") == "PassthroughCluster").then(|| {
        (
            format!("no ServiceEntry was used for {}: ALLOW_ANY let it through", case.asked()),
            "mesh config or Sidecar: outboundTrafficPolicy.mode; ServiceEntry: hosts, port, protocol",
        )
    })
}

fn client_left(case: &Case<'_>) -> Option<(String, &'static str)> {
    case.has("DC").then(|| {
        (
            format!("the client left before {} answered", case.field("upstream_host")),
            "routing and NetworkPolicy between the proxy and that address; the client's own timeout",
        )
    })
}
