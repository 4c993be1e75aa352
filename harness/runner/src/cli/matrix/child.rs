//! One combination's `run`, as a process of its own.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use egress_core::report::{self, Outcome, Report};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::cli::{Failure, interrupted, usage};
use crate::components::VARIABLES;
use crate::progress::{Console, Progress};

/// What is to be run.
pub(super) struct Child {
    /// For people.
    pub(super) name: String,
    /// Of `run`.
    pub(super) arguments: Vec<OsString>,
    /// Whether the options of a kind cluster are for it.
    pub(super) on_kind: bool,
    /// For its reports, its output and its logs.
    pub(super) folder: PathBuf,
}

/// How it ended.
pub(super) struct Ended {
    pub(super) code: u8,
    pub(super) report: Option<Report>,
    pub(super) problem: Option<String>,
    pub(super) took: Duration,
}

impl Child {
    /// Makes its folder, without what an earlier run has left.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        let failed = |e| usage(format!("{} cannot be used: {e}", self.folder.display()));
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        match std::fs::remove_file(self.folder.join("report.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Runs it to its end. Once `stop` is set nothing is started; an interruption sets it and ends what runs.
    pub(super) async fn run(&self, console: &Console, stop: &AtomicBool) -> Ended {
        let start = Instant::now();
        let failed = |problem: String| Ended { code: 3, report: None, problem: Some(problem), took: start.elapsed() };
        if stop.load(Ordering::Relaxed) {
            return failed("interrupted".to_owned());
        }
        let code = match self.watch(console, stop).await {
            Ok(code) => code,
            Err(error) => return failed(format!("it could not be run: {error}")),
        };
        let took = start.elapsed();
        console.phase(&self.name, took);
        let text = std::fs::read_to_string(self.folder.join("report.json")).map_err(|e| e.to_string());
        let report = text.and_then(|text| report::from_json(&text).map_err(|e| e.to_string()));
        let output = self.folder.join("output.txt");
        let ran = report.as_ref().is_ok_and(|r| r.scenarios.iter().any(|s| s.outcome == Outcome::Passed));
        let problem = match (&report, code) {
            (Ok(_), 0 | 1) => None,
            // Somebody has to say why nothing passed.
            (Ok(_), _) if ran => None,
            (Ok(_), _) => Some(format!("nothing passed; {} says why", output.display())),
            (Err(error), _) => Some(format!("no report ({error}); {} says why", output.display())),
        };
        Ended { code, report: report.ok(), problem, took }
    }

    async fn watch(&self, console: &Console, stop: &AtomicBool) -> std::io::Result<u8> {
        let mut output = tokio::fs::File::create(self.folder.join("output.txt")).await?;
        let errors = output.try_clone().await?.into_std().await;
        // Not the path: what is there may be another build by now.
        let mut command = Command::new("/proc/self/exe");
        command.arg("run").args(&self.arguments).arg("--no-snapshot");
        for (format, file) in [("json", "report.json"), ("conformance", "conformance.yaml")] {
            let mut target = OsString::from(format!("{format}="));
            target.push(self.folder.join(file));
            command.arg("--report").arg(target);
        }
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        if !self.on_kind {
            for (variable, _) in std::env::vars_os().filter(|(name, _)| is_for_kind(name)) {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (mut done, mut told) = (0, false);
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { break };
                    output.write_all(format!("{line}\n").as_bytes()).await?;
                    if Outcome::ALL.iter().any(|outcome| line.starts_with(&format!("{:12} ", outcome.as_str()))) {
                        done += 1;
                        console.working(&format!("{}: {done} scenarios", self.name));
                    }
                }
                () = interrupted(), if !told => {
                    told = true;
                    stop.store(true, Ordering::Relaxed);
                    // It takes its mesh down in order; its output ends with it.
                    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                    }
                }
            }
        }
        let status = child.wait().await?;
        output.flush().await?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(3))
    }
}

/// Whether a variable is an option of kind clusters ([`crate::cluster::kind::KindChoice`]).
fn is_for_kind(variable: &OsStr) -> bool {
    variable.to_string_lossy().starts_with("EGRESS_KIND_")
}
