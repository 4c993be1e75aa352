//! Versions that somebody asks for, by project, and where official images are looked for.
//!
//! Plain values; which of them can be had is said by [`crate::Pins::at`]. Start at [`Versions`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A project whose programs have one version together, which can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Istio's control plane, agent and command line, and the proxy of its images.
    Istio,
    /// The proxy, upstream's build.
    Envoy,
    /// Kubernetes' control plane, service proxy and command line.
    Kubernetes,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Istio => "Istio",
            Self::Envoy => "Envoy",
            Self::Kubernetes => "Kubernetes",
        })
    }
}

/// The versions asked for, without a leading `v`; what is `None` is as pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Istio's.
    pub istio: Option<String>,
    /// Envoy's.
    pub envoy: Option<String>,
    /// Kubernetes'.
    pub kubernetes: Option<String>,
    /// Where the images of a project are, in place of the official ones: then its programs come from images only.
    pub hubs: BTreeMap<Family, String>,
}

impl Versions {
    /// The version that is asked for of one project.
    pub fn of(&self, family: Family) -> Option<&str> {
        match family {
            Family::Istio => self.istio.as_deref(),
            Family::Envoy => self.envoy.as_deref(),
            Family::Kubernetes => self.kubernetes.as_deref(),
        }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A place of images as people name it: `REGISTRY/PATH` for Istio's, or `PROJECT=REGISTRY/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Whose images.
    pub family: Family,
    /// `docker.io/istio`.
    pub place: String,
}

impl FromStr for Hub {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (family, place) = match text.split_once('=') {
            None => (Family::Istio, text),
            Some(("istio", place)) => (Family::Istio, place),
            Some(("envoy", place)) => (Family::Envoy, place),
            Some(("kubernetes", place)) => (Family::Kubernetes, place),
            Some((other, _)) => return Err(format!("unknown project {other:?}: expected istio, envoy or kubernetes")),
        };
        let place = place.trim_end_matches('/');
        let named = place.split('/').next().is_some_and(|first| first.contains(['.', ':']) || first == "localhost");
        match format!("{place}/image:tag").parse::<oci_client::Reference>() {
            Ok(_) if named => Ok(Self { family, place: place.to_owned() }),
            Ok(_) => Err(format!("{place:?} has no registry: expected for example docker.io/istio")),
            Err(error) => Err(format!("{place:?} is no place of images: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_names_a_registry_and_perhaps_a_project() {
        let hub = |family, place: &str| Ok(Hub { family, place: place.to_owned() });
        assert_eq!("localhost:5000/istio".parse(), hub(Family::Istio, "localhost:5000/istio"));
        assert_eq!("kubernetes=registry.k8s.io/".parse(), hub(Family::Kubernetes, "registry.k8s.io"));
        for (wrong, why) in [
            ("istio", "has no registry"),
            ("docker.io/Istio", "is no place of images"),
            ("helm=docker.io/x", "unknown project \"helm\""),
            ("envoy=", "is no place of images"),
        ] {
            let error = wrong.parse::<Hub>().unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
