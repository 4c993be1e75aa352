//! The command `egress-dns`: the cluster's DNS server as a pod, and the command that gives it external names.
//!
//! Everything it does is in the library.

use std::io::Read;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use egress_dns::{DEFAULT_CONTROL, Dns};
use tokio::signal::unix::{SignalKind, signal};

/// Answers for a cluster's Services and for external names it is given; asks nobody
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where names are taken from
    #[arg(long, global = true, default_value = DEFAULT_CONTROL)]
    control: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Serve port 53 until SIGTERM; Services come from the API server of this pod's cluster
    Serve {
        /// The address to listen on
        #[arg(long, default_value = "0.0.0.0")]
        address: Ipv4Addr,
    },
    /// Give external names to the server of this container; in force when it ends
    Names {
        /// The names as JSON, `{"my.server.com": {"addresses": ["192.0.2.7"]}}`; read from standard input if absent
        json: Option<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("egress-dns: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A pod may be up before kube-proxy's rules for the API server's Service are: a first packet that nobody answers then must
/// not cost the library's half minute. The watches try again.
const CONNECT: Duration = Duration::from_secs(1);

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &arguments.action {
            Action::Serve { address } => {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut config = kube::Config::infer().await?;
                config.connect_timeout = Some(CONNECT);
                let client = kube::Client::try_from(config)?;
                let dns = Dns::default();
                egress_dns::take_names(dns.clone(), &arguments.control)?;
                // The port opens once everything is known: that is what a readiness probe sees.
                dns.follow(client).await;
                dns.serve(*address).await?;
                tracing::info!(%address, "serving");
                terminate.recv().await;
            }
            Action::Names { json } => {
                let mut bytes = Vec::new();
                match json {
                    Some(text) => bytes.extend_from_slice(text.as_bytes()),
                    None => {
                        std::io::stdin().read_to_end(&mut bytes)?;
                    }
                }
                egress_dns::send_names(&arguments.control, &bytes).await?;
            }
        }
        Ok(())
    })
}
