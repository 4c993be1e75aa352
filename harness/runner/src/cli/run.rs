//! `run`: runs scenarios on a mesh, prints one line for each, and writes reports.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress_core::report::{self, ClusterInfo, Outcome, Report, ScenarioResult};
use egress_core::scenario::schema::Level;
use egress_core::scenario::{Circumstances, Order, Plan, Scenario, ScenarioSet, Selection, World, plan};

use super::cluster::ClusterArguments;
use super::execute::{self, Job};
use super::reports::{self, ReportTarget};
use super::source::SourceArguments;
use super::{Failure, color, usage};
use crate::progress::{Console, Progress};
use crate::schedule::session::{SessionOptions, default_jobs};
use crate::supervisor::protocol::Purpose;

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SelectionArguments {
    /// Scenarios by name or glob, as `group/claim` or `group::claim` [default: all]
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Only scenarios of this group (repeatable)
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Only scenarios of this conformance level
    #[arg(long, value_enum)]
    level: Option<LevelArgument>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LevelArgument {
    /// What every conformant mesh keeps
    Core,
    /// What holds where the feature is offered
    Extended,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Neither start the mesh from a snapshot nor leave one for the next start
    #[arg(long)]
    no_snapshot: bool,
    /// Show what would be run, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop at the first scenario that does not pass
    #[arg(long)]
    fail_fast: bool,
    /// How many scenarios may run side by side [default: the number of processors, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    jobs: Option<u16>,
    /// Run everything this many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Leave the mesh up for the next command, until `down`
    #[arg(long)]
    keep: bool,
    /// Run in a random order, each round in another; the same SEED gives the same orders
    #[arg(long, value_name = "SEED", num_args = 0..=1)]
    shuffle: Option<Option<u64>>,
    /// How long each step of the mesh's start may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Write a report: text, json, junit, github (Markdown for a step summary) or conformance (YAML by profile) (repeatable)
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    reports: Vec<ReportTarget>,
}

impl SelectionArguments {
    fn selection(&self, order: Order) -> Selection {
        let level = self.level.map(|l| match l {
            LevelArgument::Core => Level::Core,
            LevelArgument::Extended => Level::Extended,
        });
        Selection { filters: self.scenarios.clone(), groups: self.group.clone(), level, order }
    }

    /// The same selection as arguments of another command.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let groups = self.group.iter().map(|group| format!("--group={group}"));
        let level = self.level.map(|level| match level {
            LevelArgument::Core => "--level=core".to_owned(),
            LevelArgument::Extended => "--level=extended".to_owned(),
        });
        groups.chain(level).chain(self.scenarios.iter().cloned()).collect()
    }

    /// The plan for this selection where scenarios find this.
    pub(crate) fn plan(&self, set: &ScenarioSet, order: Order, on: &Circumstances) -> Result<Plan, Failure> {
        plan(set, &self.selection(order), on).map_err(|e| usage(e.render()))
    }

    /// The selected scenarios, in the order of the set.
    pub(crate) fn choose(&self, set: &ScenarioSet) -> Result<Vec<Arc<Scenario>>, Failure> {
        let plan = self.plan(set, Order::Given, &ClusterArguments::default().circumstances()?)?;
        let planned = |s: &Scenario| plan.scenarios().any(|p| p.scenario.id == s.id);
        let left = |s: &Scenario| {
            plan.skipped.iter().any(|(id, _)| *id == s.id) || plan.unsupported.iter().any(|(id, _)| *id == s.id)
        };
        Ok(set.scenarios.iter().filter(|s| planned(s) || left(s)).cloned().collect())
    }
}

