//! How a kind cluster is wanted: its options and their variables. Start at [`KindChoice`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, ValueEnum};
use egress_core::scenario::{Capability, Circumstances, envoy_of_istio};
use egress_image::HUB;

use crate::cluster::capabilities;

/// Where Istio's official images are.
const OFFICIAL_HUB: &str = "docker.io/istio";

/// How a kind cluster is wanted; every option has a variable, for `cargo test`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "With --cluster kind")]
pub struct KindChoice {
    /// The Docker that it is made in
    #[arg(long, value_enum, default_value_t, env = "EGRESS_KIND_ENGINE")]
    pub engine: EngineChoice,
    /// Make all images here, instead of using official ones, in the machine's Docker too; needs root
    #[arg(long, env = "EGRESS_KIND_OWN_IMAGES")]
    pub own_images: bool,
    /// The node's image, which decides the version of Kubernetes [default: made here, or kind's own]
    #[arg(long, value_name = "IMAGE", env = "EGRESS_KIND_NODE_IMAGE")]
    pub node_image: Option<String>,
    /// Where Istio's images are [default: made here, or docker.io/istio]
    #[arg(long, value_name = "HUB", requires = "tag", env = "EGRESS_KIND_HUB")]
    pub hub: Option<String>,
    /// Their tag [default: the pinned version]
    #[arg(long, value_name = "TAG", env = "EGRESS_KIND_TAG")]
    pub tag: Option<String>,
    /// When nodes pull them
    #[arg(long, value_enum, default_value_t, env = "EGRESS_KIND_PULL_POLICY")]
    pub pull_policy: PullPolicy,
    /// An archive of images, as `docker save` writes it, to load into the cluster (repeatable)
    #[arg(long, value_name = "FILE", env = "EGRESS_KIND_IMAGE_ARCHIVE", value_delimiter = ',')]
    pub image_archive: Vec<PathBuf>,
    /// The cluster's name [default: one that is free]
    #[arg(long, value_name = "NAME", env = "EGRESS_KIND_NAME")]
    pub kind_name: Option<String>,
    /// kind's configuration, with one node, instead of ours; keep disableDefaultCNI, ranges and skipPhases of it
    #[arg(long, value_name = "FILE", env = "EGRESS_KIND_CONFIG")]
    pub kind_config: Option<PathBuf>,
}

/// In which Docker a cluster is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// One of our own, in namespaces without a way out; needs root, and nothing of the machine's
    #[default]
    Own,
    /// The machine's Docker, or Podman with KIND_EXPERIMENTAL_PROVIDER=podman
    Machine,
}

/// Kubernetes' pull policies for Istio's images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// When an image is not on the node
    #[default]
    IfNotPresent,
    /// At every start of a container
    Always,
    /// Never: only images of --image-archive and of the node are there
    Never,
}

impl KindChoice {
    /// What the variables of this process say.
    ///
    /// # Errors
    /// clap's message where one is wrong.
    pub fn from_env() -> Result<Self, String> {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            choice: KindChoice,
        }
        let matches = Alone::command().try_get_matches_from([OsString::from("kind")]).map_err(|e| e.to_string())?;
        Alone::from_arg_matches(&matches).map(|alone| alone.choice).map_err(|e| e.to_string())
    }

    /// The first option that says something, if any does.
    #[must_use]
    pub fn said(&self) -> Option<&'static str> {
        let options = [
            ("--engine", self.engine != EngineChoice::default()),
            ("--own-images", self.own_images),
            ("--node-image", self.node_image.is_some()),
            ("--hub", self.hub.is_some()),
            ("--tag", self.tag.is_some()),
            ("--pull-policy", self.pull_policy != PullPolicy::default()),
            ("--image-archive", !self.image_archive.is_empty()),
            ("--kind-name", self.kind_name.is_some()),
            ("--kind-config", self.kind_config.is_some()),
        ];
        options.iter().find(|(_, said)| *said).map(|(name, _)| *name)
    }

    /// Whether images that are not given are made here.
    pub(super) fn makes(&self) -> bool {
        self.engine == EngineChoice::Own || self.own_images
    }

    /// The hub of Istio's images.
    pub(super) fn hub(&self) -> &str {
        self.hub.as_deref().unwrap_or(if self.makes() { HUB } else { OFFICIAL_HUB })
    }

    /// The same with a version of Istio: that of its images, where no tag says otherwise.
    ///
    /// # Errors
    /// Where images are made here, which are of the pinned version.
    pub fn at(mut self, istio: Option<&str>) -> Result<Self, String> {
        if let Some(version) = istio {
            if self.makes() && self.hub.is_none() {
                return Err(
                    "images of kind that are made here are of the pinned Istio: --istio-version needs --engine \
                            machine, or --hub and --tag with --image-archive"
                        .to_owned(),
                );
            }
            self.tag.get_or_insert_with(|| version.to_owned());
        }
        Ok(self)
    }

    /// What scenarios find on the cluster: as elsewhere, but for what is chosen here.
    #[must_use]
    pub fn circumstances(&self, usual: Circumstances) -> Circumstances {
        let istio = self.tag.clone().filter(|tag| semver::Version::parse(tag).is_ok()).or(usual.istio);
        let own = self.hub() == HUB;
        let envoy = if own { usual.envoy } else { istio.as_deref().and_then(envoy_of_istio) };
        Circumstances { capabilities: capabilities(!own).into_iter().collect(), istio, envoy, cluster: usual.cluster }
    }

    /// What the cluster can do. Proxies of images that are made here are stock Envoy.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        capabilities(self.hub() != HUB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn istios_own_images_bring_its_extensions() {
        let has = |choice: &KindChoice| choice.capabilities().contains(&Capability::IstioExtensions);
        let machine = KindChoice { engine: EngineChoice::Machine, ..KindChoice::default() };
        assert!(!has(&KindChoice::default()) && has(&machine));
        assert!(!has(&KindChoice { own_images: true, ..machine.clone() }));
        assert!(has(&KindChoice { hub: Some("registry.example.com/istio".into()), ..KindChoice::default() }));
        assert!(KindChoice::default().at(Some("1.30.3")).is_err_and(|why| why.contains("--engine machine")));
        assert_eq!(machine.clone().at(Some("1.30.3")).map(|choice| choice.tag), Ok(Some("1.30.3".into())));
        assert_eq!((KindChoice::default().said(), machine.said()), (None, Some("--engine")));
    }
}
