//! Comparing field by field, with expectations written as scenarios write them.

use std::net::IpAddr;

use super::*;
use crate::access_log::Record;
use crate::evidence::{ClientResult, PodSeen};
use crate::path::{DestinationSeen, JoinedBy, Path, PeerOf, ProxySeen, SeenHop, State};
use crate::scenario::schema::Got;

fn directory() -> Directory {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    Directory {
        destinations: [(ip("192.0.2.7"), vec!["shop".to_owned(), "bank".to_owned()])].into(),
        gateways: vec![ip("10.244.0.4")],
    }
}

fn proxy(fields: &[(&str, &str)]) -> ProxySeen {
    let mut record = Record::default();
    fields.iter().for_each(|(field, value)| record.set(field, value));
    ProxySeen { pod: "ns/meshed".into(), record, line: "THE LINE".into(), joined_by: JoinedBy::Sockets }
}

fn server() -> DestinationSeen {
    DestinationSeen {
        name: "shop".into(),
        address: "192.0.2.7:443".parse().expect("a socket"),
        got: Got::Request,
        sni: Some("shop.example".into()),
        host: Some("shop.example".into()),
        method: Some("GET".into()),
        path: Some("/".into()),
        headers: vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())],
        error: None,
        peer: "10.244.0.4:50002".parse().expect("a socket"),
        source: PeerOf::Gateway,
        connections: 1,
        joined_by: JoinedBy::Sockets,
    }
}

fn observation() -> Observation {
    Observation {
        token: None,
        client: Some(ClientResult {
            exit: 56,
            status: None,
            headers: vec![("Server".into(), "envoy".into())],
            body: "Hello".into(),
            stderr: "* x\ncurl: (56) Recv failure: Connection reset by peer\n".into(),
            local: None,
            remote: "192.0.2.7:443".parse().ok(),
            addresses: Vec::new(),
            total_ms: 3.0,
            connects: 1,
        }),
        client_pod: PodSeen { name: "ns/meshed".into(), ip: None },
        sidecar: Some(vec![]),
        gateways: vec![],
        servers: vec![],
        sentinel: None,
    }
}

fn joined(hops: Vec<SeenHop>) -> Joined {
    Joined { path: Path { hops }, leftovers: vec![], state: State::Closed }
}

/// The findings in short: what, expected, seen.
fn found(expect: &str, hops: Vec<SeenHop>) -> Vec<String> {
    let expect: Expect = serde_saphyr::from_str(expect).expect("an expectation");
    let findings = check(&expect, &observation(), &joined(hops), &directory());
    findings.iter().map(|f| format!("{}: {} | {}", f.what, f.expected, f.seen)).collect()
}

#[test]
fn the_clients_answer() {
    let none: [String; 0] = [];
    let right = "client: {exit: {in: [52, 56]}, status: absent, body: {contains: ell}, remote: 192.0.2.7, headers: {server: envoy, x: absent}}";
    assert_eq!(found(right, vec![]), none);
    assert_eq!(
        found("client: {exit: 0, status: 200, headers: {server: other}}", vec![]),
        [
            "client.exit: 0 | 56 (curl: (56) Recv failure: Connection reset by peer)",
            "client.status: 200 | absent",
            "client.headers.server: other | envoy"
        ]
    );
}

#[test]
fn an_answer_that_is_not_whole_is_the_harness_own_fault() {
    let expect: Expect = serde_saphyr::from_str("client: {exit: 0}").expect("an expectation");
    let lost = Observation { client: None, ..observation() };
    let findings = check(&expect, &lost, &joined(vec![]), &directory());
    assert_eq!((findings.len(), findings[0].fault), (1, Fault::Harness));
    let mut misused = observation();
    misused.client.as_mut().expect("a client").exit = 2;
    assert_eq!(check(&expect, &misused, &joined(vec![]), &directory())[0].fault, Fault::Harness);
}

