use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::*;
use crate::scenario::load;

/// A set of scenarios without steps of interest: id, and lines of its head.
fn set(scenarios: &[(&str, &str)]) -> ScenarioSet {
    let files = scenarios.iter().map(|(id, head)| {
        let mesh = if head.contains("mesh: ") { "" } else { "mesh: registry-only\n" };
        let scope = if head.contains("scope: ") { "" } else { "scope: mesh\n" };
        let text = format!(
            "title: t\nabout: a\n{mesh}{scope}{head}steps:\n- name: look\n  probe: {{from: plain, curl: [x]}}\n  \
             expect: {{client: {{exit: 0}}}}\n"
        );
        (PathBuf::from(format!("scenarios/{id}/scenario.yaml")), text)
    });
    let files: BTreeMap<_, _> = files.collect();
    let profiles = ["registry-only".to_owned(), "allow-any".to_owned()];
    load(&files, &profiles).unwrap_or_else(|e| panic!("{}", e.render(false)))
}

/// One scenario whose head ends in the beginning of a step, which looks for an exit code of 0.
fn set_of(id: &str, head: &str) -> ScenarioSet {
    let text = format!(
        "title: t\nabout: a\nmesh: registry-only\nscope: mesh\n{head}  probe: {{from: plain, curl: [x]}}\n  \
         expect: {{client: {{exit: 0}}}}\n"
    );
    let files = BTreeMap::from([(PathBuf::from(format!("scenarios/{id}/scenario.yaml")), text)]);
    load(&files, &["registry-only".to_owned()]).unwrap_or_else(|e| panic!("{}", e.render(false)))
}

fn all() -> Circumstances {
    Circumstances { capabilities: Capability::ALL.into(), ..Circumstances::default() }
}

fn version(istio: &str) -> Circumstances {
    Circumstances { istio: Some(istio.to_owned()), ..all() }
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.scenarios().map(|p| p.scenario.id.to_string()).collect()
}

fn chosen(set: &ScenarioSet, filters: &[&str]) -> Result<Vec<String>, String> {
    let filters = filters.iter().map(|f| (*f).to_owned()).collect();
    let selection = Selection { filters, ..Selection::default() };
    plan(set, &selection, &all()).map(|p| ids(&p)).map_err(|e| e.render())
}

#[test]
fn filters_are_ids_names_and_globs() {
    let set = set(&[("tcp/direct", ""), ("tcp/gateway", ""), ("http/direct", "")]);
    let some = |filters: &[&str]| chosen(&set, filters).unwrap();
    assert_eq!(some(&[]), ["http/direct", "tcp/direct", "tcp/gateway"]);
    assert_eq!(some(&["tcp/direct"]), ["tcp/direct"]);
    assert_eq!(some(&["tcp::direct"]), ["tcp/direct"]);
    assert_eq!(some(&["tcp"]), ["tcp/direct", "tcp/gateway"]);
    assert_eq!(some(&["direct"]), ["http/direct", "tcp/direct"]);
    assert_eq!(some(&["*/d*", "tcp/gateway"]), ["http/direct", "tcp/direct", "tcp/gateway"]);
    assert_eq!(some(&["*::gate*"]), ["tcp/gateway"]);
}

#[test]
fn a_filter_that_selects_nothing_is_an_error_even_beside_one_that_does() {
    let set = set(&[("tcp/direct", ""), ("tcp/gateway", "")]);
    let error = chosen(&set, &["tcp/direct", "tcp::gatway"]).unwrap_err();
    assert_eq!(error, "error: no scenario matches `tcp::gatway`\n  help: did you mean `tcp/gateway`?\n");
    let error = chosen(&set, &["gatewy"]).unwrap_err();
    assert_eq!(error, "error: no scenario matches `gatewy`\n  help: did you mean `gateway`?\n");
    assert!(chosen(&set, &["a[b"]).unwrap_err().contains("is no glob"));
}

#[test]
fn groups_and_level_narrow_the_selection() {
    let set = set(&[("tcp/a", ""), ("tcp/b", "level: extended\n"), ("http/a", "")]);
    let select = |groups: &[&str], level| {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        plan(&set, &Selection { groups, level, ..Selection::default() }, &all())
    };
    assert_eq!(ids(&select(&["tcp"], None).unwrap()), ["tcp/a", "tcp/b"]);
    assert_eq!(ids(&select(&["tcp"], Some(Level::Core)).unwrap()), ["tcp/a"]);
    assert_eq!(ids(&select(&[], Some(Level::Extended)).unwrap()).len(), 3);
    let error = select(&["dns"], None).unwrap_err().render();
    assert_eq!(error, "error: no group is named `dns`\n  help: groups are http, tcp\n");
    let both = Selection { filters: vec!["http/a".into()], groups: vec!["tcp".into()], ..Selection::default() };
    let error = plan(&set, &both, &all()).unwrap_err().render();
    assert!(error.contains("together"), "{error}");
}

#[test]
fn what_cannot_run_here_is_set_apart_with_its_reason() {
    let set = set(&[
        ("a/gateway", "requires: [egress-gateway]\n"),
        ("a/old", "istio: \"<1.24\"\n"),
        ("a/new", "istio: \">=1.24, <1.40\"\n"),
    ]);
    let plan = |istio: Option<&str>| {
        let on = Circumstances { istio: istio.map(str::to_owned), ..Circumstances::default() };
        plan(&set, &Selection::default(), &on)
    };
    let seen = plan(Some("1.31.0-rc.0")).unwrap();
    assert_eq!(ids(&seen), ["a/new"]);
    assert_eq!(seen.unsupported, [("a/gateway".parse().unwrap(), Capability::EgressGateway)]);
    let [(id, reason)] = &seen.skipped[..] else { panic!("{:?}", seen.skipped) };
    assert_eq!(
        (id.to_string(), reason.to_string()),
        ("a/old".to_owned(), "the claim is about Istio <1.24, and this is 1.31.0-rc.0".to_owned())
    );
    assert_eq!(ids(&plan(Some("v1.23")).unwrap()), ["a/old"]);
    assert_eq!(ids(&plan(None).unwrap()), ["a/new", "a/old"]);
    assert!(plan(Some("unknown")).unwrap_err().render().contains("`unknown` is no version of Istio"));
}

