use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;
use crate::scenario::load;

/// A set of scenarios, each with one manifest; `HEAD` of each is given as text.
fn set(scenarios: &[(&str, &str, &str)]) -> ScenarioSet {
    let mut files = BTreeMap::new();
    for (id, head, manifest) in scenarios {
        let scope = if head.contains("scope: ") { "" } else { "scope: namespace\n" };
        let look = if head.contains("steps:") { "" } else { "steps:\n" };
        let apply = if manifest.is_empty() { "" } else { "- name: make\n  apply: [m.yaml]\n" };
        let text = format!(
            "title: t\nabout: a\nmesh: registry-only\n{scope}{head}{look}{apply}- name: go\n  probe: {{from: meshed, curl: [x]}}\n  \
             expect: {{path: [{{sidecar: {{}}}}, {{gateway: {{}}}}, {{destination: {{name: d}}}}]}}\n"
        );
        let text = text.replace("steps:\n", "destinations: {d: {serves: files, port: 80}}\nsteps:\n");
        files.insert(PathBuf::from(format!("scenarios/{id}/scenario.yaml")), text);
        if !manifest.is_empty() {
            files.insert(PathBuf::from(format!("scenarios/{id}/m.yaml")), (*manifest).to_owned());
        }
    }
    load(&files, &["registry-only".to_owned()]).unwrap_or_else(|e| panic!("{}", e.render(false)))
}

fn everything() -> Circumstances {
    Circumstances { capabilities: Capability::ALL.into(), ..Circumstances::default() }
}

fn locks(scenarios: &[(&str, &str, &str)]) -> Vec<Locks> {
    let plan = plan(&set(scenarios), &Selection::default(), &everything()).unwrap();
    plan.scenarios().map(|planned| planned.locks.clone()).collect()
}

/// Whether two scenarios with these manifests may run at the same time, planned together or apart.
fn beside(one: &str, two: &str) -> bool {
    let together = locks(&[("g/a", "", one), ("g/b", "", two)]);
    let apart = [locks(&[("g/a", "", one)]), locks(&[("g/b", "", two)])].concat();
    assert_eq!(together, apart);
    assert_eq!(together[0].conflict(&together[1]), together[1].conflict(&together[0]));
    !together[0].conflict(&together[1])
}

fn gateway(port: u16, protocol: &str, hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - port: {{number: {port}, name: p, protocol: {protocol}}}\n    hosts: [{hosts}]\n"
    )
}

fn entry(host: &str, export: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: se}}\nspec: {{hosts: [\"{host}\"], exportTo: [{export}]}}\n"
    )
}

#[test]
fn hosts_that_the_gateway_tells_apart_share_a_port() {
    for protocol in ["HTTP", "TLS", "HTTPS", "GRPC"] {
        let on = |hosts: &str| gateway(443, protocol, hosts);
        assert!(beside(&on("a.com"), &on("b.com")), "{protocol}");
        assert!(beside(&on("a.com, x.com"), &on("b.com, y.com")), "{protocol}");
        assert!(!beside(&on("a.com, x.com"), &on("b.com, x.com")), "{protocol}");
        assert!(!beside(&on("a.com"), &on("other-namespace/A.com")), "{protocol}");
    }
    assert!(beside(&gateway(443, "TLS", "a.com"), &gateway(443, "HTTPS", "b.com")));
    assert!(beside(&gateway(80, "HTTP", "a.com"), &gateway(443, "TLS", "a.com")));
}

#[test]
fn tcp_takes_the_whole_port() {
    assert!(!beside(&gateway(2234, "TCP", "a.com"), &gateway(2234, "TCP", "b.com")));
    assert!(!beside(&gateway(2234, "TCP", "a.com"), &gateway(2234, "HTTP", "b.com")));
    assert!(!beside(&gateway(2234, "MONGO", "a.com"), &gateway(2234, "TLS", "b.com")));
    assert!(beside(&gateway(2234, "TCP", "a.com"), &gateway(2235, "TCP", "a.com")));
}

#[test]
fn a_port_speaks_one_family_of_protocols() {
    assert!(!beside(&gateway(443, "HTTP", "a.com"), &gateway(443, "TLS", "b.com")));
    assert!(beside(&gateway(80, "HTTP", "a.com"), &gateway(80, "HTTP2", "b.com")));
}

#[test]
fn a_wildcard_conflicts_with_what_it_includes() {
    let tls = |hosts: &str| gateway(443, "TLS", hosts);
    assert!(!beside(&tls("\"*\""), &tls("b.com")));
    assert!(!beside(&tls("\"*\""), &tls("\"*\"")));
    assert!(!beside(&tls("\"*.a.com\""), &tls("x.a.com")));
    assert!(!beside(&tls("\"*.a.com\""), &tls("\"*.x.a.com\"")));
    assert!(beside(&tls("\"*.a.com\""), &tls("a.com")));
    assert!(beside(&tls("\"*.a.com\""), &tls("\"*.b.com\"")));
}

#[test]
fn what_the_gateway_sees_of_the_registry_is_one_at_a_time() {
    let both = "\".\", \"${gateway.namespace}\"";
    assert!(!beside(&entry("a.com", both), &entry("a.com", both)));
    assert!(beside(&entry("a.com", both), &entry("b.com", both)));
    assert!(beside(&entry("a.com", "\".\""), &entry("a.com", "\".\"")));
    assert!(beside(&entry("a.com", both), &entry("a.com", "\".\"")));
    assert!(!beside(&entry("*.a.com", both), &entry("b.a.com", both)));
    assert!(beside(&entry("${namespace}.a.com", both), &entry("${namespace}.a.com", both)));
}

#[test]
fn objects_outside_of_the_namespace_are_one_at_a_time_by_kind_and_name() {
    let object = |kind: &str, name: &str, at: &str| {
        format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: \"{name}\"{at}}}\n")
    };
    let there = ", namespace: \"${gateway.namespace}\"";
    assert!(!beside(&object("Secret", "a", there), &object("Secret", "a", there)));
    assert!(beside(&object("Secret", "a", there), &object("Secret", "b", there)));
    assert!(beside(&object("Secret", "a", there), &object("ConfigMap", "a", there)));
    assert!(beside(&object("Secret", "a", ""), &object("Secret", "a", "")));
    assert!(beside(&object("Secret", "${namespace}-a", there), &object("Secret", "${namespace}-a", there)));
    assert!(!beside(&object("Namespace", "a", ""), &object("Namespace", "a", "")));
    assert!(beside(&object("Namespace", "a", ""), &object("Namespace", "${namespace}-a", "")));
}

