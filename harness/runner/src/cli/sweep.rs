//! `sweep`: removes the files of killed runs. Processes, namespaces and devices of a killed sandbox are gone with it;
//! its files are what the dead cannot remove.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> ExitCode {
    let removed = egress_sandbox::sweep();
    for path in &removed {
        println!("removed {}", path.display());
    }
    println!("{} leftovers removed", removed.len());
    ExitCode::SUCCESS
}
