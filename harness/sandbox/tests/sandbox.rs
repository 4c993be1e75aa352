//! Starts real sandboxes and looks at them from the host and from inside.
//!
//! Needs root or subordinate ids, and the real programs; without them every test here fails and says so. The binary
//! has its own `main`, because a sandbox runs it again as its own processes.

mod support;

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress_sandbox::{ControlError, Event, NameAnswer, Restore, Sandbox, StartError};
use hickory_server::proto::rr::RecordType;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{descendants, eventually, kubectl, look, options, process_named};

/// Hidden argument: own a sandbox until killed.
const OWNER: &str = "__test-owner";

fn main() {
    egress_sandbox::run_if_child();
    match std::env::args().nth(1).as_deref() {
        Some(OWNER) => own_until_killed(),
        Some(look::LOOK) => look::main(),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // Sandboxes side by side would only make each other slow.
    arguments.test_threads = Some(1);
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    let tests = vec![
        trial("pods_reach_each_other_and_the_outside_sees_them", pods_reach_each_other_and_the_outside_sees_them),
        trial("the_doctor_finds_this_machine_fit", the_doctor_finds_this_machine_fit),
        trial("a_cluster_that_works_and_leaves_nothing", a_cluster_that_works_and_leaves_nothing),
        trial(
            "killing_the_owner_leaves_nothing_but_files_to_sweep",
            killing_the_owner_leaves_nothing_but_files_to_sweep,
        ),
        trial("a_sandbox_goes_on_where_another_was_saved", a_sandbox_goes_on_where_another_was_saved),
        trial("a_broken_snapshot_is_refused", a_broken_snapshot_is_refused),
        trial("dropping_a_sandbox_ends_it", dropping_a_sandbox_ends_it),
        trial("a_component_that_dies_at_the_start_is_named", a_component_that_dies_at_the_start_is_named),
        trial("a_start_that_takes_too_long_says_what_it_waits_for", a_start_that_takes_too_long_says_what_it_waits_for),
        trial("a_missing_program_is_named", a_missing_program_is_named),
    ];
    libtest_mimic::run(&arguments, tests).exit();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime can be made")
}

fn state_of(sandbox: &Sandbox) -> PathBuf {
    sandbox.kubeconfig().parent().expect("the kubeconfig is in the state folder").to_owned()
}

/// Nothing of this process's sandboxes lives, and the folder is gone.
fn assert_gone(state: &Path) {
    assert_eq!(descendants(std::process::id()), [0u32; 0], "processes are left");
    assert!(!state.exists(), "{} is left", state.display());
    let links = std::fs::read_dir("/sys/class/net").expect("sysfs is mounted").count();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
    assert!(!mounts.contains(&*state.to_string_lossy()), "a mount is left");
    assert_eq!(links, *LINKS_BEFORE, "an interface is left");
}

static LINKS_BEFORE: std::sync::LazyLock<usize> =
    std::sync::LazyLock::new(|| std::fs::read_dir("/sys/class/net").expect("sysfs is mounted").count());

fn a_cluster_that_works_and_leaves_nothing() {
    let _ = *LINKS_BEFORE;
    let logs = tempfile::tempdir().expect("a temporary folder can be made");
    let kept = logs.path().join("kept");
    runtime().block_on(async {
        let options = egress_sandbox::Options { log_dir: Some(kept.clone()), ..options() };
        let programs = options.programs.clone();
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let begin = std::time::Instant::now();
        let sandbox = Sandbox::start(options, move |event| sink.lock().unwrap().push(event)).await.unwrap();
        eprintln!("ready after {:?}", begin.elapsed());
        let state = state_of(&sandbox);
        the_phases_are_reported(&events.lock().unwrap());

        let nodes = kubectl(&sandbox, &programs, &["get", "nodes", "-o", "name"]).unwrap();
        assert_eq!(nodes, "node/sandbox-node\n");
        dns_answers_inside(&sandbox, &programs).await;
        the_outside_has_the_addresses_it_was_given(&sandbox).await;
        the_external_server_listens(&sandbox);
        a_killed_component_is_a_fault(&sandbox);

        sandbox.stop().await.unwrap();
        assert_gone(&state);
    });
    let log = std::fs::read_to_string(kept.join("sandbox.log")).expect("the logs were kept");
    assert!(log.contains("phase finished"), "{log}");
    assert!(kept.join("kube-apiserver.log").exists());
}

fn the_phases_are_reported(events: &[Event]) {
    let finished: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::PhaseFinished { phase, elapsed } => {
                eprintln!("  {phase}: {elapsed:?}");
                Some(phase.as_str())
            }
            _ => None,
        })
        .collect();
    for phase in ["network", "certificates", "API server", "controllers", "Services", "DNS", "node"] {
        assert!(finished.contains(&phase), "{phase} is not among {finished:?}");
    }
}

