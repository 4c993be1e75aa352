//! What a proxy's line most likely means: which object of the configuration to look at.
//!
//! A table of rules, the first that applies. Each comes from the documentation named beside it; none of them is a
//! verdict. Start at [`hint`].

use super::Directory;
use super::value::Value;
use crate::path::ProxySeen;

/// Envoy's list of response flags.
const FLAGS: &str = "https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage";
/// Envoy's list of response code details.
const DETAILS: &str =
    "https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details";
/// Istio on requests to external services that are blocked or passed through.
const EXTERNAL: &str = "https://istio.io/latest/blog/2019/monitoring-external-service-traffic/";
/// Istio on routes, subsets and TLS settings that contradict each other.
const NETWORK: &str = "https://istio.io/latest/docs/ops/common-problems/network-issues/";

/// The most likely meaning of a proxy's line, and where that is documented; `None` where the line shows no trouble.
///
/// `gateway`: the line is the egress gateway's, not the client's sidecar's.
#[must_use]
pub fn hint(proxy: &ProxySeen, gateway: bool, directory: &Directory) -> Option<String> {
    let line = Line { proxy, gateway, directory };
    RULES.iter().find(|rule| (rule.when)(&line)).map(|rule| format!("{} ({})", (rule.says)(&line), rule.source))
}

/// One rule: when it applies, what it says, and where that comes from.
struct Rule {
    when: fn(&Line<'_>) -> bool,
    says: fn(&Line<'_>) -> String,
    source: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        when: |l| l.cluster() == "BlackHoleCluster",
        says: |l| {
            let sni = l.field("requested_server_name").map(|sni| format!(" with server name {sni}")).unwrap_or_default();
            format!(
                "No listener of this sidecar takes {}{sni}: outboundTrafficPolicy is REGISTRY_ONLY and no ServiceEntry that this namespace can see has that address, port and protocol.",
                l.target()
            )
        },
        source: EXTERNAL,
    },
    Rule {
        when: |l| l.field("route_name") == Some("block_all"),
        says: |l| {
            format!(
                "The port has an HTTP listener, but no virtual host for {}: under REGISTRY_ONLY a ServiceEntry has to name that host on that port.",
                l.host()
            )
        },
        source: EXTERNAL,
    },
    Rule {
        when: |l| l.cluster() == "PassthroughCluster" || l.field("route_name") == Some("allow_any"),
        says: |l| {
            format!(
                "Passed through as unknown traffic to {}: outboundTrafficPolicy is ALLOW_ANY and no ServiceEntry matched the address, port and host.",
                l.target()
            )
        },
        source: EXTERNAL,
    },
    Rule {
        when: |l| l.flag("NC"),
        says: |l| match l.field("upstream_cluster").map(Cluster::parse) {
            Some(Some(cluster)) => format!(
                "The route names a cluster that this proxy does not have: host {}, port {}{}. Check that a Service or ServiceEntry declares that host and port, that it is exported to this proxy's namespace, and that a DestinationRule defines the subset.",
                cluster.host,
                cluster.port,
                if cluster.subset.is_empty() { String::new() } else { format!(", subset {}", cluster.subset) }
            ),
            _ => "The route names a cluster that this proxy does not have: the destination's host, port or subset in a VirtualService matches no Service, ServiceEntry or DestinationRule that is visible here.".into(),
        },
        source: NETWORK,
    },
    Rule {
        when: |l| l.details("filter_chain_not_found"),
        says: |l| {
            format!(
                "The listener has no filter chain for server name {}: compare the hosts, port and tls settings of the Gateway and of the VirtualService's sniHosts with it.",
                l.field("requested_server_name").unwrap_or("(none)")
            )
        },
        source: DETAILS,
    },
    Rule {
        when: |l| l.flag("NR") || l.details("route_not_found"),
        says: |l| {
            let who = if l.gateway { "The gateway's listener" } else { "The sidecar's listener" };
            format!(
                "{who} has no route for {}: no VirtualService bound to it (`gateways`) has that host in `hosts` and a match that fits.",
                l.host()
            )
        },
        source: FLAGS,
    },
    Rule {
        when: |l| l.flag("UH") || l.details("no_healthy_upstream"),
        says: |l| {
            format!(
                "Cluster {} has no endpoint: its name does not resolve (resolution: DNS), it has no `endpoints`, or no ready pod stands behind the Service.",
                l.cluster()
            )
        },
        source: FLAGS,
    },
    Rule {
        when: |l| l.trouble("CERTIFICATE_VERIFY_FAILED"),
        says: |_| {
            "The upstream's certificate was refused: check caCertificates, subjectAltNames and sni in the DestinationRule's tls.".into()
        },
        source: NETWORK,
    },
    Rule {
        when: |l| l.trouble("WRONG_VERSION_NUMBER"),
        says: |_| {
            "TLS was spoken to a port that speaks plain text: a DestinationRule originates TLS towards it, or the client's own TLS is wrapped a second time.".into()
        },
        source: NETWORK,
    },
    Rule {
        when: |l| (l.flag("UF") || l.flag("URX")) && l.to_gateway(),
        says: |l| {
            format!(
                "The connection to the egress gateway at {} failed: no Gateway object opens that port on the gateway's pods, or its selector matches none of them.",
                l.field("upstream_host").unwrap_or("(unknown)")
            )
        },
        source: FLAGS,
    },
    Rule {
        when: |l| l.flag("UF") || l.details("upstream_reset_before_response_started{remote_connection_failure"),
        says: |l| {
            format!(
                "The connection to {} failed: compare port and address of the ServiceEntry's endpoints with what the server listens on.",
                l.upstream()
            )
        },
        source: FLAGS,
    },
    Rule {
        when: |l| l.details("rbac_access_denied"),
        says: |_| "An AuthorizationPolicy on this proxy denied the request.".into(),
        source: DETAILS,
    },
    Rule {
        when: |l| l.flag("UR") || l.flag("UC"),
        says: |l| format!("{} closed the connection before it answered; look at the next hop.", l.upstream()),
        source: FLAGS,
    },
    Rule {
        when: |l| l.flag("UT") || l.flag("SI") || l.flag("DT"),
        says: |l| format!("{} did not answer in time: look at `timeout` of the VirtualService's route.", l.upstream()),
        source: FLAGS,
    },
    Rule {
        when: |l| l.flag("UAEX"),
        says: |_| "An external authorization service denied the request.".into(),
        source: FLAGS,
    },
    Rule {
        when: |l| l.flag("DPE"),
        says: |_| {
            "The client's bytes are no valid HTTP: the port's protocol in the ServiceEntry is HTTP, the traffic is not.".into()
        },
        source: FLAGS,
    },
    Rule {
        when: |l| l.flag("DC"),
        says: |_| "The client gave up before the answer came.".into(),
        source: FLAGS,
    },
];

/// A proxy's line, as rules ask for it.
struct Line<'a> {
    proxy: &'a ProxySeen,
    gateway: bool,
    directory: &'a Directory,
}

