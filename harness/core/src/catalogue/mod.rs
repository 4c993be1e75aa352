//! The catalogue: a page in Markdown that says what each scenario claims, which object decides, which way each request
//! takes, and how to see it by hand.
//!
//! It says what scenarios expect; whether that holds is what runs and their reports say. Nothing is read but loaded
//! scenarios. Start at [`markdown`].

mod picture;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::scenario::Scenario;
use crate::scenario::schema::{Level, Scope, Step};

/// What the twins of a scenario are called beyond its own name: the same claim for one namespace.
const TWIN: &str = "-namespaced";

/// The page for these scenarios, which come ordered by id.
#[must_use]
pub fn markdown(scenarios: &[&Scenario]) -> String {
    let mut page = String::new();
    let groups = groups(scenarios);
    head(&mut page, scenarios, &groups);
    for (group, members) in &groups {
        let _ = writeln!(page, "\n## {group}");
        for scenario in members.iter().filter(|s| twin_of(s, members).is_none()) {
            let twin = members.iter().find(|other| twin_of(other, members) == Some(scenario.id.claim.as_str()));
            entry(&mut page, scenario, twin.copied());
        }
    }
    page
}

fn groups<'a>(scenarios: &[&'a Scenario]) -> BTreeMap<&'a str, Vec<&'a Scenario>> {
    let mut groups: BTreeMap<&str, Vec<&Scenario>> = BTreeMap::new();
    for scenario in scenarios {
        groups.entry(&scenario.id.group).or_default().push(scenario);
    }
    groups
}

/// The claim that a scenario repeats for one namespace, if it does.
fn twin_of<'a>(scenario: &'a Scenario, members: &[&Scenario]) -> Option<&'a str> {
    let claim = scenario.id.claim.strip_suffix(TWIN)?;
    members.iter().any(|other| other.id.claim == claim).then_some(claim)
}

fn probes(scenarios: &[&Scenario]) -> usize {
    scenarios.iter().flat_map(|s| &s.file.steps).filter(|step| step.probe.is_some()).count()
}

fn paths(scenarios: &[&Scenario]) -> usize {
    scenarios.iter().flat_map(|s| &s.file.steps).filter_map(|step| step.expect.exchanges()).map(|e| e.len()).sum()
}

fn head(page: &mut String, scenarios: &[&Scenario], groups: &BTreeMap<&str, Vec<&Scenario>>) {
    page.push_str(
        "# What Istio egress does

Made by `egress-conformance list -o markdown` from the scenarios; change those, not this page.

`egress-conformance run GROUP/CLAIM` proves a claim, and `egress-conformance explain GROUP/CLAIM` then shows the access-log
lines and the server's record behind each arrow. To try by hand, `egress-conformance shell` has a cluster with the clients
`meshed` and `plain`; what `${…}` stands for is in `scenarios/README.md` under *Variables*.

Below each command is the way that the request takes: `──▶` is a hop, with what that proxy's access log or the server's own
record says, and `──✕` is where it ends without a server.

",
    );
    page.push_str("| group | scenarios | probes | paths |\n|---|---:|---:|---:|\n");
    for (group, members) in groups {
        let (probes, paths) = (probes(members), paths(members));
        let _ = writeln!(page, "| [{group}](#{group}) | {} | {probes} | {paths} |", members.len());
    }
    let _ = writeln!(page, "| all | {} | {} | {} |", scenarios.len(), probes(scenarios), paths(scenarios));
}