async fn dns_answers_inside(sandbox: &Sandbox, programs: &egress_sandbox::Programs) {
    let init = process_named(std::process::id(), "egress-init").expect("pid 1 lives");
    let dns = sandbox.dns_address();
    let ask = |name: &str, kind| look::resolve(init, dns, name, kind);
    let (found, missing) = ("NoError".to_owned(), "NXDomain".to_owned());
    let no_records = Vec::<String>::new();

    let api = ask("kubernetes.default.svc.cluster.local.", RecordType::A);
    assert_eq!(api, (found.clone(), vec!["A 10.96.0.1".to_owned()]));
    let v6 = ask("kubernetes.default.svc.cluster.local.", RecordType::AAAA);
    assert_eq!(v6, (found.clone(), no_records.clone()));
    assert_eq!(ask("my.server.com.", RecordType::A), (missing.clone(), no_records.clone()));

    let names = [("my.server.com".to_owned(), NameAnswer::Addresses(vec!["192.168.0.78".parse().unwrap()]))];
    sandbox.set_names(names.into()).await.unwrap();
    let known = (found.clone(), vec!["A 192.168.0.78".to_owned()]);
    assert_eq!(ask("my.server.com.", RecordType::A), known);
    assert_eq!(ask("my.server.com.", RecordType::AAAA), (found.clone(), no_records.clone()));

    let create = ["create", "service", "externalname", "bin", "--external-name", "my.server.com"];
    kubectl(sandbox, programs, &create).unwrap();
    let alias = (found.clone(), vec!["CNAME my.server.com.".to_owned(), "A 192.168.0.78".to_owned()]);
    eventually("the alias in DNS", || match ask("bin.default.svc.cluster.local.", RecordType::A) {
        answer if answer == alias => Ok(()),
        other => Err(format!("{other:?}")),
    });
    kubectl(sandbox, programs, &["delete", "service", "bin"]).unwrap();
    eventually("the end of the alias", || match ask("bin.default.svc.cluster.local.", RecordType::A) {
        (code, _) if code == missing => Ok(()),
        other => Err(format!("{other:?}")),
    });
    sandbox.set_names(Default::default()).await.unwrap();
    assert_eq!(ask("my.server.com.", RecordType::A), (missing.clone(), no_records));
}

async fn the_outside_has_the_addresses_it_was_given(sandbox: &Sandbox) {
    let init = process_named(std::process::id(), "egress-init").expect("pid 1 lives");
    let address = "192.168.0.78".parse().unwrap();
    let try_it = || look::connect(init, address, 1234).unwrap_err();
    // The address exists, and nobody listens there.
    sandbox.set_outside_addresses(vec![address]).await.unwrap();
    assert_eq!(try_it().kind(), ErrorKind::ConnectionRefused);
    // Nobody has it: ARP gives up after three seconds, also if it was in use a moment ago.
    sandbox.set_outside_addresses(vec![]).await.unwrap();
    assert_eq!(try_it().kind(), ErrorKind::HostUnreachable);
    sandbox.set_outside_addresses(vec![address]).await.unwrap();
    assert_eq!(try_it().kind(), ErrorKind::ConnectionRefused);
    // Elsewhere there is no way out at all.
    let out = look::connect(init, "192.0.2.1".parse().unwrap(), 80).unwrap_err();
    assert_eq!(out.kind(), ErrorKind::NetworkUnreachable);
    let refused = sandbox.set_outside_addresses(vec!["10.0.0.1".parse().unwrap()]).await.unwrap_err();
    assert!(matches!(&refused, ControlError::Refused(why) if why.contains("192.168.0.0/24")), "{refused}");
}

