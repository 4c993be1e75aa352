//! Two reports side by side: which verdicts and which paths differ.
//!
//! What two runs never share is left out: addresses, ports, pods, times, and the order of flags. Start at [`compare`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::model::{Report, ScenarioResult};
use super::outcome::Outcome;
use crate::path::{Path, PeerOf, ProxySeen, SeenHop};
use crate::scenario::schema::Got;

/// How a second report differs from a first one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// What differs, in the order of the first report; scenarios that only the second has come last.
    pub changes: Vec<Change>,
    /// How many scenarios both reports have.
    pub shared: usize,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the first report has this scenario, with this outcome.
    OnlyFirst {
        /// The scenario.
        id: String,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Only the second report has this scenario, with this outcome.
    OnlySecond {
        /// The scenario.
        id: String,
        /// Its outcome.
        outcome: Outcome,
    },
    /// The outcomes of a scenario differ.
    Outcome {
        /// The scenario.
        id: String,
        /// In the first report.
        first: Outcome,
        /// In the second report.
        second: Outcome,
    },
    /// The paths of a step differ; `None`: the step has no path there.
    Path {
        /// The scenario.
        id: String,
        /// The step.
        step: String,
        /// The hops in the first report, one text each, without addresses.
        first: Option<Vec<String>>,
        /// The hops in the second report.
        second: Option<Vec<String>>,
    },
}

impl Comparison {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Compares verdicts and paths. A scenario that ran several times is compared run by run.
#[must_use]
pub fn compare(first: &Report, second: &Report) -> Comparison {
    let (a, b) = (by_run(first), by_run(second));
    let mut comparison = Comparison::default();
    for (key, scenario) in &a {
        let found = b.iter().find(|(other, _)| other == key);
        let Some((_, other)) = found else {
            let (id, outcome) = (scenario.id.clone(), scenario.outcome);
            comparison.changes.push(Change::OnlyFirst { id, outcome });
            continue;
        };
        comparison.shared += 1;
        if scenario.outcome != other.outcome {
            let (id, first, second) = (scenario.id.clone(), scenario.outcome, other.outcome);
            comparison.changes.push(Change::Outcome { id, first, second });
        }
        comparison.changes.extend(paths(scenario, other));
    }
    for (_, scenario) in b.iter().filter(|(key, _)| !a.iter().any(|(other, _)| other == key)) {
        comparison.changes.push(Change::OnlySecond { id: scenario.id.clone(), outcome: scenario.outcome });
    }
    comparison
}

/// The scenarios with their id and how often that id came before.
fn by_run(report: &Report) -> Vec<((&str, usize), &ScenarioResult)> {
    let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
    let mut number = |id| {
        let count = runs.entry(id).or_default();
        *count += 1;
        *count
    };
    report.scenarios.iter().map(|scenario| ((scenario.id.as_str(), number(scenario.id.as_str())), scenario)).collect()
}

fn paths(a: &ScenarioResult, b: &ScenarioResult) -> Vec<Change> {
    let names = a.steps.iter().chain(b.steps.iter().filter(|s| !a.steps.iter().any(|t| t.name == s.name)));
    let of = |scenario: &ScenarioResult, name: &str| {
        scenario.steps.iter().find(|step| step.name == name).and_then(|step| step.path.as_ref()).map(shape)
    };
    names
        .filter_map(|step| {
            let (first, second) = (of(a, &step.name), of(b, &step.name));
            let (id, step) = (a.id.clone(), step.name.clone());
            (first != second).then_some(Change::Path { id, step, first, second })
        })
        .collect()
}

/// A path without what two runs never share.
fn shape(path: &Path) -> Vec<String> {
    path.hops.iter().map(hop_shape).collect()
}

fn hop_shape(hop: &SeenHop) -> String {
    match hop {
        SeenHop::Sidecar(proxy) => format!("sidecar {}", proxy_shape(proxy)),
        SeenHop::Gateway(proxy) => format!("gateway {}", proxy_shape(proxy)),
        SeenHop::Destination(seen) => {
            let got = match seen.got {
                Got::Request => "request",
                Got::Connection => "connection",
                Got::TlsError => "tls-error",
            };
            let source = match seen.source {
                PeerOf::Client => "client",
                PeerOf::Gateway => "gateway",
                PeerOf::Other => "other",
            };
            let extra = [("sni", &seen.sni), ("host", &seen.host)];
            let extra: String = extra
                .iter()
                .filter_map(|(name, value)| Some(format!(", {name} {}", without_addresses((*value).as_deref()?))))
                .collect();
            format!("destination {} got {got}{extra}, source {source}", seen.name)
        }
    }
}

/// The fields of a proxy's line that are the same in every run of the same configuration.
const STABLE: [(&str, &str); 6] = [
    ("cluster", "upstream_cluster"),
    ("route", "route_name"),
    ("host", "authority"),
    ("sni", "requested_server_name"),
    ("code", "response_code"),
    ("details", "response_code_details"),
];

fn proxy_shape(proxy: &ProxySeen) -> String {
    let fields = STABLE.iter().filter_map(|(title, field)| {
        let value = proxy.record.get(field).filter(|value| *value != "0")?;
        Some(format!("{title} {}", without_addresses(value)))
    });
    let mut flags = proxy.record.flags();
    flags.sort_unstable();
    let flags = (!flags.is_empty()).then(|| format!("flags {}", flags.join(",")));
    fields.chain(flags).collect::<Vec<_>>().join(", ")
}

/// Addresses are written alike; an address's port is kept, because configuration decides on it.
fn without_addresses(text: &str) -> String {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]").expect("the pattern is a constant")
    });
    ADDRESS.replace_all(text, "ADDRESS").into_owned()
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            change.fmt(f)?;
        }
        let (shared, changes) = (self.shared, self.changes.len());
        let scenarios = if shared == 1 { "scenario" } else { "scenarios" };
        match changes {
            0 => writeln!(f, "{shared} {scenarios} in both: same verdicts, same paths"),
            1 => writeln!(f, "{shared} {scenarios} in both: 1 difference"),
            _ => writeln!(f, "{shared} {scenarios} in both: {changes} differences"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyFirst { id, outcome } => writeln!(f, "{id}: only in the first report ({outcome})"),
            Self::OnlySecond { id, outcome } => writeln!(f, "{id}: only in the second report ({outcome})"),
            Self::Outcome { id, first, second } => writeln!(f, "{id}: {first}, then {second}"),
            Self::Path { id, step, first, second } => {
                writeln!(f, "{id}, step {step}: the paths differ")?;
                hops(f, '-', first.as_deref())?;
                hops(f, '+', second.as_deref())
            }
        }
    }
}

fn hops(f: &mut fmt::Formatter<'_>, mark: char, path: Option<&[String]>) -> fmt::Result {
    match path {
        None => writeln!(f, "  {mark} (no path)"),
        Some([]) => writeln!(f, "  {mark} (no hop)"),
        Some(hops) => hops.iter().try_for_each(|hop| writeln!(f, "  {mark} {hop}")),
    }
}
