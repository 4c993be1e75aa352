//! A kind cluster as a [`Provider`]: in a contained Docker engine or in the machine's Docker, with images made here or given.
//!
//! Only a translation between `egress-kind` and the runner. Start at [`KindChoice`], then [`KindStart::prepare`] and
//! [`KindProvider::start`].

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, ValueEnum};
use egress_component::{Cache, Host, ProgramName};
use egress_core::scenario::Capability;
use egress_image::{Archive, CLIENT, HUB, Silent};
use egress_kind::{Control, ENGINE_ROOT, Engine, Found, Kind, KindOptions, Phase, Where};
use egress_sandbox::Names;
use external_server::client::ControlClient;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{EnvironmentError, MADE_HERE, Provider};
use crate::components;
use crate::progress::{Console, Progress};

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
    fn makes(&self) -> bool {
        self.engine == EngineChoice::Own || self.own_images
    }

    /// The hub of Istio's images.
    fn hub(&self) -> &str {
        self.hub.as_deref().unwrap_or(if self.makes() { HUB } else { OFFICIAL_HUB })
    }

    /// What the cluster can do. Proxies of images that are made here are stock Envoy.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        let istios = (self.hub() != HUB).then_some(Capability::IstioExtensions);
        MADE_HERE.into_iter().chain(istios).collect()
    }
}

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
            None => components::pinned_istio()?,
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

/// A running kind cluster.
pub struct KindProvider {
    kind: Kind,
    settings: Vec<String>,
    capabilities: Vec<Capability>,
}

impl KindProvider {
    /// Starts a cluster, in an engine that ends with this process or in the machine's Docker.
    ///
    /// # Errors
    /// [`EnvironmentError`] with the part that failed and its last words.
    pub async fn start(
        start: KindStart,
        timeout: Duration,
        progress: impl Progress + 'static,
    ) -> Result<Self, EnvironmentError> {
        let cache = Cache::open(start.cache, None).map_err(|e| EnvironmentError::of(&e))?;
        let docker = match start.machine {
            Some(found) => Where::Machine(found),
            None => {
                let address = std::env::var("DOCKER_HOST").unwrap_or_default();
                Where::Own(address.trim_start_matches("unix://").into())
            }
        };
        let options = KindOptions {
            docker,
            name: start.name,
            kind: start.kind,
            kubectl: start.kubectl,
            node: start.node,
            config: start.config,
            outside: start.outside,
            inside: start.inside,
            dns: crate::embedded::text("workloads/dns.yaml").map_err(EnvironmentError::new)?.to_owned(),
            timeout,
        };
        let (settings, capabilities) = (start.settings, start.capabilities);
        // Its futures stay on one thread, so they get one; what ends this one ends them.
        let stop = CancellationToken::new();
        let (stopped, _ended_with_this) = (stop.clone(), stop.drop_guard());
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            let phase = |phase: &Phase| progress.phase(&phase.name, phase.took);
            let host = Host::current();
            runtime.block_on(async {
                tokio::select! {
                    kind = Kind::start((&cache, &host), &options, &Silent, &phase) => Some(kind),
                    () = stopped.cancelled() => None,
                }
            })
        });
        match started.await {
            Ok(Some(Ok(kind))) => Ok(Self { kind, settings, capabilities }),
            Ok(Some(Err(error))) => Err(EnvironmentError::of(&error)),
            Ok(None) | Err(_) => Err(EnvironmentError::new("the start of the kind cluster was broken off")),
        }
    }
}

impl Provider for KindProvider {
    fn kind(&self) -> &'static str {
        "kind"
    }

    fn kubeconfig(&self) -> &Path {
        self.kind.kubeconfig()
    }

    fn overlays(&self) -> &'static [&'static str] {
        if self.capabilities.contains(&Capability::IstioExtensions) {
            &["mesh/data-plane/small.yaml"]
        } else {
            &["mesh/data-plane/stock-envoy.yaml", "mesh/data-plane/small.yaml"]
        }
    }

    fn settings(&self) -> &[String] {
        &self.settings
    }

    fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    fn set_outside<'a>(
        &'a self,
        addresses: Vec<Ipv4Addr>,
        names: Names,
    ) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async move {
            let names = serde_json::to_string(&names)
                .map_err(|e| EnvironmentError::new(format!("external names cannot be written: {e}")))?;
            self.kind.set_outside(&addresses, &names).await.map_err(|e| EnvironmentError::of(&e))
        })
    }

    fn servers(&self) -> ControlClient {
        match self.kind.servers() {
            Control::Unix(path) => ControlClient::unix(path),
            Control::Tcp(address) => ControlClient::tcp(address),
        }
    }

    fn save<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<(), EnvironmentError>> {
        Box::pin(async { Err(EnvironmentError::new("a kind cluster cannot be saved")) })
    }

    fn logs(&self) -> Option<PathBuf> {
        self.kind.logs()
    }

    fn faults(&self) -> Vec<String> {
        self.kind.take_deaths()
    }

    fn stop(self: Box<Self>) -> BoxFuture<'static, Result<(), EnvironmentError>> {
        Box::pin(async move { self.kind.stop().await.map_err(|e| EnvironmentError::of(&e)) })
    }
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
    fn istios_own_images_bring_its_extensions() {
        let has = |choice: &KindChoice| choice.capabilities().contains(&Capability::IstioExtensions);
        let machine = KindChoice { engine: EngineChoice::Machine, ..KindChoice::default() };
        assert!(!has(&KindChoice::default()) && has(&machine));
        assert!(!has(&KindChoice { own_images: true, ..machine.clone() }));
        assert!(has(&KindChoice { hub: Some("registry.example.com/istio".into()), ..KindChoice::default() }));
        assert_eq!((KindChoice::default().said(), machine.said()), (None, Some("--engine")));
    }

    #[test]
    fn pull_policies_are_written_as_kubernetes_does() {
        assert_eq!(["if-not-present", "always", "never"].map(pascal), ["IfNotPresent", "Always", "Never"]);
    }
}
