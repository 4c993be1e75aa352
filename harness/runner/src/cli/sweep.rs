//! `sweep`: removes the files of killed runs. Processes, namespaces and devices of a killed sandbox are gone with it;
//! its files are what the dead cannot remove. So are those of a killed kind cluster's engine, and containers in the machine's Docker. Snapshots that are of no use
//! any more go, too.

use std::process::ExitCode;

use crate::cluster::saved::Shelf;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> ExitCode {
    let mut removed: Vec<String> = egress_sandbox::sweep().iter().map(|path| path.display().to_string()).collect();
    match crate::components::store() {
        Ok(store) => {
            removed.extend(Shelf::in_cache(store.cache().dir()).sweep().iter().map(|path| path.display().to_string()))
        }
        Err(error) => tracing::warn!("snapshots are not swept: {error}"),
    }
    match egress_kind::sweep() {
        Ok(swept) => {
            removed.extend(swept.removed);
            swept.left.iter().for_each(|what| eprintln!("cannot be removed yet: {what}"));
        }
        Err(error) => tracing::warn!("engines of kind clusters are not swept: {error}"),
    }
    for what in &removed {
        println!("removed {what}");
    }
    println!("{} leftovers removed", removed.len());
    ExitCode::SUCCESS
}
