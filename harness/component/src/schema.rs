//! The shape of `components.yaml`. Unknown keys are errors.
//!
//! Only the shape: what the values must agree with is checked by [`crate::Pins::parse`]. Start at [`File`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::component::Kind;
use crate::name::ProgramName;
use crate::versions::Family;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Go module folders beside the file, by folder name.
    #[serde(default)]
    pub(crate) modules: BTreeMap<String, Module>,
    /// Where official images are, by project: `docker.io/istio`.
    #[serde(default)]
    pub(crate) hubs: BTreeMap<Family, String>,
    pub(crate) components: Vec<Component>,
}

/// What all programs of one module folder share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    /// The module of interest among the requirements of the folder's `go.mod`.
    pub(crate) module: String,
    /// The folder whose programs it has at another version, for when that is asked for.
    pub(crate) instead_of: Option<String>,
    /// The version that its programs print.
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) ldflags: Vec<String>,
    /// Disk space, in MiB, that a build with empty Go caches takes.
    #[serde(default)]
    pub(crate) space_mib: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    pub(crate) name: ProgramName,
    #[serde(default = "program")]
    pub(crate) kind: Kind,
    /// The project whose version, if one is asked for, it has to have.
    pub(crate) family: Option<Family>,
    /// Path inside the cache object; the name if absent.
    pub(crate) entry: Option<String>,
    pub(crate) source: Source,
    /// The official images that have it.
    #[serde(default)]
    pub(crate) images: Vec<Image>,
    pub(crate) check: Option<Check>,
}

fn program() -> Kind {
    Kind::Program
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    Go(Go),
    GoFile(GoFile),
    GoFolder(GoFolder),
    Pypi(Pypi),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Go {
    pub(crate) module: String,
    pub(crate) package: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoFile {
    pub(crate) module: String,
    pub(crate) path: String,
    pub(crate) sha256: String,
}

/// A file of an official image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// Whose image it is. With another project's than the component's own family, the component comes along when that
    /// project's are taken from images.
    pub(crate) hub: Family,
    /// Its name in the hub.
    pub(crate) name: String,
    /// Its tag, in which `{version}` stands for the version.
    #[serde(default = "version_alone")]
    pub(crate) tag: String,
    /// The file's path in the image, without a leading slash.
    pub(crate) path: String,
}

fn version_alone() -> String {
    "{version}".to_owned()
}

/// All files below a folder of a module. `go.sum` has the hash of the whole module, so none is written here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoFolder {
    pub(crate) module: String,
    pub(crate) path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pypi {
    pub(crate) package: String,
    pub(crate) version: String,
    /// The wheel's SHA-256 by platform (`x86_64-linux`).
    pub(crate) wheels: BTreeMap<String, String>,
    /// Wheels of other versions, which may be asked for.
    #[serde(default)]
    pub(crate) also: BTreeMap<String, BTreeMap<String, String>>,
    /// The file in the wheel, or, with a slash at its end, the folder.
    pub(crate) member: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    pub(crate) args: Vec<String>,
    pub(crate) pattern: String,
}