fn the_external_server_listens(sandbox: &Sandbox) {
    std::os::unix::net::UnixStream::connect(sandbox.world_socket()).unwrap();
}

fn a_killed_component_is_a_fault(sandbox: &Sandbox) {
    assert_eq!(sandbox.take_faults(), []);
    let proxy = process_named(std::process::id(), "kube-proxy").expect("kube-proxy lives");
    let pid = nix::unistd::Pid::from_raw(proxy.try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let faults = eventually("news of the killed kube-proxy", || match sandbox.take_faults() {
        faults if faults.is_empty() => Err("no fault".to_owned()),
        faults => Ok(faults),
    });
    assert_eq!((faults.len(), faults[0].name.as_str()), (1, "kube-proxy"));
    assert!(faults[0].status.contains("signal: 9"), "{}", faults[0].status);
}

const CLIENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  replicas: 2
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: curl, image: "curlimages/curl:8.10.1", command: [sleep, "3600"]}]
"#;

fn pods_reach_each_other_and_the_outside_sees_them() {
    let _ = *LINKS_BEFORE;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let manifest = folder.path().join("client.yaml");
    std::fs::write(&manifest, CLIENT).expect("a file can be written");
    runtime().block_on(async {
        let options = options();
        let programs = options.programs.clone();
        let sandbox = Sandbox::start(options, |_| ()).await.unwrap();
        let state = state_of(&sandbox);
        let run = |arguments: &[&str]| kubectl(&sandbox, &programs, arguments).unwrap();
        run(&["apply", "-f", manifest.to_str().unwrap()]);
        run(&["rollout", "status", "deployment/client", "--timeout=60s"]);
        let columns = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
        let pods = run(&["get", "pods", "-l", "app=client", "-o", columns]);
        let mut pods = pods.lines().map(|line| line.split_once(' ').unwrap());
        let ((pod, address), (_, other)) = (pods.next().unwrap(), pods.next().unwrap());
        let curl =
            |url: &str| run(&["exec", pod, "--", "sh", "-c", &format!("curl -vsk --max-time 10 {url} 2>&1 || :")]);

        // The API server by its Service: DNS, kube-proxy, and the way back.
        assert!(curl("https://kubernetes.default/version").contains("v1.36.3"));
        // The other pod has no server, and says so itself: the way there works.
        assert!(curl(&format!("http://{other}:1234/")).contains("Connection refused"), "{other}");

        an_external_server(&sandbox, "192.168.0.78").await;
        let page = curl("http://my.server.com:1234/");
        assert!(page.contains("Directory listing"), "{page}");
        let world = external_server::client::ControlClient::unix(sandbox.world_socket());
        let records = world.records(0).await.unwrap().records;
        assert_eq!(records[0].peer.ip().to_string(), address, "nothing on the way may change the source");

        run(&["delete", "deployment/client", "--wait=true", "--cascade=foreground"]);
        sandbox.stop().await.unwrap();
        assert_gone(&state);
    });
}

async fn an_external_server(sandbox: &Sandbox, address: &str) {
    use external_server::model::{DestinationSpec, ListenerSpec, Serves};
    let ip: std::net::Ipv4Addr = address.parse().unwrap();
    sandbox.set_outside_addresses(vec![ip]).await.unwrap();
    let names = [("my.server.com".to_owned(), NameAnswer::Addresses(vec![ip.into()]))];
    sandbox.set_names(names.into()).await.unwrap();
    let spec = DestinationSpec {
        name: "my-server".to_owned(),
        serves: Serves::Files,
        listeners: vec![ListenerSpec { address: (ip, 1234).into(), tls: false }],
        hosts: vec!["my.server.com".to_owned()],
        mutual: false,
        title: None,
        titles: Default::default(),
    };
    let world = external_server::client::ControlClient::unix(sandbox.world_socket());
    world.put_destinations(&[spec]).await.unwrap();
}

