//! `--cluster` and the `--*-version` options: which kind of cluster a command uses, and what it is made of.

use std::collections::BTreeMap;

use egress_component::{Family, Hub, Versions};
use egress_core::scenario::{Circumstances, ClusterKind};

use super::{Failure, usage};
use crate::cluster::kind::KindChoice;

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ClusterArguments {
    /// The kind of cluster
    #[arg(long, value_enum, default_value_t, env = "EGRESS_CLUSTER")]
    cluster: Choice,
    #[command(flatten)]
    versions: VersionArguments,
    #[command(flatten)]
    on_kind: KindChoice,
}

/// Versions other than the usual ones.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct VersionArguments {
    /// Another version of Istio, out of its official images [default: as pinned]
    #[arg(long, global = true, value_name = "VERSION", env = "EGRESS_ISTIO_VERSION", value_parser = version)]
    istio_version: Option<String>,
    /// Another version of Envoy, upstream's build [default: as pinned, or that of Istio's images]
    #[arg(long, global = true, value_name = "VERSION", env = "EGRESS_ENVOY_VERSION", value_parser = version)]
    envoy_version: Option<String>,
    /// Another version of Kubernetes [default: as pinned]
    #[arg(long, global = true, value_name = "VERSION", env = "EGRESS_KUBERNETES_VERSION", value_parser = version)]
    kubernetes_version: Option<String>,
    #[command(flatten)]
    registries: RegistryArguments,
}

/// Where images are.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RegistryArguments {
    /// Where the sandbox's images are, if it is to be made of them: Istio's, or with `envoy=` or `kubernetes=` theirs
    /// [default: docker.io/istio,envoy=docker.io/envoyproxy,kubernetes=registry.k8s.io, for versions that are not pinned]
    #[arg(
        long,
        global = true,
        value_name = "[PROJECT=]REGISTRY/PATH,…",
        env = "EGRESS_REGISTRY",
        value_delimiter = ','
    )]
    registry: Vec<Hub>,
}

impl RegistryArguments {
    /// By project; the last one of a project counts.
    pub(crate) fn hubs(&self) -> BTreeMap<Family, String> {
        self.registry.iter().map(|hub| (hub.family, hub.place.clone())).collect()
    }
}

/// Versions that a kind of cluster can be made of.
///
/// # Errors
/// [`Failure::Usage`] where it has no choice, or with the versions that there are.
pub(crate) fn checked(cluster: Choice, versions: Versions) -> Result<Versions, Failure> {
    if cluster == Choice::Kind && (versions.envoy.is_some() || versions.kubernetes.is_some()) {
        return Err(usage(
            "--envoy-version and --kubernetes-version are for the sandbox; on kind --node-image chooses Kubernetes",
        ));
    }
    match crate::components::check(&versions) {
        Ok(()) => Ok(versions),
        Err(error) => Err(usage(format!("{error}\n  help: {}", error.remedy.as_deref().unwrap_or("leave it out")))),
    }
}

/// A version as people write it, without its `v`.
pub(crate) fn version(text: &str) -> Result<String, String> {
    let version = text.trim().trim_start_matches('v');
    match semver::Version::parse(version) {
        Ok(_) => Ok(version.to_owned()),
        Err(_) => Err("expected a version such as 1.36.1".to_owned()),
    }
}

impl VersionArguments {
    /// The versions asked for.
    pub(crate) fn versions(&self) -> Versions {
        Versions {
            istio: self.istio_version.clone(),
            envoy: self.envoy_version.clone(),
            kubernetes: self.kubernetes_version.clone(),
            hubs: self.registries.hubs(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// Kubernetes without containers, on this machine
    #[default]
    Sandbox,
    /// kind, with its node and the external servers as containers
    Kind,
}

impl ClusterArguments {
    /// The kind.
    pub(crate) fn kind(&self) -> ClusterKind {
        match self.cluster {
            Choice::Sandbox => ClusterKind::Sandbox,
            Choice::Kind => ClusterKind::Kind,
        }
    }

    /// What it is made of, where it is not the usual.
    ///
    /// # Errors
    /// [`Failure::Usage`] where this kind of cluster has no choice.
    pub(crate) fn versions(&self) -> Result<Versions, Failure> {
        checked(self.cluster, self.versions.versions())
    }

    /// What scenarios find there.
    ///
    /// # Errors
    /// [`Failure`] where a version cannot be had.
    pub(crate) fn circumstances(&self) -> Result<Circumstances, Failure> {
        let on = crate::components::circumstances(self.kind(), &self.versions()?)?;
        Ok(if self.cluster == Choice::Kind { self.on_kind()?.circumstances(on) } else { on })
    }

    /// How a kind cluster is wanted.
    ///
    /// # Errors
    /// [`Failure::Usage`] where it is said, and another kind of cluster is wanted.
    pub(crate) fn on_kind(&self) -> Result<KindChoice, Failure> {
        match self.on_kind.said() {
            Some(option) if self.cluster != Choice::Kind => {
                Err(usage(format!("{option} is for kind clusters: add --cluster kind, or leave it out")))
            }
            _ if self.cluster != Choice::Kind => Ok(self.on_kind.clone()),
            _ => self.on_kind.clone().at(self.versions.istio_version.as_deref()).map_err(usage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_may_have_a_v_and_has_three_parts() {
        assert_eq!(version("v1.36.1"), Ok("1.36.1".to_owned()));
        assert_eq!(version("1.31.0-rc.1"), Ok("1.31.0-rc.1".to_owned()));
        for wrong in ["", "latest", "1.36", "../1.2.3", "1.2.3;"] {
            assert!(version(wrong).is_err(), "{wrong}");
        }
    }
}
