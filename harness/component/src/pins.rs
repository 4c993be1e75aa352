//! The pins: which component at which version from which source, and how its version is checked.
//!
//! Pure: reads text and bytes that it is given, never the disk (except [`PinFiles::read`], for checkouts and tests).
//! Start at [`Pins::parse`]; the file itself is `fixtures/components/components.yaml`.

mod at;

use std::collections::BTreeMap;
use std::path::Path;

use crate::component::{Component, GoModule, Kind, Source, VersionCheck};
use crate::error::PinError;
use crate::gomod::{self, GoMod};
use crate::name::ProgramName;
use crate::schema;
use crate::versions::Family;
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
    /// Of each component, in the same order.
    images: Vec<Vec<schema::Image>>,
    hubs: BTreeMap<Family, String>,
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
        for (dir, pin) in &file.modules {
            if let Some(usual) = pin.instead_of.as_ref().filter(|usual| !file.modules.contains_key(*usual)) {
                let what = format!("instead_of names {usual:?}, which is not under modules");
                return Err(PinError::Disagree { dir: dir.clone(), what });
            }
        }
        let mut components: Vec<Component> = Vec::new();
        for pin in &file.components {
            let component = read_component(pin, &file, &modules)?;
            if components.iter().any(|other| other.name == component.name) {
                return Err(PinError::Twice { name: component.name.to_string() });
            }
            components.push(component);
        }
        let images = file.components.iter().map(|pin| pin.images.clone()).collect();
        Ok(Self { components, images, hubs: file.hubs })
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
    let (version, source) = read_source(pin, None, file, modules)?;
    let mut others = match &pin.source {
        schema::Source::Go(schema::Go { module, .. })
        | schema::Source::GoFile(schema::GoFile { module, .. })
        | schema::Source::GoFolder(schema::GoFolder { module, .. }) => {
            let instead = file.modules.iter().filter(|(_, other)| other.instead_of.as_ref() == Some(module));
            instead.map(|(dir, _)| read_source(pin, Some(dir), file, modules)).collect::<Result<Vec<_>, _>>()?
        }
        schema::Source::Pypi(pypi) => {
            let mut others = Vec::new();
            for (version, wheels) in &pypi.also {
                others.push((version.clone(), read_wheels(pypi, wheels).map_err(&invalid)?));
            }
            others
        }
    };
    others.sort_by_key(|(version, _)| std::cmp::Reverse(semver::Version::parse(version).ok()));
    let check = pin.check.as_ref().map(|check| read_check(check).map_err(&invalid)).transpose()?;
    if check.is_none() && !matches!(pin.kind, Kind::File | Kind::Folder) {
        return Err(invalid("a program needs a version check".to_owned()));
    }
    let entry = pin.entry.clone().unwrap_or_else(|| pin.name.to_string());
    if let Some(image) = pin.images.iter().find(|image| !file.hubs.contains_key(&image.hub)) {
        return Err(invalid(format!("its image {} needs a hub of {}", image.name, image.hub)));
    }
    let (name, kind, family) = (pin.name.clone(), pin.kind, pin.family);
    Ok(Component { name, kind, version, family, source, others, image: None, entry, check })
}

/// A component's source with the version it has; from the module folder `instead` of its own, if there is one.
fn read_source(
    pin: &schema::Component,
    instead: Option<&str>,
    file: &schema::File,
    modules: &BTreeMap<String, GoModule>,
) -> Result<(String, Source), PinError> {
    let invalid = |what: String| PinError::Component { name: pin.name.to_string(), what };
    let module = |dir: &str| {
        let dir = instead.unwrap_or(dir);
        match (file.modules.get(dir), modules.get(dir)) {
            (Some(pin), Some(module)) => Ok((dir.to_owned(), pin, module)),
            _ => Err(invalid(format!("there is no module {dir:?} under modules"))),
        }
    };
    Ok(match &pin.source {
        schema::Source::Go(go) => {
            let (dir, flags, module) = module(&go.module)?;
            let parsed = GoMod::parse(&String::from_utf8_lossy(&module.files["go.mod"]));
            if !parsed.tools.contains(&go.package) {
                return Err(invalid(format!("{dir}/go.mod has no line `tool {}`", go.package)));
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
            let (_, flags, module) = module(&go.module)?;
            check_sha256(&go.sha256).map_err(&invalid)?;
            let source = Source::GoFile { module: module.clone(), path: go.path.clone(), sha256: go.sha256.clone() };
            (flags.version.clone(), source)
        }
        schema::Source::GoFolder(go) => {
            let (_, flags, module) = module(&go.module)?;
            (flags.version.clone(), Source::GoFolder { module: module.clone(), path: go.path.clone() })
        }
        schema::Source::Pypi(pypi) => (pypi.version.clone(), read_wheels(pypi, &pypi.wheels).map_err(&invalid)?),
    })
}

fn read_wheels(pypi: &schema::Pypi, wheels: &BTreeMap<String, String>) -> Result<Source, String> {
    wheels.values().try_for_each(|sha256| check_sha256(sha256))?;
    Ok(Source::Pypi { package: pypi.package.clone(), wheels: wheels.clone(), member: pypi.member.clone() })
}

fn read_check(check: &schema::Check) -> Result<VersionCheck, String> {
    let pattern = Regex::new(&check.pattern).map_err(|e| e.to_string())?;
    if pattern.captures_len() != 2 {
        return Err(format!("the pattern {:?} needs exactly one group, the version", check.pattern));
    }
    Ok(VersionCheck { args: check.args.clone(), pattern, any: false })
}

fn check_sha256(text: &str) -> Result<(), String> {
    let fits = text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    if fits { Ok(()) } else { Err(format!("{text:?} is not a sha256: 64 lower-case hexadecimal digits are expected")) }
}

#[cfg(test)]
#[path = "pins_tests.rs"]
mod tests;
