//! Versions that somebody asks for, by project.
//!
//! Plain values; which of them can be had is said by [`crate::Pins::at`]. Start at [`Versions`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// A project whose programs have one version together, which can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Istio's control plane, agent and command line.
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
