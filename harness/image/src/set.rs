//! The archives there are, their keys, and how each is made. Start at [`Images::ensure`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use egress_component::{Cache, Fields, Host, Making, ProgramName, Programs, Tool};
use serde::{Deserialize, Serialize};

use crate::archive::{self, references};
use crate::cluster::{self, BASE, HUB, Layers};
use crate::containerd;
use crate::debian::run;
use crate::error::Error;
use crate::node;
use crate::own::OwnPrograms;
use crate::progress::{ImageEvent, ImageProgress, Reporter};

/// Components that the images contain, or that make them: what [`Images`] wants from the store.
pub static PROGRAMS: [ProgramName; 22] = [
    ProgramName::ETCD,
    ProgramName::KUBE_APISERVER,
    ProgramName::KUBE_CONTROLLER_MANAGER,
    ProgramName::KUBE_SCHEDULER,
    ProgramName::KUBE_PROXY,
    ProgramName::KUBECTL,
    ProgramName::KUBEADM,
    ProgramName::KUBELET,
    ProgramName::KIND,
    ProgramName::KIND_BASE,
    ProgramName::CONTAINERD,
    ProgramName::CTR,
    ProgramName::CONTAINERD_SHIM,
    ProgramName::CRICTL,
    ProgramName::CNI_PTP,
    ProgramName::CNI_LOOPBACK,
    ProgramName::CNI_HOST_LOCAL,
    ProgramName::CNI_PORTMAP,
    ProgramName::PILOT_DISCOVERY,
    ProgramName::PILOT_AGENT,
    ProgramName::ENVOY,
    ProgramName::ENVOY_BOOTSTRAP,
];

/// Increased when the recipes change in a way that no other part of a key shows.
const RECIPE: &[u8] = b"6";

/// Archives of one kind that stay in the cache: this one, and one that another build may be using.
const KEPT: usize = 2;

/// One archive, for `docker load` or `kind load image-archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The tar file.
    pub path: PathBuf,
    /// A hash over all that went into it.
    pub key: String,
    /// The references of its images.
    pub references: Vec<String>,
}

/// All archives of a cluster without a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The node's image alone.
    pub node: Archive,
    /// Istio's images and the clients'.
    pub mesh: Archive,
    /// The DNS server's and the external servers' image.
    pub own: Archive,
    /// The hub of Istio's images, for `istioctl install --set hub=`.
    pub hub: String,
    /// Their tag.
    pub tag: String,
}

/// Everything that images are made from.
#[derive(Clone)]
pub struct Images {
    /// Where results are kept.
    pub cache: Cache,
    /// The environment of the tools.
    pub host: Host,
    /// All of [`PROGRAMS`]; for [`Images::own`] alone, none.
    pub programs: Programs,
    /// This project's own programs.
    pub own: OwnPrograms,
    /// Who hears of it.
    pub progress: Arc<dyn ImageProgress>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Archive {
    /// An archive that somebody else has made, by `docker save` or `components images`.
    ///
    /// # Errors
    /// Where it is not an archive, or has no list of images.
    pub fn given(path: &Path) -> Result<Self, Error> {
        let path = path.canonicalize().map_err(Error::io("find the image archive", path))?;
        let references = archive::listed(&path)?;
        let of = path.metadata().map_err(Error::io("look at", &path))?;
        let mut fields = Fields::new("egress-image given");
        fields.add(b"path", path.as_os_str().as_encoded_bytes()).add(b"size", &of.len().to_le_bytes());
        fields.add(b"changed", format!("{:?}", of.modified().ok()).as_bytes());
        Ok(Self { key: fields.finish(), references, path })
    }
}

impl Images {
    /// Gives all archives, making what is missing.
    ///
    /// # Errors
    /// The first thing that fails, with its remedy.
    pub async fn ensure(&self) -> Result<Made, Error> {
        let (node, mesh, own) = (self.node().await?, self.mesh().await?, self.own().await?);
        Ok(Made { node, mesh, own, hub: HUB.to_owned(), tag: self.istio() })
    }

    /// The version of Istio in the images.
    fn istio(&self) -> String {
        self.version(&ProgramName::PILOT_DISCOVERY)
    }

    fn version(&self, name: &ProgramName) -> String {
        self.programs.get(name).map(|program| program.version.clone()).unwrap_or_default()
    }

