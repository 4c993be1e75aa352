//! The pods of these tests: two hostile ones and their victim. Start at [`Scene::set`], then [`Scene::attack`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use egress_sandbox::{Options, Programs, Sandbox};

use crate::attack::{ATTACK, Attack, Attempt};
use crate::support::{self, descendants, eventually};

/// A hostile pod with everything that a pod is ever granted.
pub(crate) const STRONG: &str = "strong";
/// A hostile pod as it comes: root, and a container runtime's usual capabilities.
pub(crate) const PLAIN: &str = "plain";
/// Both.
pub(crate) const HOSTILE: [&str; 2] = [STRONG, PLAIN];
/// How long each pod's first process sleeps, by which it is found.
pub(crate) const SLEEP: [(&str, &str); 3] = [(STRONG, "61001"), (PLAIN, "61002"), ("victim", "61003")];
/// Name of a file in a volume of the victim; a hostile pod's own is named by [`OWN`].
pub(crate) const TREASURE: &str = "containment-treasure";
/// Name of a file in a hostile pod's own volume.
pub(crate) const OWN: &str = "containment-own";

const PODS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: treasure}
stringData: {containment-treasure: "of the victim"}
---
apiVersion: v1
kind: Secret
metadata: {name: own}
stringData: {containment-own: "its own"}
---
apiVersion: v1
kind: Pod
metadata: {name: victim}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: attacker, command: [sleep, "61003"], volumeMounts: [{name: e, mountPath: /e}, {name: s, mountPath: /s}]}
  volumes: [{name: e, emptyDir: {}}, {name: s, secret: {secretName: treasure}}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: attacker, command: [sleep, "61002"], volumeMounts: [{name: e, mountPath: /e}, {name: s, mountPath: /s}]}
  volumes: [{name: e, emptyDir: {}}, {name: s, secret: {secretName: own}}]
---
apiVersion: v1
kind: Pod
metadata: {name: strong}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {sysctls: [{name: net.ipv4.conf.all.route_localnet, value: "1"}]}
  containers:
  - name: c
    image: attacker
    command: [sleep, "61001"]
    securityContext:
      capabilities: {add: [IPC_LOCK, IPC_OWNER, LEASE, NET_ADMIN, NET_BROADCAST, SYS_PTRACE, SYS_RESOURCE]}
    volumeMounts: [{name: e, mountPath: /e}, {name: s, mountPath: /s}]
  volumes: [{name: e, emptyDir: {}}, {name: s, secret: {secretName: own}}]
"#;

/// A running sandbox with the pods.
pub(crate) struct Scene {
    pub(crate) sandbox: Sandbox,
    pub(crate) programs: Programs,
    logs: tempfile::TempDir,
}

