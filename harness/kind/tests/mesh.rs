//! A real kind cluster in a contained engine: images loaded, node ready, mesh installed, an injected client runs.
//!
//! Needs root and takes minutes on a cold cache, so it runs only when asked for: `cargo test -p egress-kind --test mesh
//! -- --ignored`. Each phase's time is printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress_component::{Cache, Host, PinFiles, Pins, ProgramName, Store, Tool};
use egress_image::{CLIENT, Images, Made, OwnPrograms, Silent};
use egress_kind::{Cluster, ClusterOptions, Engine, Phase};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let trial = Trial::test("a_contained_cluster_runs_the_mesh_and_leaves_nothing", || {
        let runtime = tokio::runtime::Runtime::new().map_err(|e| Failed::from(e.to_string()))?;
        runtime.block_on(run()).map_err(|error| Failed::from(describe(&*error)))
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(true)]).exit();
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

async fn run() -> Result<()> {
    let host = Host::current();
    let pins = Pins::from_files(&PinFiles::read(&fixtures().join("components"))?)?;
    let store = Store::new(pins, Cache::open(Cache::default_dir(&host)?, None)?, host.clone());
    let mut names = egress_image::PROGRAMS.to_vec();
    names.push(ProgramName::ISTIOCTL);
    let start = Instant::now();
    let programs = store.ensure(&names, &egress_component::Silent).await?;
    let own = OwnPrograms::ensure(&host, &Silent).await?;
    let cache = store.cache().clone();
    let images = Images {
        cache: cache.clone(),
        host: host.clone(),
        programs: programs.clone(),
        own,
        progress: Arc::new(Silent),
    };
    let made = images.ensure().await?;
    took("components and images", start);
    let start = Instant::now();
    let engine = Engine::start(&cache, &host, &Silent).await?;
    took("engine", start);
    let result = in_engine(&engine, &made, &programs).await;
    if result.is_err() {
        println!("{}", engine.log());
    }
    let (name, folder) = (engine.name(), engine.folder().to_owned());
    let start = Instant::now();
    let stopped = engine.stop().await;
    took("engine stop", start);
    result?;
    stopped?;
    if folder.exists() {
        return Err(format!("{} is still there", folder.display()).into());
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if mounts.contains(&name) {
        return Err(format!("mounts of {name} are left").into());
    }
    Ok(())
}

async fn in_engine(engine: &Engine, made: &Made, programs: &egress_component::Programs) -> Result<()> {
    print(&engine.load(&[&made.node, &made.mesh]).await?);
    let options = ClusterOptions {
        name: "egress-test".to_owned(),
        image: made.node.references[0].clone(),
        config: egress_kind::config(),
        wait: Duration::from_secs(180),
    };
    let (cluster, phases) = Cluster::create(engine, programs.path(&ProgramName::KIND), &options).await?;
    print(&phases);
    let result = in_cluster(&cluster, made, programs).await;
    if result.is_err() {
        let tools = tools(&cluster, programs);
        for args in [&["get", "pods", "-A", "-o", "wide"][..], &["get", "events", "-A"][..]] {
            println!("{}", tools.kubectl(args).await.unwrap_or_default());
        }
    }
    let start = Instant::now();
    cluster.delete().await?;
    took("kind delete cluster", start);
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
    print(&[cluster.load(&made.mesh).await?]);
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
