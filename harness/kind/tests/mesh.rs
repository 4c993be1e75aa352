//! A real kind cluster in a contained engine: images loaded, node ready, mesh installed, an injected client runs.
//!
//! Needs root and takes minutes on a cold cache, so it runs only when asked for: `cargo test -p egress-kind --test mesh
//! -- --ignored`. Each phase's time is printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress_component::{Cache, Host, PinFiles, Pins, ProgramName, Store, Tool};
use egress_image::{CLIENT, Images, Made, OwnPrograms, Silent};
use egress_kind::{Cluster, ClusterOptions, Docker, Engine, Phase};
use libtest_mimic::{Arguments, Failed, Trial};

/// Set in the child of the second test: it starts an engine with a node container, says so, and waits to be killed.
const VICTIM: &str = "EGRESS_KIND_TEST_VICTIM";

fn main() {
    if std::env::var_os(VICTIM).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
        let Err(error) = runtime.block_on(victim());
        eprintln!("{}", describe(&*error));
        std::process::exit(1);
    }
    let arguments = Arguments::from_args();
    let trial = Trial::test("a_contained_cluster_runs_the_mesh_and_leaves_nothing", || {
        let runtime = tokio::runtime::Runtime::new().map_err(|e| Failed::from(e.to_string()))?;
        runtime.block_on(run()).map_err(|error| Failed::from(describe(&*error)))
    });
    let killed = Trial::test("nothing_of_a_killed_owner_survives_a_sweep", || {
        let runtime = tokio::runtime::Runtime::new().map_err(|e| Failed::from(e.to_string()))?;
        runtime.block_on(kill_an_owner()).map_err(|error| Failed::from(describe(&*error)))
    });
    let trials = [trial, killed].map(|trial| trial.with_ignored_flag(true));
    libtest_mimic::run(&arguments, trials.into()).exit();
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

struct Tools {
    kubectl: PathBuf,
    istioctl: PathBuf,
    kubeconfig: PathBuf,
}

impl Tools {
    async fn run(&self, program: &Path, args: &[&str]) -> Result<String> {
        let tool = Tool::new(program, &Host::current()).env("KUBECONFIG", &self.kubeconfig).args(args.iter().copied());
        let ended = tool.run(Duration::from_secs(300), &mut |_| {}).await?;
        if ended.success {
            Ok(ended.stdout)
        } else {
            Err(format!("{}: {}\n{}", tool.display(), ended.outcome, ended.tail.join("\n")).into())
        }
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.run(&self.kubectl, args).await
    }
}

fn print(phases: &[Phase]) {
    phases.iter().for_each(|phase| println!("{:>7.2} s  {}", phase.took.as_secs_f64(), phase.name));
}

fn took(name: &str, start: Instant) {
    print(&[Phase { name: name.to_owned(), took: start.elapsed() }]);
}

/// The machine's settings that a node changes.
fn settings() -> Vec<String> {
    ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "fs/nr_open", "fs/file-max"]
        .map(|name| std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default())
        .into()
}

