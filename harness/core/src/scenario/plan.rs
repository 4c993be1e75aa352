//! What a run of scenarios needs: which of them, in which order, under which profile, and one outside world.
//!
//! Pure: it knows a cluster only by its capabilities and its Istio version. Start at [`plan`].

mod locks;
#[cfg(test)]
mod locks_tests;
mod select;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::model::{Scenario, ScenarioId, ScenarioSet};
use super::schema::{Expect, Hop, Level, Scope};
use super::variant::{Circumstances, InForce};

pub use locks::{Lock, Locks};
pub(in crate::scenario) use select::version;
pub use world::{Addresses, World, WorldDestination};

/// Which scenarios a run is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Ids (`group/claim`, `group::claim`), names of groups or claims, or globs over ids. Empty: all.
    pub filters: Vec<String>,
    /// Names of groups. Empty: all.
    pub groups: Vec<String>,
    /// `Some(Core)`: only those of the core level. `None` or `Some(Extended)`: all.
    pub level: Option<Level>,
    /// In which order.
    pub order: Order,
}

/// In which order scenarios run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By id.
    #[default]
    Given,
    /// Shuffled by a seed. Two scenarios keep their order under one seed, whatever else is selected.
    Random(u64),
}

/// Something that a cluster can do or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// An egress gateway `istio-egressgateway` runs.
    EgressGateway,
    /// External servers see the addresses of pods, not of a node that masquerades.
    SourceAddress,
    /// The external servers can stand for public ones: pods trust their certificates, and public addresses are theirs.
    PublicInternet,
    /// The proxies have Istio's own Envoy extensions (`istio.stats`, `istio.alpn`, metadata exchange), as released images
    /// do; stock Envoy has none of them.
    IstioExtensions,
}

impl Capability {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::EgressGateway, Self::SourceAddress, Self::PublicInternet, Self::IstioExtensions];

    /// The word for it in a scenario's `requires`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EgressGateway => "egress-gateway",
            Self::SourceAddress => "source-address",
            Self::PublicInternet => "public-internet",
            Self::IstioExtensions => "istio-extensions",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|c| c.as_str() == text)
            .ok_or_else(|| format!("unknown capability `{text}`: expected one of {}", known()))
    }
}

/// A run, decided.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What runs, by profile: each profile is switched to at most once.
    pub groups: Vec<ProfileGroup>,
    /// What was selected and does not run.
    pub skipped: Vec<(ScenarioId, SkipReason)>,
    /// What was selected and cannot run on this cluster, with the first capability that it lacks.
    pub unsupported: Vec<(ScenarioId, Capability)>,
    /// The external servers and names that the run needs.
    pub world: World,
}

impl Plan {
    /// Everything that runs, in order.
    pub fn scenarios(&self) -> impl Iterator<Item = &Planned> {
        self.groups.iter().flat_map(|group| &group.scenarios)
    }
}

/// The scenarios of one profile.
#[derive(Debug, Clone)]
pub struct ProfileGroup {
    /// The profile's name.
    pub profile: String,
    /// Its scenarios in the order in which they are started: first those that may run beside others, then those that
    /// run alone; among each other in the order of the selection.
    pub scenarios: Vec<Planned>,
}

/// One scenario that runs.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The scenario, with the expectations that count under the circumstances: it has no variants any more.
    pub scenario: Arc<Scenario>,
    /// Which variants of its steps count.
    pub variants: Vec<InForce>,
    /// How much of the mesh it takes for itself.
    pub lease: Lease,
    /// What it holds while it runs: two scenarios may run at the same time unless these are in conflict
    /// ([`Locks::conflict`]), be they of one plan or of two. Empty for [`Lease::Mesh`], beside which nothing runs.
    pub locks: Locks,
}

/// How much of the mesh a scenario takes for itself while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lease {
    /// A slot of its own; others may run beside it (`scope: namespace`).
    Slot,
    /// The whole mesh (`scope: mesh`).
    Mesh,
}

/// Why a selected scenario does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipReason {
    /// Its claim holds for other versions of Istio.
    Istio {
        /// What it asks for.
        wanted: String,
        /// What runs here.
        seen: String,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istio { wanted, seen } => write!(f, "the claim is about Istio {wanted}, and this is {seen}"),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[help]
    pub help: Option<String>,
}

/// Everything that stands against a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PlanErrors(#[related] pub Vec<PlanError>);