fn entry(page: &mut String, scenario: &Scenario, twin: Option<&Scenario>) {
    let file = &scenario.file;
    let level = match file.level {
        Level::Core => "core",
        Level::Extended => "extended",
    };
    let scope = match file.scope {
        Scope::Mesh => "the whole mesh",
        Scope::Namespace => "one namespace",
    };
    let _ = writeln!(page, "\n### {}\n", file.title);
    let _ = write!(page, "`{}`, {level}, {scope}, profile `{}`", scenario.id, file.mesh);
    if let Some(versions) = &file.istio {
        let _ = write!(page, ", Istio {versions}");
    }
    if let Some(twin) = twin {
        let _ = write!(page, "; for one namespace: `{}`", twin.id);
    }
    let _ = writeln!(page, "\n\n{}", file.about.trim());
    if !file.links.is_empty() {
        let links: Vec<String> = file.links.iter().map(|link| format!("<{link}>")).collect();
        let _ = writeln!(page, "\nSee {}.", links.join(", "));
    }
    let deciding: Vec<String> = scenario
        .manifests
        .values()
        .filter(|m| !file.inert.contains_key(&m.name))
        .flat_map(|m| m.objects.iter().map(|o| format!("{} `{}`", o.kind(), o.name())))
        .collect();
    if !deciding.is_empty() {
        let _ = writeln!(page, "\nWhat decides: {}.", deciding.join(", "));
    }
    for (manifest, why) in &file.inert {
        let _ = writeln!(page, "\n`{manifest}` changes nothing: {}", why.trim());
    }
    page.push('\n');
    for (n, step) in file.steps.iter().enumerate() {
        self::step(page, n + 1, scenario, step);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
}

fn step(page: &mut String, number: usize, scenario: &Scenario, step: &Step) {
    let objects = |names: &[String]| {
        let objects = names.iter().filter_map(|name| scenario.manifests.get(name)).flat_map(|m| &m.objects);
        objects.map(|o| format!("{} `{}`", o.kind(), o.name())).collect::<Vec<_>>().join(", ")
    };
    let mut changes = Vec::new();
    if !step.delete.is_empty() {
        changes.push(format!("without {}", objects(&step.delete)));
    }
    if !step.apply.is_empty() {
        changes.push(format!("with {}", objects(&step.apply)));
    }
    changes.extend(step.set.iter().map(|(name, behaviour)| format!("`{name}` is {behaviour}")));
    let _ = write!(page, "{number}. **{}**", step.name);
    if !changes.is_empty() {
        let _ = write!(page, " ({})", changes.join("; "));
    }
    page.push('\n');
    if let Some(apply) = &step.expect.apply {
        let _ = writeln!(page, "   is refused: {}", apply.rejected);
    }
    let lines = picture::of(scenario, step);
    if lines.is_empty() {
        return;
    }
    page.push_str("\n   ```text\n");
    for line in lines {
        let _ = writeln!(page, "   {line}");
    }
    page.push_str("   ```\n");
    for variant in &step.variants {
        let _ = writeln!(page, "\n   With {} otherwise: <{}>", variant.when, variant.because);
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use crate::scenario::load;

    const SCENARIO: &str = "
title: A TCP ServiceEntry opens a server
about: Whoever forgets it gets nothing.
links: [https://istio.io/latest/]
level: core
scope: mesh
mesh: registry-only
destinations: {my-server: {serves: files, port: 1234, hosts: [my.server.com]}}
steps:
- name: blocked
  probe: {from: meshed, curl: ['http://my.server.com:1234/']}
  expect: {client: {exit: {in: [52, 56]}}, path: [{sidecar: {cluster: BlackHoleCluster, flags: [UH]}}]}
  control: open
- name: open
  apply: [service-entry.yaml]
  probe: {from: meshed, curl: ['http://my.server.com:1234/']}
  expect:
    client: {exit: 0, status: 200}
    path: [{sidecar: {cluster: 'outbound|1234||my.server.com'}}, {destination: {name: my-server, source: client}}]
";
    const SERVICE_ENTRY: &str = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: my-server}}";

    #[test]
    fn a_claim_has_its_objects_commands_and_paths() {
        let files = [("g/c/scenario.yaml", SCENARIO), ("g/c/service-entry.yaml", SERVICE_ENTRY)];
        let files: BTreeMap<PathBuf, String> = files.map(|(path, text)| (path.into(), text.to_owned())).into();
        let set = load(&files, &["registry-only".to_owned()]).unwrap_or_else(|e| panic!("{e}"));
        let scenarios: Vec<_> = set.scenarios.iter().map(AsRef::as_ref).collect();
        insta::assert_snapshot!(super::markdown(&scenarios));
    }
}
