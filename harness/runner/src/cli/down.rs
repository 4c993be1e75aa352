//! `down`: ends the meshes that stay up.

use std::process::ExitCode;

use super::Failure;
use crate::supervisor::link;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// End a mesh although others use it
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match link::down(arguments.force).await? {
        0 => println!("no mesh is up"),
        1 => println!("the mesh has ended"),
        n => println!("{n} meshes have ended"),
    }
    Ok(ExitCode::SUCCESS)
}