impl Line<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        self.proxy.record.get(name)
    }

    fn cluster(&self) -> &str {
        self.field("upstream_cluster").unwrap_or("(none)")
    }

    fn flag(&self, flag: &str) -> bool {
        self.proxy.record.flags().contains(&flag)
    }

    fn details(&self, start: &str) -> bool {
        self.field("response_code_details").is_some_and(|details| details.starts_with(start))
    }

    fn trouble(&self, part: &str) -> bool {
        self.field("upstream_transport_failure_reason").is_some_and(|reason| reason.contains(part))
    }

    fn host(&self) -> String {
        self.field("authority").map_or_else(|| "this request's Host".into(), |host| format!("host {host}"))
    }

    /// The address that the client asked for.
    fn target(&self) -> &str {
        self.field("downstream_local_address").unwrap_or("that address")
    }

    fn upstream(&self) -> String {
        match self.field("upstream_host") {
            Some(_) => Value::proxy(self.proxy, "upstream", self.directory).shown,
            None => format!("the upstream of cluster {}", self.cluster()),
        }
    }

    fn to_gateway(&self) -> bool {
        use crate::scenario::matcher::{Matcher, Scalar};
        !self.gateway
            && Value::proxy(self.proxy, "upstream", self.directory)
                .fits(&Matcher::Equal(Scalar::Text("gateway".into())))
    }
}

/// The parts of a cluster's name, `direction|port|subset|host`.
struct Cluster<'a> {
    port: &'a str,
    subset: &'a str,
    host: &'a str,
}

impl<'a> Cluster<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        match name.split('|').collect::<Vec<_>>()[..] {
            [_, port, subset, host] => Some(Self { port, subset, host }),
            _ => None,
        }
    }
}
