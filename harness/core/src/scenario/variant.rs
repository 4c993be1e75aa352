//! Variants: what a step expects instead where circumstances differ.
//!
//! The first variant whose conditions all hold counts; each part of its `expect` (`client`, `path`, …) takes the place of
//! the step's own. What is unknown holds no condition. Start at [`Scenario::under`].

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::Scenario;
use super::plan::Capability;
use super::schema::{Expect, Step};

/// What a step expects instead, under some circumstances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The circumstances; all that are given must hold.
    pub when: When,
    /// Where it is written that this differs: a link to an issue, a change, a release note.
    pub because: String,
    /// What is expected then. Each part that is given takes the place of the step's own.
    pub expect: Expect,
}

/// Circumstances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The versions of Istio, such as `<1.24`, compared by major.minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio: Option<String>,
    /// The versions of Envoy, such as `<1.38`, compared by major.minor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envoy: Option<String>,
    /// A capability that the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// The kind of cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterKind>,
}

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterKind {
    /// Kubernetes without containers, on this machine.
    Sandbox,
    /// kind, on Docker.
    Kind,
    /// A cluster that was there already.
    Existing,
}

/// What is known of the cluster that a run is planned for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// What it can do.
    pub capabilities: BTreeSet<Capability>,
    /// The version of its mesh. `None`: unknown yet; then nothing is compared with it.
    pub istio: Option<String>,
    /// The version of its proxies. `None`: unknown.
    pub envoy: Option<String>,
    /// Its kind. `None`: unknown.
    pub cluster: Option<ClusterKind>,
}

/// A variant that counts in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The step's name.
    pub step: String,
    /// The circumstances, in words.
    pub when: String,
    /// Where it is written.
    pub because: String,
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected differently with {} ({})", self.when, self.because)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let istio = self.istio.as_ref().map(|range| format!("Istio {range}"));
        let envoy = self.envoy.as_ref().map(|range| format!("Envoy {range}"));
        let capability = self.capability.as_ref().map(|word| format!("capability {word}"));
        let cluster = self.cluster.map(|kind| format!("cluster {}", kind.as_str()));
        let words: Vec<String> = [istio, envoy, capability, cluster].into_iter().flatten().collect();
        f.write_str(&words.join(", "))
    }
}

impl ClusterKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Kind => "kind",
            Self::Existing => "existing",
        }
    }
}

impl When {
    /// Whether every condition holds.
    #[must_use]
    pub fn holds(&self, on: &Circumstances) -> bool {
        let versions = within(self.istio.as_ref(), on.istio.as_ref()) && within(self.envoy.as_ref(), on.envoy.as_ref());
        let capability = self.capability.as_ref().is_none_or(|word| on.capabilities.iter().any(|c| c.as_str() == word));
        versions && capability && self.cluster.is_none_or(|kind| on.cluster == Some(kind))
    }
}

/// Whether a version is within a range, where one is given.
fn within(range: Option<&String>, version: Option<&String>) -> bool {
    range.is_none_or(|range| {
        let version = version.and_then(|text| super::plan::version(text).ok());
        let range = semver::VersionReq::parse(range).ok();
        range.zip(version).is_some_and(|(range, version)| range.matches(&version))
    })
}

/// The Envoy that a release of Istio is built with: Istio 1.N has Envoy 1.(N+8), since 1.10
/// (<https://istio.io/latest/docs/releases/supported-releases/#supported-envoy-versions>).
#[must_use]
pub fn envoy_of_istio(istio: &str) -> Option<String> {
    let version = super::plan::version(istio).ok()?;
    (version.major == 1 && version.minor >= 10).then(|| format!("1.{}", version.minor + 8))
}

impl Expect {
    /// This with each part that `other` gives in place of its own.
    #[must_use]
    pub fn overridden_by(&self, other: &Self) -> Self {
        let other = other.clone();
        let states_path = other.path.is_some() || other.paths.is_some();
        let list = |own: &Vec<_>, other: Vec<_>| if other.is_empty() { own.clone() } else { other };
        Self {
            client: other.client.or_else(|| self.client.clone()),
            path: if states_path { other.path } else { self.path.clone() },
            paths: if states_path { other.paths } else { self.paths.clone() },
            apply: other.apply.or_else(|| self.apply.clone()),
            objects: list(&self.objects, other.objects),
            proxy: if other.proxy.is_empty() { self.proxy.clone() } else { other.proxy },
        }
    }
}

