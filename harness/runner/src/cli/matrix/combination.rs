//! The combinations of what the lists of `matrix` name.

use std::collections::BTreeMap;

use clap::ValueEnum;
use egress_component::{Family, Versions};

use crate::cli::Failure;
use crate::cli::cluster::{Choice, checked};

/// One of each list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Combination {
    pub(super) cluster: Choice,
    pub(super) versions: Versions,
}

/// Every combination, the lists' first ones first. An empty list is what is pinned.
pub(super) fn combinations(
    clusters: &[Choice],
    [istio, envoy, kubernetes]: [&[String]; 3],
    hubs: &BTreeMap<Family, String>,
) -> Vec<Combination> {
    fn each(list: &[String]) -> Vec<Option<String>> {
        if list.is_empty() { vec![None] } else { list.iter().cloned().map(Some).collect() }
    }
    let mut all: Vec<Combination> = Vec::new();
    for cluster in clusters {
        for (kubernetes, istio) in each(kubernetes).iter().flat_map(|k| each(istio).into_iter().map(move |i| (k, i))) {
            for envoy in each(envoy) {
                let (istio, kubernetes) = (istio.clone(), kubernetes.clone());
                let versions = Versions { istio, envoy, kubernetes, hubs: hubs.clone() };
                let combination = Combination { cluster: *cluster, versions };
                if !all.contains(&combination) {
                    all.push(combination);
                }
            }
        }
    }
    all
}

impl Combination {
    fn parts(&self) -> Vec<(&'static str, &str)> {
        let parts = [
            ("Istio", &self.versions.istio),
            ("Envoy", &self.versions.envoy),
            ("Kubernetes", &self.versions.kubernetes),
        ];
        parts.into_iter().filter_map(|(name, version)| Some((name, version.as_deref()?))).collect()
    }

    fn kind(&self) -> String {
        self.cluster.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// For people: `Envoy 1.38.3, Kubernetes 1.35.4`.
    pub(super) fn name(&self) -> String {
        let mut words: Vec<_> = self.parts().iter().map(|(name, version)| format!("{name} {version}")).collect();
        if words.is_empty() {
            words.push("as pinned".to_owned());
        }
        if self.cluster != Choice::Sandbox {
            words.push(self.kind());
        }
        words.join(", ")
    }

    /// For files: `envoy-1.38.3_kubernetes-1.35.4`.
    pub(super) fn slug(&self) -> String {
        let parts = self.parts().into_iter().map(|(name, version)| format!("{}-{version}", name.to_lowercase()));
        std::iter::once(self.kind()).chain(parts).collect::<Vec<_>>().join("_")
    }

    /// As arguments of `run`.
    pub(super) fn to_arguments(&self) -> Vec<String> {
        let versions = self.parts().into_iter().map(|(name, v)| format!("--{}-version={v}", name.to_lowercase()));
        let hubs = self
            .versions
            .hubs
            .iter()
            .map(|(family, place)| format!("--registry={}={place}", family.to_string().to_lowercase()));
        std::iter::once(format!("--cluster={}", self.kind())).chain(versions).chain(hubs).collect()
    }

    /// Whether there is such a thing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        checked(self.cluster, self.versions.clone()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_once_in_the_order_of_the_lists() {
        let list = |versions: &[&str]| versions.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        let (envoy, kubernetes) = (list(&["1.40.0", "1.38.3", "1.40.0"]), list(&["1.36.3", "1.35.4"]));
        let all = combinations(&[Choice::Sandbox], [&[], &envoy, &kubernetes], &BTreeMap::new());
        let names: Vec<_> = all.iter().map(Combination::name).collect();
        assert_eq!(
            names,
            [
                "Envoy 1.40.0, Kubernetes 1.36.3",
                "Envoy 1.38.3, Kubernetes 1.36.3",
                "Envoy 1.40.0, Kubernetes 1.35.4",
                "Envoy 1.38.3, Kubernetes 1.35.4"
            ]
        );
        assert_eq!(all[3].slug(), "sandbox_envoy-1.38.3_kubernetes-1.35.4");
        assert_eq!(
            all[3].to_arguments(),
            ["--cluster=sandbox", "--envoy-version=1.38.3", "--kubernetes-version=1.35.4"]
        );
        let pinned = combinations(&[Choice::Sandbox, Choice::Kind], [&[]; 3], &BTreeMap::new());
        assert_eq!(pinned.iter().map(Combination::name).collect::<Vec<_>>(), ["as pinned", "as pinned, kind"]);
        let hubs = BTreeMap::from([(Family::Istio, "localhost:5000/istio".to_owned())]);
        let istio = combinations(&[Choice::Sandbox], [&list(&["1.29.6", "1.30.1"]), &[], &[]], &hubs);
        assert_eq!(istio.iter().map(Combination::name).collect::<Vec<_>>(), ["Istio 1.29.6", "Istio 1.30.1"]);
        let arguments = ["--cluster=sandbox", "--istio-version=1.30.1", "--registry=istio=localhost:5000/istio"];
        assert_eq!(istio[1].to_arguments(), arguments);
    }
}