#[test]
fn short_names_sets_and_the_names_of_an_upstream() {
    let none: [String; 0] = [];
    let hop = |fields: &[(&str, &str)]| vec![SeenHop::Sidecar(proxy(fields))];
    let failed = &[("response_flags", "URX,UF"), ("upstream_host", "192.0.2.7:443"), ("route_name", "r")];
    for right in ["shop", "bank", "192.0.2.7", "\"192.0.2.7:443\"", "{not: gateway}", "{in: [gateway, bank]}"] {
        let expect = format!("path: [{{sidecar: {{flags: [UF, URX], upstream: {right}, route: r, cluster: absent}}}}]");
        assert_eq!(found(&expect, hop(failed)), none, "{right}");
    }
    let to_gateway = &[("upstream_host", "10.244.0.4:8080")];
    assert_eq!(found("path: [{sidecar: {upstream: gateway, flags: absent}}]", hop(to_gateway)), none);
    assert_eq!(
        found("path: [{sidecar: {upstream: shop}}]", hop(to_gateway)),
        ["path[0].sidecar.upstream: shop | gateway (10.244.0.4:8080)"]
    );
    assert_eq!(
        found("path: [{sidecar: {upstream: {not: shop}, flags: [UF]}}]", hop(failed)),
        ["path[0].sidecar.flags: [UF] | URX,UF", "path[0].sidecar.upstream: not shop | shop, bank (192.0.2.7:443)"]
    );
    assert_eq!(found("path: [{sidecar: {upstream: absent}}]", hop(&[])), none);
    assert_eq!(found("path: [{sidecar: {upstream: shop}}]", hop(&[])), ["path[0].sidecar.upstream: shop | absent"]);
}

#[test]
fn what_the_server_saw() {
    let none: [String; 0] = [];
    let right = "path: [{destination: {name: shop, sni: shop.example, host: {contains: shop}, headers: {X-a: \"1, 2\", y: absent}, source: gateway}}]";
    assert_eq!(found(right, vec![SeenHop::Destination(server())]), none);
    let wrong = "path: [{destination: {name: bank, got: tls-error, sni: absent, headers: {y: z}, source: client}}]";
    assert_eq!(
        found(wrong, vec![SeenHop::Destination(server())]),
        [
            "path[0].destination.name: bank | shop",
            "path[0].destination.got: tls-error | request",
            "path[0].destination.sni: absent | shop.example",
            "path[0].destination.headers.y: z | absent",
            "path[0].destination.source: client | gateway (10.244.0.4:50002)"
        ]
    );
}

#[test]
fn number_kinds_and_order_of_hops() {
    let none: [String; 0] = [];
    assert_eq!(found("path: []", vec![]), none);
    assert_eq!(
        found("path: [{sidecar: {}}, {destination: {name: shop}}]", vec![]),
        [
            "path[0].sidecar: sidecar | no hop at all",
            "path[1].destination: destination shop, got request | no hop at all"
        ]
    );
    let hops = || vec![SeenHop::Sidecar(proxy(&[])), SeenHop::Destination(server())];
    assert_eq!(
        found("path: []", hops()).iter().map(|f| f.split(':').next().unwrap_or_default()).collect::<Vec<_>>(),
        ["path[0].sidecar", "path[1].destination"]
    );
    let turned = "path: [{destination: {name: shop}}, {sidecar: {}}]";
    assert_eq!(found(turned, hops()).len(), 2);
}

#[test]
fn what_became_of_apply() {
    let expect: ApplyExpect = serde_saphyr::from_str("rejected: {contains: endpoints}").expect("an expectation");
    let refused = |text: &str| vec![text.to_owned()];
    assert_eq!(check_apply(None, &[]), []);
    assert_eq!(check_apply(None, &refused("no"))[0].seen, "refused: no");
    assert_eq!(check_apply(Some(&expect), &refused("NONE must not have endpoints")), []);
    assert_eq!(check_apply(Some(&expect), &refused("other"))[0].seen, "refused: other");
    assert_eq!(check_apply(Some(&expect), &[])[0].seen, "accepted");
}

