//! One program of the sandbox as a process: its log, and the news of its end.
//!
//! A component is meant to live as long as the sandbox. One that ends earlier is a fault, which
//! fails a start in progress and is told to the owner later. Start at [`Components::start`].

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::events::ComponentFault;
use crate::layout::{self, Layout};

/// Lines of a log that a fault carries.
const LAST_LINES: usize = 15;

/// What to run.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Names the log, too.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// Starts components and watches them.
#[derive(Debug, Clone)]
pub(crate) struct Components {
    layout: Layout,
    faults: mpsc::UnboundedSender<ComponentFault>,
    stopping: CancellationToken,
}

impl Components {
    /// Faults go to the sender, until `stopping` is cancelled.
    pub(crate) fn new(
        layout: Layout,
        faults: mpsc::UnboundedSender<ComponentFault>,
        stopping: CancellationToken,
    ) -> Self {
        Components { layout, faults, stopping }
    }

    /// Starts a program in the background. A program that cannot be executed is a fault like one
    /// that ends at once.
    pub(crate) fn start(&self, spec: Spec) {
        let log = self.layout.log(spec.name);
        let child = File::options().create(true).append(true).open(&log).and_then(|file| {
            Command::new(&spec.program)
                .args(&spec.arguments)
                .env("TMPDIR", self.layout.tmp())
                .current_dir(self.layout.tmp())
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file)
                .spawn()
        });
        let this = self.clone();
        tokio::spawn(async move {
            let status = match child {
                Ok(mut child) => child.wait().await,
                Err(e) => Err(e),
            };
            if this.stopping.is_cancelled() {
                return;
            }
            let status = match status {
                Ok(status) => status.to_string(),
                Err(e) => format!("cannot run {}: {e}", spec.program.display()),
            };
            let last_lines = layout::last_lines(&log, LAST_LINES);
            let fault = ComponentFault { name: spec.name.to_owned(), status, last_lines, log };
            // Nobody listens any more: the sandbox is ending.
            let _ = this.faults.send(fault);
        });
    }
}
