//! Recorded observations of a real mesh, joined and checked: every request has the path that its raw lines say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use egress_core::access_log::Format;
use egress_core::check::{Directory, Finding, check, diagnose, explain};
use egress_core::evidence::{Observation, ServerRecord};
use egress_core::path::{Joined, JoinedBy, Leftover, SeenHop, State, join};
use egress_core::scenario::matcher::{Matcher, Scalar};
use egress_core::scenario::schema::{Expect, Hop};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    id: String,
    command: String,
    observation: Observation,
}

fn recorded() -> BTreeMap<String, Recorded> {
    let text = include_str!("../../../fixtures/observations/recorded.json");
    let list: Vec<Recorded> = serde_json::from_str(text).expect("recorded.json");
    list.into_iter().map(|r| (r.id.clone(), r)).collect()
}

fn expected() -> BTreeMap<String, Expect> {
    serde_saphyr::from_str(include_str!("../../../fixtures/observations/expected.yaml")).expect("expected.yaml")
}

fn format() -> Format {
    Format::istio_text("1.31.0").expect("a known version")
}

fn directory() -> Directory {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let named = [("192.168.0.78", "my-server"), ("192.168.0.79", "httpbin"), ("192.168.0.80", "wikipedia")];
    Directory {
        destinations: named.map(|(ip, name)| (address(ip), vec![name.to_owned()])).into(),
        gateways: vec![address("10.244.0.4")],
    }
}

fn findings(expect: &Expect, observation: &Observation) -> (Joined, Vec<Finding>) {
    let joined = join(observation, &format());
    let findings = check(expect, observation, &joined, &directory());
    (joined, findings)
}

fn names(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.what.as_str()).collect()
}

#[test]
fn every_recorded_request_has_its_path() {
    let (recorded, expected) = (recorded(), expected());
    assert_eq!((recorded.len(), expected.len()), (103, 101));
    for (id, expect) in &expected {
        let observation = &recorded[id].observation;
        let (joined, findings) = findings(expect, observation);
        let text = explain(expect, observation, &joined, &findings, "-");
        assert!(findings.is_empty(), "{id}\n{text}");
        assert_eq!(joined.state, State::Closed, "{id}\n{text}");
        assert_eq!(joined.leftovers, [], "{id}: everything that was seen is on the path");
    }
}

#[test]
fn what_was_no_request_stays_open() {
    for (id, recorded) in recorded() {
        if !recorded.command.contains("curl") {
            let joined = join(&recorded.observation, &format());
            assert!(matches!(joined.state, State::Open { .. }), "{id}: {:?}", joined.state);
            assert!(joined.path.hops.is_empty());
        }
    }
}

#[test]
fn nothing_is_claimed_that_is_not_known() {
    // These recordings know neither the token nor curl's socket: the first hop is joined by the pod alone, what follows
    // by sockets, and nothing by a token.
    for (id, recorded) in recorded() {
        let joined = join(&recorded.observation, &format());
        for (n, hop) in joined.path.hops.iter().enumerate() {
            let (by, failed) = match hop {
                SeenHop::Sidecar(p) | SeenHop::Gateway(p) => (p.joined_by, false),
                SeenHop::Destination(d) => (d.joined_by, d.error.is_some()),
            };
            let want = if n == 0 || failed { JoinedBy::Unknown } else { JoinedBy::Sockets };
            assert_eq!(by, want, "{id} hop {n}");
        }
    }
}

#[test]
fn attempts_that_failed_alike_are_one_hop() {
    let joined = join(&recorded()["11b-tls-orig-untrusted/0"].observation, &format());
    let Some(SeenHop::Destination(seen)) = joined.path.hops.last() else { panic!("{:?}", joined.path) };
    assert_eq!(seen.connections, 3);
}

#[test]
fn a_joined_path_serialises_both_ways() {
    for (id, recorded) in recorded() {
        let joined = join(&recorded.observation, &format());
        let text = serde_json::to_string(&joined).expect("it can be written");
        assert_eq!(serde_json::from_str::<Joined>(&text).expect("it can be read"), joined, "{id}");
    }
}

/// Changes one field of an expected proxy hop to something that is not so.
fn spoil(expect: &mut Expect, hop: usize, field: &str) {
    let wrong = Matcher::Equal(Scalar::Text("something-else".into()));
    match &mut expect.path.as_mut().expect("a path")[hop] {
        Hop::Sidecar(proxy) | Hop::Gateway(proxy) => {
            proxy.fields.insert(field.to_owned(), wrong);
        }
        Hop::Destination(destination) => destination.host = Some(wrong),
    }
}

#[test]
fn a_wrong_field_names_its_hop_and_nothing_else() {
    let (recorded, expected) = (recorded(), expected());
    for (id, expect) in &expected {
        for (n, hop) in expect.path.iter().flatten().enumerate() {
            let (kind, field) = match hop {
                Hop::Sidecar(_) => ("sidecar", "cluster"),
                Hop::Gateway(_) => ("gateway", "cluster"),
                Hop::Destination(_) => ("destination", "host"),
            };
            let mut expect = expect.clone();
            spoil(&mut expect, n, field);
            let (_, findings) = findings(&expect, &recorded[id].observation);
            assert_eq!(names(&findings), [format!("path[{n}].{kind}.{field}")], "{id}");
        }
    }
}

