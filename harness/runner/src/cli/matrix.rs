//! `matrix`: the same scenarios on each combination of versions and clusters, several side by side where memory allows.
//!
//! Each combination is a `run` of its own, in a process of its own; they share the component cache and nothing else. The
//! table is made from their reports. Start at [`run`].

mod child;
mod combination;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use egress_core::report::matrix::{Column, Matrix};
use futures::StreamExt;

use self::child::Child;
use self::combination::{Combination, combinations};
use super::cluster::{Choice, RegistryArguments, version};
use super::run::SelectionArguments;
use super::source::SourceArguments;
use super::{Failure, interrupted, usage};
use crate::cluster::EnvironmentError;
use crate::components::{SANDBOX_PROGRAMS, store_at};
use crate::progress::{Console, Progress};
use crate::schedule::session::default_jobs;

/// Memory that one sandbox takes with four clients' namespaces, in MiB, and some more (docs/performance.md).
const SANDBOX_MIB: u64 = 1536;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    source: SourceArguments,
    /// The kinds of cluster
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Choice::Sandbox], value_name = "KIND,…")]
    cluster: Vec<Choice>,
    /// Versions of Istio, out of its official images [default: as pinned]
    #[arg(long, value_delimiter = ',', value_name = "VERSION,…", value_parser = version)]
    istio_version: Vec<String>,
    /// Versions of Envoy, upstream's build [default: as pinned, or that of Istio's images]
    #[arg(long, value_delimiter = ',', value_name = "VERSION,…", value_parser = version)]
    envoy_version: Vec<String>,
    /// Versions of Kubernetes [default: as pinned]
    #[arg(long, value_delimiter = ',', value_name = "VERSION,…", value_parser = version)]
    kubernetes_version: Vec<String>,
    #[command(flatten)]
    registries: RegistryArguments,
    /// How many sandboxes may be up at once [default: what processors and free memory allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    side_by_side: Option<u16>,
    /// How many scenarios each of them runs side by side [default: its share of the processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    jobs: Option<u16>,
    /// Where matrix.md, matrix.txt and a folder for each combination go
    #[arg(long, value_name = "DIR", default_value = "egress-matrix")]
    output: PathBuf,
    /// Also print a line for each scenario that passed in the same way everywhere
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let combinations = combinations(
        &arguments.cluster,
        [&arguments.istio_version, &arguments.envoy_version, &arguments.kubernetes_version],
        &arguments.registries.hubs(),
    );
    for combination in &combinations {
        combination.check()?;
    }
    // What cannot be read or selects nothing is told now, not by each of them.
    let set = arguments.source.load()?;
    if arguments.selection.choose(&set)?.is_empty() {
        return Err(usage("no scenario is selected"));
    }
    let most = arguments.side_by_side.map_or_else(room, usize::from);
    let jobs = arguments.jobs.map_or_else(|| (default_jobs() / most.min(combinations.len())).max(1), usize::from);
    let console = Console::new();
    let children = combinations.iter().map(|combination| Child {
        arguments: combination
            .to_arguments()
            .into_iter()
            .chain([format!("--jobs={jobs}")])
            .chain(arguments.selection.to_arguments())
            .map(Into::into)
            .chain(arguments.source.to_arguments())
            .collect(),
        folder: arguments.output.join(combination.slug()),
        name: combination.name(),
        on_kind: combination.cluster == Choice::Kind,
    });
    let children: Vec<_> = children.collect();
    let mut problems = Vec::new();
    for (combination, child) in combinations.iter().zip(&children) {
        child.prepare()?;
        let problem = tokio::select! {
            problem = components(combination, &console) => problem.err(),
            () = interrupted() => return Err(Failure::Interrupted),
        };
        problems.push(problem);
    }
    let start = Instant::now();
    let stop = AtomicBool::new(false);
    // Two kind clusters would share a machine's worth of images and memory: they run alone, after the sandboxes.
    let alone = |i: &usize| combinations[*i].cluster == Choice::Kind;
    let (apart, together): (Vec<_>, Vec<_>) = (0..children.len()).filter(|i| problems[*i].is_none()).partition(alone);
    let mut ended: Vec<Option<child::Ended>> = children.iter().map(|_| None).collect();
    for (which, most) in [(together, most), (apart, 1)] {
        let running = which.into_iter().map(|i| {
            let (child, console, stop) = (&children[i], &console, &stop);
            async move { (i, child.run(console, stop).await) }
        });
        let mut running = futures::stream::iter(running).buffer_unordered(most);
        while let Some((i, end)) = running.next().await {
            ended[i] = Some(end);
        }
    }
    console.finish();
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::Interrupted);
    }
    let wall = start.elapsed();
    let own: Duration = ended.iter().flatten().map(|end| end.took).sum();
    let mut codes = Vec::new();
    let mut columns = Vec::new();
    for ((child, end), problem) in children.iter().zip(ended).zip(problems) {
        let (report, problem) = match (end, problem) {
            (Some(end), _) => {
                codes.push(end.code);
                (end.report, end.problem)
            }
            (None, problem) => {
                codes.push(3);
                (None, problem.map(|p| p.to_string()))
            }
        };
        let link = format!("{}/report.json", child.folder.file_name().unwrap_or_default().to_string_lossy());
        columns.push(Column { name: child.name.clone(), report, link, problem });
    }
    let matrix = Matrix::new(columns);
    let times = format!(
        "{} combinations in {}, {most} side by side with {jobs} scenarios each; their own times add up to {}\n",
        children.len(),
        minutes(wall),
        minutes(own)
    );
    let text = matrix.to_text(arguments.all);
    println!("{}\n{times}", text.trim_end());
    for (name, content) in [
        ("matrix.txt", format!("{}\n{times}", matrix.to_text(true))),
        ("matrix.md", format!("# Egress conformance by version\n\n{}\n{times}", matrix.to_markdown())),
    ] {
        let file = arguments.output.join(name);
        std::fs::write(&file, content)
            .map_err(|e| EnvironmentError::new(format!("{} cannot be written: {e}", file.display())))?;
        println!("report: {}", file.display());
    }
    Ok(ExitCode::from([130, 2, 1, 3].into_iter().find(|code| codes.contains(code)).unwrap_or(0)))
}

/// Makes what a combination's components lack; builds and downloads one after another, because each takes all there is.
async fn components(combination: &Combination, console: &Console) -> Result<(), EnvironmentError> {
    if combination.cluster == Choice::Kind {
        return Ok(());
    }
    console.working(&format!("components of {}", combination.name()));
    store_at(&combination.versions)?.ensure(&SANDBOX_PROGRAMS, console).await.map_err(|e| EnvironmentError::of(&e))?;
    Ok(())
}

/// How many sandboxes this machine has room for now: one per processor, as far as memory allows.
fn room() -> usize {
    let free = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    let by_memory = free.map_or(1, |kib| usize::try_from(kib / 1024 / SANDBOX_MIB).unwrap_or(usize::MAX));
    std::thread::available_parallelism().map_or(1, usize::from).min(by_memory).max(1)
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}
