//! A whole mesh out of container images: the programs that are built here, as images in a registry on loopback, pulled by
//! the command into an empty cache, run, and reported. Neither Go nor pip may be asked for anything.

#[path = "../../component/tests/common/registry.rs"]
mod registry;

use std::path::Path;
use std::process::{Command, Output};

use egress_component::{ProgramName, Programs, Silent};
use egress_conformance::cluster::preflight;
use egress_conformance::components::{SANDBOX_PROGRAMS, store};
use egress_core::report::{Outcome, from_json};
use registry::{LoopbackRegistry, layer};

const SCENARIO: &str = "egress-gateway/tcp-by-destination-subnets";

/// Puts a program into an image of its own, behind an index, beneath a layer of no interest.
fn put(registry: &LoopbackRegistry, programs: &Programs, image: &str, files: &[(&str, ProgramName)]) -> String {
    let (repository, tag) = image.split_once(':').expect("an image has a tag");
    let contents: Vec<_> =
        files.iter().map(|(path, name)| (*path, std::fs::read(programs.path(name)).expect("a program"))).collect();
    let contents: Vec<_> = contents.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
    let base = layer(&[("etc/os-release", b"ID=test\n"), ("usr/local/bin/other", b"other")]);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    registry.put_index(repository, tag, &[(architecture, &[base, layer(&contents)])])
}

fn command(cache: &Path, host: &str, arguments: &[&str]) -> Output {
    let hubs = format!("{host}/istio,envoy={host}/envoyproxy,kubernetes={host}");
    Command::new(env!("CARGO_BIN_EXE_egress-conformance"))
        .args(arguments)
        .args(["--istio-version", "1.31.0", "--registry", &hubs])
        .env("EGRESS_CONFORMANCE_CACHE", cache)
        .env("GOPROXY", "off")
        .env("EGRESS_CONFORMANCE_GO", "/nonexistent/go")
        .env("PIP_NO_INDEX", "1")
        .env("NO_COLOR", "1")
        .env("XDG_STATE_HOME", cache)
        .output()
        .expect("the command starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_comes_out_of_a_registry_and_says_so() {
    if let Err(unfit) = preflight() {
        eprintln!("not run: {unfit}");
        return;
    }
    let programs = store().expect("a store").ensure(&SANDBOX_PROGRAMS, &Silent).await.expect("the usual programs");
    let registry = LoopbackRegistry::start().await;
    let version = |name: &ProgramName| programs.get(name).expect("a program").version.clone();
    let kubernetes = version(&ProgramName::KUBE_APISERVER);
    for name in [ProgramName::KUBE_APISERVER, ProgramName::KUBE_CONTROLLER_MANAGER, ProgramName::KUBE_PROXY] {
        let path = format!("usr/local/bin/{name}");
        put(&registry, &programs, &format!("{name}:v{kubernetes}"), &[(&path, name)]);
    }
    put(&registry, &programs, &format!("kubectl:v{kubernetes}"), &[("bin/kubectl", ProgramName::KUBECTL)]);
    let etcd = format!("etcd:{}-0", version(&ProgramName::ETCD));
    put(&registry, &programs, &etcd, &[("usr/local/bin/etcd", ProgramName::ETCD)]);
    let pilot = [("usr/local/bin/pilot-discovery", ProgramName::PILOT_DISCOVERY)];
    let pilot = put(&registry, &programs, "istio/pilot:1.31.0", &pilot);
    put(&registry, &programs, "istio/istioctl:1.31.0", &[("usr/local/bin/istioctl", ProgramName::ISTIOCTL)]);
    let proxy = [
        ("usr/local/bin/pilot-agent", ProgramName::PILOT_AGENT),
        ("usr/local/bin/envoy", ProgramName::ENVOY),
        ("var/lib/istio/envoy/envoy_bootstrap_tmpl.json", ProgramName::ENVOY_BOOTSTRAP),
    ];
    put(&registry, &programs, "istio/proxyv2:1.31.0", &proxy);
    let envoy = version(&ProgramName::ENVOY);
    put(&registry, &programs, &format!("envoyproxy/envoy:v{envoy}"), &[("usr/local/bin/envoy", ProgramName::ENVOY)]);

    let cache = tempfile::tempdir().expect("a folder");
    let report = cache.path().join("report.json");
    let to = format!("json={}", report.display());
    let (dir, host) = (cache.path().to_owned(), registry.host.clone());
    let asked = ["run", SCENARIO, "--envoy-version", &envoy, "--report", &to].map(str::to_owned);
    let run = move |arguments: Vec<String>| {
        let (dir, host) = (dir.clone(), host.clone());
        tokio::task::spawn_blocking(move || {
            command(&dir, &host, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
    };
    let output = run(asked.to_vec()).await.expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = from_json(&std::fs::read_to_string(&report).expect("a report")).expect("a report");
    assert_eq!(report.scenarios[0].outcome, Outcome::Passed);
    assert_eq!((report.cluster.istio.as_str(), report.cluster.envoy.as_str()), ("1.31.0", envoy.as_str()));

    let list = ["components", "list", "-o", "json", "--envoy-version", &envoy].map(str::to_owned);
    let listed = run(list.to_vec()).await.expect("it ends");
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    for name in &SANDBOX_PROGRAMS {
        let line = listed.as_array().expect("an array").iter().find(|line| line["name"] == name.as_str());
        let line = line.unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(line["source"], "oci", "{line}");
        assert_eq!(line["sha256"], programs.get(name).expect("a program").sha256, "{line}");
    }
    let line = listed.as_array().expect("an array").iter().find(|line| line["name"] == "pilot-discovery");
    assert_eq!(line.expect("it is listed")["from"], format!("{}/istio/pilot:1.31.0@{pilot}", registry.host));

    // These images have upstream's Envoy, and Istio's promise its own.
    let output = run(["run", SCENARIO].map(str::to_owned).to_vec()).await.expect("it ends");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("the Envoy of Istio's image lacks Istio's extensions"), "{}", text(&output));
}