#[test]
fn the_explanation_shows_both_paths_and_where_to_look() {
    let text = "
client: {exit: 0}
path:
- sidecar: {cluster: \"outbound|443||gw.istio-system.svc.cluster.local\", upstream: gateway, flags: absent}
- gateway: {cluster: \"outbound|443||shop.example\"}
- destination: {name: shop, source: gateway}
";
    let expect: Expect = serde_saphyr::from_str(text).expect("an expectation");
    let blocked = proxy(&[
        ("response_flags", "UH"),
        ("upstream_cluster", "BlackHoleCluster"),
        ("downstream_local_address", "192.0.2.7:443"),
        ("requested_server_name", "shop.example"),
    ]);
    let joined = joined(vec![SeenHop::Sidecar(blocked)]);
    let findings = check(&expect, &observation(), &joined, &directory());
    insta::assert_snapshot!(explain(&expect, &observation(), &joined, &findings, "egress-conformance run a/b"));
}

#[test]
fn a_hop_may_be_taken_several_times_and_as_often_as_it_says() {
    let none: [String; 0] = [];
    let hops = |gateways: usize| {
        let mut hops = vec![SeenHop::Sidecar(proxy(&[]))];
        hops.extend((0..gateways).map(|_| SeenHop::Gateway(proxy(&[("response_flags", "UF")]))));
        hops.push(SeenHop::Destination(server()));
        hops
    };
    let expect =
        |times: &str| format!("path: [{{sidecar: {{}}}}, {{gateway: {{{times}}}}}, {{destination: {{name: shop}}}}]");
    assert_eq!(found(&expect("times: 3"), hops(3)), none);
    assert_eq!(found(&expect("times: {min: 2}"), hops(3)), none);
    assert_eq!(found(&expect("times: {in: [1, 3]}, flags: [UF]"), hops(1)), none);
    assert_eq!(found(&expect("times: 3"), hops(2)), ["path[1].gateway.times: 3 | 2"]);
    assert_eq!(found(&expect("times: 3"), hops(4)), ["path[1].gateway.times: 3 | 4"]);
    assert_eq!(found(&expect(""), hops(2)).len(), 1);
    assert_eq!(
        found(&expect("times: 2, flags: absent"), hops(2)),
        ["path[1].gateway.flags: absent | UF", "path[1].gateway.flags: absent | UF"]
    );
    assert_eq!(found(&expect("times: 2"), hops(0)).len(), 1);
}

#[test]
fn attempts_that_failed_alike_count_each_where_times_are_asked_for() {
    let none: [String; 0] = [];
    let failed = || {
        let seen = DestinationSeen { got: Got::TlsError, connections: 3, host: None, method: None, ..server() };
        vec![SeenHop::Sidecar(proxy(&[])), SeenHop::Destination(seen)]
    };
    let expect =
        |times: &str| format!("path: [{{sidecar: {{}}}}, {{destination: {{name: shop, got: tls-error{times}}}}}]");
    assert_eq!(found(&expect(""), failed()), none);
    assert_eq!(found(&expect(", times: 3"), failed()), none);
    assert_eq!(found(&expect(", times: 2"), failed()), ["path[1].destination.times: 2 | 3"]);
}

#[test]
fn several_exchanges_are_one_path_after_the_other() {
    let none: [String; 0] = [];
    let hops = || {
        let bank = DestinationSeen { name: "bank".into(), ..server() };
        let sidecar = |code: &str| SeenHop::Sidecar(proxy(&[("response_code", code)]));
        vec![sidecar("302"), SeenHop::Destination(server()), sidecar("200"), SeenHop::Destination(bank)]
    };
    let expect = |second: &str| {
        format!(
            "paths: [[{{sidecar: {{code: 302}}}}, {{destination: {{name: shop}}}}], [{{sidecar: {{code: {second}}}}}, {{destination: {{name: bank}}}}]]"
        )
    };
    assert_eq!(found(&expect("200"), hops()), none);
    assert_eq!(found(&expect("201"), hops()), ["paths[1][0].sidecar.code: 201 | 200"]);
    assert_eq!(found(&expect("200"), hops()[..2].to_vec()).len(), 2);
    assert_eq!(found("path: [{sidecar: {}}, {destination: {name: shop}}]", hops()).len(), 2);
}

#[test]
fn what_a_name_was_resolved_to() {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mut resolved = observation();
    let client = resolved.client.as_mut().expect("a client");
    client.addresses = vec![address("192.0.2.8"), address("192.0.2.7")];
    let findings = |expect: &str, observation: &Observation| {
        let expect: Expect = serde_saphyr::from_str(expect).expect("an expectation");
        let findings = check(&expect, observation, &joined(vec![]), &directory());
        findings.iter().map(|f| format!("{}: {} | {}", f.what, f.expected, f.seen)).collect::<Vec<_>>()
    };
    assert_eq!(findings("client: {addresses: [192.0.2.7, 192.0.2.8]}", &resolved), [""; 0]);
    assert_eq!(findings("client: {addresses: {contains: 192.0.2.8}}", &resolved), [""; 0]);
    assert_eq!(findings("client: {addresses: absent}", &observation()), [""; 0]);
    let wrong = findings("client: {addresses: absent}", &resolved);
    assert!(wrong[0].starts_with("client.addresses: absent | 192.0.2.8,192.0.2.7"), "{wrong:?}");
}