/// Everything that names an engine outside its namespaces: mounts, processes, control groups, its folder.
fn traces(name: &str, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    if folder.exists() {
        found.push(folder.display().to_string());
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    for entry in std::fs::read_dir("/proc").into_iter().flatten().filter_map(|e| e.ok()) {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(name) || groups.contains(name) {
            found.push(format!("process {}: {}", entry.path().display(), String::from_utf8_lossy(&line)));
        }
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(|e| e.ok()) {
        let group = hierarchy.path().join("egress-conformance").join(name);
        if group.exists() {
            found.push(group.display().to_string());
        }
    }
    found
}

async fn victim() -> Result<std::convert::Infallible> {
    let (images, programs) = images().await?;
    let made = images.ensure().await?;
    let engine = Engine::start(&images.cache, &images.host, &Silent).await?;
    engine.load(&[&made.node]).await?;
    let options = options(&made);
    println!("{} {}", engine.name(), engine.folder().display());
    let _cluster = Cluster::create(&Docker::Own(engine), programs.path(&ProgramName::KIND), &options).await?;
    println!("ready");
    std::future::pending().await
}

/// Kills the owner of an engine with a cluster, once while the cluster is being created and once when it is there.
async fn kill_an_owner() -> Result<()> {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let before = settings();
    for moment in ["during creation", "with a cluster"] {
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .env(VICTIM, "1")
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let first = lines.next_line().await?.ok_or("the child ended early")?;
        let (name, folder) = first.split_once(' ').ok_or("the child said something else")?;
        let folder = PathBuf::from(folder);
        if moment == "with a cluster" {
            let said = lines.next_line().await?;
            if said.as_deref() != Some("ready") {
                return Err(format!("the child said {said:?}").into());
            }
        } else {
            // Its node runs, and its boot has begun to change things.
            until(Duration::from_secs(60), || traces(name, &folder).iter().any(|t| t.contains("kubelet"))).await;
        }
        if traces(name, &folder).iter().filter(|trace| trace.starts_with("process")).count() < 3 {
            return Err(format!("{moment}: expected the processes of a node, saw {:?}", traces(name, &folder)).into());
        }
        child.start_kill()?;
        child.wait().await?;
        let start = Instant::now();
        let gone = until(Duration::from_secs(30), || {
            let _ = egress_kind::sweep();
            traces(name, &folder).is_empty()
        });
        if !gone.await {
            return Err(format!("{moment}: left after SIGKILL and sweep: {:#?}", traces(name, &folder)).into());
        }
        took(&format!("killed {moment}: swept"), start);
        if settings() != before {
            return Err(format!("{moment}: settings of the machine were {before:?} and are {:?}", settings()).into());
        }
    }
    Ok(())
}

async fn until(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        if look() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
    }
}

fn options(made: &Made) -> ClusterOptions {
    ClusterOptions {
        name: "egress-test".to_owned(),
        image: made.node.references.first().cloned(),
        config: egress_kind::config(!Path::new("/sys/fs/cgroup/cgroup.controllers").exists()),
        wait: Duration::from_secs(180),
    }
}

async fn images() -> Result<(Images, egress_component::Programs)> {
    let host = Host::current();
    let pins = Pins::from_files(&PinFiles::read(&fixtures().join("components"))?)?;
    let store = Store::new(pins, Cache::open(Cache::default_dir(&host)?, None)?, host.clone());
    let mut names = egress_image::PROGRAMS.to_vec();
    names.push(ProgramName::ISTIOCTL);
    let programs = store.ensure(&names, &egress_component::Silent).await?;
    let own = OwnPrograms::ensure(&host, &Silent).await?;
    let cache = store.cache().clone();
    Ok((Images { cache, host, programs: programs.clone(), own, progress: Arc::new(Silent) }, programs))
}

async fn run() -> Result<()> {
    let before = settings();
    let start = Instant::now();
    let (images, programs) = images().await?;
    let made = images.ensure().await?;
    took("components and images", start);
    let start = Instant::now();
    let engine = Engine::start(&images.cache, &images.host, &Silent).await?;
    took("engine", start);
    let (name, folder, log) = (engine.name(), engine.folder().to_owned(), engine.run_folder().join("dockerd.log"));
    let docker = Docker::Own(engine);
    let result = in_engine(&docker, &made, &programs).await;
    if result.is_err() {
        println!("{}", std::fs::read_to_string(log).unwrap_or_default());
    }
    let start = Instant::now();
    let stopped = docker.stop().await;
    took("engine stop", start);
    result?;
    stopped?;
    let left = traces(&name, &folder);
    if !left.is_empty() {
        return Err(format!("left after the engine's stop: {left:#?}").into());
    }
    if settings() != before {
        return Err(format!("settings of the machine were {before:?} and are {:?}", settings()).into());
    }
    Ok(())
}

/// Neither the engine nor a container in it has a way out: an address of nobody (RFC 5737) is refused by the first
/// routing table, at once.
async fn no_way_out(docker: &Docker, image: &str, node: &str) -> Result<()> {
    match docker.dialer().ok_or("an engine has a network of its own")?.connect("192.0.2.1:80".parse()?).await {
        Err(error) if error.kind() == std::io::ErrorKind::NetworkUnreachable => {}
        other => return Err(format!("from the engine: expected network unreachable, got {other:?}").into()),
    }
    let script = "curl -sS -m 10 http://192.0.2.1/ 2>&1; echo exit=$?";
    let seen = docker.run("trying to leave", &["exec", node, "sh", "-c", script]).await?;
    // 7 is a failure to connect; 28 would be a packet that went somewhere.
    if !seen.contains("exit=7") {
        return Err(format!("from the node: expected no route, got {seen}").into());
    }
    let links = docker
        .run("listing links", &["run", "--rm", "--network", "host", "--entrypoint", "ls", image, "/sys/class/net"])
        .await?;
    let foreign: Vec<&str> = links
        .split_whitespace()
        .filter(|l| *l != "lo" && !["br-", "veth", "docker"].iter().any(|p| l.starts_with(p)))
        .collect();
    // Tunnel devices that a kernel makes in every new namespace lead nowhere.
    let foreign: Vec<&&str> = foreign.iter().filter(|l| !l.ends_with('0')).collect();
    if foreign.is_empty() { Ok(()) } else { Err(format!("devices of the machine in the engine: {foreign:?}").into()) }
}

async fn in_engine(docker: &Docker, made: &Made, programs: &egress_component::Programs) -> Result<()> {
    print(&docker.load(&[&made.node]).await?);
    let options = options(made);
    let (cluster, phases) = Cluster::create(docker, programs.path(&ProgramName::KIND), &options).await?;
    print(&phases);
    no_way_out(docker, &made.node.references[0], &cluster.node()).await?;
    let result = in_cluster(&cluster, made, programs).await;
    if result.is_err() {
        let tools = tools(&cluster, programs);
        for args in [&["get", "pods", "-A", "-o", "wide"][..], &["get", "events", "-A"][..]] {
            println!("{}", tools.kubectl(args).await.unwrap_or_default());
        }
    }
    result
}

fn tools(cluster: &Cluster, programs: &egress_component::Programs) -> Tools {
    Tools {
        kubectl: programs.path(&ProgramName::KUBECTL).to_owned(),
        istioctl: programs.path(&ProgramName::ISTIOCTL).to_owned(),
        kubeconfig: cluster.kubeconfig().to_owned(),
    }
}

async fn in_cluster(cluster: &Cluster, made: &Made, programs: &egress_component::Programs) -> Result<()> {
    let tools = tools(cluster, programs);
    for archive in [&made.mesh, &made.own] {
        print(&[cluster.load(archive).await?]);
    }
    let start = Instant::now();
    let dns = fixtures().join("workloads/dns.yaml").display().to_string();
    tools.kubectl(&["apply", "-f", &dns]).await?;
    tools.kubectl(&["rollout", "status", "-n", "kube-system", "deployment/egress-dns", "--timeout=120s"]).await?;
    took("DNS ready", start);
    let start = Instant::now();
    let mesh = fixtures().join("mesh");
    let (profile, overlay) = (
        mesh.join("registry-only.yaml").display().to_string(),
        mesh.join("data-plane/stock-envoy.yaml").display().to_string(),
    );
    let (hub, tag) = (format!("hub={}", made.hub), format!("tag={}", made.tag));
    let install = [
        "install",
        "--skip-confirmation",
        "-f",
        &profile,
        "-f",
        &overlay,
        "--set",
        &hub,
        "--set",
        &tag,
        "--readiness-timeout",
        "180s",
    ];
    tools.run(&tools.istioctl, &install).await?;
    took("istioctl install", start);
    let start = Instant::now();
    tools.kubectl(&["create", "namespace", "client"]).await?;
    tools.kubectl(&["label", "namespace", "client", "istio-injection=enabled"]).await?;
    let client = fixtures().join("workloads/client.yaml");
    let text = std::fs::read_to_string(&client)?;
    if !text.contains(CLIENT) {
        return Err(format!("{} does not name the image {CLIENT}", client.display()).into());
    }
    tools.kubectl(&["apply", "-n", "client", "-f", &client.display().to_string()]).await?;
    tools.kubectl(&["rollout", "status", "-n", "client", "deployment/client", "--timeout=120s"]).await?;
    took("injected client ready", start);
    let start = Instant::now();
    let blocked = ["exec", "-n", "client", "deploy/client", "-c", "curl", "--", "sh", "-c"];
    let script = "curl -sS -m 5 -o /dev/null http://192.0.2.1:1234/; echo exit=$?";
    let seen = tools.kubectl(&[&blocked[..], &[script]].concat()).await?;
    took("exec and curl", start);
    if !seen.contains("exit=52") && !seen.contains("exit=56") {
        return Err(format!("expected a reset by the sidecar (52 or 56), got {seen}").into());
    }
    let log = tools.kubectl(&["logs", "-n", "client", "deploy/client", "-c", "istio-proxy", "--tail=1"]).await?;
    println!("sidecar: {}", log.trim());
    if !log.contains("BlackHoleCluster") {
        return Err(format!("the sidecar's last line does not name BlackHoleCluster: {log}").into());
    }
    let pods = tools.kubectl(&["get", "pods", "-A", "-o", "wide"]).await?;
    println!("{pods}");
    Ok(())
}