impl Step {
    /// Everything that this step may expect: its own expectation, and what each variant makes of it.
    pub fn expectations(&self) -> impl Iterator<Item = Expect> {
        let variants = self.variants.iter().map(|variant| self.expect.overridden_by(&variant.expect));
        std::iter::once(self.expect.clone()).chain(variants)
    }
}

impl Scenario {
    /// The scenario as it is run under these circumstances, without variants, and those that count.
    #[must_use]
    pub fn under(&self, on: &Circumstances) -> (Self, Vec<InForce>) {
        let mut scenario = self.clone();
        let mut in_force = Vec::new();
        for step in &mut scenario.file.steps {
            let variants = std::mem::take(&mut step.variants);
            let Some(variant) = variants.into_iter().find(|variant| variant.when.holds(on)) else { continue };
            step.expect = step.expect.overridden_by(&variant.expect);
            let (when, because) = (variant.when.to_string(), variant.because);
            in_force.push(InForce { step: step.name.clone(), when, because });
        }
        (scenario, in_force)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        let text = "
name: s
probe: {from: meshed, curl: [x]}
expect: {client: {exit: 0}, path: [{destination: {name: d}}]}
variants:
- {when: {istio: '<1.24', cluster: kind}, because: 'https://a', expect: {path: []}}
- {when: {istio: '<1.24'}, because: 'https://b', expect: {client: {exit: 1}}}
- {when: {capability: source-address}, because: 'https://c', expect: {paths: [[], []]}}
";
        serde_saphyr::from_str(text).unwrap()
    }

    fn under(on: &Circumstances) -> (Expect, Vec<String>) {
        let file = serde_saphyr::from_str("{title: t, about: a, scope: mesh, mesh: m, steps: []}").unwrap();
        let mut scenario = Scenario {
            id: "a/b".parse().unwrap(),
            source: "x".into(),
            file,
            manifests: std::collections::BTreeMap::new(),
            positions: std::collections::BTreeMap::new(),
        };
        scenario.file.steps.push(step());
        let (scenario, in_force) = scenario.under(on);
        assert!(scenario.file.steps[0].variants.is_empty());
        (scenario.file.steps[0].expect.clone(), in_force.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_first_variant_that_holds_takes_the_place_of_what_it_gives() {
        let on = |istio: Option<&str>, cluster, capabilities: &[Capability]| Circumstances {
            istio: istio.map(str::to_owned),
            cluster,
            capabilities: capabilities.iter().copied().collect(),
            ..Circumstances::default()
        };
        let own = step().expect;
        assert_eq!(under(&Circumstances::default()), (own.clone(), Vec::new()));
        assert_eq!(under(&on(Some("1.24.1"), Some(ClusterKind::Kind), &[])).0, own);
        let (expect, notes) = under(&on(Some("1.23.5"), Some(ClusterKind::Kind), &[]));
        assert_eq!((expect.path.unwrap().len(), &expect.client), (0, &own.client));
        assert_eq!(notes, ["expected differently with Istio <1.24, cluster kind (https://a)"]);
        let (expect, _) = under(&on(Some("1.23.5"), Some(ClusterKind::Sandbox), &Capability::ALL));
        assert_eq!(expect.path, own.path);
        assert_ne!(expect.client, own.client);
        let (expect, notes) = under(&on(None, None, &Capability::ALL));
        assert_eq!((expect.path, expect.paths.unwrap().len()), (None, 2));
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn an_unknown_envoy_is_within_no_range() {
        let when = When { envoy: Some("<1.38".into()), ..When::default() };
        let holds = |envoy: Option<&str>| {
            when.holds(&Circumstances { envoy: envoy.map(str::to_owned), ..Circumstances::default() })
        };
        assert_eq!([Some("1.37.0"), Some("1.38.3"), None].map(holds), [true, false, false]);
        assert_eq!(when.to_string(), "Envoy <1.38");
        assert_eq!(
            ["1.28.7", "1.31", "1.9.3", "latest"].map(|i| envoy_of_istio(i).unwrap_or_default()),
            ["1.36", "1.39", "", ""]
        );
    }

    #[test]
    fn a_step_may_expect_its_own_and_each_variant() {
        assert_eq!(step().expectations().count(), 4);
    }
}
