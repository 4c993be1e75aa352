//! Hand-made observations for the tests of [`super`] and [`crate::report`].
//!
//! One TCP request through the egress gateway to `my-server`, one HTTP request that is blocked, and parts to alter.

use std::collections::BTreeMap;

use serde_json::json;

use super::Directory;
use crate::access_log::Format;
use crate::evidence::Observation;
use crate::path::{Joined, Path, SeenHop, State};
use crate::scenario::schema::Expect;

pub(crate) const SIDECAR_TCP: &str = r#"[2026-11-21T01:00:00.000Z] "- - -" 0 - - - "-" 84 434 5 - "-" "-" "-" "-" "10.244.0.9:2234" outbound|2234||istio-egressgateway.istio-system.svc.cluster.local 10.244.0.8:51000 192.168.0.78:1234 10.244.0.8:40234 - -"#;
pub(crate) const GATEWAY_TCP: &str = r#"[2026-11-21T01:00:00.001Z] "- - -" 0 - - - "-" 84 434 4 - "-" "-" "-" "-" "192.168.0.78:1234" outbound|1234||my.server.com 10.244.0.9:33000 10.244.0.9:2234 10.244.0.8:51000 - -"#;
pub(crate) const BLACK_HOLE: &str = r#"[2026-11-21T00:59:36.099Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - 192.168.0.78:1234 10.244.0.8:40234 - -"#;
pub(crate) const BLOCK_ALL: &str = r#"[2026-11-21T00:59:40.000Z] "GET /headers HTTP/1.1" 502 - direct_response - "-" 0 0 0 - "-" "curl/8.5.0 probe-1" "6cb1d9c7-0ca6-4f0e-9d4c-c5c0d4c3b1a2" "httpbin.org" "-" - - 192.168.0.79:80 10.244.0.8:40236 - block_all"#;

/// A proxy's hop from its line.
pub(crate) fn proxy(kind: &str, line: &str) -> SeenHop {
    let format = Format::istio_text("1.31.0").expect("a built-in format");
    let record = format.parse(line).expect("a line of that format");
    let pod = if kind == "gateway" { "istio-system/istio-egressgateway-1" } else { "test/meshed-1" };
    let hop = json!({"hop": kind, "pod": pod, "record": record, "line": line, "joined_by": "sockets"});
    serde_json::from_value(hop).expect("a hop")
}

/// A request that arrived at a destination.
pub(crate) fn destination(name: &str, peer: &str, source: &str) -> SeenHop {
    let hop = json!({
        "hop": "destination", "name": name, "address": "192.168.0.78:1234", "got": "request", "sni": null,
        "host": "my.server.com:1234", "method": "GET", "path": "/",
        "headers": [["Host", "my.server.com:1234"], ["User-Agent", "curl/8.5.0 probe-1"], ["X-A", "1"], ["x-a", "2"]],
        "peer": peer, "source": source, "joined_by": "sockets",
    });
    serde_json::from_value(hop).expect("a hop")
}

/// The hops of the TCP request through the gateway.
pub(crate) fn through_gateway() -> Vec<SeenHop> {
    vec![
        proxy("sidecar", SIDECAR_TCP),
        proxy("gateway", GATEWAY_TCP),
        destination("my-server", "10.244.0.9:33000", "gateway"),
    ]
}

pub(crate) fn joined(hops: Vec<SeenHop>) -> Joined {
    Joined { path: Path { hops }, leftovers: Vec::new(), state: State::Closed }
}

pub(crate) fn directory() -> Directory {
    let address = |text: &str| text.parse().expect("an address");
    Directory {
        destinations: BTreeMap::from([(address("192.168.0.78"), vec!["my-server".to_owned()])]),
        gateways: vec![address("10.244.0.9")],
    }
}

/// What the witnesses of a request said; the lines are the sidecar's.
pub(crate) fn observation(lines: &[&str]) -> Observation {
    let observation = json!({
        "token": "probe-1",
        "client": {
            "exit": 0, "status": 200, "headers": [["Content-Type", "text/html"]],
            "body": "<html>\n<title>Directory listing for /</title>\n", "stderr": "* Connected\n",
            "local": "10.244.0.8:40234", "remote": "192.168.0.78:1234", "total_ms": 4.5, "connects": 1,
        },
        "client_pod": {"name": "test/meshed-1", "ip": "10.244.0.8"},
        "sidecar": lines,
        "gateways": [{"pod": {"name": "istio-system/istio-egressgateway-1", "ip": "10.244.0.9"}, "lines": [GATEWAY_TCP]}],
        "servers": [],
    });
    serde_json::from_value(observation).expect("an observation")
}

/// An expectation as a scenario writes it.
pub(crate) fn expect(yaml: &str) -> Expect {
    serde_saphyr::from_str(yaml).expect("an expectation")
}

/// What the TCP request through the gateway is expected to show.
pub(crate) fn expect_gateway() -> Expect {
    expect(
        r#"
client: {exit: 0, status: 200, body: {contains: Directory listing}, remote: 192.168.0.78, headers: {content-type: text/html}}
path:
- sidecar: {cluster: "outbound|2234||istio-egressgateway.istio-system.svc.cluster.local", upstream: gateway, flags: absent}
- gateway: {cluster: "outbound|1234||my.server.com", upstream: my-server, flags: absent}
- destination: {name: my-server, host: "my.server.com:1234", source: gateway, sni: absent, headers: {x-a: "1, 2"}}
"#,
    )
}
