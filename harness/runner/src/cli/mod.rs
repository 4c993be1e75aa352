//! The command line: one file per subcommand, and what they share.
//!
//! Subcommands translate between arguments, the library and what is printed; they decide nothing about scenarios.
//! Results go to standard output, progress and errors to standard error. Start at [`main`].

mod cluster;
mod compare;
mod components;
mod doctor;
mod down;
mod execute;
mod explain;
mod list;
mod matrix;
mod reports;
mod run;
mod schema;
mod shell;
mod source;
mod sweep;
mod tutorial;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::EnvironmentError;
use crate::supervisor::link::NotJoined;

/// End-to-end test harness and conformance suite for Istio egress.
#[derive(Debug, Parser)]
#[command(name = "egress-conformance", version, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios and report what they showed
    Run(run::Arguments),
    /// Run scenarios on several combinations of versions, and show them beside each other
    Matrix(matrix::Arguments),
    /// List scenarios
    List(list::Arguments),
    /// Tell what a scenario claims, and the path that its last run saw, hop by hop
    Explain(explain::Arguments),
    /// Bring up a mesh that stays up for the next commands
    Up(up::Arguments),
    /// End the mesh that is up
    Down(down::Arguments),
    /// Open a shell with kubectl and istioctl for a mesh, which is brought up if there is none
    Shell(shell::Arguments),
    /// Run the commands of documentation pages as they stand, and show the path behind each request
    Tutorial(tutorial::Arguments),
    /// Tell whether this machine can run a sandbox, and what it lacks
    Doctor(doctor::Arguments),
    /// List, build or verify the programs that a sandbox runs
    Components(components::Arguments),
    /// Print the JSON schema of scenario files
    Schema(schema::Arguments),
    /// Compare the verdicts and paths of two reports
    Compare(compare::Arguments),
    /// Remove what killed runs left behind
    Sweep(sweep::Arguments),
}

/// Why a command ends without doing its work; decides the exit code.
#[derive(Debug)]
pub enum Failure {
    /// Bad usage, an invalid scenario, or nothing selected: exit 2.
    Usage(String),
    /// The environment is not fit: exit 3.
    Environment(EnvironmentError),
    /// Ctrl-C or SIGTERM: exit 130.
    Interrupted,
}

impl From<EnvironmentError> for Failure {
    fn from(error: EnvironmentError) -> Self {
        Self::Environment(error)
    }
}

impl From<NotJoined> for Failure {
    fn from(not_joined: NotJoined) -> Self {
        match not_joined {
            NotJoined::BrokenOff => Self::Interrupted,
            NotJoined::Environment(error) => Self::Environment(error),
        }
    }
}

/// A usage error from any message.
pub(crate) fn usage(message: impl ToString) -> Failure {
    Failure::Usage(message.to_string())
}

/// A reader of standard output that has seen enough (`| head`) ends this process, as it would end one of C: without a word.
/// What a run made is cleaned up by its supervisor, as after every end.
fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The words of `print!`, which has no other way to say it.
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("os error 32") {
            std::process::exit(141);
        }
        usual(panic);
    }));
}

/// Runs the command that the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    end_with_the_reader();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap prints help to standard output and mistakes to standard error, with exit code 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("EGRESS_CONFORMANCE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(3);
        }
    };
    let result = runtime.block_on(dispatch(arguments.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

async fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Matrix(arguments) => matrix::run(arguments).await,
        Command::List(arguments) => list::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Up(arguments) => up::run(arguments).await,
        Command::Down(arguments) => down::run(&arguments).await,
        Command::Shell(arguments) => shell::run(arguments).await,
        Command::Tutorial(arguments) => tutorial::run(arguments).await,
        Command::Doctor(arguments) => Ok(doctor::run(&arguments)),
        Command::Components(arguments) => components::run(arguments).await,
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Sweep(arguments) => Ok(sweep::run(&arguments)),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Usage(message) => {
            let text = message.trim_end();
            if text.starts_with("error") {
                eprintln!("{text}")
            } else {
                eprintln!("error: {text}")
            }
            ExitCode::from(2)
        }
        Failure::Environment(error) => {
            eprintln!("error: {error}");
            if let Some(remedy) = &error.remedy {
                eprintln!("  help: {remedy}");
            }
            ExitCode::from(3)
        }
        Failure::Interrupted => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
    }
}

/// Whether to colour what goes to standard output.
pub(crate) fn color() -> bool {
    use std::io::IsTerminal;
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stdout().is_terminal()
}

/// Resolves at the first Ctrl-C or SIGTERM.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term), Ok(mut hup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
}
