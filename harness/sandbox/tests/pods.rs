//! Real pods on a real sandbox: what the node agent promises, seen through kubectl.
//!
//! Needs root or subordinate ids, and the real programs; without them every test here fails and says so. All tests
//! share one sandbox, each in a namespace of its own.

#[allow(dead_code)]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use egress_sandbox::{Programs, Sandbox};
use libtest_mimic::{Arguments, Failed, Trial};
use support::{eventually, options};

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
    let tests = vec![
        trial("exec_carries_streams_and_exit_codes", exec_carries_streams_and_exit_codes),
        trial("logs_follow_at_once", logs_follow_at_once),
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

    /// Standard input to output and exit code.
    fn with_input(&self, arguments: &[&str], input: &[u8]) -> (Vec<u8>, i32) {
        let mut child =
            self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).expect("kubectl reads its input"));
            let output = child.wait_with_output().expect("kubectl ends");
            (output.stdout, output.status.code().unwrap_or(-1))
        })
    }

    fn apply(&self, manifest: &str) {
        let (output, code) = self.with_input(&["apply", "-f", "-"], manifest.as_bytes());
        assert_eq!(code, 0, "{}", String::from_utf8_lossy(&output));
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
    cluster.pod("p", "sleep 1000");
    let (output, code) = cluster.with_input(&["exec", "p", "--", "sh", "-c", "echo out; exit 52"], b"");
    assert_eq!((output.as_slice(), code), (b"out\n".as_slice(), 52));
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (output, code) = cluster.with_input(&["exec", "-i", "p", "--", "cat"], &large);
    assert!(output == large && code == 0, "{} of {} bytes came back, exit {code}", output.len(), large.len());
    assert_eq!(cluster.sh("p", "echo again > /dev/stdout").unwrap(), "again\n");
    let error = cluster.kubectl(&["exec", "p", "--", "no-such-program"]).unwrap_err();
    assert!(error.contains("executable file not found"), "{error}");
    std::thread::scope(|scope| {
        let side_by_side = (1..=10).map(|n| {
            scope.spawn(move || (n, cluster.with_input(&["exec", "p", "--", "sh", "-c", &format!("exit {n}")], b"").1))
        });
        for thread in side_by_side.collect::<Vec<_>>() {
            let (expected, seen) = thread.join().unwrap();
            assert_eq!(expected, seen);
        }
    });
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
    let refusal = cluster.kubectl(&["logs", "--timestamps", "p"]).unwrap_err();
    assert!(refusal.contains("timestamps"), "{refusal}");
    cluster.kubectl(&["delete", "pod", "p"]).unwrap();
    assert!(lines.next().is_none(), "the log ends with its container");
    assert!(follower.wait().unwrap().success());
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
    pod("image", "nginx:1", "", "");
    pod("path", "busybox", "volumes: [{name: v, hostPath: {path: /}}],", "");
    pod("privileged", "busybox", "", ", securityContext: {privileged: true}");
    for (name, reason, words) in [
        ("image", "ErrImagePull", "fixtures/images.yaml"),
        ("path", "CreateContainerConfigError", "hostPath"),
        ("privileged", "CreateContainerConfigError", "privileged"),
    ] {
        eventually(name, || {
            let seen = cluster.field(&format!("pod/{name}"), ".status.containerStatuses[0].state.waiting");
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
