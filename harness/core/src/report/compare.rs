//! Two reports beside each other: verdicts and paths, whatever differs from run to run (addresses, times) left aside.

use std::collections::BTreeMap;
use std::fmt;

use super::model::{ClusterInfo, Report, ScenarioResult, StepResult};
use crate::path::{DestinationSeen, ProxySeen, SeenHop};

/// What differs between two reports. [`fmt::Display`] writes it as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The differences, by scenario.
    pub differences: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The scenario's id.
    pub scenario: String,
    /// The step's name, where it is about one.
    pub step: Option<String>,
    /// What differs.
    pub what: String,
    /// In the first report.
    pub first: String,
    /// In the second report.
    pub second: String,
}

impl Comparison {
    /// Whether the reports say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    fn add(&mut self, scenario: &str, step: Option<&str>, what: &str, first: String, second: String) {
        if first != second {
            let (scenario, step, what) = (scenario.to_owned(), step.map(str::to_owned), what.to_owned());
            self.differences.push(Difference { scenario, step, what, first, second });
        }
    }
}

/// Compares the verdicts and paths of two reports, scenario by scenario and step by step.
#[must_use]
pub fn compare(first: &Report, second: &Report) -> Comparison {
    let mut comparison = Comparison::default();
    let (a, b) = (by_run(first), by_run(second));
    let mut ids: Vec<_> = a.keys().chain(b.keys()).collect();
    ids.sort();
    ids.dedup();
    for id in ids {
        match (a.get(id), b.get(id)) {
            (Some(a), Some(b)) => {
                let (in_a, in_b) = (Names::of(&first.cluster, a), Names::of(&second.cluster, b));
                scenario(&mut comparison, id, (a, &in_a), (b, &in_b));
            }
            (a, b) => {
                let there = |s: Option<&ScenarioResult>| s.map_or("not run".to_owned(), |s| s.outcome.to_string());
                comparison.add(id, None, "outcome", there(a.copied()), there(b.copied()));
            }
        }
    }
    comparison
}

/// The results by scenario; a scenario that was repeated is compared run by run.
fn by_run(report: &Report) -> BTreeMap<String, &ScenarioResult> {
    let mut runs: BTreeMap<&str, u32> = BTreeMap::new();
    let mut named = BTreeMap::new();
    for scenario in &report.scenarios {
        let run = runs.entry(&scenario.id).or_default();
        *run += 1;
        let name = if *run == 1 { scenario.id.clone() } else { format!("{} (run {run})", scenario.id) };
        named.insert(name, scenario);
    }
    named
}

/// What was called how in one run, though it means the same in every run.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(cluster: &ClusterInfo, scenario: &ScenarioResult) -> Self {
        let mut names: Vec<_> = cluster
            .servers
            .iter()
            .flat_map(|(name, addresses)| addresses.iter().map(move |a| (a.to_string(), format!("<{name}>"))))
            .collect();
        if !scenario.namespace.is_empty() {
            names.push((scenario.namespace.clone(), "<namespace>".to_owned()));
        }
        // An address may be the beginning of another.
        names.sort_by_key(|(seen, _)| std::cmp::Reverse(seen.len()));
        Self(names)
    }

    fn in_common(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (seen, name)| text.replace(seen, name))
    }
}

fn scenario(
    comparison: &mut Comparison,
    id: &str,
    first: (&ScenarioResult, &Names),
    second: (&ScenarioResult, &Names),
) {
    let ((a, in_a), (b, in_b)) = (first, second);
    comparison.add(id, None, "outcome", a.outcome.to_string(), b.outcome.to_string());
    let names: Vec<_> = a.steps.iter().chain(b.steps.iter().filter(|s| find(a, &s.name).is_none())).collect();
    for name in names.iter().map(|step| step.name.as_str()) {
        let (first, second) = (find(a, name), find(b, name));
        let outcome = |s: Option<&StepResult>| s.map_or("not run".to_owned(), |s| s.outcome.to_string());
        comparison.add(id, Some(name), "outcome", outcome(first), outcome(second));
        if let (Some(first), Some(second)) = (first, second) {
            comparison.add(id, Some(name), "path", in_a.in_common(&path(first)), in_b.in_common(&path(second)));
        }
    }
}

fn find<'s>(scenario: &'s ScenarioResult, name: &str) -> Option<&'s StepResult> {
    scenario.steps.iter().find(|step| step.name == name)
}

/// A path without what differs from run to run.
fn path(step: &StepResult) -> String {
    let Some(path) = &step.path else { return "none".to_owned() };
    let hops: Vec<_> = path
        .hops
        .iter()
        .map(|hop| match hop {
            SeenHop::Sidecar(seen) | SeenHop::Gateway(seen) => format!("{} {}", hop.kind(), proxy(seen)),
            SeenHop::Destination(seen) => format!("destination {}", destination(seen)),
        })
        .collect();
    if hops.is_empty() { "no hop".to_owned() } else { hops.join(" > ") }
}

fn proxy(seen: &ProxySeen) -> String {
    let mut flags = seen.record.flags();
    flags.sort_unstable();
    let field = |name: &str| seen.record.get(name).unwrap_or("-").to_owned();
    let words = [
        field("upstream_cluster"),
        format!("route {}", field("route_name")),
        format!("code {}", field("response_code")),
        format!("flags {}", if flags.is_empty() { "-".to_owned() } else { flags.join(",") }),
        format!("SNI {}", field("requested_server_name")),
    ];
    words.join(", ")
}

fn destination(seen: &DestinationSeen) -> String {
    let mut words = vec![seen.name.clone(), format!("{:?}", seen.got).to_lowercase()];
    words.extend(seen.sni.as_ref().map(|sni| format!("SNI {sni}")));
    words.extend(seen.host.as_ref().map(|host| format!("Host {host}")));
    words.push(format!("from {:?}", seen.source).to_lowercase());
    words.join(", ")
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "the reports agree on every verdict and path");
        }
        for difference in &self.differences {
            let step = difference.step.as_ref().map(|step| format!(", step {step:?}")).unwrap_or_default();
            writeln!(f, "{}{step}: {}", difference.scenario, difference.what)?;
            writeln!(f, "  first:  {}", difference.first)?;
            writeln!(f, "  second: {}", difference.second)?;
        }
        Ok(())
    }
}
