//! Real pods on a real sandbox: what the node agent promises, seen through kubectl.
//!
//! Needs root or subordinate ids, and the real programs; without them every test here fails and says so. All tests
//! share one sandbox, each in a namespace of its own.

#[allow(dead_code)]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use egress_sandbox::{Programs, Sandbox};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use support::{descendants, eventually, options};

static SANDBOX: Mutex<Option<(Sandbox, Programs)>> = Mutex::new(None);

fn main() {
    egress_sandbox::run_if_child();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let handle = runtime.handle().clone();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trial = |name: &str, test: fn(&Cluster)| {
        let (handle, namespace) = (handle.clone(), name.replace('_', "-"));
        Trial::test(name, move || {
            let mut shared = SANDBOX.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if shared.is_none() {
                let options = options();
                let programs = options.programs.clone();
                let sandbox = handle.block_on(Sandbox::start(options, |_| ()))?;
                *shared = Some((sandbox, programs));
            }
            let (sandbox, programs) = shared.as_ref().expect("it was started above");
            let cluster = Cluster { sandbox, programs, namespace };
            cluster.kubectl(&["create", "namespace", &cluster.namespace]).map_err(Failed::from)?;
            test(&cluster);
            Ok(())
        })
    };
    // These listen inside a pod from a thread of this process.
    let trial_as_root = |name: &str, test: fn(&Cluster)| {
        if nix::unistd::geteuid().is_root() {
            trial(name, test)
        } else {
            let why = "root only: a process with threads cannot enter a user namespace to listen there";
            Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why)))
        }
    };
    let tests = vec![
        trial("exec_carries_streams_and_exit_codes", exec_carries_streams_and_exit_codes),
        trial("exec_works_over_spdy_too", exec_works_over_spdy_too),
        trial("logs_follow_at_once", logs_follow_at_once),
        trial("logs_know_when_lines_came", logs_know_when_lines_came),
        trial_as_root("ports_are_forwarded", ports_are_forwarded),
        trial("a_closed_port_says_so", a_closed_port_says_so),
        trial("volumes_follow_their_objects", volumes_follow_their_objects),
        trial("sidecars_start_before_containers", sidecars_start_before_containers),
        trial("a_pod_cannot_change_the_host", a_pod_cannot_change_the_host),
        trial("what_cannot_run_says_why", what_cannot_run_says_why),
        trial("jobs_complete_and_crashes_restart", jobs_complete_and_crashes_restart),
        trial("a_stubborn_pod_ends_within_its_grace_period", a_stubborn_pod_ends_within_its_grace_period),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests);
    let shared = SANDBOX.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some((sandbox, _)) = shared {
        runtime.block_on(sandbox.stop()).expect("the sandbox leaves nothing behind");
    }
    conclusion.exit();
}

struct Cluster<'a> {
    sandbox: &'a Sandbox,
    programs: &'a Programs,
    namespace: String,
}

impl Cluster<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.kubectl);
        command.arg("--kubeconfig").arg(self.sandbox.kubeconfig()).args(["-n", &self.namespace]).args(arguments);
        command
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        support::kubectl(self.sandbox, self.programs, &[&["-n", &self.namespace], arguments].concat())
    }

    fn apply(&self, manifest: &str) {
        let (_, error, code) = run_with_input(self.command(&["apply", "-f", "-"]), manifest.as_bytes());
        assert_eq!(code, 0, "{error}");
    }

    /// A pod of one container, which runs `script` in a shell; waits until it is ready.
    fn pod(&self, name: &str, script: &str) {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, \
             containers: [{{name: c, image: busybox, command: [sh, -c, {script:?}]}}]}}}}"
        ));
        self.ready(name);
    }

    fn ready(&self, pod: &str) {
        let pod = format!("pod/{pod}");
        self.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=30s"]).unwrap();
    }

    fn sh(&self, pod: &str, script: &str) -> Result<String, String> {
        self.kubectl(&["exec", pod, "-c", "c", "--", "sh", "-c", script])
    }

    fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).unwrap_or_default()
    }
}

fn exec_carries_streams_and_exit_codes(cluster: &Cluster<'_>) {
    exec_carries_everything(cluster, true);
}

