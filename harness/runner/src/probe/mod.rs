//! One probe: bookmark, real curl, and what the witnesses said, until the path is closed.
//!
//! A probe is sent once. What is waited for here is evidence, never a better answer. Start at [`send`].

pub mod curl;
pub mod resolve;

use std::time::{Duration, Instant};

use egress_core::evidence::{GatewaySeen, Observation, PodSeen};
use egress_core::path::{self, Joined, State};
use egress_core::scenario::schema::TcpProbe;

use crate::cluster::exec::{ExecError, exec};
use crate::cluster::workload::{CURL, Workload};
use crate::collect::servers::ServerLog;
use crate::schedule::stage::Stage;

/// How long evidence may take to come in after curl has returned. Envoy flushes its log each second at the latest.
const EVIDENCE_BOUND: Duration = Duration::from_secs(5);
/// How long nothing at all may be seen before a sentinel proves the silence.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long one question to the servers' record waits for news.
const SERVER_WAIT: Duration = Duration::from_millis(50);

/// The probe could not be sent or observed: nothing is known about the mesh.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The exec failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The external servers' control failed.
    #[error("the external servers' record cannot be read: {0}")]
    Servers(#[from] external_server::client::ClientError),
}

/// What a client is to do, with variables expanded.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Run curl with these arguments.
    Curl(Vec<String>),
    /// Look this name up.
    Resolve(String),
    /// Connect to `HOST:PORT`, send a text, and read what comes back.
    Tcp(TcpProbe),
}

/// What one probe gave.
pub struct Probed {
    /// What was seen.
    pub observation: Observation,
    /// The witnesses, joined.
    pub joined: Joined,
}

struct Bookmarks<'a> {
    client: &'a Workload,
    sidecar: Option<usize>,
    gateways: Vec<(&'a Workload, usize)>,
}

impl<'a> Bookmarks<'a> {
    fn set(stage: &'a Stage, client: &'a Workload) -> Self {
        let mark = |w: &Workload| w.proxy_log.as_ref().map(|log| log.bookmark());
        let gateways = stage.gateways.iter().filter_map(|g| Some((g, mark(g)?))).collect();
        Self { client, sidecar: mark(client), gateways }
    }

    fn observation(&self, token: &str, servers: &ServerLog) -> Observation {
        let seen = |w: &Workload| PodSeen { name: format!("{}/{}", w.namespace, w.pod), ip: Some(w.ip) };
        let since = |w: &Workload, mark: usize| w.proxy_log.as_ref().map(|log| log.since(mark)).unwrap_or_default();
        Observation {
            token: Some(token.to_owned()),
            client: None,
            client_pod: seen(self.client),
            sidecar: self.sidecar.map(|mark| since(self.client, mark)),
            gateways: self
                .gateways
                .iter()
                .map(|(gateway, mark)| GatewaySeen { pod: seen(gateway), lines: since(gateway, *mark) })
                .collect(),
            servers: servers.records().to_vec(),
            sentinel: None,
        }
    }
}

/// Sends one request and collects what the four witnesses say of it.
///
/// # Errors
/// [`ProbeError`] if the request could not be sent, or the servers not be asked. An answer that did not come back whole
/// is no error but an observation without a client.
pub async fn send(stage: &Stage, client: &Workload, request: &Request) -> Result<Probed, ProbeError> {
    match request {
        Request::Resolve(name) => look_up(stage, client, name).await,
        Request::Curl(_) | Request::Tcp(_) => exchange(stage, client, request).await,
    }
}

/// A lookup leaves no trace but its answer: the path is empty, and closed.
async fn look_up(stage: &Stage, client: &Workload, name: &str) -> Result<Probed, ProbeError> {
    let command = resolve::command(name);
    let output = exec(stage.objects.client(), &client.namespace, &client.pod, CURL, &command).await?;
    let client = PodSeen { name: format!("{}/{}", client.namespace, client.pod), ip: Some(client.ip) };
    let observation = Observation {
        token: None,
        client: Some(resolve::parse(output.exit, &output.stdout, &output.stderr)),
        client_pod: client,
        sidecar: None,
        gateways: Vec::new(),
        servers: Vec::new(),
        sentinel: None,
    };
    let joined = Joined { path: path::Path::default(), leftovers: Vec::new(), state: State::Closed };
    Ok(Probed { observation, joined })
}