fn the_doctor_finds_this_machine_fit() {
    let checks = egress_sandbox::doctor();
    for check in &checks {
        eprintln!("  {} {}: {}", if check.ok { "ok" } else { "NO" }, check.name, check.seen);
    }
    let unfit: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(unfit.is_empty(), "a sandbox runs here, so nothing may be wrong: {unfit:?}");
    let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    for name in ["identity", "namespaces", "veth", "iptables rules", "pid namespace", "/proc and /sys"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

/// The other process of the next test: says where its sandbox is, and waits for its end. A pod has left a folder of
/// user 1337 that nobody else may enter: below it, an ordinary user can remove nothing.
fn own_until_killed() -> ! {
    let runtime = runtime();
    let options = options();
    let programs = options.programs.clone();
    let sandbox = runtime.block_on(Sandbox::start(options, |_| ())).unwrap();
    let manifest = state_of(&sandbox).join("stranger.yaml");
    std::fs::write(&manifest, STRANGER).unwrap();
    kubectl(&sandbox, &programs, &["apply", "-f", manifest.to_str().unwrap()]).unwrap();
    kubectl(&sandbox, &programs, &["wait", "--for=condition=Ready", "--timeout=60s", "pod/stranger"]).unwrap();
    let write = "mkdir -m 700 /data/private && touch /data/private/file && ls -ln /data/private";
    let seen = kubectl(&sandbox, &programs, &["exec", "stranger", "--", "sh", "-c", write]).unwrap();
    assert!(seen.contains(" 1337 "), "{seen}");
    println!("{}", state_of(&sandbox).display());
    loop {
        std::thread::park();
    }
}

const STRANGER: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec:
  securityContext: {runAsUser: 1337, runAsGroup: 1337}
  containers:
  - name: stranger
    image: busybox
    command: [sleep, infinity]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";

fn killing_the_owner_leaves_nothing_but_files_to_sweep() {
    let _ = *LINKS_BEFORE;
    let mut owner = Command::new(std::env::current_exe().unwrap()).arg(OWNER).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let state = PathBuf::from(line.trim_end());
    assert!(state.is_dir(), "the owner said {line:?}");
    let all = descendants(owner.id());
    assert!(all.len() > 5, "{all:?}");
    assert!(!egress_sandbox::sweep().contains(&state), "sweep must spare the living");
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the end of every process", || {
        let alive: Vec<_> = all.iter().filter(|pid| is_running(**pid)).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?} of {all:?} live")) }
    });
    // The outer processes hold the lock until the kernel is through with them.
    eventually("the removal of the dead sandbox's folder", || {
        egress_sandbox::sweep();
        if state.exists() { Err(format!("{} is there", state.display())) } else { Ok(()) }
    });
    assert_gone(&state);
}

/// Whether a process exists and is no zombie waiting for the machine's init.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("Z (zombie)"))
}

fn restoring(snapshot: &Path) -> egress_sandbox::Options {
    let first = Some(("role".to_owned(), "first".to_owned()));
    egress_sandbox::Options { restore: Some(Restore { snapshot: snapshot.to_owned(), first }), ..options() }
}

/// A pod that runs until it is ended, with a label.
const SLEEPER: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"NAME","labels":{"role":"NAME"}},
    "spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"busybox","command":["sleep","100000"]}]}}"#;