    /// The archive with the node's image.
    ///
    /// # Errors
    /// As [`Images::ensure`].
    pub async fn node(&self) -> Result<Archive, Error> {
        let mut fields = Fields::new("egress-image node");
        fields.add(b"recipe", RECIPE).add(b"root", format!("{:?}", node::ROOT).as_bytes());
        fields.add(b"base", format!("{BASE:?}").as_bytes());
        // The folder's key is not among a program's facts; its version is kind's.
        for name in &PROGRAMS[..18] {
            self.add(&mut fields, name);
        }
        fields.add(b"arch", archive::architecture().as_bytes());
        let key = fields.finish();
        let version = self.version(&ProgramName::KUBELET);
        let tag = format!("{HUB}/node:v{version}");
        self.archive("node image", "node.tar", key, async |to, scratch, reporter| {
            let progress = &*self.progress;
            let base = BASE.layer(&self.cache, &self.host, progress).await?;
            let root = node::ROOT.layer(&self.cache, &self.host, progress).await?;
            let wanted = self.kubeadm_images(&version, reporter).await?;
            let pause = node::pause_reference(&self.programs)?;
            let mut layers = Layers::new(scratch.to_owned());
            let inner = cluster::control_plane(&self.programs, &base, (&wanted, &pause), &mut layers)?;
            reporter.step("writing the control plane's images");
            let bundle = archive::write(&inner, &scratch.join("control-plane.tar"))?;
            let known = containerd::import(&bundle.path, &self.programs, scratch, &self.host, reporter).await?;
            reporter.step("writing the node's image");
            let store = node::folder_layer(&known, "var/lib/containerd", &scratch.join("store.tar"))?;
            let spec = containerd::default_spec(&self.programs, &self.host, reporter).await?;
            let own = node::layer(&self.programs, spec, &version)?;
            let images = [node::image(tag.clone(), root, &own, store, &mut layers)?];
            archive::write(&images, to)?;
            Ok(references(&images).into_iter().collect())
        })
        .await
    }

    /// The archive with Istio's images and the clients'.
    ///
    /// # Errors
    /// As [`Images::ensure`].
    pub async fn mesh(&self) -> Result<Archive, Error> {
        let mut fields = Fields::new("egress-image mesh");
        fields.add(b"recipe", RECIPE).add(b"base", format!("{BASE:?}").as_bytes());
        for name in &PROGRAMS[18..] {
            self.add(&mut fields, name);
        }
        fields.add(b"arch", archive::architecture().as_bytes());
        let key = fields.finish();
        self.archive("mesh images", "mesh.tar", key, async |to, scratch, reporter| {
            let base = BASE.layer(&self.cache, &self.host, &*self.progress).await?;
            let mut layers = Layers::new(scratch.to_owned());
            let images = cluster::mesh(&self.programs, &base, &self.istio(), &mut layers)?;
            reporter.step("writing the archive");
            archive::write(&images, to)?;
            Ok(references(&images).into_iter().collect())
        })
        .await
    }

    /// The archive with this project's own programs: it needs none of [`PROGRAMS`], and nothing of Debian.
    ///
    /// # Errors
    /// Where a program cannot be read, or the cache not be written.
    pub async fn own(&self) -> Result<Archive, Error> {
        let mut fields = Fields::new("egress-image own");
        fields.add(b"recipe", RECIPE);
        for path in [&self.own.dns, &self.own.server] {
            fields.add(b"own", crate::layer::hash_file(path)?.as_bytes());
        }
        fields.add(b"arch", archive::architecture().as_bytes());
        self.archive("own images", "own.tar", fields.finish(), async |to, scratch, reporter| {
            let images = cluster::own(&self.own, &mut Layers::new(scratch.to_owned()))?;
            reporter.step("writing the archive");
            archive::write(&images, to)?;
            Ok(references(&images).into_iter().collect())
        })
        .await
    }

    fn add(&self, fields: &mut Fields, name: &ProgramName) {
        let program = self.programs.get(name);
        let content = program.map(|p| p.sha256.as_str()).unwrap_or_default();
        fields.add(name.as_str().as_bytes(), content.as_bytes()).add(b"version", self.version(name).as_bytes());
    }

    /// The archive of a key: `make` writes it to its first argument and gives the references in it.
    async fn archive(
        &self,
        what: &str,
        file: &str,
        key: String,
        make: impl AsyncFnOnce(&Path, &Path, Reporter<'_>) -> Result<Vec<String>, Error>,
    ) -> Result<Archive, Error> {
        let note = format!("process {}, making the {what}", std::process::id());
        let missing = self.cache.folder(&key).is_none();
        let reporter = Reporter::new(&*self.progress, what);
        let mut waiting = |holder: &str| self.progress.event(ImageEvent::Waiting { what, holder });
        let dir = self
            .cache
            .ensure_folder(&key, &note, &mut waiting, async |making: Making<'_>| {
                reporter.started();
                let to = making.object.join(file);
                let list = make(&to, making.scratch, reporter).await?.join("\n");
                let path = making.object.join("references");
                std::fs::write(&path, list).map_err(Error::io("write", &path))?;
                reporter.finished(&to);
                Ok::<_, Error>(())
            })
            .await?;
        if missing {
            self.cache.trim(file, KEPT)?;
        }
        let list = dir.join("references");
        let text = std::fs::read_to_string(&list).map_err(Error::io("read", &list))?;
        Ok(Archive { path: dir.join(file), key, references: text.lines().map(str::to_owned).collect() })
    }

    async fn kubeadm_images(&self, version: &str, reporter: Reporter<'_>) -> Result<Vec<String>, Error> {
        let tool = Tool::new(self.programs.path(&ProgramName::KUBEADM), &self.host)
            .args(["config", "images", "list", "--kubernetes-version", &format!("v{version}")])
            .quiet_stdout();
        let text = run(&tool, "asking kubeadm for its images", "see the message", reporter).await?;
        Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }
}
