//! What `components list` and `components verify` show.
//!
//! Only looks: nothing is built, fetched or repaired here. Start at [`crate::Store::status`].

use std::path::PathBuf;

use serde::Serialize;

use crate::cache::{self, Object};
use crate::component::{Component, Kind, SourceKind};
use crate::error::Error;
use crate::name::ProgramName;
use crate::overrides;
use crate::programs::Program;
use crate::store::Store;
use crate::version;

/// Where a component is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Origin {
    /// The user gave a path; not looked at yet.
    Given {
        /// The path.
        path: PathBuf,
    },
    /// In a cache.
    Cached {
        /// Its path.
        path: PathBuf,
        /// In the second, read-only cache folder.
        read_only: bool,
    },
    /// Not there; [`Store::ensure`] makes it.
    Missing,
}

/// One line of `components list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: ProgramName,
    /// What it is.
    pub kind: Kind,
    /// The pinned version.
    pub version: String,
    /// The kind of source: `path` if the user gave one, else the pinned one.
    pub source: SourceKind,
    /// The source in full: of what is cached, with the digest of an image; else the pinned one.
    pub from: String,
    /// Where it is.
    pub origin: Origin,
    /// SHA-256 of its content, where it is cached.
    pub sha256: Option<String>,
    /// Size in bytes, where it is cached.
    pub size: Option<u64>,
    /// When it was made, where it is cached.
    pub built: Option<jiff::Timestamp>,
    /// The environment variable that overrides it.
    pub variable: String,
}

/// One line of `components verify`.
#[derive(Debug)]
pub struct Verification {
    /// Its name.
    pub name: ProgramName,
    /// The pinned version.
    pub version: String,
    /// What was found: `None` if it is missing, else the program or what is wrong with it.
    pub result: Option<Result<Program, Error>>,
}

impl Store {
    /// Every pinned component and where it is now.
    pub fn status(&self) -> Vec<Status> {
        self.pins().components().iter().map(|component| self.status_of(component)).collect()
    }

    fn status_of(&self, component: &Component) -> Status {
        let given = self.overrides().get(component.name());
        let object = self.find(component).filter(|_| given.is_none());
        let origin = match (given, &object) {
            (Some(path), _) => Origin::Given { path: path.to_owned() },
            (None, Some(object)) => Origin::Cached { path: object.path(), read_only: object.read_only },
            (None, None) => Origin::Missing,
        };
        Status {
            name: component.name().clone(),
            kind: component.kind(),
            version: component.version().to_owned(),
            source: match &object {
                _ if given.is_some() => SourceKind::Path,
                Some(object) => object.record.source,
                None => component.source_kind(),
            },
            from: object.as_ref().map_or_else(|| component.source_text(), |object| object.record.from.clone()),
            origin,
            sha256: object.as_ref().map(|o| o.record.sha256.clone()),
            size: object.as_ref().map(|o| o.record.size),
            built: object.as_ref().map(|o| o.record.built),
            variable: component.name().variable(),
        }
    }

    /// Reads every component that is there in full, compares it with its record, and asks it for its version.
    pub async fn verify(&self) -> Vec<Verification> {
        let mut results = Vec::new();
        for component in self.pins().components() {
            let result = match (self.overrides().get(component.name()), self.cache().find(component)) {
                // A given Go need only be new enough, which is seen when it is used.
                (Some(_), _) if component.kind() == Kind::Toolchain => None,
                (Some(path), _) => Some(overrides::check(component, path, self.host()).await),
                (None, Some(object)) => Some(self.verify_object(component, object).await),
                (None, None) => None,
            };
            results.push(Verification {
                name: component.name().clone(),
                version: component.version().to_owned(),
                result,
            });
        }
        results
    }

    async fn verify_object(&self, component: &Component, object: Object) -> Result<Program, Error> {
        let (dir, path) = (object.dir.clone(), object.path());
        let (hashed, object) = tokio::task::spawn_blocking(move || (cache::rehash(&object), object))
            .await
            .map_err(std::io::Error::other)
            .map_err(Error::io("read", &dir))?;
        hashed?;
        let help = format!("remove {} and it is made anew", dir.display());
        version::check(component, &path, self.host(), &help).await?;
        Ok(object.into())
    }
}

impl From<Object> for Program {
    fn from(object: Object) -> Self {
        Self {
            path: object.path(),
            version: object.record.version,
            sha256: object.record.sha256,
            size: object.record.size,
            source: object.record.source,
        }
    }
}