/// The one scenario that a name means.
pub(crate) fn one<'a>(set: &'a ScenarioSet, name: &str) -> Result<&'a Scenario, Failure> {
    let selection = SelectionArguments { scenarios: vec![name.to_owned()], ..SelectionArguments::default() };
    let found = selection.choose(set)?;
    match found.as_slice() {
        [one] => Ok(set.get(&one.id.to_string()).expect("what was chosen is in the set")),
        many => {
            let names: Vec<_> = many.iter().map(|s| s.id.to_string()).collect();
            Err(usage(format!("{name:?} means {} scenarios: {}", many.len(), names.join(", "))))
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let set = arguments.source.load()?;
    let order = match arguments.shuffle {
        None => Order::Given,
        Some(seed) => Order::Random(seed.unwrap_or_else(|| rand::random::<u32>().into())),
    };
    let circumstances = arguments.cluster.circumstances()?;
    let plan = arguments.selection.plan(&set, order, &circumstances)?;
    let selected = plan.scenarios().count() + plan.skipped.len() + plan.unsupported.len();
    if selected == 0 {
        return Err(usage("no scenario is selected"));
    }
    if arguments.dry_run {
        return Ok(dry_run(&plan));
    }
    for target in &arguments.reports {
        target.prepare()?;
    }
    let console = Console::new();
    if let Order::Random(seed) = order {
        console.line(&format!("random order, --shuffle {seed}"));
    }
    let started = jiff::Timestamp::now();
    let start = Instant::now();
    let mut results = left_out(&plan, &set);
    let ((cluster, interruption), failure) = if plan.scenarios().count() == 0 {
        ((ClusterInfo::default(), false), None)
    } else {
        let mut plans = vec![plan];
        for round in 1..u64::from(arguments.repeat) {
            let order = match order {
                Order::Given => Order::Given,
                Order::Random(seed) => Order::Random(seed.wrapping_add(round)),
            };
            plans.push(arguments.selection.plan(&set, order, &circumstances)?);
        }
        let world = shared_world(&set, &plans[0], &circumstances);
        let job = Job {
            options: SessionOptions {
                cluster: arguments.cluster.kind(),
                versions: arguments.cluster.versions()?,
                kind: arguments.cluster.on_kind()?,
                profile: plans[0].groups.first().map(|g| g.profile.clone()).unwrap_or_default(),
                timeout: Duration::from_secs(arguments.timeout),
                purpose: if arguments.keep { Purpose::Keep } else { Purpose::Run },
                snapshots: !arguments.no_snapshot,
                jobs: arguments.jobs.map_or_else(default_jobs, usize::from),
                logs: arguments.reports.iter().find_map(ReportTarget::folder).map(|folder| folder.join("logs")),
            },
            world: &world,
            plans: &plans,
            fail_fast: arguments.fail_fast,
        };
        match execute::execute(&job, &console, &mut results).await {
            Ok(ended) => (ended, None),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => ((ClusterInfo::default(), false), Some(failure)),
        }
    };
    console.finish();
    let report = Report {
        schema: report::SCHEMA,
        tool: format!("egress-conformance {}", env!("CARGO_PKG_VERSION")),
        commit: env!("EGRESS_CONFORMANCE_COMMIT").to_owned(),
        command: reports::command(),
        started,
        duration_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        cluster,
        scenarios: results,
    };
    reports::write(&arguments.reports, &report, &set)?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    println!("{}", report::text::summary(&report, color()).trim_end());
    for target in &arguments.reports {
        println!("report: {}", target.file().display());
    }
    Ok(ExitCode::from(report.exit_code(interruption)))
}

fn dry_run(plan: &Plan) -> ExitCode {
    for group in &plan.groups {
        println!("profile {}", group.profile);
        for planned in &group.scenarios {
            println!("  {}", planned.scenario.id);
        }
    }
    for (id, reason) in &plan.skipped {
        println!("skipped {id}: {reason}");
    }
    for (id, capability) in &plan.unsupported {
        println!("unsupported {id}: no {capability}");
    }
    println!(
        "{} scenarios, {} external servers on {} addresses",
        plan.scenarios().count(),
        plan.world.destinations.len(),
        plan.world.addresses_needed()
    );
    ExitCode::SUCCESS
}

/// Results of scenarios that are selected and cannot run, each with its reason.
fn left_out(plan: &Plan, set: &ScenarioSet) -> Vec<ScenarioResult> {
    let result = |id: String, outcome, reason: String| {
        let file = set.get(&id).map(|s| &s.file);
        ScenarioResult {
            title: file.map(|f| f.title.clone()).unwrap_or_default(),
            profile: file.map(|f| f.mesh.clone()).unwrap_or_default(),
            id,
            outcome,
            reason: Some(reason),
            ..ScenarioResult::default()
        }
    };
    let skipped = plan.skipped.iter().map(|(id, why)| result(id.to_string(), Outcome::Skipped, why.to_string()));
    let unsupported =
        plan.unsupported.iter().map(|(id, lacks)| result(id.to_string(), Outcome::Unsupported, lacks.to_string()));
    skipped.chain(unsupported).collect()
}

/// The external servers of all scenarios of a set, where they can be had together: then runs of different selections can
/// share a mesh. Else those of the plan.
pub(crate) fn shared_world(set: &ScenarioSet, plan: &Plan, on: &Circumstances) -> World {
    match SelectionArguments::default().plan(set, Order::Given, on) {
        Ok(all) if all.world.covers(&plan.world) => all.world,
        _ => plan.world.clone(),
    }
}
