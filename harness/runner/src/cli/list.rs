//! `list`: the scenarios, without touching any cluster.

use std::process::ExitCode;

use serde_json::json;

use super::source::SourceArguments;
use super::{Failure, usage};
use crate::cli::run::SelectionArguments;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    selection: SelectionArguments,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Output {
    /// One line per scenario
    #[default]
    Table,
    /// One JSON array
    Json,
    /// The catalogue page: claims, objects, commands, paths
    Markdown,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let set = arguments.source.load()?;
    let chosen = arguments.selection.choose(&set)?;
    match arguments.output {
        Output::Table => {
            for scenario in &chosen {
                println!("{:<52} {:<18} {}", scenario.id.to_string(), scenario.file.mesh, scenario.file.title);
            }
            println!("{} scenarios", chosen.len());
        }
        Output::Markdown => {
            let chosen: Vec<_> = chosen.iter().map(AsRef::as_ref).collect();
            print!("{}", egress_core::catalogue::markdown(&chosen));
        }
        Output::Json => {
            let list: Vec<_> = chosen
                .iter()
                .map(|s| {
                    json!({
                        "id": s.id.to_string(),
                        "title": s.file.title,
                        "about": s.file.about,
                        "links": s.file.links,
                        "level": s.file.level,
                        "scope": s.file.scope,
                        "mesh": s.file.mesh,
                        "requires": s.file.requires,
                        "steps": s.file.steps.len(),
                        "probes": s.file.steps.iter().filter(|step| step.probe.is_some()).count(),
                        "source": s.source,
                    })
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&list).map_err(usage)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