fn exec_works_over_spdy_too(cluster: &Cluster<'_>) {
    exec_carries_everything(cluster, false);
}

fn exec_carries_everything(cluster: &Cluster<'_>, websockets: bool) {
    cluster.pod("p", "sleep 1000");
    let exec = |arguments: &[&str], input: &[u8]| {
        let mut command = cluster.command(&[&["exec"], arguments].concat());
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string());
        run_with_input(command, input)
    };
    let script = "echo out; echo err >&2; exit 52";
    let (output, error, code) = exec(&["p", "--", "sh", "-c", script], b"");
    assert_eq!((output.as_slice(), code), (b"out\n".as_slice(), 52));
    assert!(error.starts_with("err\n"), "{error}");
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (output, _, code) = exec(&["-i", "p", "--", "cat"], &large);
    assert!(output == large && code == 0, "{} of {} bytes came back, exit {code}", output.len(), large.len());
    assert_eq!(exec(&["p", "--", "sh", "-c", "echo again > /dev/stdout"], b"").0, b"again\n");
    let (_, error, code) = exec(&["p", "--", "no-such-program"], b"");
    assert!(error.contains("executable file not found") && code != 0, "{error}, exit {code}");
    std::thread::scope(|scope| {
        let side_by_side =
            (1..=10).map(|n| scope.spawn(move || (n, exec(&["p", "--", "sh", "-c", &format!("exit {n}")], b"").2)));
        for thread in side_by_side.collect::<Vec<_>>() {
            let (expected, seen) = thread.join().unwrap();
            assert_eq!(expected, seen);
        }
    });
    // A program whose client is gone ends.
    let mut command = cluster.command(&["exec", "p", "--", "sh", "-c", "echo begun; exec sleep 81234"]);
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string());
    let mut client = command.stdout(Stdio::piped()).spawn().expect("kubectl can be run");
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let sleeping = "grep -qsa 81234 /proc/[0-9]*/cmdline && echo yes || echo no";
    assert_eq!(cluster.sh("p", &sleeping.replace("81234", "8123[4]")).unwrap(), "yes\n");
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the end of the program", || match cluster.sh("p", &sleeping.replace("81234", "8123[4]")) {
        Ok(answer) if answer == "no\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Standard input to output, errors and exit code.
fn run_with_input(mut command: Command, input: &[u8]) -> (Vec<u8>, String, i32) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("the program reads its input"));
        let output = child.wait_with_output().expect("the program ends");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.stdout, error, output.status.code().unwrap_or(-1))
    })
}

fn logs_follow_at_once(cluster: &Cluster<'_>) {
    cluster.pod("p", "echo first; mkfifo /tmp/f; while true; do cat /tmp/f; done");
    let mut follower =
        cluster.command(&["logs", "-f", "p"]).stdout(Stdio::piped()).spawn().expect("kubectl can be run");
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    cluster.sh("p", "echo second > /tmp/f").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    assert_eq!(cluster.kubectl(&["logs", "--tail=1", "p"]).unwrap(), "second\n");
    cluster.kubectl(&["delete", "pod", "p"]).unwrap();
    assert!(lines.next().is_none(), "the log ends with its container");
    assert!(follower.wait().unwrap().success());
}

