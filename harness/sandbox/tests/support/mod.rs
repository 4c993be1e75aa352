//! What the tests share: the real programs, and a look into a running sandbox. Starts nothing.

pub(crate) mod look;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use egress_component::{Cache, Host, Origin, PinFiles, Pins, ProgramName, Store};
use egress_sandbox::{Options, Programs, Sandbox};

/// Bound of every wait in these tests.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Options with the real programs, from the environment or the component cache.
pub(crate) fn options() -> Options {
    // The variable of the run, not of the build: another user may see the checkout elsewhere.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&manifest).join("../../fixtures");
    let pins = PinFiles::read(&root.join("components")).expect("fixtures/components can be read");
    let pins = Pins::from_files(&pins).expect("fixtures/components is well formed");
    let host = Host::current();
    let folder = Cache::default_dir(&host).expect("there is a home for the cache");
    let read_only = host.get("EGRESS_CONFORMANCE_READ_ONLY_CACHE").map(PathBuf::from);
    let cache = Cache::open(folder, read_only).expect("the component cache can be opened");
    let all = Store::new(pins, cache, host).status();
    let path = |name: ProgramName| -> PathBuf {
        let status = all.iter().find(|status| status.name == name).expect("every program is pinned");
        match &status.origin {
            Origin::Given { path } | Origin::Cached { path, .. } => path.clone(),
            Origin::Missing => panic!(
                "{name} is neither in the component cache nor given by {}: run `egress-conformance components build`",
                status.variable
            ),
        }
    };
    Options {
        programs: Programs {
            etcd: path(ProgramName::ETCD),
            kube_apiserver: path(ProgramName::KUBE_APISERVER),
            kube_controller_manager: path(ProgramName::KUBE_CONTROLLER_MANAGER),
            kube_proxy: path(ProgramName::KUBE_PROXY),
            pilot_discovery: path(ProgramName::PILOT_DISCOVERY),
            pilot_agent: path(ProgramName::PILOT_AGENT),
            envoy: path(ProgramName::ENVOY),
            envoy_bootstrap: path(ProgramName::ENVOY_BOOTSTRAP),
            kubectl: path(ProgramName::KUBECTL),
            istioctl: path(ProgramName::ISTIOCTL),
        },
        images: std::fs::read_to_string(root.join("images.yaml")).expect("fixtures/images.yaml can be read"),
        kubernetes_version: "1.36.3".to_owned(),
        log_dir: None,
        restore: None,
        timeout: Duration::from_secs(120),
    }
}

/// Runs kubectl against a sandbox; its output, or what it complained about.
pub(crate) fn kubectl(sandbox: &Sandbox, programs: &Programs, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(&programs.kubectl)
        .arg("--kubeconfig")
        .arg(sandbox.kubeconfig())
        .args(arguments)
        .output()
        .expect("kubectl can be run");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// All descendants of a process, as the host sees them.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

/// The host's pid of the descendant with this name.
pub(crate) fn process_named(of: u32, name: &str) -> Option<u32> {
    let has_name =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    descendants(of).into_iter().find(has_name)
}

/// Waits for a condition; panics with what it last saw.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if begin.elapsed() > BOUND => panic!("{what} did not happen in {BOUND:?}; last seen: {seen}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(20)),
        }
    }
}
