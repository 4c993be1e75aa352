//! Loading: a tree of files in, scenarios out, with every name checked and every error collected.
//!
//! Files are handed in; a scenario is a `scenario.yaml`, its id is the names of the two folders around it, and the
//! other YAML files of its folder are its manifests. Shapes are checked first ([`shape`]); where they hold, names
//! ([`references`]), steps ([`steps`]) and manifests ([`manifest`]). Start at [`load`].

mod error;
mod expects;
mod manifest;
mod matchers;
mod node;
mod probes;
mod references;
mod scope;
mod shape;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{LoadError, LoadErrors};

use super::json_schema;
use super::model::{Manifest, Scenario, ScenarioId, ScenarioSet};
use super::schema::ScenarioFile;
use error::Problem;
use node::{Node, documents};

/// The file that makes a folder a scenario.
const SCENARIO: &str = "scenario.yaml";

/// Loads every scenario of a tree.
///
/// `files` are texts by path; the paths appear in messages as they are given. `profiles` are the names that `mesh:` may
/// have. Files that are no YAML are not looked at.
///
/// # Errors
/// [`LoadErrors`]: everything that is wrong, in the order of the files.
pub fn load(files: &BTreeMap<PathBuf, String>, profiles: &[String]) -> Result<ScenarioSet, LoadErrors> {
    let mut folders: BTreeMap<&Path, Folder<'_>> = BTreeMap::new();
    for (path, text) in files.iter().filter(|(path, _)| is_yaml(path)) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        folders.entry(folder).or_default().files.insert(name, Source { path, text });
    }
    let mut loader = Loader { schema: json_schema::schema(), profiles, errors: Vec::new(), scenarios: BTreeMap::new() };
    for folder in folders.values() {
        loader.folder(folder);
    }
    if loader.errors.is_empty() {
        Ok(ScenarioSet { scenarios: loader.scenarios.into_values().map(Arc::new).collect() })
    } else {
        Err(LoadErrors(loader.errors))
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

/// One file.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

/// The YAML files of one folder.
#[derive(Default)]
struct Folder<'a> {
    files: BTreeMap<String, Source<'a>>,
}

struct Loader<'a> {
    schema: serde_json::Value,
    profiles: &'a [String],
    errors: Vec<LoadError>,
    scenarios: BTreeMap<ScenarioId, Scenario>,
}