fn logs_know_when_lines_came(cluster: &Cluster<'_>) {
    // Each line says when it was written.
    cluster.pod("p", "date +%s%N; mkfifo /tmp/f; while true; do cat /tmp/f; done");
    let say = || cluster.sh("p", "date +%s%N > /tmp/f").unwrap();
    say();
    let lines = |arguments: &[&str]| {
        let log = cluster.kubectl(&[&["logs", "p", "--timestamps"], arguments].concat()).unwrap();
        let line = |line: &str| {
            let (time, written) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} has no time"));
            let time: jiff::Timestamp = time.parse().unwrap();
            let written = jiff::Timestamp::from_nanosecond(written.parse().unwrap()).unwrap();
            let late = time.duration_since(written).as_millis_f64();
            assert!((-1.0..500.0).contains(&late), "a line has the time {time}, {late} ms after {written}");
            time
        };
        log.lines().map(line).collect::<Vec<_>>()
    };
    let two = eventually("two lines", || match lines(&[])[..] {
        [one, two] if one < two => Ok(two),
        ref other => Err(format!("{other:?}")),
    });
    say();
    eventually("three lines", || if lines(&[]).len() == 3 { Ok(()) } else { Err(lines(&[]).len().to_string()) });
    // The API's times have whole seconds, so the cut is between two of them.
    let next_second = jiff::Timestamp::from_second(two.as_second() + 2).unwrap();
    eventually("the next second", || if jiff::Timestamp::now() > next_second { Ok(()) } else { Err(String::new()) });
    say();
    let since = format!("--since-time={next_second}");
    eventually("one young line", || match lines(&[&since])[..] {
        [young] if young >= next_second => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    assert_eq!(lines(&["--since=1h"]).len(), 4);
    assert_eq!(lines(&["--since=1h", "--tail=2"]).len(), 2);
    assert_eq!(lines(&[&since, "--tail=3"]).len(), 1);
    assert_eq!(cluster.kubectl(&["logs", "p", &since]).unwrap().lines().count(), 1);
    assert_eq!(cluster.kubectl(&["logs", "p", "--since-time=2999-01-01T00:00:00Z"]).unwrap(), "");
    assert_eq!(cluster.kubectl(&["logs", "p", "--timestamps", "--limit-bytes=40"]).unwrap().len(), 40);
    let mut follower = cluster.command(&["logs", "-f", "--tail=0", "--timestamps", "p"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().expect("kubectl can be run");
    let mut followed = BufReader::new(follower.stdout.take().unwrap()).lines();
    let fed = std::thread::scope(|scope| {
        let first = scope.spawn(|| followed.next().unwrap().unwrap());
        // Nobody says when the follower has begun, so there is something to say until it has heard.
        eventually("a followed line", || {
            say();
            if first.is_finished() { Ok(()) } else { Err("nothing".to_owned()) }
        });
        first.join().unwrap()
    });
    let time = fed.split_once(' ').and_then(|(time, _)| time.parse::<jiff::Timestamp>().ok());
    assert!(time.is_some_and(|time| time > next_second), "{fed}");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// `kubectl port-forward` while it runs, for one port of a pod.
struct PortForward {
    kubectl: Child,
    port: u16,
}

impl PortForward {
    fn start(cluster: &Cluster<'_>, pod: &str, port: u16, websockets: bool) -> Self {
        let mut kubectl = cluster
            .command(&["port-forward", "--address=127.0.0.1", pod, &format!(":{port}")])
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl can be run");
        let mut line = String::new();
        BufReader::new(kubectl.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let local = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split_once(' '));
        let port = local.unwrap_or_else(|| panic!("kubectl said {line:?}")).0.parse().unwrap();
        Self { kubectl, port }
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("kubectl listens");
        connection.set_read_timeout(Some(support::BOUND)).unwrap();
        connection
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

/// Runs work in the network of another process, on a thread of its own. Only root may enter it: an ordinary user's
/// sandbox is a user namespace that no process with threads can join.
fn in_network_of<T: Send>(pid: u32, work: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("the process lives");
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            work()
        });
        inside.join().expect("the work does not panic")
    })
}

/// Listens inside the pod whose container runs `sleep` for this long; ports without a listener are free.
fn listen_in_pod_that_sleeps(seconds: &str, port: u16) -> TcpListener {
    let is_it = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command == format!("sleep\0{seconds}\0").as_bytes()
    };
    let pid = eventually("the pod's process", || {
        descendants(std::process::id()).into_iter().find(is_it).ok_or_else(|| "no such process".to_owned())
    });
    in_network_of(pid, || TcpListener::bind((Ipv4Addr::LOCALHOST, port))).expect("the port is free in the pod")
}

fn ports_are_forwarded(cluster: &Cluster<'_>) {
    cluster.pod("p", "exec sleep 71234");
    let echo = listen_in_pod_that_sleeps("71234", 8080);
    std::thread::spawn(move || {
        for connection in echo.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut &connection, &mut &connection));
        }
    });
    let greeter = listen_in_pod_that_sleeps("71234", 8081);
    std::thread::spawn(move || {
        greeter.incoming().map_while(Result::ok).for_each(|mut c| c.write_all(b"hello").unwrap())
    });
    for websockets in [true, false] {
        let forward = PortForward::start(cluster, "p", 8080, websockets);
        std::thread::scope(|scope| {
            for number in 0..10_usize {
                let connection = forward.connect();
                scope.spawn(move || {
                    let sent: Vec<u8> = (0..1_000_000).map(|n| (n * (number + 1) % 251) as u8).collect();
                    let mut back = Vec::new();
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            (&connection).write_all(&sent).unwrap();
                            connection.shutdown(Shutdown::Write).unwrap();
                        });
                        (&connection).read_to_end(&mut back).unwrap();
                    });
                    assert!(back == sent, "connection {number}: {} bytes came back", back.len());
                });
            }
        });
        let forward = PortForward::start(cluster, "p", 8081, websockets);
        for _ in 0..20 {
            let mut text = String::new();
            forward.connect().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
    }
    let listener = listen_in_pod_that_sleeps("71234", 8082);
    let forward = PortForward::start(cluster, "p", 8082, true);
    let mut ours = forward.connect();
    ours.write_all(b"x").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (mut theirs, _) = eventually("the connection in the pod", || listener.accept().map_err(|e| e.to_string()));
    theirs.set_read_timeout(Some(support::BOUND)).unwrap();
    let mut byte = [0];
    theirs.read_exact(&mut byte).unwrap();
    drop(forward);
    assert!(matches!(theirs.read(&mut byte), Ok(0)), "with the client go its connections");
}

