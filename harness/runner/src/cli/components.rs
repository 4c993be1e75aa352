//! `components list|build|verify|images`: the programs that a cluster is made of, where they come from, whether they are
//! whole, and the container images made from them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use egress_component::{Origin, Status};

use super::cluster::VersionArguments;
use super::{Failure, interrupted};
use crate::cluster::EnvironmentError;
use crate::components::{self, SANDBOX_PROGRAMS, store_at};
use crate::progress::Console;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    versions: VersionArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show each component's version, source, hash and place
    List {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Build or fetch what is missing
    Build,
    /// Make the images of a kind cluster without a registry: node, Istio, client, DNS and external servers
    Images {
        /// Only those of this project's own programs, DNS and external servers: without components, and not as root
        #[arg(long)]
        own: bool,
        /// Copy the archives (node.tar, mesh.tar, own.tar) into this folder, for `docker load` or `kind load image-archive`
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Hash every cached component again and ask it for its version
    Verify,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Output {
    /// Columns for people
    #[default]
    Table,
    /// One JSON array
    Json,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let store = store_at(&arguments.versions.versions())?;
    match arguments.action {
        Action::List { output } => {
            let status = store.status();
            match output {
                Output::Table => table(&status),
                Output::Json => {
                    println!("{}", serde_json::to_string_pretty(&status).expect("a status is plain data"));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Build => {
            let console = Console::new();
            let built = tokio::select! {
                built = store.ensure(&SANDBOX_PROGRAMS, &console) => built,
                () = interrupted() => return Err(Failure::Interrupted),
            };
            console.finish();
            let programs = built.map_err(|e| EnvironmentError::of(&e))?;
            println!("{} components ready in {}", programs.iter().count(), store.cache().dir().display());
            Ok(ExitCode::SUCCESS)
        }
        Action::Images { own, output } => images(own, output.as_deref()).await,
        Action::Verify => verify(&store).await,
    }
}

async fn images(only_own: bool, output: Option<&Path>) -> Result<ExitCode, Failure> {
    let console = Console::new();
    let making = async {
        let wanted = if only_own { &[][..] } else { &egress_image::PROGRAMS };
        let images = components::images(wanted, &console).await?;
        let made = if only_own {
            images.own().await.map(|own| vec![own])
        } else {
            images.ensure().await.map(|made| vec![made.node, made.mesh, made.own])
        };
        made.map_err(|e| EnvironmentError::of(&e))
    };
    let made = tokio::select! {
        made = making => made,
        () = interrupted() => return Err(Failure::Interrupted),
    };
    console.finish();
    for archive in made? {
        let mut path = archive.path.clone();
        if let Some(dir) = output {
            path = dir.join(archive.path.file_name().unwrap_or_default());
            std::fs::create_dir_all(dir).and_then(|()| std::fs::copy(&archive.path, &path)).map_err(|error| {
                EnvironmentError::new(format!("cannot copy {} to {}: {error}", archive.path.display(), path.display()))
            })?;
        }
        println!("{}", path.display());
        for reference in &archive.references {
            println!("  {reference}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(store: &egress_component::Store) -> Result<ExitCode, Failure> {
    let mut wrong = 0;
    let verified = store.verify().await;
    for verification in verified {
        match &verification.result {
            None => println!("missing  {} {}", verification.name, verification.version),
            Some(Ok(program)) => println!("ok       {} {} {}", verification.name, verification.version, program.sha256),
            Some(Err(error)) => {
                wrong += 1;
                println!("wrong    {} {}: {error}", verification.name, verification.version);
            }
        }
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn table(status: &[Status]) {
    let mut out = std::io::stdout().lock();
    for component in status {
        let place = match &component.origin {
            Origin::Given { path } => format!("given: {}", path.display()),
            Origin::Cached { path, read_only: true } => format!("cached (read only): {}", path.display()),
            Origin::Cached { path, .. } => format!("cached: {}", path.display()),
            Origin::Missing => "not built yet".to_owned(),
        };
        let hash = component.sha256.as_deref().unwrap_or("-");
        let size = component.size.map_or_else(|| "-".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000));
        // Standard output that is closed early (`| head`) is no mistake.
        let _ = writeln!(
            out,
            "{:<24} {:<10} {:<6} {:>7}  {:.12}  {}\n{:<24} from {}",
            component.name.as_str(),
            component.version,
            component.source.to_string(),
            size,
            hash,
            place,
            "",
            component.from,
        );
    }
}