#[test]
fn a_policy_on_the_gateway_or_a_look_at_it_wants_the_gateway_alone() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: \
                  \"${gateway.namespace}\"}\nspec: {selector: {matchLabels: {istio: egressgateway}}}\n";
    assert!(!beside(policy, &gateway(443, "TLS", "a.com")));
    assert!(!beside(policy, &entry("a.com", "\".\", \"${gateway.namespace}\"")));
    assert!(beside(policy, &entry("a.com", "\".\"")));
    let look = "steps:\n- name: look\n  expect: {proxy: [{of: gateway, listener: 0.0.0.0_2234, present: false}]}\n";
    let seen =
        locks(&[("g/a", look, ""), ("g/b", "", &gateway(443, "TLS", "a.com")), ("g/c", "", &entry("a.com", "."))]);
    assert!(seen[0].conflict(&seen[1]), "{seen:?}");
    assert!(!seen[0].conflict(&seen[2]), "{seen:?}");
}

#[test]
fn a_scenario_that_runs_alone_holds_no_lock_and_comes_last() {
    let gateway = gateway(443, "TLS", "a.com");
    let set = set(&[
        ("g/a", "scope: mesh\n", &gateway),
        ("g/b", "", &gateway),
        ("g/c", "scope: mesh\n", ""),
        ("g/d", "", ""),
    ]);
    let ordered = |order| {
        let selection = Selection { order, ..Selection::default() };
        let plan = plan(&set, &selection, &everything()).unwrap();
        plan.scenarios().map(|p| (p.scenario.id.to_string(), p.locks.len())).collect::<Vec<_>>()
    };
    let given = ordered(Order::Given);
    assert_eq!(given, [("g/b".into(), 2), ("g/d".into(), 1), ("g/a".into(), 0), ("g/c".into(), 0)]);
    let shuffled: BTreeSet<Vec<(String, usize)>> = (0..20).map(|seed| ordered(Order::Random(seed))).collect();
    assert_eq!(shuffled.len(), 4, "each half in either order: {shuffled:?}");
    assert!(shuffled.iter().all(|order| order[..2].iter().all(|(id, _)| id == "g/b" || id == "g/d")));
}

#[test]
fn who_changes_a_server_has_it_alone() {
    let set = "steps:\n- name: set\n  set: {d: refusing}\n";
    let seen = locks(&[("g/a", set, ""), ("g/b", set, ""), ("g/c", "", ""), ("g/d", "", "")]);
    assert!(seen[0].conflict(&seen[1]) && seen[0].conflict(&seen[2]), "{seen:?}");
    assert!(!seen[2].conflict(&seen[3]), "{seen:?}");
}

#[test]
fn locks_print_and_go_from_one_process_to_another() {
    let locks = locks(&[("g/a", "", &gateway(443, "TLS", "a.com"))]);
    assert_eq!(locks[0].to_string(), "gateway-port 443 TLS host a.com, destination d as it is");
    let text = serde_json::to_string(&locks[0]).unwrap();
    assert_eq!(serde_json::from_str::<Locks>(&text).unwrap(), locks[0], "{text}");
    let named = |name: &str| Locks::from_iter([Lock::new(name)]);
    assert!(named("a").conflict(&named("a")) && !named("a").conflict(&named("b")) && !named("a").conflict(&locks[0]));
}