fn a_closed_port_says_so(cluster: &Cluster<'_>) {
    cluster.pod("p", "sleep 1000");
    for websockets in [true, false] {
        let mut forward = PortForward::start(cluster, "p", 9, websockets);
        let mut connection = forward.connect();
        assert_eq!(connection.read(&mut [0]).unwrap(), 0, "nobody is there to answer");
        let mut complaint = String::new();
        forward.kubectl.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(complaint.contains("error forwarding port 9 to pod") && complaint.contains("refused"), "{complaint}");
        assert!(!forward.kubectl.wait().unwrap().success(), "kubectl ends with the first failure");
    }
    let error = cluster.kubectl(&["port-forward", "no-such-pod", "8080"]).unwrap_err();
    assert!(error.contains("not found"), "{error}");
}

fn volumes_follow_their_objects(cluster: &Cluster<'_>) {
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 1, volumes: [\
         {name: v, configMap: {name: later}}, {name: e, emptyDir: {medium: Memory}}], containers: [{name: c, \
         image: busybox, command: [sleep, '1000'], volumeMounts: [{name: v, mountPath: /v}, \
         {name: e, mountPath: /v/inner}, {name: v, mountPath: /one/k, subPath: k}]}]}}",
    );
    eventually("the wait for the config map", || {
        let message = cluster.field("pod/p", ".status.containerStatuses[0].state.waiting.message");
        if message.contains("configmap \"later\" not found") { Ok(()) } else { Err(message) }
    });
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=k=old"]).unwrap();
    cluster.ready("p");
    assert_eq!(cluster.sh("p", "cat /v/k /one/k; touch /v/inner/x").unwrap(), "oldold");
    cluster.kubectl(&["patch", "configmap", "later", "-p", r#"{"data":{"k":"new"}}"#]).unwrap();
    eventually("the new value", || match cluster.sh("p", "cat /v/k") {
        Ok(text) if text == "new" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(cluster.sh("p", "touch /v/x").unwrap_err().contains("Read-only"));
    let token = cluster.sh("p", "cut -d. -f1 /var/run/secrets/kubernetes.io/serviceaccount/token").unwrap();
    assert!(token.starts_with("ey"), "{token}");
}

fn sidecars_start_before_containers(cluster: &Cluster<'_>) {
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 1, volumes: [\
         {name: e, emptyDir: {}}], initContainers: [{name: i, image: busybox, command: [sh, -c, 'echo init > /e/order'], \
         volumeMounts: [{name: e, mountPath: /e}]}, {name: s, image: busybox, restartPolicy: Always, \
         command: [sh, -c, 'sleep 0.3; echo sidecar >> /e/order; sleep 1000'], startupProbe: {exec: {command: \
         [grep, sidecar, /e/order]}}, volumeMounts: [{name: e, mountPath: /e}]}], containers: [{name: c, image: busybox, \
         command: [sh, -c, 'echo main >> /e/order; sleep 1000'], volumeMounts: [{name: e, mountPath: /e}]}]}}",
    );
    cluster.ready("p");
    eventually("all three lines", || match cluster.sh("p", "cat /e/order") {
        Ok(text) if text == "init\nsidecar\nmain\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn a_pod_cannot_change_the_host(cluster: &Cluster<'_>) {
    cluster.pod("p", "sleep 1000");
    assert_eq!(cluster.sh("p", "id -u").unwrap(), "0\n");
    for attempt in [
        "touch /usr/x",
        "touch /usr/local/bin/x",
        "chmod 600 /dev/null",
        "mount -o remount,rw /usr",
        "mount -t tmpfs x /mnt",
        "mknod /tmp/disk b 254 0",
        "echo 0 > /proc/sys/net/ipv4/ip_forward",
        "test -e /dev/sda -o -e /dev/vda -o -e /dev/mem",
        "nsenter -t 1 -m true",
    ] {
        let outcome = cluster.sh("p", attempt);
        assert!(outcome.is_err(), "{attempt}: {outcome:?}");
    }
    let processes = cluster.sh("p", "ls /proc | grep -c '^[0-9]'").unwrap();
    assert!(processes.trim().parse::<u32>().unwrap() <= 6, "{processes}");
    let bounding = cluster.sh("p", "grep CapBnd /proc/self/status").unwrap();
    assert!(bounding.ends_with("a00425fb\n"), "MKNOD must not be among the capabilities: {bounding}");
}

fn what_cannot_run_says_why(cluster: &Cluster<'_>) {
    let pod = |name: &str, image: &str, more: &str, container: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{more} containers: [{{name: c, \
             image: '{image}', command: [sleep, '1000'] {container}}}]}}}}"
        ));
    };
    pod("image", "registry.invalid/nothing-has-this-name:1", "", "");
    pod("path", "busybox", "volumes: [{name: v, hostPath: {path: /}}],", "");
    pod("privileged", "busybox", "", ", securityContext: {privileged: true}");
    for (name, reason, words) in [
        ("image", "ErrImagePull", "fixtures/images.yaml"),
        ("path", "CreateContainerConfigError", "hostPath"),
        ("privileged", "CreateContainerConfigError", "privileged"),
    ] {
        eventually(name, || {
            let seen = cluster.field(&format!("pod/{name}"), ".status.containerStatuses[0].state");
            if seen.contains(reason) && seen.contains(words) { Ok(()) } else { Err(seen) }
        });
        cluster.kubectl(&["delete", "pod", name, "--timeout=5s"]).unwrap();
    }
}

