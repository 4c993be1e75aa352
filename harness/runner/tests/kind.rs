//! `--cluster kind` as a user with a Docker has it: the command, in the network of an engine that stands in for the
//! machine's own. What it makes there, what it leaves when it is killed, and what it says to mistakes.
//!
//! Needs root and takes minutes: `cargo test -p egress-conformance --test kind -- --ignored --nocapture`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use egress_component::{Cache, Host};
use egress_image::Silent;
use egress_kind::Engine;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PROGRAM: &str = env!("CARGO_BIN_EXE_egress-conformance");
/// One whose path has all witnesses: sidecar, gateway, server.
const SCENARIO: &str = "egress-gateway/tcp-by-destination-subnets";

/// A machine with a Docker, which is this engine.
struct Machine {
    runtime: Runtime,
    engine: Option<Engine>,
    run: TempDir,
}

impl Machine {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let host = Host::current();
        let cache = Cache::open(Cache::default_dir(&host).expect("a cache folder"), None).expect("a cache");
        let engine = runtime.block_on(Engine::start(&cache, &host, &Silent)).expect("an engine starts");
        // Short, because sockets lie below it.
        let run = tempfile::Builder::new().prefix("ec-").tempdir_in("/tmp").expect("a folder");
        Self { runtime, engine: Some(engine), run }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it lives as long as this")
    }

    /// A program in the network of this machine, with this machine's Docker.
    fn command(&self, program: &str) -> Command {
        let environment = self.engine().environment();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.engine().network().display())).arg(program);
        command.env("XDG_RUNTIME_DIR", self.run.path()).env("DOCKER_HOST", self.engine().address());
        command.env("PATH", environment.get("PATH").expect("the environment has a PATH"));
        command.stdin(Stdio::null());
        command
    }

    fn harness(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(PROGRAM);
        command.args(arguments).output().expect("the command runs")
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command("docker").args(arguments).output().expect("docker runs");
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Containers and networks that Docker does not make by itself.
    fn traces(&self) -> Vec<String> {
        let containers = self.docker(&["ps", "--all", "--format", "container {{.Names}}"]);
        let networks = self.docker(&["network", "ls", "--filter", "type=custom", "--format", "network {{.Name}}"]);
        let folders =
            std::fs::read_dir(self.run.path().join("egress-conformance-kind")).into_iter().flatten().flatten();
        let folders = folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.path().display().to_string());
        containers.lines().chain(networks.lines()).map(str::to_owned).chain(folders).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take()
            && let Err(error) = self.runtime.block_on(engine.stop())
        {
            eprintln!("the engine: {error}");
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Looks until it is so; fails with what was seen last.
fn until(what: &str, limit: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(seen) = look() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}; seen: {seen}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The processes that own meshes below a runtime folder.
fn supervisors(run: &Path) -> Vec<i32> {
    let wanted = format!("XDG_RUNTIME_DIR={}", run.display());
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        let ours = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        (ours && line.starts_with(b"egress-supervisor")).then_some(pid)
    });
    processes.collect()
}

fn settings() -> Vec<String> {
    ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "fs/nr_open", "fs/file-max"]
        .map(|name| std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default())
        .into()
}

const ON_MACHINE: [&str; 4] = ["--cluster", "kind", "--engine", "machine"];

#[test]
#[ignore = "needs root, makes kind clusters, takes minutes"]
fn the_machines_docker_runs_scenarios_and_gets_everything_back() {
    let before = settings();
    let machine = Machine::new();

    // A cluster of somebody else's with the name that is asked for.
    let output = machine.command("docker").args(["load", "--quiet", "--input"]).arg(own_images()).output();
    assert!(output.is_ok_and(|output| output.status.success()), "the own images can be loaded");
    let label = "io.x-k8s.kind.cluster=theirs";
    let image = "localhost/egress-conformance/external-server:1";
    machine.docker(&["create", "--name", "theirs-control-plane", "--label", label, image, "--control", "unix:/run/c"]);
    let run = ["run", SCENARIO, "--own-images", "--kind-name", "theirs"];
    let output = machine.harness(&[&run[..], &ON_MACHINE].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("kind cluster theirs already, which this run did not make"), "{}", text(&output));
    assert_eq!(
        machine.traces(),
        ["container theirs-control-plane"],
        "what is theirs is left alone, and nothing is added"
    );
    machine.docker(&["rm", "theirs-control-plane"]);

    // The run.
    let report = machine.run.path().join("report.json");
    let target = format!("json={}", report.display());
    let output = machine.harness(&[&["run", SCENARIO, "--own-images", "--report", &target][..], &ON_MACHINE].concat());
    println!("{}", text(&output));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = std::fs::read_to_string(report).expect("a report");
    assert!(report.contains("\"kind\": \"kind\"") && report.contains("192.168.0."), "{report}");
    assert_eq!(machine.traces(), Vec::<String>::new());

    // Killed, with everything it started, at three moments.
    for (moment, marks) in [
        ("while the node is made", &["container egress-"][..]),
        ("while Istio is installed", &["external-servers"]),
        ("while scenarios run", &["external-servers"]),
    ] {
        let log = machine.run.path().join("killed.log");
        let mut run = start(&machine, &log);
        until(moment, Duration::from_secs(180), || {
            let (seen, said) = (machine.traces().join(", "), std::fs::read_to_string(&log).unwrap_or_default());
            let ready = match moment {
                "while Istio is installed" => said.contains(" DNS"),
                "while scenarios run" => said.contains("mesh up"),
                _ => true,
            };
            if ready && marks.iter().all(|mark| seen.contains(mark)) { Ok(()) } else { Err(format!("{seen}\n{said}")) }
        });
        for pid in supervisors(machine.run.path()).into_iter().chain(i32::try_from(run.id())) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        run.wait().expect("the run can be waited for");
        assert_ne!(machine.traces(), Vec::<String>::new(), "{moment}: there is something to sweep");
        // kind itself may still be at work when its caller is dead.
        until("the sweep", Duration::from_secs(90), || {
            let output = machine.harness(&["sweep"]);
            let left = machine.traces();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", text(&output))) }
        });
        println!("killed {moment}: swept, nothing left");
    }
    drop(machine);
    assert_eq!(settings(), before, "settings of the machine");
}

fn start(machine: &Machine, log: &Path) -> Child {
    let file = std::fs::File::create(log).expect("a log");
    let errors = file.try_clone().expect("a log");
    let mut command = machine.command(PROGRAM);
    command.args(["run", "--group", "egress-gateway", "--own-images"]).args(ON_MACHINE);
    command.stdout(file).stderr(errors).spawn().expect("the command starts")
}

/// The archive with the servers' image, which is made where it is missing.
fn own_images() -> PathBuf {
    let output = Command::new(PROGRAM).args(["components", "images"]).output().expect("the command runs");
    assert!(output.status.success(), "{}", text(&output));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    listed.lines().find(|line| line.ends_with("own.tar")).expect("own.tar is listed").into()
}
