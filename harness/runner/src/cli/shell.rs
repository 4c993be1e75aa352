//! `shell`: a sub-shell whose `kubectl` and `istioctl` talk to a mesh. A mesh that it brought up ends with it.

use std::path::PathBuf;
use std::process::ExitCode;

use egress_component::ProgramName;

use super::up::{self, MeshArguments};
use super::{Failure, usage};
use crate::cluster::EnvironmentError;
use crate::supervisor::protocol::Purpose;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    mesh: MeshArguments,
    /// Run this command instead of an interactive shell, and end with its exit code
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let session = up::join(&arguments.mesh, Purpose::Run).await?;
    let tools = tempfile::tempdir().map_err(|e| EnvironmentError::new(format!("no temporary folder: {e}")))?;
    let linked = session.programs.link_into(tools.path(), &[ProgramName::KUBECTL, ProgramName::ISTIOCTL]);
    linked.map_err(|e| EnvironmentError::of(&e))?;
    let shell = std::env::var_os("SHELL").map_or_else(|| PathBuf::from("/bin/sh"), PathBuf::from);
    let mut command = match arguments.command.split_first() {
        Some((program, rest)) => {
            let mut command = tokio::process::Command::new(program);
            command.args(rest);
            command
        }
        None => tokio::process::Command::new(&shell),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools.path().to_path_buf()).chain(std::env::split_paths(&path));
    let namespace = session.welcome.namespace.clone();
    command.env("PATH", std::env::join_paths(paths).map_err(usage)?);
    command.env("KUBECONFIG", &session.welcome.kubeconfig);
    command.env("EGRESS_CONFORMANCE_NAMESPACE", &namespace);
    if arguments.command.is_empty() {
        eprintln!("kubectl and istioctl talk to the mesh; clients are in namespace {namespace}");
        eprintln!(
            "for example: kubectl exec -n {namespace} deploy/meshed -c curl -- curl -sI http://my.server.com:1234/"
        );
        eprintln!("a mesh that was not up before ends with this shell");
    }
    // Ctrl-C belongs to what runs in the shell; only a request to end this process ends it early.
    let ended = match command.kill_on_drop(true).spawn() {
        Ok(mut child) => tokio::select! {
            status = child.wait() => match status {
                Ok(status) => Ok(ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1))),
                Err(error) => Err(EnvironmentError::new(format!("the shell was lost: {error}")).into()),
            },
            () = terminated() => Err(Failure::Interrupted),
        },
        Err(error) => {
            let program = command.as_std().get_program().to_string_lossy().into_owned();
            Err(usage(format!("{program} could not be started: {error}")))
        }
    };
    session.leave().await?;
    ended
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    // Listening to SIGINT keeps the default action away; the terminal sends it to the child as well.
    let (Ok(mut int), Ok(mut term), Ok(mut hup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => return,
            _ = hup.recv() => return,
        }
    }
}
