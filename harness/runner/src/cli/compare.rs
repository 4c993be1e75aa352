//! `compare A B`: where two reports differ in verdicts and paths; addresses, ports and times aside.

use std::path::PathBuf;
use std::process::ExitCode;

use egress_core::report;

use super::Failure;
use super::explain::read_report;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A JSON report
    a: PathBuf,
    /// Another JSON report
    b: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let comparison = report::compare(&read_report(&arguments.a)?, &read_report(&arguments.b)?);
    println!("{}", comparison.to_string().trim_end());
    Ok(if comparison.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
