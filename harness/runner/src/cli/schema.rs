//! `schema`: the JSON schema of scenario files, for editors.

use std::process::ExitCode;

use super::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode, Failure> {
    print!("{}", egress_core::scenario::schema_json());
    Ok(ExitCode::SUCCESS)
}
