//! A loaded scenario: its file, its manifests, where each part was written.
//!
//! Everything here has been checked by [`super::load`]; nothing here checks again. Start at [`Scenario`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::expand::{ExpandError, Values, expand_value};
use super::schema::{ClientSpec, ScenarioFile};

/// What a scenario is called: the names of the two folders that it lies in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ScenarioId {
    /// What it is about, such as `service-entry`.
    pub group: String,
    /// What it claims, such as `opens-a-tcp-server`.
    pub claim: String,
}

impl fmt::Display for ScenarioId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.claim)
    }
}

impl From<ScenarioId> for String {
    fn from(id: ScenarioId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ScenarioId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for ScenarioId {
    type Err = String;

    /// Reads `group/claim` or `group::claim`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("::").or_else(|| text.split_once('/')) {
            Some((group, claim)) if !group.is_empty() && !claim.is_empty() && !claim.contains('/') => {
                Ok(Self { group: group.to_owned(), claim: claim.to_owned() })
            }
            _ => Err(format!("`{text}` is no scenario: expected group/claim")),
        }
    }
}

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Where the values of a scenario file were written, by JSON pointer (`/steps/0/probe/curl/1`).
pub type Positions = BTreeMap<String, Position>;

/// One scenario with its manifests.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called.
    pub id: ScenarioId,
    /// The file that it was read from, as it was handed in.
    pub source: PathBuf,
    /// What the file says. Variables are not expanded yet.
    pub file: ScenarioFile,
    /// Its manifests by the name that steps use.
    pub manifests: BTreeMap<String, Manifest>,
    /// Where each value of the file was written.
    pub positions: Positions,
}

impl Scenario {
    /// The clients, with the defaults `meshed` and `plain` where the file declares none.
    #[must_use]
    pub fn clients(&self) -> BTreeMap<String, ClientSpec> {
        self.file.clients.clone().unwrap_or_else(default_clients)
    }
}

/// The clients of a scenario that declares none.
#[must_use]
pub fn default_clients() -> BTreeMap<String, ClientSpec> {
    let client = |sidecar| ClientSpec { sidecar, annotations: BTreeMap::new(), namespace: None };
    BTreeMap::from([("meshed".to_owned(), client(true)), ("plain".to_owned(), client(false))])
}

/// One manifest file of a scenario: one or more Kubernetes objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name within the scenario.
    pub name: String,
    /// The file, as it was handed in.
    pub path: PathBuf,
    /// Its text, variables not expanded.
    pub text: String,
    /// Its objects, variables not expanded.
    pub objects: Vec<ManifestObject>,
}

impl Manifest {
    /// The objects with all variables replaced, in the order of the file.
    ///
    /// # Errors
    /// The first variable without a value, with its position in the file.
    pub fn expanded(&self, values: &Values) -> Result<Vec<Value>, ExpandError> {
        self.objects
            .iter()
            .map(|object| expand_value(&object.value, values).map_err(|e| e.located_in(&self.text)))
            .collect()
    }
}

/// One Kubernetes object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestObject {
    /// The object, variables not expanded.
    pub value: Value,
    /// The line of the file at which it starts, from 1.
    pub line: usize,
}

impl ManifestObject {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// All scenarios that were loaded, by id.
#[derive(Debug, Clone, Default)]
pub struct ScenarioSet {
    /// The scenarios, ordered by id.
    pub scenarios: Vec<Arc<Scenario>>,
}

impl ScenarioSet {
    /// The scenario of this id (`group/claim` or `group::claim`).
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Scenario>> {
        let id: ScenarioId = id.parse().ok()?;
        self.scenarios.iter().find(|s| s.id == id)
    }
}
