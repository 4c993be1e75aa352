//! The scenarios of this repository, and deliberately broken ones with the exact message that they must give.
//!
//! `UPDATE=1 cargo test -p egress-core --test scenarios` writes `scenarios/schema.json`, `docs/catalogue.md` and the `expected.txt` of every
//! folder in `fixtures/broken/` anew; read the difference before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use egress_core::scenario::expect::Hop;
use egress_core::scenario::schema::Scope;
use egress_core::scenario::{
    CaValues, Capability, Circumstances, GatewayValues, ObjectRef, Order, Scenario, Selection, Values, expand_in, load,
    plan, references_in, schema_json,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below a folder, by its path below `base`.
fn files(folder: &Path, base: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, base, found);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(path.strip_prefix(base).unwrap().to_path_buf(), text);
        }
    }
}

fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    files(folder, folder, &mut found);
    found
}

fn profiles() -> Vec<String> {
    let names = std::fs::read_dir(root().join("fixtures/mesh")).unwrap().map(|e| e.unwrap().path());
    let yaml = names.filter(|p| p.extension().is_some_and(|e| e == "yaml"));
    yaml.map(|p| p.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

fn everything(istio: Option<&str>) -> Circumstances {
    let capabilities = Capability::ALL.into();
    Circumstances { capabilities, istio: istio.map(str::to_owned), ..Circumstances::default() }
}

fn ours() -> egress_core::scenario::ScenarioSet {
    let files = tree(&root().join("scenarios"));
    let files = files.into_iter().map(|(path, text)| (Path::new("scenarios").join(path), text)).collect();
    load(&files, &profiles()).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// The committed text must be the computed one; with `UPDATE=1` it becomes it.
fn check(path: &Path, computed: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
        std::fs::write(path, computed).unwrap();
        return Ok(());
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    if committed == computed {
        return Ok(());
    }
    Err(format!(
        "{} differs; UPDATE=1 writes it anew\n--- committed\n{committed}--- computed\n{computed}",
        path.display()
    ))
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    check(&root().join("scenarios/schema.json"), &schema_json()).unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn the_committed_catalogue_is_the_one_of_the_scenarios() {
    let set = ours();
    let scenarios: Vec<&Scenario> = set.scenarios.iter().map(AsRef::as_ref).collect();
    let page = egress_core::catalogue::markdown(&scenarios);
    check(&root().join("docs/catalogue.md"), &page).unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn broken_scenarios_say_what_is_wrong() {
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(root().join("fixtures/broken")).unwrap() {
        let case = entry.unwrap().path();
        if !case.join("scenarios").is_dir() {
            continue;
        }
        cases += 1;
        let mut files = tree(&case);
        files.remove(Path::new("expected.txt"));
        let message = match load(&files, &["registry-only".to_owned(), "allow-any".to_owned()]) {
            Err(errors) => errors.render(false),
            Ok(set) => match plan(&set, &Selection::default(), &everything(Some("1.31.0"))) {
                Err(errors) => errors.render(),
                Ok(_) => "no error\n".to_owned(),
            },
        };
        assert!(!message.contains("no error"), "{} is not broken at all", case.display());
        wrong.extend(check(&case.join("expected.txt"), &message).err());
    }
    assert!(cases > 30, "only {cases} broken scenarios were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let text = "title: 1\n".to_owned();
    let files = BTreeMap::from([(PathBuf::from("scenarios/a/b/scenario.yaml"), text)]);
    let errors = load(&files, &profiles()).unwrap_err();
    let colored = errors.render(true);
    let escape = colored.find('\u{1b}').expect("colour");
    assert_eq!(&colored[escape..escape + 7], "\u{1b}[1;31m");
    let plain = colored.split('\u{1b}').enumerate().map(|(n, part)| match n {
        0 => part,
        _ => part.split_once('m').unwrap().1,
    });
    assert_eq!(plain.collect::<String>(), errors.render(false));
}

#[test]
fn our_scenarios_load_and_can_run_together() {
    let set = ours();
    let ids: BTreeSet<String> = set.scenarios.iter().map(|s| s.id.to_string()).collect();
    assert!(ids.contains("egress-gateway/tcp-by-destination-subnets"), "{ids:?}");
    for group in
        ["registry-only", "service-entry", "endpoints", "external-name", "egress-gateway", "allow-any", "bypass"]
    {
        assert!(ids.iter().any(|id| id.starts_with(&format!("{group}/"))), "no scenario in {group}");
    }
    let plan = plan(&set, &Selection::default(), &everything(Some("1.31.0")))
        .unwrap_or_else(|errors| panic!("{}", errors.render()));
    assert_eq!(plan.scenarios().count(), set.scenarios.len(), "{:?} {:?}", plan.skipped, plan.unsupported);
    let profiles: BTreeSet<&str> = plan.groups.iter().map(|g| g.profile.as_str()).collect();
    assert_eq!(profiles.len(), plan.groups.len(), "a profile is switched to twice");
    let pool = (1..=plan.world.addresses_needed()).map(|n| Ipv4Addr::new(192, 0, 2, u8::try_from(n).unwrap()));
    let addresses = plan.world.assign(pool).unwrap();
    assert_eq!(addresses.destinations["wikipedia"].len(), 2);
}

#[test]
fn our_scenarios_expand_with_the_values_of_a_run() {
    let set = ours();
    let plan = plan(&set, &Selection::default(), &everything(None)).unwrap();
    let addresses = plan.world.assign((1..=250).map(|n| Ipv4Addr::new(192, 0, 2, n))).unwrap();
    for planned in plan.scenarios() {
        let scenario = &planned.scenario;
        let mut values = Values {
            namespace: "ec-1".into(),
            namespaces: scenario.file.namespaces.iter().map(|name| (name.clone(), format!("ec-1-{name}"))).collect(),
            destinations: addresses.values(),
            gateway: GatewayValues {
                host: "istio-egressgateway.istio-system.svc.cluster.local".into(),
                namespace: "istio-system".into(),
                address: "10.96.0.7".into(),
                selector: "istio=egressgateway".into(),
            },
            unused: Ipv4Addr::new(192, 0, 2, 255).into(),
            ca: CaValues::default(),
            objects: BTreeMap::new(),
        };
        for step in &scenario.file.steps {
            let wanted: Vec<ObjectRef> = references_in(step);
            values.objects.extend(wanted.into_iter().map(|reference| (reference, "10.96.7.7".to_owned())));
            let step = expand_in(step, &values).unwrap_or_else(|e| panic!("{} {}: {e}", scenario.id, step.name));
            assert!(!serde_json::to_string(&step).unwrap().contains("${"), "{} {}", scenario.id, step.name);
        }
        for manifest in scenario.manifests.values() {
            let objects = manifest.expanded(&values).unwrap_or_else(|e| panic!("{}: {e}", manifest.path.display()));
            let text = serde_json::to_string(&objects).unwrap();
            assert!(!objects.is_empty() && !text.contains("${"), "{text}");
        }
    }
}

/// What every scenario of ours does beyond what the language asks for.
#[test]
fn our_scenarios_keep_our_own_rules() {
    for scenario in ours().scenarios {
        let (id, file) = (&scenario.id, &scenario.file);
        assert!(!file.links.is_empty(), "{id}: no link");
        assert!(file.about.len() > 60, "{id}: about says too little");
        for step in file.steps.iter().filter(|s| s.probe.is_some()) {
            // A lookup has no path.
            let looks_up = step.probe.as_ref().is_some_and(|probe| probe.resolve.is_some());
            let states_its_path = step.expect.path.is_some() || step.expect.paths.is_some();
            assert!(looks_up || states_its_path, "{id}: step {:?} does not state its path", step.name);
            assert!(step.expect.client.as_ref().is_some_and(|c| c.exit.is_some()), "{id}: step {:?}", step.name);
        }
        // The claim is shown both ways: some probe is sent under other manifests than another, or arrives where another
        // does not.
        let mut there = BTreeSet::new();
        let mut shown = BTreeSet::new();
        for step in &file.steps {
            for gone in &step.delete {
                there.remove(gone);
            }
            there.extend(step.apply.iter().cloned());
            if step.probe.is_some() || step.expect.apply.is_some() || !step.expect.proxy.is_empty() {
                let arrives = step.expect.hops().any(|hop| matches!(hop, Hop::Destination(_)));
                shown.insert((there.clone(), arrives));
            }
        }
        assert!(scenario.manifests.is_empty() || shown.len() > 1, "{id}: all of its probes show the same");
    }
}

#[test]
fn a_twin_makes_the_claim_of_its_original_in_a_namespace() {
    let set = ours();
    let twins = set.scenarios.iter().filter(|s| s.id.claim.ends_with("-namespaced"));
    let mut count = 0;
    for twin in twins {
        count += 1;
        let original = twin.id.to_string().trim_end_matches("-namespaced").to_owned();
        let original = set.get(&original).unwrap_or_else(|| panic!("{} is nobody's twin", twin.id));
        assert_eq!((twin.file.scope, original.file.scope), (Scope::Namespace, Scope::Mesh), "{}", twin.id);
        assert_eq!(twin.file.title, format!("{} (in one namespace)", original.file.title));
        let names = |s: &Scenario| s.file.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>();
        assert!(names(twin).starts_with(&names(original)), "{} has other steps", twin.id);
    }
    assert!(count >= 12, "only {count} twins");
}

#[test]
fn twins_run_side_by_side_unless_they_want_the_same_of_the_gateway() {
    let set = ours();
    let selection = Selection { filters: vec!["*/*-namespaced".to_owned()], ..Selection::default() };
    let plan = plan(&set, &selection, &everything(None)).unwrap();
    let locks: BTreeMap<String, _> = plan.scenarios().map(|p| (p.scenario.id.to_string(), &p.locks)).collect();
    let of = |claim: &str| locks[&format!("egress-gateway/{claim}-namespaced")];
    let (http, https) = (of("http-by-host"), of("https-by-server-name"));
    let tcp = [of("tcp-by-destination-subnets"), of("needs-the-port-on-its-service")];
    assert!(!http.conflict(https) && !http.conflict(tcp[0]) && !https.conflict(tcp[0]), "{locks:?}");
    assert!(tcp[0].conflict(tcp[1]), "one port of the gateway carries one TCP route: {locks:?}");
    assert!(of("listens-when-a-gateway-asks").conflict(http), "a look at the gateway wants it alone: {locks:?}");
    let elsewhere = locks.iter().filter(|(id, _)| !id.starts_with("egress-gateway/") && !id.starts_with("bypass/"));
    for (id, own) in elsewhere {
        assert!(locks.values().all(|other| !own.conflict(other)), "{id}: {own}");
    }
}

/// A scenario that uses every part of the language, also what is ahead of the engine.
const WHOLE: &str = r#"
title: Everything at once
about: Not a claim, but a use of every part of the language.
scope: namespace
mesh: registry-only
namespaces: [other]
clients:
  meshed: {}
  plain: {sidecar: false}
  elsewhere: {namespace: other}
destinations:
  my-server: {serves: tcp, port: 1234, hosts: [my.server.com]}
steps:
- name: a name
  apply: [objects.yaml]
  probe: {from: elsewhere, resolve: "a.${namespace.other}.svc.cluster.local"}
  expect:
    objects: [{kind: ServiceEntry, name: a, namespace: "${namespace.other}", at: $.spec, is: {not: absent}}]
    client: {exit: 0, addresses: ["${my-server.address}"]}
- name: bytes
  probe: {from: elsewhere, tcp: {to: "${my-server.address}:1234", send: "hello\n"}}
  expect:
    client: {exit: 0, body: {contains: hello}}
    path: [{sidecar: {times: 1}}, {destination: {name: my-server, got: connection, times: {min: 1}}}]
  variants:
  - {when: {cluster: kind}, because: "https://example.com/1", expect: {path: [{destination: {name: my-server}}]}}
- name: nobody
  set: {my-server: refusing}
  probe: {from: meshed, curl: [-L, "http://my.server.com:1234/"]}
  expect:
    paths:
    - [{sidecar: {}}, {destination: {name: my-server}}]
    - [{sidecar: {flags: [UF]}}]
  control: bytes
"#;

#[test]
fn the_whole_language_loads_and_is_planned() {
    let objects = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: \
                   \"${namespace.other}\"}\nspec: {exportTo: [\".\", \"${namespace}\"], hosts: [my.server.com]}\n";
    let user = "title: t\nabout: a\nscope: namespace\nmesh: registry-only\ndestinations:\n  my-server: {serves: tcp, port: \
                1234, hosts: [my.server.com]}\nsteps:\n- name: go\n  probe: {from: plain, curl: [\"http://my.server.com:1234\"]}\n  \
                expect: {client: {exit: 0}}\n";
    let files = BTreeMap::from([
        (PathBuf::from("scenarios/a/whole/scenario.yaml"), WHOLE.to_owned()),
        (PathBuf::from("scenarios/a/whole/objects.yaml"), objects.to_owned()),
        (PathBuf::from("scenarios/a/user/scenario.yaml"), user.to_owned()),
        (PathBuf::from("scenarios/b/user/scenario.yaml"), user.to_owned()),
    ]);
    let set = load(&files, &profiles()).unwrap_or_else(|e| panic!("{}", e.render(false)));
    let plan = plan(&set, &Selection::default(), &everything(None)).unwrap();
    let locks: BTreeMap<String, _> = plan.scenarios().map(|p| (p.scenario.id.to_string(), &p.locks)).collect();
    let beside = |one: &str, two: &str| !locks[one].conflict(locks[two]);
    assert!(beside("a/user", "b/user"), "{locks:?}");
    assert!(!beside("a/whole", "a/user") && !beside("a/whole", "b/user"), "{locks:?}");

    let scenario = set.get("a/whole").unwrap();
    let values = Values {
        namespace: "ec-1".into(),
        namespaces: BTreeMap::from([("other".to_owned(), "ec-1-other".to_owned())]),
        destinations: BTreeMap::from([("my-server".to_owned(), vec![Ipv4Addr::new(192, 0, 2, 1).into()])]),
        gateway: GatewayValues {
            host: "gateway".into(),
            namespace: "istio-system".into(),
            address: "10.96.0.7".into(),
            selector: "istio=egressgateway".into(),
        },
        unused: Ipv4Addr::new(192, 0, 2, 255).into(),
        ca: CaValues::default(),
        objects: BTreeMap::new(),
    };
    let steps: Vec<_> = scenario.file.steps.iter().map(|step| expand_in(step, &values).unwrap()).collect();
    let sent: Vec<String> = steps.iter().map(|step| step.probe.as_ref().unwrap().to_string()).collect();
    assert_eq!(
        sent,
        [
            "resolve a.ec-1-other.svc.cluster.local",
            "tcp 192.0.2.1:1234 \"hello\\n\"",
            "curl -L http://my.server.com:1234/"
        ]
    );
    let object = &scenario.manifests["objects.yaml"].expanded(&values).unwrap()[0];
    assert_eq!(object["metadata"]["namespace"], "ec-1-other");
    assert_eq!(object["spec"]["exportTo"][1], "ec-1");
}

#[test]
fn a_seed_orders_scenarios_and_a_filter_keeps_their_order() {
    let set = ours();
    let order = |filters: &[&str], order| -> Vec<String> {
        let filters = filters.iter().map(|f| (*f).to_owned()).collect();
        let selection = Selection { filters, order, ..Selection::default() };
        let plan = plan(&set, &selection, &everything(None)).unwrap();
        plan.scenarios().map(|p| p.scenario.id.to_string()).collect()
    };
    let (one, two) = (order(&[], Order::Random(1)), order(&[], Order::Random(2)));
    assert_eq!(one, order(&[], Order::Random(1)));
    assert_ne!(one, two);
    let some = order(&["service-entry"], Order::Random(1));
    let kept: Vec<_> = one.iter().filter(|id| id.starts_with("service-entry/")).cloned().collect();
    assert_eq!(some, kept);
}

#[test]
fn the_readme_names_every_field_of_the_language() {
    let readme = std::fs::read_to_string(root().join("scenarios/README.md")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema_json()).unwrap();
    let head = schema["properties"].as_object().unwrap().keys();
    for key in head {
        assert!(readme.contains(&format!("{key}:")), "the README does not show `{key}`");
    }
    for of in ["ProxyHop", "DestinationHop", "ClientExpect", "DestinationSpec", "Form", "Step", "Expect"] {
        for field in schema["$defs"][of]["properties"].as_object().unwrap().keys() {
            let shown =
                ["`F`", "`F:", "{F:", " F:", "`F ", ".F`", "{F}", ", F", "`F,"].map(|form| form.replace('F', field));
            assert!(shown.iter().any(|form| readme.contains(form)), "the README does not tell of `{field}` of {of}");
        }
    }
    for capability in Capability::ALL {
        assert!(readme.contains(capability.as_str()), "{capability}");
    }
}

#[test]
fn places_are_right_beside_letters_of_more_than_one_byte() {
    let text = "title: é…😀 t\nabout: a\nscope: mesh\nmesh: registry-only\nsteps:\n- name: x\n  \
                probe: {from: meshed, curl: [\"é😀${nobody.address}\"]}\n  expect: {client: {exit: 0}}\n";
    let files = BTreeMap::from([(PathBuf::from("scenarios/a/b/scenario.yaml"), text.to_owned())]);
    let errors = load(&files, &profiles()).unwrap_err();
    assert_eq!(errors.0.len(), 1);
    let rendered = errors.render(false);
    assert!(rendered.contains("scenario.yaml:7:35\n"), "{rendered}");
    assert!(rendered.contains(&format!("   | {}{}\n", " ".repeat(34), "^".repeat(17))), "{rendered}");
}

proptest::proptest! {
    /// Whatever is in a file, loading ends with scenarios or with messages.
    #[test]
    fn loading_never_panics(at in 0..2000_usize, cut in 0..40_usize, put in "[ -~é😀\\n\\t{}\\[\\]:$&*!|>]{0,12}", which in 0..2_usize) {
        let folder = root().join("scenarios/endpoints/service-without-selector");
        let mut files = BTreeMap::new();
        for name in ["scenario.yaml", "service.yaml", "endpoints.yaml", "destination-rule.yaml"] {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            files.insert(Path::new("scenarios/a/b").join(name), text);
        }
        let changed = Path::new("scenarios/a/b").join(["scenario.yaml", "endpoints.yaml"][which]);
        let text: Vec<char> = files[&changed].chars().collect();
        let at = at % text.len();
        let end = (at + cut).min(text.len());
        files.insert(changed, text[..at].iter().copied().chain(put.chars()).chain(text[end..].iter().copied()).collect());
        match load(&files, &profiles()) {
            Ok(set) => proptest::prop_assert!(set.scenarios.len() <= 1),
            Err(errors) => proptest::prop_assert!(errors.render(false).starts_with("error: ")),
        }
    }
}
