//! The pins: which component at which version from which source, and how its version is checked.
//!
//! Pure: reads text and bytes that it is given, never the disk (except [`PinFiles::read`], for checkouts and tests).
//! Start at [`Pins::parse`]; the file itself is `fixtures/components/components.yaml`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::component::{Component, GoModule, Kind, Source, VersionCheck};
use crate::error::PinError;
use crate::gomod::{self, GoMod};
use crate::name::ProgramName;
use crate::schema;
use regex::Regex;

/// The name of the file that lists the components.
pub const COMPONENTS_FILE: &str = "components.yaml";

/// The files beside `components.yaml` (`go.mod`, `go.sum` of each module folder), by relative path.
#[derive(Debug, Clone, Default)]
pub struct PinFiles(BTreeMap<String, Vec<u8>>);

impl PinFiles {
    /// Reads a folder of pins from disk.
    pub fn read(dir: &Path) -> std::io::Result<Self> {
        fn walk(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                if path.is_dir() {
                    walk(root, &path, files)?;
                } else {
                    let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                    files.insert(relative, std::fs::read(&path)?);
                }
            }
            Ok(())
        }
        let mut files = BTreeMap::new();
        walk(dir, dir, &mut files)?;
        Ok(Self(files))
    }

    /// The file at a relative path.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    /// The files below a folder, with paths relative to it.
    fn below(&self, dir: &str) -> BTreeMap<String, Vec<u8>> {
        let prefix = format!("{dir}/");
        self.0
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&prefix)?.to_owned(), bytes.clone())))
            .collect()
    }
}

impl<P: Into<String>, B: Into<Vec<u8>>> FromIterator<(P, B)> for PinFiles {
    fn from_iter<I: IntoIterator<Item = (P, B)>>(items: I) -> Self {
        Self(items.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect())
    }
}

/// All pinned components, checked against each other.
#[derive(Debug, Clone)]
pub struct Pins {
    components: Vec<Component>,
}

impl Pins {
    /// Reads and checks the pins. `files` holds what lies beside `components.yaml`.
    ///
    /// # Errors
    /// Where the file is malformed, names what is not there, or disagrees with a `go.mod`.
    pub fn parse(yaml: &str, files: &PinFiles) -> Result<Self, PinError> {
        let file: schema::File =
            serde_saphyr::from_str(yaml).map_err(|e| PinError::Syntax { reason: e.to_string() })?;
        let modules = file
            .modules
            .iter()
            .map(|(dir, pin)| Ok((dir.clone(), read_module(dir, pin, files)?)))
            .collect::<Result<BTreeMap<_, _>, PinError>>()?;
        let mut components: Vec<Component> = Vec::new();
        for pin in &file.components {
            let component = read_component(pin, &file, &modules)?;
            if components.iter().any(|other| other.name == component.name) {
                return Err(PinError::Twice { name: component.name.to_string() });
            }
            components.push(component);
        }
        Ok(Self { components })
    }

    /// Reads `components.yaml` and the files beside it from one set of files.
    ///
    /// # Errors
    /// As [`Pins::parse`], and where the file is missing.
    pub fn from_files(files: &PinFiles) -> Result<Self, PinError> {
        let bytes = files.get(COMPONENTS_FILE).ok_or_else(|| PinError::MissingFile {
            path: COMPONENTS_FILE.to_owned(),
            wanted_by: "the pins".to_owned(),
        })?;
        let yaml = std::str::from_utf8(bytes).map_err(|e| PinError::Syntax { reason: e.to_string() })?;
        Self::parse(yaml, files)
    }

    /// All components in the order of the file, toolchain included.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The component of that name.
    pub fn get(&self, name: &ProgramName) -> Option<&Component> {
        self.components.iter().find(|c| c.name == *name)
    }

    /// Names of everything that a sandbox may use: all but toolchains.
    pub fn usable(&self) -> Vec<ProgramName> {
        self.components.iter().filter(|c| c.kind != Kind::Toolchain).map(|c| c.name.clone()).collect()
    }
}