fn jobs_complete_and_crashes_restart(cluster: &Cluster<'_>) {
    for (name, code, condition) in [("good", 0, "Complete"), ("bad", 3, "Failed")] {
        cluster.apply(&format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{backoffLimit: 0, template: {{spec: \
             {{restartPolicy: Never, containers: [{{name: c, image: busybox, command: [sh, -c, 'exit {code}']}}]}}}}}}}}"
        ));
        let condition = format!("--for=condition={condition}");
        cluster.kubectl(&["wait", &condition, &format!("job/{name}"), "--timeout=30s"]).unwrap();
    }
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: crash}, spec: {containers: [{name: c, image: busybox, \
         command: [sh, -c, 'echo run; exit 4']}]}}",
    );
    eventually("back-off", || {
        let seen = cluster.field("pod/crash", ".status.containerStatuses[0]");
        let all = ["CrashLoopBackOff", "\"exitCode\":4", "\"restartCount\":1"];
        if all.iter().all(|part| seen.contains(part)) { Ok(()) } else { Err(seen) }
    });
    assert_eq!(cluster.kubectl(&["logs", "--previous", "crash"]).unwrap(), "run\n");
}

fn a_stubborn_pod_ends_within_its_grace_period(cluster: &Cluster<'_>) {
    cluster.pod("p", "trap '' TERM; while true; do sleep 1; done");
    let begin = Instant::now();
    cluster.kubectl(&["delete", "pod", "p"]).unwrap();
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?} for a grace period of 1 s");
}
