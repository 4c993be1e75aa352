//! The way of what a page's commands sent: bookmarks before a command, the witnesses' words after it.
//!
//! Requests of a page carry no token, and they run one at a time: all that a pod's sidecar writes after the bookmark is the
//! command's, and onward it goes by sockets. A later request of ours ends the waiting. Start at [`Bookmarks::set`].

use std::net::IpAddr;
use std::time::{Duration, Instant};

use egress_core::evidence::{GatewaySeen, Observation, PodSeen};
use egress_core::path::{self, State};
use egress_core::tutorial::report::PodPath;

use super::surroundings::Surroundings;
use super::workspace::Executed;
use crate::cluster::EnvironmentError;
use crate::cluster::exec::exec;
use crate::cluster::workload::Workload;
use crate::collect::servers::ServerLog;
use crate::schedule::stage::Stage;
use crate::wait;

/// How long evidence may take after the command has ended. Envoy writes its log each second at the latest.
const BOUND: Duration = Duration::from_secs(5);
/// How long one question to the servers' record waits for news.
const SERVER_WAIT: Duration = Duration::from_millis(50);
/// Words that make an executed command a request.
const CLIENTS: [&str; 5] = ["curl", "wget", "openssl s_client", "nc ", "telnet"];

/// Where everything stood before a command.
pub struct Bookmarks {
    pods: Vec<(Workload, Option<usize>)>,
    gateways: Vec<(Workload, usize)>,
    servers: ServerLog,
    inside: Vec<IpAddr>,
}

/// A command in a container, as `kubectl exec` was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPod {
    /// The pod, or `deploy/NAME`.
    pub target: String,
    /// The namespace; `default` where none is named.
    pub namespace: String,
    /// The container, where one is named.
    pub container: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its exit code.
    pub exit: Option<i32>,
}

impl InPod {
    /// Reads the arguments of `kubectl`; `None` where it executes nothing.
    #[must_use]
    pub fn read(executed: &Executed) -> Option<Self> {
        let mut words = executed.arguments.iter();
        let mut own: Vec<&str> = Vec::new();
        let mut command: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            if word == "--" {
                command = words.cloned().collect();
                break;
            }
            own.push(word);
        }
        let mut found = Self {
            target: String::new(),
            namespace: "default".to_owned(),
            container: None,
            command,
            exit: executed.exit,
        };
        let mut plain = Vec::new();
        let mut at = 0;
        while at < own.len() {
            let (name, value) = own[at].split_once('=').map_or((own[at], None), |(n, v)| (n, Some(v.to_owned())));
            let takes = matches!(name, "-n" | "--namespace" | "-c" | "--container" | "--context" | "--kubeconfig");
            let value = value.or_else(|| {
                at += usize::from(takes);
                own.get(at).filter(|_| takes).map(|v| (*v).to_owned())
            });
            match name {
                "-n" | "--namespace" => found.namespace = value.unwrap_or_default(),
                "-c" | "--container" => found.container = value,
                _ if name.starts_with('-') => {}
                word => plain.push(word.to_owned()),
            }
            at += 1;
        }
        let exec = plain.iter().position(|word| word == "exec")?;
        plain.remove(exec);
        found.target = plain.first()?.trim_start_matches("pod/").to_owned();
        if found.command.is_empty() {
            found.command = plain.split_off(1);
        }
        Some(found)
    }

    /// Whether the command sends something.
    #[must_use]
    pub fn sends(&self) -> bool {
        let text = self.command.join(" ");
        self.container.as_deref() != Some("istio-proxy") && CLIENTS.iter().any(|client| text.contains(client))
    }

    /// Whether it runs in this pod.
    #[must_use]
    pub fn is_in(&self, pod: &Workload) -> bool {
        let of_deployment = |name: &str| {
            let rest = pod.pod.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(|rest| rest.split('-').count() == 2)
        };
        let named = match self.target.split_once('/') {
            Some(("deploy" | "deployment" | "deployments", name)) => of_deployment(name),
            _ => self.target == pod.pod,
        };
        named && self.namespace == pod.namespace
    }
}

impl Bookmarks {
    /// Sets the bookmarks.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the servers' control does not answer.
    pub async fn set(stage: &Stage, around: &Surroundings<'_>) -> Result<Self, EnvironmentError> {
        let mark = |w: &Workload| w.proxy_log.as_ref().map(|log| log.bookmark());
        let servers = ServerLog::bookmark(stage.servers.clone()).await;
        let servers = servers.map_err(|e| EnvironmentError::new(format!("the external servers' record: {e}")))?;
        Ok(Self {
            pods: around.pods.iter().map(|pod| (pod.clone(), mark(pod))).collect(),
            gateways: around.gateways.iter().filter_map(|g| Some((g.clone(), mark(g)?))).collect(),
            servers,
            inside: around.inside.clone(),
        })
    }