impl PlanErrors {
    /// The errors as text: `error: …` and `  help: …` lines.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for error in &self.0 {
            out.push_str(&format!("error: {}\n", error.message));
            if let Some(help) = &error.help {
                out.push_str(&format!("  help: {help}\n"));
            }
        }
        out
    }
}

/// Selects, orders and groups scenarios, and merges the outside world that they need.
///
/// # Errors
/// [`PlanErrors`]: a filter or group that selects nothing, nothing selected at all, a version that is none, or external
/// servers that two scenarios declare differently.
pub fn plan(set: &ScenarioSet, selection: &Selection, on: &Circumstances) -> Result<Plan, PlanErrors> {
    let mut errors = Vec::new();
    let selected = select::select(set, selection, &mut errors);
    let version = on.istio.as_deref().and_then(|text| match select::version(text) {
        Ok(version) => Some((text, version)),
        Err(error) => {
            errors.push(error);
            None
        }
    });
    let (mut skipped, mut unsupported, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for scenario in selected {
        if let Some(lacking) = lacking(&scenario, &on.capabilities) {
            unsupported.push((scenario.id.clone(), lacking));
        } else if let Some(reason) = version.as_ref().and_then(|(text, v)| select::skip(&scenario, text, v)) {
            skipped.push((scenario.id.clone(), reason));
        } else {
            runs.push(scenario);
        }
    }
    if let Order::Random(seed) = selection.order {
        runs.sort_by_cached_key(|s| (select::rank(seed, &s.id), s.id.clone()));
    }
    let world = World::merge(&runs, &mut errors);
    if errors.is_empty() {
        Ok(Plan { groups: by_profile(runs, on), skipped, unsupported, world })
    } else {
        Err(PlanErrors(errors))
    }
}

/// The first capability that a scenario needs and the cluster does not have: one that it requires, or the egress gateway
/// where one of its expectations is about it.
fn lacking(scenario: &Scenario, capabilities: &BTreeSet<Capability>) -> Option<Capability> {
    let required = scenario.file.requires.iter().filter_map(|word| word.parse().ok());
    let about_the_gateway = |expect: &Expect| {
        expect.hops().any(|hop| matches!(hop, Hop::Gateway(_))) || expect.proxy.iter().any(|look| look.of == "gateway")
    };
    let implied = scenario.file.steps.iter().any(|step| about_the_gateway(&step.expect));
    required.chain(implied.then_some(Capability::EgressGateway)).find(|c| !capabilities.contains(c))
}

/// Groups by profile, each in the place of its first scenario; within a group those that run alone come last, so that
/// they keep nobody waiting who could have run beside others.
fn by_profile(runs: Vec<Arc<Scenario>>, on: &Circumstances) -> Vec<ProfileGroup> {
    let mut groups: Vec<(String, Vec<Arc<Scenario>>)> = Vec::new();
    for scenario in runs {
        match groups.iter_mut().find(|(profile, _)| *profile == scenario.file.mesh) {
            Some((_, scenarios)) => scenarios.push(scenario),
            None => groups.push((scenario.file.mesh.clone(), vec![scenario])),
        }
    }
    groups.into_iter().map(|(profile, scenarios)| group(profile, scenarios, on)).collect()
}

fn group(profile: String, mut scenarios: Vec<Arc<Scenario>>, on: &Circumstances) -> ProfileGroup {
    let lease = |scenario: &Scenario| match scenario.file.scope {
        Scope::Namespace => Lease::Slot,
        Scope::Mesh => Lease::Mesh,
    };
    scenarios.sort_by_key(|scenario| lease(scenario));
    let (scenarios, variants): (Vec<_>, Vec<_>) = scenarios.into_iter().map(|scenario| resolved(scenario, on)).unzip();
    let planned = scenarios.into_iter().zip(variants).map(|(scenario, variants)| Planned {
        lease: lease(&scenario),
        locks: locks::of(&scenario),
        scenario,
        variants,
    });
    ProfileGroup { profile, scenarios: planned.collect() }
}

/// The scenario without variants, and those that count.
fn resolved(scenario: Arc<Scenario>, on: &Circumstances) -> (Arc<Scenario>, Vec<InForce>) {
    if scenario.file.steps.iter().all(|step| step.variants.is_empty()) {
        return (scenario, Vec::new());
    }
    let (scenario, in_force) = scenario.under(on);
    (Arc::new(scenario), in_force)
}
