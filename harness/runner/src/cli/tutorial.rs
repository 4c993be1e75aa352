//! `tutorial`: pages whose commands are run as they stand, with the path behind each request.
//!
//! Finds pages and prints; reading and judging is the core's business, running [`crate::tutorial`]'s. Start at [`run`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use egress_core::scenario::World;
use egress_core::tutorial::draft;
use egress_core::tutorial::report::{Counts, PageReport};
use egress_core::tutorial::{self as pages, Page, settings::DEFAULT_PROFILE};

use super::cluster::ClusterArguments;
use super::{Failure, interrupted, usage};
use crate::cluster::EnvironmentError;
use crate::progress::{Console, Progress};
use crate::schedule::session::{Session, SessionOptions};
use crate::supervisor::protocol::Purpose;
use crate::tutorial::run::Part;

/// How often a run of pages goes on with another mesh after one of them has spoiled it.
const RESTARTS: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List pages, with the number of their commands
    List(Selection),
    /// Run the commands of pages as they stand, and compare outputs and paths
    Run(Box<RunArguments>),
}

#[derive(Debug, Clone, clap::Args)]
struct Selection {
    /// Markdown files, folders of them, or names of the built-in pages [default for list: the built-in pages]
    pages: Vec<PathBuf>,
    /// The tab to read where a page has several, by its value or name (repeatable) [default: the first of each set]
    #[arg(long = "tab", value_name = "TAB")]
    tabs: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    #[command(flatten)]
    selection: Selection,
    /// Run every built-in page
    #[arg(long, conflicts_with = "pages")]
    all: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The mesh profile that pages start from [default: what the page says, else registry-only]
    #[arg(long)]
    mesh: Option<String>,
    /// Stop after this command, by its line or its name
    #[arg(long, value_name = "STEP")]
    until: Option<String>,
    /// Stop before each command until Enter is pressed
    #[arg(long)]
    step: bool,
    /// Write each page as a scenario into this folder, as it was seen: a draft for `run --scenarios`
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Keep the mesh up, until `down`
    #[arg(long)]
    keep: bool,
    /// Stop a page at its first command that fails
    #[arg(long)]
    fail_fast: bool,
    /// Let text that was true for another version fail, too
    #[arg(long)]
    strict: bool,
    /// How long one command may take, in seconds
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    match arguments.command {
        Command::List(selection) => list(&selection),
        Command::Run(arguments) => run_pages(&arguments).await,
    }
}

fn list(selection: &Selection) -> Result<ExitCode, Failure> {
    let mut sound = true;
    for page in selection.read(&[])? {
        let outputs = page.steps.iter().filter(|s| s.expected.is_some()).count();
        let count = page.steps.len();
        println!("{:<44} {count:>3} commands, {outputs:>2} outputs  {}", page.path.display().to_string(), page.title);
        for problem in &page.problems {
            println!("  error: {problem}");
            sound = false;
        }
    }
    Ok(ExitCode::from(if sound { 0 } else { 2 }))
}

impl Selection {
    /// Reads the pages, those that are named or else the built-in ones.
    fn read(&self, values: &[(&str, String)]) -> Result<Vec<Page>, Failure> {
        let built_in = crate::embedded::tutorials();
        let mut texts: Vec<(PathBuf, String)> = Vec::new();
        if self.pages.is_empty() {
            texts.extend(built_in);
        } else {
            for named in &self.pages {
                texts.extend(find(named, &built_in)?);
            }
        }
        let read = |(path, text): &(PathBuf, String)| {
            let boilerplate = |name: &str| boilerplate(path, name);
            pages::parse(path, text, &pages::Options { tabs: &self.tabs, values, boilerplate: &boilerplate })
        };
        Ok(texts.iter().map(read).collect())
    }
}

/// The pages that somebody names: a file, a folder, or a built-in page.
fn find(named: &Path, built_in: &BTreeMap<PathBuf, String>) -> Result<Vec<(PathBuf, String)>, Failure> {
    let unreadable = |path: &Path, e: std::io::Error| usage(format!("{} cannot be read: {e}", path.display()));
    if named.is_dir() {
        let mut files = Vec::new();
        markdown_below(named, &mut files).map_err(|e| unreadable(named, e))?;
        if files.is_empty() {
            return Err(usage(format!("{} has no Markdown files", named.display())));
        }
        files.sort();
        return files
            .into_iter()
            .map(|f| Ok((f.clone(), std::fs::read_to_string(&f).map_err(|e| unreadable(&f, e))?)))
            .collect();
    }
    if named.exists() {
        let text = std::fs::read_to_string(named).map_err(|e| unreadable(named, e))?;
        return Ok(vec![(named.to_owned(), text)]);
    }
    let with_ending = named.with_extension("md");
    match built_in.get(&with_ending) {
        Some(text) => Ok(vec![(with_ending, text.clone())]),
        None => {
            let known: Vec<_> = built_in.keys().filter_map(|k| k.file_stem()).map(|s| s.to_string_lossy()).collect();
            let message = format!("{} is no file, no folder and no built-in page", named.display());
            Err(usage(format!("{message}; the built-in pages are {}", known.join(", "))))
        }
    }
}

