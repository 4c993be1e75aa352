//! `up`: a mesh that stays until Ctrl-C; and what every command that needs a mesh shares.

use std::process::ExitCode;
use std::time::Duration;

use egress_component::Programs;
use egress_core::scenario::Order;

use super::run::SelectionArguments;
use super::{Failure, interrupted, usage};
use crate::mesh::Mesh;
use crate::progress::Console;
use crate::schedule::session::{SessionOptions, start_mesh};
use crate::schedule::world;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MeshArguments {
    /// The mesh profile
    #[arg(long, default_value = "registry-only")]
    mesh: String,
    /// How long each step of the start may take, in seconds
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: MeshArguments,
}

/// A running mesh and the programs that it was made of.
pub(crate) struct Up {
    /// The mesh.
    pub(crate) mesh: Mesh,
    /// The programs.
    pub(crate) programs: Programs,
}

/// Builds what is missing, starts a sandbox, installs Istio.
pub(crate) async fn bring_up(arguments: &MeshArguments) -> Result<Up, Failure> {
    let profiles = crate::embedded::profiles();
    if !profiles.contains(&arguments.mesh) {
        return Err(usage(format!("no mesh profile {:?}; there are {}", arguments.mesh, profiles.join(", "))));
    }
    let console = Console::new();
    let options =
        SessionOptions { profile: arguments.mesh.clone(), timeout: Duration::from_secs(arguments.timeout), logs: None };
    let up = tokio::select! {
        up = start_mesh(&options, &console) => up.map_err(Failure::from),
        () = interrupted() => Err(Failure::Interrupted),
    };
    console.finish();
    let (mesh, programs) = up?;
    // The servers of the built-in scenarios, so that their requests can be sent by hand.
    let set = super::source::load(&[])?;
    let plan = SelectionArguments::default().plan(&set, Order::Given)?;
    match world::deploy(&*mesh.provider, &plan.world).await {
        Ok(_) => Ok(Up { mesh, programs }),
        Err(error) => {
            mesh.provider.stop().await?;
            Err(error.into())
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let up = bring_up(&arguments.mesh).await?;
    println!("export KUBECONFIG={}", up.mesh.provider.kubeconfig().display());
    eprintln!("the mesh is up; clients are in namespace {}; Ctrl-C ends it", up.mesh.slot.namespace);
    interrupted().await;
    eprintln!("ending the mesh");
    up.mesh.provider.stop().await?;
    Ok(ExitCode::SUCCESS)
}
