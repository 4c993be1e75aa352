//! One page, from its first command to what it leaves behind.
//!
//! The mesh is borrowed and given back by whoever calls. Start at [`run`].

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use egress_core::tutorial::client_words;
use egress_core::tutorial::draft::{Recorded, Sent};
use egress_core::tutorial::drift::{self, Drift};
use egress_core::tutorial::report::{Finding, PageReport, PodPath, StepReport, Verdict, in_words, words};
use egress_core::tutorial::verify::{Verify, compare};
use egress_core::tutorial::{Page, Place, Step};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams};

use super::shell::{Ended, Shell};
use super::surroundings::Surroundings;
use super::witness::{Bookmarks, InPod};
use super::workspace::Workspace;
use crate::cluster::EnvironmentError;
use crate::progress::Progress;
use crate::schedule::session::Session;
use crate::schedule::stage::Stage;

/// What is run of a page.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The last command, by its line or name; default: all.
    pub until: Option<String>,
    /// Whether to stop before each command until Enter is pressed.
    pub step_by_step: bool,
    /// Whether to stop at the first command that fails.
    pub fail_fast: bool,
    /// How long one command may take.
    pub bound: Duration,
}

/// What running a page gave.
pub struct Ran {
    /// What it showed.
    pub report: PageReport,
    /// What its commands applied and sent.
    pub recorded: Vec<Recorded>,
    /// The egress gateway's addresses.
    pub gateways: Vec<IpAddr>,
}

/// Runs a page on a borrowed mesh.
///
/// # Errors
/// [`EnvironmentError`] when the cluster or the shell cannot be used; what is wrong with the page or the mesh stands in the
/// report.
pub async fn run(
    session: &Session,
    stage: &Stage,
    page: &Page,
    part: &Part,
    progress: &dyn Progress,
) -> Result<Ran, EnvironmentError> {
    let begun = Instant::now();
    let workspace = Workspace::make(session)?;
    let mesh = drift::Mesh {
        istio: session.welcome.installed.versions.istio.clone(),
        istio_extensions: session.welcome.capabilities.iter().any(|c| c == "istio-extensions"),
    };
    let mut remarks =
        vec!["namespace default is labelled istio-injection=enabled, as istio.io's tests set it up".to_owned()];
    if !session.welcome.overlays.is_empty() && page.steps.iter().any(|s| s.command.contains("istioctl install")) {
        let files = session.welcome.overlays.join(", ");
        remarks.push(format!("`istioctl install` is given {files} as well, which this data plane needs"));
    }
    let mut around = Surroundings::new(stage).await?;
    label_default(stage).await?;
    let mut shell = start_shell(session, &workspace).await?;
    let mut report = PageReport {
        page: page.path.clone(),
        title: page.title.clone(),
        profile: page
            .settings
            .mesh
            .clone()
            .unwrap_or_else(|| egress_core::tutorial::settings::DEFAULT_PROFILE.to_owned()),
        steps: Vec::new(),
        skipped: page.skipped.clone(),
        remarks,
        left: Vec::new(),
        duration_ms: 0,
    };
    let mut running = Running { stage, mesh, workspace: &workspace, part, recorded: Vec::new() };
    for (n, step) in page.steps.iter().enumerate() {
        if part.step_by_step && !confirmed(step).await {
            report.remarks.push(format!("stopped before {}", step.at));
            break;
        }
        progress.working(&format!("{} {}", step.at, step.command.lines().next().unwrap_or_default()));
        let result = running.step(&mut shell, &mut around, &page.steps[..n], step).await?;
        let failed = matches!(result.verdict, Verdict::Failed { .. });
        report.steps.push(result);
        if !shell.lives() || (failed && part.fail_fast) || part.until.as_deref().is_some_and(|u| names(u, step)) {
            break;
        }
    }
    shell.end().await;
    report.left = around.left().await?;
    report.duration_ms = millis(begun.elapsed());
    let gateways = around.gateways.iter().map(|gateway| gateway.ip).collect();
    Ok(Ran { report, recorded: running.recorded, gateways })
}