fn markdown_below(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // What pages are made of is no page.
        let part = ["boilerplates", "samples"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !part {
            markdown_below(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "md")
            && path.file_stem().is_some_and(|s| s != "_index" && s != "README")
        {
            files.push(path);
        }
    }
    Ok(())
}

/// A boilerplate of istio.io: from the folder `boilerplates` of the page's own language, else what stands for it here.
fn boilerplate(page: &Path, name: &str) -> Option<(PathBuf, String)> {
    let file = format!("{}.md", name.trim_end_matches(".md"));
    for folder in page.ancestors().skip(1) {
        let path = folder.join("boilerplates").join(&file);
        if let Ok(text) = std::fs::read_to_string(&path) {
            return Some((path, text));
        }
    }
    let own = crate::embedded::tutorial_boilerplates();
    let found = own.into_iter().find(|(path, _)| path == Path::new(&file))?;
    Some((Path::new("boilerplates").join(found.0), found.1))
}

async fn run_pages(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    if arguments.selection.pages.is_empty() && !arguments.all {
        return Err(usage("name pages, or run all built-in ones with --all; `tutorial list` shows them"));
    }
    if let Some(profile) = arguments.mesh.as_ref().filter(|p| !crate::embedded::profiles().contains(p)) {
        return Err(usage(format!(
            "no mesh profile {profile:?}; there are {}",
            crate::embedded::profiles().join(", ")
        )));
    }
    // What shortcodes stand for is known once a mesh is there; whether a page is sound does not depend on it.
    let unknown = shortcodes("0.0.0");
    let chosen = arguments.selection.read(&unknown)?;
    let problems: Vec<String> = chosen.iter().flat_map(|p| &p.problems).map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(usage(problems.join("\nerror: ")));
    }
    if let Some(until) = &arguments.until
        && !chosen.iter().flat_map(|p| &p.steps).any(|s| s.name == *until || until.parse() == Ok(s.at.line))
    {
        return Err(usage(format!("--until {until}: no command has this line or name")));
    }
    let console = Console::new();
    let mut run = Run { arguments, console: &console, reports: Vec::new() };
    let ended = run.all(chosen.len()).await;
    console.finish();
    let mut counts = Counts::default();
    for report in &run.reports {
        counts = counts.and(report.counts());
    }
    if run.reports.len() > 1 {
        let total: u64 = run.reports.iter().map(|r| r.duration_ms).sum();
        println!("{} pages: {counts}, {:.1} s", run.reports.len(), total as f64 / 1000.0);
    }
    ended?;
    let left = run.reports.iter().any(|r| !r.left.is_empty()) && arguments.until.is_none() && !arguments.step;
    let bad = counts.failed > 0 || left || (arguments.strict && counts.drifted > 0);
    Ok(ExitCode::from(u8::from(bad)))
}

fn shortcodes(istio: &str) -> Vec<(&'static str, String)> {
    let minor: Vec<&str> = istio.split('.').take(2).collect();
    vec![
        ("istio_version", minor.join(".")),
        ("istio_full_version", istio.to_owned()),
        ("istio_full_version_revision", istio.replace('.', "-")),
    ]
}

struct Run<'a> {
    arguments: &'a RunArguments,
    console: &'a Console,
    reports: Vec<PageReport>,
}

