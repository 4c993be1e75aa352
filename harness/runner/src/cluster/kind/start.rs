//! Everything that a kind cluster is started from, made or looked at before its owner starts. Start at
//! [`KindStart::prepare`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use egress_component::{Host, ProgramName, Versions};
use egress_core::scenario::{Capability, ClusterKind};
use egress_image::{Archive, CLIENT};
use egress_kind::{ENGINE_ROOT, Engine, Found};
use serde::{Deserialize, Serialize};

use super::choice::{EngineChoice, KindChoice};
use crate::cluster::EnvironmentError;
use crate::components;
use crate::progress::Console;

/// Everything that a kind cluster is started from, all of it there: what a client hands to the process that owns the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStart {
    /// The component cache, which also keeps an own engine's data.
    pub cache: PathBuf,
    /// The machine's Docker; an own engine without it.
    pub machine: Option<Found>,
    /// The cluster's name.
    pub name: Option<String>,
    /// The node's image.
    pub node: Option<String>,
    /// kind's configuration.
    pub config: Option<String>,
    /// Archives for the Docker.
    pub outside: Vec<Archive>,
    /// Archives for the node.
    pub inside: Vec<Archive>,
    /// Settings for `istioctl install`.
    pub settings: Vec<String>,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// The program kind.
    pub kind: PathBuf,
    /// The program kubectl.
    pub kubectl: PathBuf,
}

fn given(paths: &[PathBuf]) -> Result<Vec<Archive>, EnvironmentError> {
    paths.iter().map(|path| Archive::given(path).map_err(|e| EnvironmentError::of(&e))).collect()
}

impl KindStart {
    /// Looks at what is given, and makes what is missing: components, images, an engine's programs.
    ///
    /// # Errors
    /// [`EnvironmentError`] with what cannot be had.
    pub async fn prepare(choice: &KindChoice, console: &Console) -> Result<Self, EnvironmentError> {
        // What costs nothing comes first, so that a mistake does not cost a build.
        let archives = given(&choice.image_archive)?;
        let config = choice.kind_config.as_ref().map(|path| {
            std::fs::read_to_string(path)
                .map_err(|e| EnvironmentError::new(format!("cannot read kind's configuration {}: {e}", path.display())))
        });
        let config = config.transpose()?;
        let is_node =
            |archive: &Archive| choice.node_image.as_ref().is_some_and(|node| archive.references.contains(node));
        let (mut outside, mut inside): (Vec<_>, Vec<_>) = archives.into_iter().partition(is_node);
        if choice.engine == EngineChoice::Own {
            require_all(choice, &outside, &inside)?;
        }
        let machine = match choice.engine {
            EngineChoice::Own => {
                Engine::preflight(components::store()?.cache()).map_err(|e| EnvironmentError::of(&e))?;
                None
            }
            EngineChoice::Machine => Some(Found::look(&Host::current()).await.map_err(|e| EnvironmentError::of(&e))?),
        };
        let mut wanted = vec![ProgramName::KIND, ProgramName::KUBECTL];
        let (make_node, make_mesh) =
            (choice.makes() && choice.node_image.is_none(), choice.makes() && choice.hub.is_none());
        if make_node || make_mesh {
            wanted.extend(egress_image::PROGRAMS.iter().cloned());
        }
        let images = components::images(&wanted, console).await?;
        let failed = |e: egress_image::Error| EnvironmentError::of(&e);
        let mut node = choice.node_image.clone();
        if make_node {
            let archive = images.node().await.map_err(failed)?;
            node = archive.references.first().cloned();
            outside.push(archive);
        }
        if make_mesh {
            inside.push(images.mesh().await.map_err(failed)?);
        }
        let own = images.own().await.map_err(failed)?;
        outside.push(own.clone());
        inside.push(own);
        if machine.is_none() {
            ENGINE_ROOT.folder(&images.cache, &images.host, console).await.map_err(|e| EnvironmentError::of(&e))?;
        }
        let tag = match &choice.tag {
            Some(tag) => tag.clone(),
            None => components::circumstances(ClusterKind::Kind, &Versions::default())?.istio.unwrap_or_default(),
        };
        let pull = choice.pull_policy.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let program = |name: ProgramName| images.programs.path(&name).to_owned();
        Ok(Self {
            cache: images.cache.dir().to_owned(),
            machine,
            name: choice.kind_name.clone(),
            node,
            config,
            outside,
            inside,
            settings: vec![
                format!("hub={}", choice.hub()),
                format!("tag={tag}"),
                format!("values.global.imagePullPolicy={}", pascal(&pull)),
            ],
            capabilities: choice.capabilities(),
            kind: program(ProgramName::KIND),
            kubectl: program(ProgramName::KUBECTL),
        })
    }

    /// `DOCKER_HOST` for the process that owns the cluster, whose folder this is.
    #[must_use]
    pub fn docker_host(&self, home: &Path) -> OsString {
        match &self.machine {
            Some(found) => found.address.clone().into(),
            None => {
                let mut address = OsString::from("unix://");
                address.push(home.join(SOCKET));
                address
            }
        }
    }
}

/// An own engine answers here, in its owner's folder.
const SOCKET: &str = "docker.sock";

/// `if-not-present` as Kubernetes writes it.
fn pascal(kebab: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    kebab.split('-').map(word).collect()
}

/// An own engine has no way out, so what is not made must be in archives: said before anything is built.
fn require_all(choice: &KindChoice, outside: &[Archive], inside: &[Archive]) -> Result<(), EnvironmentError> {
    let mut missing = Vec::new();
    if let Some(node) = choice.node_image.as_ref().filter(|_| outside.is_empty()) {
        missing.push(node.clone());
    }
    if let (Some(hub), Some(tag)) = (&choice.hub, &choice.tag) {
        let wanted = [format!("{hub}/pilot:{tag}"), format!("{hub}/proxyv2:{tag}"), CLIENT.to_owned()];
        missing.extend(wanted.into_iter().filter(|one| !inside.iter().any(|archive| archive.references.contains(one))));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(EnvironmentError::new(format!("an engine of our own cannot pull, and no archive has {}", missing.join(", ")))
        .with_remedy("give archives that have them (--image-archive), or use the machine's Docker (--engine machine)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(references: &[&str]) -> Archive {
        Archive { path: "a.tar".into(), key: "k".into(), references: references.iter().map(|&r| r.into()).collect() }
    }

    #[test]
    fn an_own_engine_wants_every_given_image_in_an_archive() {
        let choice = KindChoice {
            node_image: Some("kindest/node:v1".into()),
            hub: Some("h".into()),
            tag: Some("1".into()),
            ..KindChoice::default()
        };
        let error = require_all(&choice, &[], &[archive(&["h/pilot:1", CLIENT])]).unwrap_err();
        assert!(
            error.message.contains("kindest/node:v1, h/proxyv2:1") && !error.message.contains("pilot:1"),
            "{error}"
        );
        let (node, mesh) = (archive(&["kindest/node:v1"]), archive(&["h/pilot:1", "h/proxyv2:1", CLIENT]));
        assert!(require_all(&choice, &[node], &[mesh]).is_ok());
        assert!(require_all(&KindChoice::default(), &[], &[]).is_ok());
    }

    #[test]
    fn pull_policies_are_written_as_kubernetes_does() {
        assert_eq!(["if-not-present", "always", "never"].map(pascal), ["IfNotPresent", "Always", "Never"]);
    }
}
