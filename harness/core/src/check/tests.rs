//! What holds has no finding; one altered thing has exactly the finding that names it.

use super::fixture::*;
use super::*;
use crate::path::SeenHop;

/// What each finding is about.
fn names(expect: &Expect, observation: &Observation, joined: &Joined) -> Vec<String> {
    check(expect, observation, joined, &directory()).into_iter().map(|finding| finding.what).collect()
}

fn seen(hops: Vec<SeenHop>) -> Vec<String> {
    names(&expect_gateway(), &observation(&[SIDECAR_TCP]), &joined(hops))
}

#[test]
fn what_is_expected_and_seen_has_no_finding() {
    assert_eq!(seen(through_gateway()), Vec::<String>::new());
}

#[test]
fn a_wrong_field_names_its_hop_and_nothing_else() {
    let mut hops = through_gateway();
    hops[1] = proxy("gateway", &GATEWAY_TCP.replace("outbound|1234||my.server.com", "PassthroughCluster"));
    assert_eq!(seen(hops), ["path[1].gateway.cluster"]);

    let mut hops = through_gateway();
    hops[0] = proxy("sidecar", &SIDECAR_TCP.replace("\"10.244.0.9:2234\"", "\"192.168.0.78:1234\""));
    assert_eq!(seen(hops), ["path[0].sidecar.upstream"]);

    let mut hops = through_gateway();
    hops[1] = proxy("gateway", &GATEWAY_TCP.replace("\" 0 - - -", "\" 0 UF,URX - -"));
    assert_eq!(seen(hops), ["path[1].gateway.flags"]);

    let mut hops = through_gateway();
    hops[2] = destination("other-server", "10.244.0.8:5", "client");
    assert_eq!(seen(hops), ["path[2].destination.name", "path[2].destination.source"]);
}

#[test]
fn a_missing_hop_is_the_one_that_is_missing() {
    let mut hops = through_gateway();
    hops.remove(1);
    assert_eq!(seen(hops), ["path[1].gateway"]);
    let mut hops = through_gateway();
    hops.remove(0);
    assert_eq!(seen(hops), ["path[0].sidecar"]);
    let mut hops = through_gateway();
    hops.pop();
    let findings = check(&expect_gateway(), &observation(&[]), &joined(hops), &directory());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].what, "path[2].destination");
    assert!(findings[0].at.contains("istio-egressgateway-1"), "{}", findings[0].at);
    assert_eq!(seen(Vec::new()), ["path[0].sidecar", "path[1].gateway", "path[2].destination"]);
}

#[test]
fn a_hop_too_many_is_named_at_its_place() {
    // The second of two gateway hops does not fit the expectation, so that is the one too many.
    let mut hops = through_gateway();
    hops.insert(2, proxy("gateway", &GATEWAY_TCP.replace("my.server.com", "elsewhere")));
    assert_eq!(seen(hops), ["path[2]"]);
    let mut hops = through_gateway();
    hops.push(destination("my-server", "10.244.0.9:33002", "gateway"));
    assert_eq!(seen(hops), ["path[3]"]);
    // An empty list means that nothing leaves the client.
    let nothing = expect("path: []");
    assert_eq!(names(&nothing, &observation(&[]), &joined(vec![proxy("sidecar", BLACK_HOLE)])), ["path[0]"]);
    assert_eq!(names(&nothing, &observation(&[]), &joined(Vec::new())), Vec::<String>::new());
}

#[test]
fn hops_in_another_order_do_not_pass() {
    let mut hops = through_gateway();
    hops.swap(0, 1);
    assert_eq!(seen(hops).len(), 2, "one hop too many and one missing");
}

#[test]
fn short_forms_and_full_names_mean_the_same() {
    let full = "path: [{sidecar: {upstream_cluster: BlackHoleCluster, response_flags: [UH], route_name: absent}}]";
    let short = "path: [{sidecar: {cluster: BlackHoleCluster, flags: [UH], route: absent, upstream: absent}}]";
    let joined = joined(vec![proxy("sidecar", BLACK_HOLE)]);
    for yaml in [full, short] {
        assert_eq!(names(&expect(yaml), &observation(&[BLACK_HOLE]), &joined), Vec::<String>::new(), "{yaml}");
    }
    let http = "path: [{sidecar: {code: 502, details: direct_response, route: block_all, authority: httpbin.org, cluster: absent}}]";
    let hops = super::fixture::joined(vec![proxy("sidecar", BLOCK_ALL)]);
    assert_eq!(names(&expect(http), &observation(&[]), &hops), Vec::<String>::new());
}

#[test]
fn flags_are_a_set() {
    let joined = joined(vec![proxy("sidecar", &BLACK_HOLE.replace(" UH ", " URX,UF "))]);
    let with = |yaml: &str| names(&expect(yaml), &observation(&[]), &joined).len();
    assert_eq!(with("path: [{sidecar: {flags: [UF, URX]}}]"), 0);
    assert_eq!(with("path: [{sidecar: {flags: [UF]}}]"), 1);
    assert_eq!(with("path: [{sidecar: {flags: absent}}]"), 1);
}

#[test]
fn an_upstream_goes_by_every_name_and_not_means_none_of_them() {
    let joined = joined(vec![proxy("gateway", GATEWAY_TCP)]);
    let with = |matcher: &str| {
        let yaml = format!("path: [{{gateway: {{upstream: {matcher}}}}}]");
        names(&expect(&yaml), &observation(&[]), &joined).is_empty()
    };
    for matcher in ["my-server", "192.168.0.78", "\"192.168.0.78:1234\"", "{in: [x, my-server]}", "{not: gateway}"] {
        assert!(with(matcher), "{matcher}");
    }
    for matcher in ["gateway", "{not: my-server}", "{not: 192.168.0.78}", "absent", "192.168.0.7"] {
        assert!(!with(matcher), "{matcher}");
    }
}