async fn exchange(stage: &Stage, client: &Workload, request: &Request) -> Result<Probed, ProbeError> {
    let token = format!("{:016x}", rand::random::<u64>());
    let mut servers = ServerLog::bookmark(stage.servers.clone()).await?;
    let bookmarks = Bookmarks::set(stage, client);
    let begun = Instant::now();
    let result = match request {
        Request::Curl(arguments) => run(stage, client, &token, &curl::script(), arguments).await?,
        Request::Tcp(tcp) => {
            let arguments = [tcp.to.clone(), tcp.send.clone()];
            run(stage, client, &token, &curl::tcp_script(), &arguments).await?.map(curl::as_exchange)
        }
        Request::Resolve(_) => None,
    };
    let start = Instant::now();
    let mut sentinel = None;
    loop {
        let news = stage.logs.news.notified();
        let mut observation = bookmarks.observation(&token, &servers);
        observation.client.clone_from(&result);
        observation.sentinel.clone_from(&sentinel);
        let joined = path::join(&observation, &stage.format);
        let waiting = matches!(joined.state, State::Open { .. });
        if !waiting || start.elapsed() > EVIDENCE_BOUND {
            tracing::debug!(request = ?start - begun, evidence = ?start.elapsed(), "probe");
            return Ok(Probed { observation, joined });
        }
        // Lines that belong to no hop (another connection's) break no silence about this request.
        let silent = joined.path.hops.is_empty() && observation.sidecar.is_some();
        if silent && sentinel.is_none() && start.elapsed() > SILENCE {
            sentinel = send_sentinel(stage, client).await?;
        }
        tokio::select! {
            () = news => {}
            read = servers.read(SERVER_WAIT) => read?,
        }
    }
}

/// Runs one of the scripts in the client, and reads what it printed; nothing if that is not whole.
async fn run(
    stage: &Stage,
    client: &Workload,
    token: &str,
    script: &str,
    arguments: &[String],
) -> Result<Option<egress_core::evidence::ClientResult>, ProbeError> {
    let ports = curl::local_ports(stage.next_probe());
    let mut command = vec!["/bin/sh", "-c", script, "sh", token, &ports];
    command.extend(arguments.iter().map(String::as_str));
    let output = exec(stage.objects.client(), &client.namespace, &client.pod, CURL, &command).await?;
    match curl::parse(token, &output.stdout) {
        Ok(result) => Ok(Some(result)),
        Err(error) => {
            tracing::warn!(exit = output.exit, stderr = %String::from_utf8_lossy(&output.stderr), "{error}");
            Ok(None)
        }
    }
}

/// A later request of ours that the sidecar answers itself (the gate's marker), so that its line must appear in the
/// same log after all that the probe could have caused. Returns that line, or nothing if it did not come.
async fn send_sentinel(stage: &Stage, client: &Workload) -> Result<Option<String>, ProbeError> {
    let Some(log) = &client.proxy_log else { return Ok(None) };
    let mark = log.bookmark();
    let token = format!("{:016x}", rand::random::<u64>());
    let (host, address) = (stage.gate.marker_host(), stage.world.unused);
    let arguments = ["--resolve".to_owned(), format!("{host}:80:{address}"), format!("http://{host}:80/sentinel")];
    run(stage, client, &token, &curl::script(), &arguments).await?;
    let line = crate::wait::until("the sentinel's line", EVIDENCE_BOUND, || async {
        let lines = log.since(mark);
        let found = lines.iter().find(|line| line.contains(&token)).cloned();
        found.ok_or_else(|| format!("{} lines", lines.len()))
    })
    .await;
    Ok(line.ok())
}