fn a_sandbox_goes_on_where_another_was_saved() {
    let _ = *LINKS_BEFORE;
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let snapshot = scratch.path().join("snapshot");
    let programs = options().programs;
    runtime().block_on(async {
        let sandbox = Sandbox::start(options(), |_| ()).await.unwrap();
        let ask = |arguments: &[&str]| kubectl(&sandbox, &programs, arguments);
        ask(&["create", "configmap", "kept", "--from-literal=a=b"]).unwrap();
        for name in ["other", "first"] {
            let file = scratch.path().join(format!("{name}.json"));
            std::fs::write(&file, SLEEPER.replace("NAME", name)).unwrap();
            ask(&["apply", "-f", &file.to_string_lossy()]).unwrap();
        }
        ask(&["wait", "--for=condition=Ready", "pod/first", "pod/other", "--timeout=60s"]).unwrap();
        sandbox.save(&snapshot).await.unwrap();
        ask(&["create", "configmap", "later"]).unwrap();
        sandbox.stop().await.unwrap();
    });
    assert!(egress_sandbox::snapshot::check(&snapshot).unwrap() > jiff::Timestamp::now());
    private(&snapshot);
    // A snapshot serves as often as it is wanted.
    for _ in 0..2 {
        runtime().block_on(async {
            let sandbox = Sandbox::start(restoring(&snapshot), |_| ()).await.unwrap();
            let state = state_of(&sandbox);
            let ask = |arguments: &[&str]| kubectl(&sandbox, &programs, arguments);
            assert_eq!(ask(&["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]).unwrap(), "b");
            assert!(ask(&["get", "configmap", "later"]).unwrap_err().contains("NotFound"));
            ask(&["wait", "--for=condition=Ready", "pod/first", "pod/other", "--timeout=60s"]).unwrap();
            // Real processes, and not what was once said of them.
            assert_eq!(ask(&["exec", "other", "--", "sh", "-c", "echo hello"]).unwrap(), "hello\n");
            ask(&["delete", "pod", "first", "other"]).unwrap();
            dns_answers_inside(&sandbox, &programs).await;
            sandbox.stop().await.unwrap();
            assert_gone(&state);
        });
    }
}

/// Only its owner may look into a folder.
fn private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.symlink_metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700, "{}", folder.display());
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            private(&entry);
        } else {
            assert_eq!(mode(&entry), 0o600, "{}", entry.display());
        }
    }
}

fn a_broken_snapshot_is_refused() {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let error = runtime().block_on(Sandbox::start(restoring(scratch.path()), |_| ())).unwrap_err();
    assert!(matches!(error, StartError::Snapshot(_)), "{error}");
    assert_eq!(descendants(std::process::id()), [0u32; 0]);
}

fn dropping_a_sandbox_ends_it() {
    let _ = *LINKS_BEFORE;
    let runtime = runtime();
    let sandbox = runtime.block_on(Sandbox::start(options(), |_| ())).unwrap();
    let state = state_of(&sandbox);
    drop(sandbox);
    assert_gone(&state);
    // And so does giving up in the middle.
    runtime.block_on(async {
        let start = Sandbox::start(options(), |_| ());
        assert!(tokio::time::timeout(Duration::from_millis(500), start).await.is_err(), "no start is that fast");
    });
    assert_eq!(descendants(std::process::id()), [0u32; 0]);
}

fn a_component_that_dies_at_the_start_is_named() {
    let mut options = options();
    // It does not know etcd's flags, says so, and fails.
    options.programs.etcd = "/bin/cat".into();
    let error = runtime().block_on(Sandbox::start(options, |_| ())).unwrap_err();
    let StartError::Component(fault) = &error else { panic!("{error}") };
    assert_eq!((fault.name.as_str(), fault.status.as_str()), ("etcd", "exit status: 1"));
    assert!(fault.last_lines.iter().any(|line| line.contains("unrecognized option")), "{error}");
    assert_gone(fault.log.parent().and_then(Path::parent).unwrap());
}

fn a_start_that_takes_too_long_says_what_it_waits_for() {
    let options = egress_sandbox::Options { timeout: Duration::from_millis(400), ..options() };
    let error = runtime().block_on(Sandbox::start(options, |_| ())).unwrap_err();
    let StartError::TimedOut { unfinished, .. } = &error else { panic!("{error}") };
    assert!(unfinished.contains(&"API server answers".to_owned()), "{error}");
    assert_eq!(descendants(std::process::id()), [0u32; 0]);
}

fn a_missing_program_is_named() {
    let mut options = options();
    options.programs.kube_proxy = "/nonexistent/kube-proxy".into();
    let error = runtime().block_on(Sandbox::start(options, |_| ())).unwrap_err().to_string();
    assert!(error.contains("kube-proxy") && error.contains("EGRESS_CONFORMANCE_KUBE_PROXY"), "{error}");
}