#[test]
fn what_curl_said_is_compared_field_by_field() {
    let observation = observation(&[]);
    let with = |yaml: &str| names(&expect(yaml), &observation, &joined(Vec::new()));
    assert_eq!(with("client: {exit: {in: [52, 56]}, status: absent}"), ["client.exit", "client.status"]);
    assert_eq!(with("client: {body: absent, stderr: {contains: refused}}"), ["client.body", "client.stderr"]);
    assert_eq!(with("client: {remote: 10.0.0.1, headers: {server: envoy, CONTENT-TYPE: text/html}}").len(), 2);
}

#[test]
fn an_answer_that_was_cut_off_is_the_harness_fault() {
    let mut observation = observation(&[]);
    observation.client = None;
    let findings = check(&expect("client: {exit: 0}"), &observation, &joined(Vec::new()), &directory());
    assert_eq!(findings.iter().map(|f| (f.what.as_str(), f.fault)).collect::<Vec<_>>(), [("client", Fault::Harness)]);
}

#[test]
fn a_path_that_is_not_closed_never_passes_and_never_blames_the_mesh() {
    for state in [State::Open { waiting_for: "the gateway".into() }, State::Inconclusive { why: "a port twice".into() }] {
        let joined = Joined { state, ..joined(through_gateway()) };
        let findings = check(&expect_gateway(), &observation(&[SIDECAR_TCP]), &joined, &directory());
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].what.as_str(), findings[0].fault), ("path", Fault::Harness));
    }
}

#[test]
fn refusals_are_expected_or_a_finding() {
    let refused = ["admission webhook denied: hosts must be set".to_owned()];
    let expect = |text: &str| ApplyExpect { rejected: serde_saphyr::from_str(text).expect("a matcher") };
    assert_eq!(check_apply(None, &[]), []);
    assert_eq!(check_apply(None, &refused)[0].fault, Fault::Environment);
    assert_eq!(check_apply(Some(&expect("{contains: hosts must}")), &refused), []);
    assert_eq!(check_apply(Some(&expect("{contains: other}")), &refused)[0].fault, Fault::Mesh);
    assert_eq!(check_apply(Some(&expect("{contains: hosts must}")), &[])[0].seen, "accepted");
}

#[test]
fn explanations_read_as_they_should() {
    let explained = |expect: &Expect, observation: &Observation, joined: &Joined| {
        let findings = check(expect, observation, joined, &directory());
        explain(expect, observation, joined, &findings, "egress-conformance run egress-gateway/tcp")
    };
    let observation = observation(&[BLACK_HOLE]);
    let blocked = explained(&expect_gateway(), &observation, &joined(vec![proxy("sidecar", BLACK_HOLE)]));
    insta::assert_snapshot!("blocked_by_registry_only", blocked);
    let mut hops = through_gateway();
    hops[1] = proxy(
        "gateway",
        &GATEWAY_TCP.replace("\" 0 - - -", "\" 0 UF - -").replace("outbound|1234||my.server.com", "outbound|1234||my.srv"),
    );
    hops.insert(2, proxy("gateway", GATEWAY_TCP));
    insta::assert_snapshot!("one_hop_too_many", explained(&expect_gateway(), &observation, &joined(hops)));
    let nothing = explained(&expect("path: []"), &observation, &joined(vec![proxy("sidecar", BLOCK_ALL)]));
    insta::assert_snapshot!("answered_by_the_sidecar", nothing);
}

#[test]
fn hints_name_the_object_to_look_at() {
    let says = |kind: &str, line: &str| match proxy(kind, line) {
        SeenHop::Gateway(proxy) => hint(&proxy, true, &directory()),
        SeenHop::Sidecar(proxy) => hint(&proxy, false, &directory()),
        SeenHop::Destination(_) => None,
    };
    assert_eq!(says("sidecar", SIDECAR_TCP), None);
    for (kind, line, part) in [
        ("sidecar", BLACK_HOLE.to_owned(), "no ServiceEntry"),
        ("sidecar", BLOCK_ALL.to_owned(), "no virtual host for host httpbin.org"),
        ("sidecar", BLOCK_ALL.replace("block_all", "allow_any"), "ALLOW_ANY"),
        ("sidecar", SIDECAR_TCP.replace("\" 0 -", "\" 0 NC"), "port 2234"),
        ("sidecar", SIDECAR_TCP.replace("\" 0 -", "\" 0 UF,URX"), "no Gateway object opens that port"),
        ("gateway", GATEWAY_TCP.replace("\" 0 -", "\" 0 UF,URX"), "my-server (192.168.0.78:1234) failed"),
        ("gateway", GATEWAY_TCP.replace("\" 0 - -", "\" 0 NR filter_chain_not_found"), "no filter chain for server name (none)"),
        ("gateway", BLOCK_ALL.replace("502 - direct_response", "404 NR route_not_found").replace("block_all", "-"), "The gateway's listener has no route"),
        ("gateway", GATEWAY_TCP.replace("\" 0 -", "\" 0 UH"), "has no endpoint"),
    ] {
        let said = says(kind, &line).unwrap_or_default();
        assert!(said.contains(part), "{line}\n{said}");
    }
}
