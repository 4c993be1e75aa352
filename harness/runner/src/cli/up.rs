//! `up`: a mesh that stays until `down`; and what every command that needs a mesh by hand shares.

use std::process::ExitCode;
use std::time::Duration;

use egress_core::scenario::Order;

use super::cluster::ClusterArguments;
use super::run::SelectionArguments;
use super::{Failure, interrupted, usage};
use crate::progress::Console;
use crate::schedule::session::{Session, SessionOptions, default_jobs};
use crate::supervisor::protocol::Purpose;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MeshArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The mesh profile [default: registry-only, or that of the mesh that is up]
    #[arg(long)]
    mesh: Option<String>,
    /// How long each step of the start may take, in seconds
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Neither start the mesh from a snapshot nor leave one for the next start
    #[arg(long)]
    no_snapshot: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: MeshArguments,
}

/// Joins the mesh of this build, which is brought up if there is none, and puts the profile in force.
pub(crate) async fn join(arguments: &MeshArguments, purpose: Purpose) -> Result<Session, Failure> {
    let profiles = crate::embedded::profiles();
    if let Some(wrong) = arguments.mesh.as_ref().filter(|wanted| !profiles.contains(wanted)) {
        return Err(usage(format!("no mesh profile {wrong:?}; there are {}", profiles.join(", "))));
    }
    let console = Console::new();
    let options = SessionOptions {
        cluster: arguments.cluster.kind(),
        versions: arguments.cluster.versions()?,
        kind: arguments.cluster.on_kind()?,
        profile: arguments.mesh.clone().unwrap_or_else(|| "registry-only".to_owned()),
        timeout: Duration::from_secs(arguments.timeout),
        purpose,
        jobs: default_jobs(),
        logs: None,
        snapshots: !arguments.no_snapshot,
    };
    // The servers of the built-in scenarios, so that their requests can be sent by hand.
    let set = super::source::load(&[])?;
    let plan = SelectionArguments::default().plan(&set, Order::Given, &arguments.cluster.circumstances()?)?;
    let joined = async {
        let session = Session::join(&options, &plan.world, &console, interrupted()).await?;
        if let Some(profile) = arguments.mesh.as_ref().filter(|wanted| **wanted != session.welcome.installed.profile) {
            tokio::select! {
                switched = session.switch(profile, &console) => switched?,
                () = interrupted() => {
                    session.leave().await?;
                    return Err(Failure::Interrupted);
                }
            }
        }
        Ok(session)
    };
    let session = joined.await;
    console.finish();
    session
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let session = join(&arguments.mesh, Purpose::Keep).await?;
    let (kubeconfig, namespace) = (session.welcome.kubeconfig.clone(), session.welcome.namespace.clone());
    session.leave().await?;
    println!("export KUBECONFIG={}", kubeconfig.display());
    eprintln!("the mesh is up until `egress-conformance down`; clients are in namespace {namespace}");
    Ok(ExitCode::SUCCESS)
}