#[test]
fn a_path_through_the_gateway_needs_one() {
    let steps = "destinations: {a: {serves: files, port: 80}}\nsteps:\n- name: go\n  probe: {from: meshed, curl: [x]}\n  \
                 expect: {path: [{sidecar: {}}, {gateway: {}}, {destination: {name: a}}]}\n- name: look\n";
    let (id, set) = ("a/gateway", set_of("a/gateway", steps));
    let on = |capabilities: &[Capability]| {
        let capabilities = capabilities.iter().copied().collect();
        plan(&set, &Selection::default(), &Circumstances { capabilities, ..Circumstances::default() }).unwrap()
    };
    assert_eq!(on(&[]).unsupported, [(id.parse().unwrap(), Capability::EgressGateway)]);
    assert_eq!(ids(&on(&[Capability::EgressGateway])), [id]);
}

#[test]
fn variants_count_under_the_circumstances_of_the_plan() {
    let steps = "steps:\n- name: go\n  probe: {from: plain, curl: [x]}\n  expect: {client: {exit: 0}}\n  variants:\n  \
                 - {when: {istio: '<1.24'}, because: 'https://a', expect: {client: {exit: 7}}}\n  control: look\n- name: look\n";
    let set = set_of("a/b", steps);
    let exit = |istio: &str| {
        let plan = plan(&set, &Selection::default(), &version(istio)).unwrap();
        let planned = plan.scenarios().next().unwrap();
        let expect = &planned.scenario.file.steps[0].expect;
        (expect.client.as_ref().unwrap().exit.as_ref().unwrap().to_string(), planned.variants.len())
    };
    assert_eq!(exit("1.24.3"), ("0".to_owned(), 0));
    assert_eq!(exit("1.23"), ("7".to_owned(), 1));
}

#[test]
fn each_profile_is_switched_to_once_and_scope_decides_the_lease() {
    let set = set(&[
        ("a/a", "mesh: allow-any\n"),
        ("a/b", "mesh: registry-only\nscope: namespace\n"),
        ("a/c", "mesh: allow-any\n"),
    ]);
    let plan = plan(&set, &Selection::default(), &all()).unwrap();
    let groups: Vec<_> = plan.groups.iter().map(|g| (g.profile.as_str(), g.scenarios.len())).collect();
    assert_eq!(groups, [("allow-any", 2), ("registry-only", 1)]);
    let leases: Vec<Lease> = plan.scenarios().map(|p| p.lease).collect();
    assert_eq!(leases, [Lease::Mesh, Lease::Mesh, Lease::Slot]);
}

const SERVER: &str = "destinations:\n  a: {serves: files, port: 80, hosts: [a.com], addresses: 2}\n";

#[test]
fn equal_declarations_are_one_server_and_addresses_follow_the_pool() {
    let head =
        format!("{SERVER}  b: {{serves: tcp, port: 81, hosts: [a.com], beside: a}}\n  c: {{serves: tcp, port: 80}}\n");
    let set = set(&[("g/one", SERVER), ("g/two", &head), ("g/three", "names: {nx.com: nxdomain, un.com: unused}\n")]);
    let world = plan(&set, &Selection::default(), &all()).unwrap().world;
    assert_eq!(world.destinations["a"].declared_by.len(), 2);
    assert_eq!(world.addresses_needed(), 3);
    let pool = |n| (1..=n).map(|n| Ipv4Addr::new(192, 0, 2, n));
    let addresses = world.assign(pool(9)).unwrap();
    let ip = |n| Ipv4Addr::new(192, 0, 2, n);
    assert_eq!(addresses.destinations["a"], [ip(1), ip(2)]);
    assert_eq!(addresses.destinations["b"], addresses.destinations["a"]);
    assert_eq!(addresses.destinations["c"], [ip(3)]);
    let dns = world.dns(&addresses, ip(200));
    assert_eq!(dns["a.com"], [ip(1), ip(2)]);
    assert_eq!((&dns["un.com"], dns["nx.com"].len()), (&vec![ip(200)], 0));
    let error = world.assign(pool(2)).unwrap_err();
    assert_eq!(error.message, "the external servers need 3 addresses, and the cluster has fewer");
}

#[test]
fn only_what_runs_shapes_the_world() {
    let other = "istio: \"<1.2\"\ndestinations:\n  a: {serves: tcp, port: 80, hosts: [a.com]}\n";
    let set = set(&[("g/one", SERVER), ("g/two", other)]);
    assert!(plan(&set, &Selection::default(), &version("1.31")).is_ok());
    let error = plan(&set, &Selection::default(), &version("1.1")).unwrap_err().render();
    assert!(error.contains("scenarios/g/one/scenario.yaml:6 and in scenarios/g/two/scenario.yaml:7"), "{error}");
}

#[test]
fn two_servers_cannot_share_a_socket() {
    let beside = |name: &str| format!("{SERVER}  {name}: {{serves: tcp, port: 81, beside: a}}\n");
    let set = set(&[("g/one", &beside("b")), ("g/two", &beside("c"))]);
    let error = plan(&set, &Selection::default(), &all()).unwrap_err().render();
    assert!(error.contains("port 81 of one machine is declared twice: as `b`"), "{error}");
}