impl Loader<'_> {
    fn folder(&mut self, folder: &Folder<'_>) {
        let Some(source) = folder.files.get(SCENARIO) else {
            for (name, source) in &folder.files {
                let help = did_you_mean(name, [SCENARIO])
                    .unwrap_or_else(|| format!("a scenario is a folder with a {SCENARIO} and its manifests"));
                self.report(*source, Problem::whole("the file belongs to no scenario", Some(help)));
            }
            return;
        };
        let id = match scenario_id(source.path) {
            Ok(id) => id,
            Err(problem) => return self.report(*source, problem),
        };
        if let Some(first) = self.scenarios.get(&id) {
            let message = format!("there is a scenario `{id}` already, in {}", first.source.display());
            return self.report(*source, Problem::whole(message, Some("rename one of the folders".into())));
        }
        let manifests = self.manifests(folder);
        if let Some((file, root)) = self.scenario_file(*source) {
            let names = references::Names::of(&file, self.profiles, manifests.keys());
            let mut problems = Vec::new();
            references::check(&file, &root, &names, &mut problems);
            steps::check(&file, &root, &names, &mut problems);
            references::variables_in(&root, source.text, &names, &mut problems);
            self.report_all(*source, problems);
            self.use_of_manifests(&file, folder);
            for (name, nodes) in &manifests {
                let mut problems = Vec::new();
                let source = folder.files[name];
                manifest::check(nodes, &file, &manifests, &mut problems);
                for node in nodes {
                    references::variables_in(node, source.text, &names, &mut problems);
                }
                self.report_all(source, problems);
            }
            let manifests = manifests
                .iter()
                .map(|(name, nodes)| {
                    let source = folder.files[name];
                    let objects = manifest::objects(nodes);
                    let path = source.path.to_path_buf();
                    (name.clone(), Manifest { name: name.clone(), path, text: source.text.to_owned(), objects })
                })
                .collect();
            let scenario = Scenario {
                id: id.clone(),
                source: source.path.to_path_buf(),
                positions: root.positions(),
                file,
                manifests,
            };
            self.scenarios.insert(id, scenario);
        }
    }

    /// The scenario file, if its shape is right.
    fn scenario_file(&mut self, source: Source<'_>) -> Option<(ScenarioFile, Node)> {
        let documents = match documents(source.text) {
            Ok(documents) => documents,
            Err(error) => {
                self.report(source, Problem::no_yaml(&error));
                return None;
            }
        };
        let mut documents = documents.into_iter();
        let Some(root) = documents.next() else {
            self.report(source, Problem::whole("the file is empty", None));
            return None;
        };
        if let Some(second) = documents.next() {
            let message = "a scenario file is one YAML document, and here begins a second";
            self.report(source, Problem { message: message.into(), help: None, place: Some(second.place) });
        }
        let mut problems = Vec::new();
        shape::check(&self.schema, &root, &mut problems);
        if problems.is_empty() {
            match node::typed::<ScenarioFile>(source.text) {
                Ok(file) => return Some((file, root)),
                Err(error) => problems.push(Problem { message: error.message, help: None, place: error.place }),
            }
        }
        self.report_all(source, problems);
        None
    }

    /// The parsed documents of every manifest that is YAML.
    fn manifests(&mut self, folder: &Folder<'_>) -> BTreeMap<String, Vec<Node>> {
        let mut manifests = BTreeMap::new();
        for (name, source) in folder.files.iter().filter(|(name, _)| *name != SCENARIO) {
            match documents(source.text) {
                Ok(nodes) => _ = manifests.insert(name.clone(), nodes),
                Err(error) => {
                    // It is there, for all that names it.
                    manifests.insert(name.clone(), Vec::new());
                    self.report(*source, Problem::no_yaml(&error));
                }
            }
        }
        manifests
    }

    fn use_of_manifests(&mut self, file: &ScenarioFile, folder: &Folder<'_>) {
        let used: BTreeSet<&String> = file.steps.iter().flat_map(|s| s.apply.iter().chain(&s.delete)).collect();
        for (name, source) in folder.files.iter().filter(|(name, _)| *name != SCENARIO && !used.contains(name)) {
            let help = "apply it in a step, or remove it".to_owned();
            self.report(*source, Problem::whole(format!("no step uses `{name}`"), Some(help)));
        }
    }

    fn report_all(&mut self, source: Source<'_>, mut problems: Vec<Problem>) {
        problems.sort_by_key(|problem| problem.place.map(|place| place.position));
        for problem in problems {
            self.report(source, problem);
        }
    }

    fn report(&mut self, source: Source<'_>, problem: Problem) {
        self.errors.push(LoadError::new(source.path, source.text, problem));
    }
}

fn scenario_id(path: &Path) -> Result<ScenarioId, Problem> {
    let mut names = path.iter().rev().skip(1).map(|n| n.to_string_lossy().into_owned());
    let (Some(claim), Some(group)) = (names.next(), names.next()) else {
        return Err(Problem::whole("the scenario lies in no group: expected GROUP/CLAIM/scenario.yaml", None));
    };
    for name in [&group, &claim] {
        if !references::is_label(name) {
            let message =
                format!("the folder `{name}` cannot be part of a scenario's id: expected {}", references::LABEL);
            return Err(Problem::whole(message, None));
        }
    }
    Ok(ScenarioId { group, claim })
}

/// `did you mean …?` for the nearest of some known words, if one is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = word.chars().count();
    let limit = if length < 4 { 1 } else { (length / 3).clamp(2, 4) };
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || (word.len() > 3 && candidate.contains(word)))
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}