impl Scene {
    /// Starts the sandbox and the pods. Their image holds this program, as [`crate::attack::PROGRAM`].
    pub(crate) async fn set() -> Result<Self, String> {
        let logs = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut options = Options { log_dir: Some(logs.path().join("kept")), ..support::options() };
        let programs = options.programs.clone();
        // Nothing else of these tests uses that component.
        options.programs.istioctl = std::env::current_exe().map_err(|e| e.to_string())?;
        options.images += "\nattacker:\n  description: these tests\n  programs: [kubectl]\n  files: {/attack: istioctl, \
                           /bootstrap: envoy-bootstrap}\n  host: [sh, curl]\n  user: 0\n";
        let sandbox = Sandbox::start(options, |_| ()).await.map_err(|e| e.to_string())?;
        let scene = Scene { sandbox, programs, logs };
        let (_, error) = scene.feed(&["apply", "-f", "-"], PODS.as_bytes());
        for (pod, _) in SLEEP {
            let pod = format!("pod/{pod}");
            let waited = scene.kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]);
            waited.map_err(|waiting| format!("{waiting}\n{error}"))?;
        }
        scene.sh("victim", &format!("echo the victim\\'s > /e/{TREASURE}"))?;
        for pod in HOSTILE {
            scene.sh(pod, &format!("echo its own > /e/{OWN}"))?;
        }
        Ok(scene)
    }

    /// Stops the sandbox, which must leave nothing; gives the folder with the kept logs.
    pub(crate) async fn end(self) -> tempfile::TempDir {
        self.sandbox.stop().await.expect("the sandbox leaves nothing behind");
        self.logs
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        support::kubectl(&self.sandbox, &self.programs, arguments)
    }

    /// Output and errors of kubectl with this input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> (String, String) {
        let mut command = Command::new(&self.programs.kubectl);
        command.arg("--kubeconfig").arg(self.sandbox.kubeconfig()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl can be run");
        // Inputs here are smaller than a pipe.
        child.stdin.take().expect("it is piped").write_all(input).expect("kubectl reads its input");
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(output.stdout), text(output.stderr))
    }

    /// A shell's script in a pod.
    pub(crate) fn sh(&self, pod: &str, script: &str) -> Result<String, String> {
        self.kubectl(&["exec", pod, "-c", "c", "--", "sh", "-c", script])
    }

    /// What a pod achieves.
    pub(crate) fn attack(&self, pod: &str, attack: &Attack) -> Vec<Attempt> {
        let attack = serde_json::to_string(attack).expect("an attack is plain data");
        let words = ["exec", pod, "-c", "c", "--", crate::attack::PROGRAM, ATTACK, &attack];
        let answer = self.kubectl(&words).unwrap_or_else(|error| panic!("{pod}: {attack}: {error}"));
        serde_json::from_str(&answer).expect("an attack answers in JSON")
    }

    /// The sandbox's folder on the host.
    pub(crate) fn state(&self) -> &Path {
        self.sandbox.kubeconfig().parent().expect("the kubeconfig lies in the state folder")
    }

    /// The numbers of a pod's first process, from the host's namespace to the pod's own.
    pub(crate) fn numbers(&self, pod: &str) -> Vec<i32> {
        let seconds = SLEEP.iter().find(|(name, _)| *name == pod).expect("a pod of this scene").1;
        let is_it = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
                == format!("sleep\0{seconds}\0").as_bytes()
        };
        let pid = eventually("the pod's process", || {
            descendants(std::process::id()).into_iter().find(is_it).ok_or_else(|| "no such process".to_owned())
        });
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let line =
            status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("the kernel tells all its numbers");
        line.split_whitespace().map(|number| number.parse().expect("a process id")).collect()
    }

    /// Files of this name below the state folder: where volumes really lie.
    pub(crate) fn on_host(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.state().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ if entry.file_name() == name => found.push(entry.path()),
                    _ => {}
                }
            }
        }
        found
    }
}

/// The same attack by root of namespaces of its own on the host.
pub(crate) fn control(attack: &Attack) -> Vec<Attempt> {
    let attack = serde_json::to_string(attack).expect("an attack is plain data");
    let program = std::env::current_exe().expect("this program has a file");
    let output = Command::new(program)
        .args([ATTACK, &attack, "control"])
        .stderr(Stdio::inherit())
        .output()
        .expect("this program can be run again");
    assert!(output.status.success(), "the control ended with {}", output.status);
    serde_json::from_slice(&output.stdout).expect("an attack answers in JSON")
}

/// How one attempt ended.
#[track_caller]
pub(crate) fn outcome<'a>(all: &'a [Attempt], name: &str) -> Result<(), &'a str> {
    let found = all.iter().find(|(what, _)| what == name);
    let (_, outcome) = found.unwrap_or_else(|| panic!("{name} is not among {all:?}"));
    outcome.as_ref().copied().map_err(String::as_str)
}

/// What succeeded.
pub(crate) fn done(all: &[Attempt]) -> Vec<&str> {
    all.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(what, _)| what.as_str()).collect()
}