fn read_module(dir: &str, pin: &schema::Module, files: &PinFiles) -> Result<GoModule, PinError> {
    let files = files.below(dir);
    let missing =
        |name: &str| PinError::MissingFile { path: format!("{dir}/{name}"), wanted_by: format!("module {dir}") };
    let text = files.get("go.mod").ok_or_else(|| missing("go.mod"))?;
    files.get("go.sum").ok_or_else(|| missing("go.sum"))?;
    let parsed = GoMod::parse(&String::from_utf8_lossy(text));
    let disagree = |what: String| PinError::Disagree { dir: dir.to_owned(), what };
    let version = parsed
        .requires
        .get(&pin.module)
        .ok_or_else(|| disagree(format!("it does not require {}", pin.module)))?
        .clone();
    if !gomod::is_pseudo_version(&version) && version != format!("v{}", pin.version) {
        return Err(disagree(format!("it requires {} {version}, and the pin says {}", pin.module, pin.version)));
    }
    let go = parsed.go.ok_or_else(|| disagree("it has no go line".to_owned()))?;
    Ok(GoModule { path: pin.module.clone(), version, go, files, space_mib: pin.space_mib })
}

fn read_component(
    pin: &schema::Component,
    file: &schema::File,
    modules: &BTreeMap<String, GoModule>,
) -> Result<Component, PinError> {
    let invalid = |what: String| PinError::Component { name: pin.name.to_string(), what };
    let module = |dir: &str| match (file.modules.get(dir), modules.get(dir)) {
        (Some(pin), Some(module)) => Ok((pin, module)),
        _ => Err(invalid(format!("there is no module {dir:?} under modules"))),
    };
    let (version, source) = match &pin.source {
        schema::Source::Go(go) => {
            let (flags, module) = module(&go.module)?;
            let parsed = GoMod::parse(&String::from_utf8_lossy(&module.files["go.mod"]));
            if !parsed.tools.contains(&go.package) {
                return Err(invalid(format!("{}/go.mod has no line `tool {}`", go.module, go.package)));
            }
            let source = Source::GoProgram {
                module: module.clone(),
                package: go.package.clone(),
                tags: flags.tags.clone(),
                ldflags: flags.ldflags.clone(),
            };
            (flags.version.clone(), source)
        }
        schema::Source::GoFile(go) => {
            let (flags, module) = module(&go.module)?;
            check_sha256(&go.sha256).map_err(&invalid)?;
            let source = Source::GoFile { module: module.clone(), path: go.path.clone(), sha256: go.sha256.clone() };
            (flags.version.clone(), source)
        }
        schema::Source::GoFolder(go) => {
            let (flags, module) = module(&go.module)?;
            (flags.version.clone(), Source::GoFolder { module: module.clone(), path: go.path.clone() })
        }
        schema::Source::Pypi(pypi) => {
            for sha256 in pypi.wheels.values() {
                check_sha256(sha256).map_err(&invalid)?;
            }
            let source = Source::Pypi {
                package: pypi.package.clone(),
                wheels: pypi.wheels.clone(),
                member: pypi.member.clone(),
            };
            (pypi.version.clone(), source)
        }
    };
    let check = pin.check.as_ref().map(|check| read_check(check).map_err(&invalid)).transpose()?;
    if check.is_none() && !matches!(pin.kind, Kind::File | Kind::Folder) {
        return Err(invalid("a program needs a version check".to_owned()));
    }
    let entry = pin.entry.clone().unwrap_or_else(|| pin.name.to_string());
    Ok(Component { name: pin.name.clone(), kind: pin.kind, version, source, entry, check })
}

fn read_check(check: &schema::Check) -> Result<VersionCheck, String> {
    let pattern = Regex::new(&check.pattern).map_err(|e| e.to_string())?;
    if pattern.captures_len() != 2 {
        return Err(format!("the pattern {:?} needs exactly one group, the version", check.pattern));
    }
    Ok(VersionCheck { args: check.args.clone(), pattern })
}

fn check_sha256(text: &str) -> Result<(), String> {
    let fits = text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    if fits { Ok(()) } else { Err(format!("{text:?} is not a sha256: 64 lower-case hexadecimal digits are expected")) }
}

#[cfg(test)]
#[path = "pins_tests.rs"]
mod tests;