#[test]
fn an_expected_hop_that_is_not_there_is_named() {
    let (recorded, expected) = (recorded(), expected());
    let mut expect = expected["3b-tcp-gateway-noaddr/2"].clone();
    let through = expected["3b-tcp-gateway-noaddr/0"].path.clone().expect("a path");
    expect.path.as_mut().expect("a path").insert(1, through[1].clone());
    let (joined, findings) = findings(&expect, &recorded["3b-tcp-gateway-noaddr/2"].observation);
    assert_eq!(names(&findings), ["path[1].gateway"]);
    assert_eq!(findings[0].seen, "no such hop (seen: sidecar > destination)");
    let observation = &recorded["3b-tcp-gateway-noaddr/2"].observation;
    let text = explain(&expect, observation, &joined, &findings, "-");
    assert!(text.contains("not led to the egress gateway"), "{text}");
}

#[test]
fn a_hop_too_many_is_named() {
    let (recorded, expected) = (recorded(), expected());
    for (id, expect) in &expected {
        let hops = expect.path.clone().unwrap_or_default();
        for n in 0..hops.len() {
            let mut expect = expect.clone();
            let removed = expect.path.as_mut().expect("a path").remove(n);
            let kind = match removed {
                Hop::Sidecar(_) => "sidecar",
                Hop::Gateway(_) => "gateway",
                Hop::Destination(_) => "destination",
            };
            let (_, findings) = findings(&expect, &recorded[id].observation);
            assert_eq!(names(&findings), [format!("path[{n}].{kind}")], "{id}");
            assert_eq!(findings[0].expected, "no such hop");
        }
    }
}

#[test]
fn without_the_gateways_line_the_path_stays_open() {
    let mut observation = recorded()["3a-tcp-gateway-addr/0"].observation.clone();
    observation.gateways[0].lines.clear();
    let joined = join(&observation, &format());
    let State::Open { waiting_for } = &joined.state else { panic!("{:?}", joined.state) };
    assert_eq!(
        waiting_for,
        "the egress gateway's line for the connection from default/curl (10.244.0.8:34548 to 10.244.0.4:2234)"
    );
    // The server's record is not put on the path by guesswork.
    assert_eq!(joined.path.hops.len(), 1);
    assert!(matches!(joined.leftovers[..], [Leftover::Connection { .. }]));
}

#[test]
fn another_peer_port_breaks_the_chain() {
    for id in ["2a-tcp-static-noaddr/0", "3a-tcp-gateway-addr/0", "4b-http-gateway/0", "5b-tls-gateway/0"] {
        let mut observation = recorded()[id].observation.clone();
        let move_port = |record: &mut ServerRecord| record.peer.set_port(record.peer.port() ^ 1);
        observation.servers.iter_mut().for_each(move_port);
        let joined = join(&observation, &format());
        assert!(
            matches!(&joined.state, State::Open { waiting_for } if waiting_for.starts_with("the record at")),
            "{id}"
        );
        assert!(joined.path.hops.iter().all(|hop| hop.proxy().is_some()), "{id}");
        assert!(!joined.leftovers.is_empty(), "{id}");
    }
}

#[test]
fn a_line_that_does_not_fit_is_kept() {
    let mut observation = recorded()["2a-tcp-static-noaddr/0"].observation.clone();
    let note = "2026-11-21T00:59:51Z\tinfo\tEnvoy proxy is ready".to_owned();
    observation.sidecar.as_mut().expect("a sidecar").insert(0, note.clone());
    let joined = join(&observation, &format());
    assert_eq!(joined.state, State::Closed);
    assert!(matches!(&joined.leftovers[..], [Leftover::Line { line, .. }] if *line == note), "{:?}", joined.leftovers);
}

#[test]
fn each_way_to_fail_has_its_hint() {
    let recorded = recorded();
    for (id, hop, says, look_at) in [
        ("1-baseline/0", 0, "no listener or filter chain", "ServiceEntry"),
        ("5a-tls-direct/1", 0, "(SNI www.wikipedia.org)", "ServiceEntry"),
        ("6a-extname/1", 0, "no HTTP route of this port has the Host my-httpbin.default", "ExternalName"),
        ("9a-allow-any/0", 0, "ALLOW_ANY let it through", "outboundTrafficPolicy"),
        ("10a-wrong-gw-port/0", 0, "a cluster that this sidecar does not know", "destination host, subset and port"),
        ("10c-no-gateway-object/0", 0, "no listener of the egress gateway is at 10.244.0.4:2234", "Gateway"),
        ("10d-server-down-tcp/0", 0, "nobody listens at 192.168.0.78:1235", "endpoint address and port"),
        ("10e-server-down-http/1", 0, "the client left before 192.168.0.81:80 answered", "routing"),
        ("10h-gw-external-down/0", 1, "nobody listens at 192.168.0.79:1234", "endpoint address and port"),
        ("11b-tls-orig-untrusted/0", 0, "certificate of 192.168.0.80:443 was not accepted", "caCertificates"),
        ("11i-http-gw-authz-deny/0", 1, "authorization policy refused it", "AuthorizationPolicy"),
        ("11j-timeout-vs/0", 0, "did not answer in time", "timeout"),
    ] {
        let observation = &recorded[id].observation;
        let joined = join(observation, &format());
        let hints = diagnose(&joined.path, observation);
        let first = hints.first().unwrap_or_else(|| panic!("{id} has no hint"));
        assert_eq!(first.hop, Some(hop), "{id}");
        assert!(first.says.contains(says), "{id}: {}", first.says);
        assert!(first.look_at.contains(look_at), "{id}: {}", first.look_at);
    }
    let past = &recorded["9b-bypass/0"].observation;
    let hints = diagnose(&join(past, &format()).path, past);
    assert!(hints[0].says.contains("went past the client's sidecar"));
    let unresolved = &recorded["12a-dns-capture/5"].observation;
    assert!(diagnose(&join(unresolved, &format()).path, unresolved)[0].says.contains("did not resolve"));
}