/// Whether this is the step that somebody means: its line, or its name.
fn names(wanted: &str, step: &Step) -> bool {
    wanted == step.name || wanted.parse() == Ok(step.at.line)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn label_default(stage: &Stage) -> Result<(), EnvironmentError> {
    let namespaces: Api<Namespace> = Api::all(stage.objects.client().clone());
    let label = serde_json::json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    let labelled = namespaces.patch("default", &PatchParams::default(), &Patch::Merge(&label)).await;
    labelled.map(drop).map_err(|e| EnvironmentError::new(format!("namespace default cannot be labelled: {e}")))
}

async fn start_shell(session: &Session, workspace: &Workspace) -> Result<Shell, EnvironmentError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(workspace.bin()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(paths).map_err(|e| EnvironmentError::new(format!("PATH: {e}")))?;
    let variables: [(&str, OsString); 3] = [
        ("PATH", path),
        ("KUBECONFIG", session.welcome.kubeconfig.clone().into()),
        // kubectl keeps what it has learned below the home folder.
        ("HOME", workspace.own().into()),
    ];
    let started = Shell::start(&workspace.work(), &workspace.own(), &variables).await;
    started.map_err(|e| EnvironmentError::new(format!("bash cannot be started: {e}")))
}

/// Shows a command and waits for Enter; `q` ends the page.
async fn confirmed(step: &Step) -> bool {
    eprintln!("{}: next, by Enter (q ends the page):\n{}", step.at, step.command);
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|read| (read, line))
    });
    matches!(line.await, Ok(Ok((read, line))) if read > 0 && line.trim() != "q")
}

struct Running<'a> {
    stage: &'a Stage,
    mesh: drift::Mesh,
    workspace: &'a Workspace,
    part: &'a Part,
    recorded: Vec<Recorded>,
}

impl Running<'_> {
    async fn step(
        &mut self,
        shell: &mut Shell,
        around: &mut Surroundings<'_>,
        earlier: &[Step],
        step: &Step,
    ) -> Result<StepReport, EnvironmentError> {
        let begun = Instant::now();
        let bookmarks = Bookmarks::set(self.stage, around).await?;
        let ran = shell.run(&step.command, self.part.bound).await;
        let ran = ran.map_err(|e| EnvironmentError::new(format!("{}: the shell is lost: {e}", step.at)))?;
        let executed: Vec<InPod> = self.workspace.executed().iter().filter_map(InPod::read).collect();
        let paths = bookmarks.paths(self.stage, &executed).await?;
        let mut verdicts = Verdicts::default();
        verdicts.ended(&self.mesh, step, &ran.ended, &ran.output);
        let exit = if let Ended::Exit(code) = ran.ended { Some(code) } else { None };
        let mut compared = false;
        if let (Some(expected), Some(exit)) = (&step.expected, exit) {
            compared = true;
            if let Some(mismatch) = compare(expected.verify, &expected.text, &ran.output, exit) {
                let at = Place { line: expected.at.line + mismatch.line, ..expected.at.clone() };
                match drift::of_output(&self.mesh, step, &mismatch, &ran.output) {
                    Some(drift) => verdicts.drifts.push(drift),
                    None => verdicts.fail(at, "the output", mismatch.expected, mismatch.seen),
                }
            }
        }
        if let Some(promised) = &step.promised {
            let seen: Vec<String> = paths.iter().flat_map(|p| words(&p.joined.path.hops)).collect();
            if seen != *promised {
                verdicts.fail(step.at.clone(), "the path", in_words(promised), in_words(&seen));
            } else if let Some(open) = paths.iter().find(|p| !p.proved()) {
                let state = format!("{:?}", open.joined.state);
                verdicts.fail(step.at.clone(), "the path", "one that is proved to its end".into(), state);
            }
        }
        let mut recorded =
            Recorded { line: step.at.line, sent: sent(around, &paths, &executed), ..Recorded::default() };
        if may_change(&step.command) {
            for open in around.settle().await? {
                verdicts.fail(step.at.clone(), "what the command asks of the cluster", "it comes to be".into(), open);
            }
            self.inert(around, earlier, step, &mut verdicts).await;
            (recorded.applied, recorded.deleted) = around.changed().await?;
        }
        self.recorded.push(recorded);
        Ok(StepReport {
            at: step.at.clone(),
            name: step.name.clone(),
            command: step.command.clone(),
            exit,
            output: ran.output,
            compared,
            paths,
            verdict: verdicts.verdict(),
            duration_ms: millis(begun.elapsed()),
        })
    }

    /// Rules that have no effect, as the proxies of the page's own pods show.
    async fn inert(&self, around: &Surroundings<'_>, earlier: &[Step], step: &Step, verdicts: &mut Verdicts) {
        for rule in drift::inert_rules(&self.mesh, earlier, step) {
            for pod in &around.pods {
                let Some(proxy) = pod.proxy() else { continue };
                let clusters = around.gate.envoy_page(&proxy, "/clusters").await;
                if clusters.is_ok_and(|page| !page.contains(&format!("|{}::", rule.host))) {
                    verdicts.drifts.push(rule.drift(&format!("the sidecar of {}", pod.pod)));
                    break;
                }
            }
        }
    }
}