impl Run<'_> {
    /// Runs page after page; on another mesh where one has spoiled it.
    async fn all(&mut self, count: usize) -> Result<(), Failure> {
        let mut restarts = 0;
        while self.reports.len() < count {
            let session = self.join().await?;
            let done = self.reports.len();
            let ended = self.on(session, done).await;
            match ended {
                Ok(None) => return Ok(()),
                Ok(Some(spoiled)) if restarts < RESTARTS => {
                    restarts += 1;
                    self.console.line(&format!("the mesh is lost: {}; going on with another one", spoiled.message));
                }
                Ok(Some(spoiled)) => return Err(spoiled.into()),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn join(&self) -> Result<Session, Failure> {
        let options = SessionOptions {
            cluster: self.arguments.cluster.kind(),
            versions: self.arguments.cluster.versions()?,
            kind: self.arguments.cluster.on_kind()?,
            profile: self.arguments.mesh.clone().unwrap_or_else(|| DEFAULT_PROFILE.to_owned()),
            timeout: Duration::from_secs(180),
            purpose: if self.arguments.keep { Purpose::Keep } else { Purpose::Run },
            jobs: 1,
            snapshots: true,
            logs: None,
        };
        Ok(Session::join(&options, &World::default(), self.console, interrupted()).await?)
    }

    /// Runs the pages from `first` on. Returns why the mesh is of no more use, if that is why it stopped.
    async fn on(&mut self, mut session: Session, first: usize) -> Result<Option<EnvironmentError>, Failure> {
        let istio = session.welcome.installed.versions.istio.clone();
        let chosen = self.arguments.selection.read(&shortcodes(&istio))?;
        let mut spoiled = None;
        for page in &chosen[first..] {
            let ran = tokio::select! {
                ran = page_on(&mut session, page, self.arguments, self.console) => ran,
                () = interrupted() => {
                    self.console.line("interrupted: leaving the mesh");
                    // The supervisor takes back what the page has made, since its lease's connection is gone.
                    session.leave().await?;
                    return Err(Failure::Interrupted);
                }
            };
            let (report, given_back) = ran?;
            self.console.print(report.text().trim_end());
            self.reports.push(report);
            if let Err(error) = given_back {
                spoiled = Some(error);
                break;
            }
        }
        self.console.working("leaving the mesh");
        match session.leave().await {
            Ok(crate::supervisor::protocol::Fate::Kept) => {
                self.console.line("the mesh stays up; `egress-conformance down` ends it");
            }
            Ok(_) => {}
            // A mesh that a page has spoiled ends with that as its last word.
            Err(_) if spoiled.is_some() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(spoiled.filter(|_| self.reports.len() < chosen.len()))
    }
}

/// Writes a draft, and checks that it is a scenario. Returns where it is.
fn write_draft(folder: &Path, files: &BTreeMap<String, String>) -> Result<String, Failure> {
    let mut written = BTreeMap::new();
    for (name, text) in files {
        let path = folder.join(name);
        let put = || {
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            std::fs::write(&path, text)
        };
        put().map_err(|e| usage(format!("--record: {} cannot be written: {e}", path.display())))?;
        written.insert(path, text.clone());
    }
    let scenario = written.keys().find(|p| p.ends_with("scenario.yaml")).map(|p| p.display().to_string());
    let scenario = scenario.unwrap_or_default();
    Ok(match egress_core::scenario::load(&written, &crate::embedded::profiles()) {
        Ok(_) => format!("recorded as {scenario}; `egress-conformance run --scenarios {}` runs it", folder.display()),
        Err(errors) => format!("recorded as {scenario}, which needs a hand: {}", errors.render(false).trim()),
    })
}

/// Runs one page with servers for its names; beside the report stands whether the mesh could be given back in order.
async fn page_on(
    session: &mut Session,
    page: &Page,
    arguments: &RunArguments,
    console: &Console,
) -> Result<(PageReport, Result<(), EnvironmentError>), Failure> {
    let world = pages::world::world(page);
    session.change_world(&world, console).await?;
    let profile = arguments.mesh.clone().or_else(|| page.settings.mesh.clone());
    let profile = profile.unwrap_or_else(|| DEFAULT_PROFILE.to_owned());
    let mut worker = session.worker().await?;
    let stage = session.borrow(&mut worker, &profile, console).await?;
    let part = Part {
        until: arguments.until.clone(),
        step_by_step: arguments.step,
        fail_fast: arguments.fail_fast,
        bound: Duration::from_secs(arguments.timeout),
    };
    let ran = tokio::select! {
        ran = crate::tutorial::run::run(session, &stage, page, &part, console) => ran,
        error = worker.broken() => Err(error),
    };
    console.working("taking back what the page left");
    let addresses = stage.world.destinations.clone();
    let given_back = session.give_back(&mut worker, stage).await;
    worker.finish().await;
    let crate::tutorial::run::Ran { mut report, recorded, gateways } = ran?;
    if let Some(folder) = &arguments.record {
        let name = page.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let source = draft::Source {
            title: &page.title,
            name: &name,
            profile: &profile,
            world: &world,
            addresses: &addresses,
            gateways: &gateways,
        };
        match draft::draft(&source, &recorded) {
            Ok(files) => report.remarks.push(write_draft(folder, &files)?),
            Err(why) => report.remarks.push(format!("no scenario is recorded: {why}")),
        }
    }
    report.profile = profile;
    Ok((report, given_back))
}