    fn observation(&self, pod: &Workload, mark: Option<usize>) -> Observation {
        let seen = |w: &Workload| PodSeen { name: format!("{}/{}", w.namespace, w.pod), ip: Some(w.ip) };
        let since = |w: &Workload, mark: usize| w.proxy_log.as_ref().map(|log| log.since(mark)).unwrap_or_default();
        let gateways = self.gateways.iter();
        Observation {
            token: None,
            client: None,
            client_pod: seen(pod),
            sidecar: mark.map(|mark| since(pod, mark)),
            gateways: gateways.map(|(g, mark)| GatewaySeen { pod: seen(g), lines: since(g, *mark) }).collect(),
            servers: self.servers.records().to_vec(),
            sentinel: None,
        }
    }

    /// The way of all that these commands sent: one for each pod that a command ran in.
    ///
    /// # Errors
    /// [`EnvironmentError`] when the servers' control does not answer.
    pub async fn paths(mut self, stage: &Stage, executed: &[InPod]) -> Result<Vec<PodPath>, EnvironmentError> {
        let mut found = Vec::new();
        let pods = self.pods.clone();
        for (pod, mark) in &pods {
            let Some(request) = executed.iter().find(|e| e.sends() && e.is_in(pod)) else { continue };
            let sentinel = match mark {
                Some(_) => self.sentinel(stage, pod, request.container.as_deref().unwrap_or("curl")).await,
                None => None,
            };
            // A server records what it got before it answers, so that all of it is there once the command has ended.
            self.read().await?;
            let begun = Instant::now();
            let joined = loop {
                let news = stage.logs.news.notified();
                let mut observation = self.observation(pod, *mark);
                observation.sentinel.clone_from(&sentinel);
                let joined = path::join_pod(&observation, &stage.format, &self.inside);
                if !matches!(joined.state, State::Open { .. }) || begun.elapsed() > BOUND {
                    break joined;
                }
                tokio::select! {
                    () = news => {}
                    read = self.read() => read?,
                }
            };
            found.push(PodPath { pod: format!("{}/{}", pod.namespace, pod.pod), joined });
        }
        Ok(found)
    }

    async fn read(&mut self) -> Result<(), EnvironmentError> {
        let read = self.servers.read(SERVER_WAIT).await;
        read.map_err(|e| EnvironmentError::new(format!("the external servers' record: {e}")))
    }

    /// A request of ours from the same pod that its sidecar answers itself: what the page sent is in the log before its
    /// line. `None`: the line did not come, and nothing is proved.
    async fn sentinel(&self, stage: &Stage, pod: &Workload, container: &str) -> Option<String> {
        let log = pod.proxy_log.as_ref()?;
        let mark = log.bookmark();
        let token = format!("{:016x}", rand::random::<u64>());
        let (host, address) = (stage.gate.marker_host(), stage.world.unused);
        let resolve = format!("{host}:80:{address}");
        let url = format!("http://{host}:80/sentinel");
        let command = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-m",
            "5",
            "-A",
            token.as_str(),
            "--resolve",
            resolve.as_str(),
            url.as_str(),
        ];
        let sent = exec(stage.objects.client(), &pod.namespace, &pod.pod, container, &command).await;
        if let Err(error) = sent {
            tracing::warn!(%error, "no sentinel");
            return None;
        }
        let line = wait::until("the sentinel's line", BOUND, || async {
            let lines = log.since(mark);
            let found = lines.iter().find(|line| line.contains(&token)).cloned();
            found.ok_or_else(|| format!("{} lines", lines.len()))
        });
        line.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Option<InPod> {
        InPod::read(&Executed { arguments: words.iter().map(|w| (*w).to_owned()).collect(), exit: Some(0) })
    }

    #[test]
    fn executed_commands_are_read_as_kubectl_reads_them() {
        let found = read(&["exec", "curl-1-x", "-c", "curl", "--", "curl", "-sSI", "https://a.com"]).expect("an exec");
        assert_eq!((found.target.as_str(), found.container.as_deref()), ("curl-1-x", Some("curl")));
        assert_eq!((found.namespace.as_str(), found.command.len(), found.sends()), ("default", 3, true));
        let other = read(&["exec", "-n", "other", "deploy/curl", "--container=a", "--", "sh", "-c", "wget x"]);
        let other = other.expect("an exec");
        assert_eq!((other.namespace.as_str(), other.target.as_str(), other.sends()), ("other", "deploy/curl", true));
        let proxy = read(&["exec", "pod/gw", "-c", "istio-proxy", "-n", "s", "--", "curl", "x"]).expect("an exec");
        assert_eq!((proxy.target.as_str(), proxy.sends()), ("gw", false));
        assert_eq!(read(&["get", "pod"]), None);
        let old = read(&["exec", "a", "curl", "b"]).expect("an exec");
        assert_eq!(old.command, ["curl", "b"]);
    }
}