/// What a command sent, for a scenario that shall send it again.
fn sent(around: &Surroundings<'_>, paths: &[PodPath], executed: &[InPod]) -> Vec<Sent> {
    let of = |path: &PodPath| {
        let pod = around.pods.iter().find(|pod| format!("{}/{}", pod.namespace, pod.pod) == path.pod)?;
        let own = executed.iter().filter(|e| e.sends() && e.is_in(pod));
        let requests = own.flat_map(|e| client_words::requests(&e.command).into_iter().map(|r| (r, e.exit)));
        Some(Sent {
            meshed: pod.has_proxy,
            requests: requests.collect(),
            hops: path.joined.path.hops.clone(),
            proved: path.proved(),
        })
    };
    paths.iter().filter_map(of).collect()
}

/// Whether a command may change the cluster, so that what comes after it has to wait.
fn may_change(command: &str) -> bool {
    const VERBS: [&str; 14] = [
        "apply",
        "create",
        "delete",
        "label",
        "annotate",
        "patch",
        "replace",
        "rollout",
        "scale",
        "run",
        "expose",
        "set",
        "install",
        "uninstall",
    ];
    let tools = command.contains("kubectl") || command.contains("istioctl");
    tools && command.split_whitespace().any(|word| VERBS.contains(&word))
}

#[derive(Default)]
struct Verdicts {
    findings: Vec<Finding>,
    drifts: Vec<Drift>,
}

impl Verdicts {
    fn fail(&mut self, at: Place, what: &str, expected: String, seen: String) {
        self.findings.push(Finding { at, what: what.to_owned(), expected, seen });
    }

    /// What the end of a command says by itself.
    fn ended(&mut self, mesh: &drift::Mesh, step: &Step, ended: &Ended, output: &str) {
        let end = "it ends by itself".to_owned();
        match ended {
            // Where a page shows what is printed, that decides; a failing command may be what it shows.
            Ended::Exit(0) => {}
            Ended::Exit(_) if step.expected.as_ref().is_some_and(|e| e.verify != Verify::NotContains) => {}
            Ended::Exit(code) => match drift::of_command(mesh, step, output) {
                Some(drift) => self.drifts.push(drift),
                None => {
                    let seen = format!("exit code {code}: {}", output.trim_end());
                    self.fail(step.at.clone(), "the command", "exit code 0".to_owned(), seen);
                }
            },
            Ended::AskedForInput => {
                let seen = "it asks for input, which a page has none of; it was ended".to_owned();
                self.fail(step.at.clone(), "the command", end, seen);
            }
            Ended::Hung(after) => {
                let seen = format!("still running after {:.0} s; it was ended: {output}", after.as_secs_f64());
                self.fail(step.at.clone(), "the command", end, seen);
            }
            Ended::Shell => {
                let seen = "it ended the shell; the commands after it are not run".to_owned();
                self.fail(step.at.clone(), "the command", end, seen);
            }
        }
    }

    fn verdict(self) -> Verdict {
        if !self.findings.is_empty() {
            Verdict::Failed { findings: self.findings }
        } else if !self.drifts.is_empty() {
            Verdict::Drift { drifts: self.drifts }
        } else {
            Verdict::Passed
        }
    }
}
