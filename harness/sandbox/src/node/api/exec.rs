//! `kubectl exec`: a program in a container, its streams over one WebSocket (`v5.channel.k8s.io`).
//!
//! SPDY is answered with 501. Start at [`serve`].

use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::super::context::Node;
use super::super::launch::Running;
use super::super::registry::ExecTarget;
use super::streams::{Stream, Streams};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Newest first. Both have the same channels; only the newer one closes them.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    command: Vec<String>,
    input: bool,
    output: bool,
    error: bool,
    tty: bool,
}

impl Wanted {
    fn parse(query: Vec<(String, String)>) -> Self {
        let mut wanted = Self::default();
        for (name, value) in query {
            let truth = matches!(value.as_str(), "1" | "true");
            match name.as_str() {
                "command" => wanted.command.push(value),
                "input" | "stdin" => wanted.input = truth,
                "output" | "stdout" => wanted.output = truth,
                "error" | "stderr" => wanted.error = truth,
                "tty" => wanted.tty = truth,
                _ => {}
            }
        }
        wanted
    }
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;
type Pairs = Query<Vec<(String, String)>>;

/// Answers one request for an exec.
pub(super) async fn serve(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod, container)): UrlPath<(String, String, String)>,
    Query(query): Pairs,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    begin(node, &namespace, &pod, &container, query, &headers, upgrade)
}

/// The same, where the path also has the pod's uid.
pub(super) async fn serve_with_uid(
    State(node): State<Arc<Node>>,
    UrlPath((namespace, pod, _uid, container)): UrlPath<(String, String, String, String)>,
    Query(query): Pairs,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    begin(node, &namespace, &pod, &container, query, &headers, upgrade)
}

fn begin(
    node: Arc<Node>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: Vec<(String, String)>,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Response {
    let refuse = |status: StatusCode, message: String| (status, message).into_response();
    let wanted = Wanted::parse(query);
    if wanted.command.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container".into());
    }
    let instance = node.registry.pod(namespace, pod).and_then(|entry| entry.container(container).current);
    let Some(instance) = instance.filter(|instance| !*instance.ended.borrow()) else {
        return refuse(StatusCode::NOT_FOUND, format!("container not found ({container:?}), or it does not run"));
    };
    match upgrade {
        Ok(upgrade) => {
            upgrade.protocols(PROTOCOLS).on_upgrade(move |socket| session(node, instance.target, wanted, socket))
        }
        Err(_) if headers.get("upgrade").is_some_and(|u| u.as_bytes().starts_with(b"SPDY")) => refuse(
            StatusCode::NOT_IMPLEMENTED,
            "exec over SPDY is not implemented by the sandbox's node: use a client and an API server of 1.36 or later, which speak WebSocket".into(),
        ),
        Err(rejection) => rejection.into_response(),
    }
}

async fn session(node: Arc<Node>, target: ExecTarget, wanted: Wanted, socket: WebSocket) {
    let (mut sink, incoming) = socket.split();
    let (sender, mut outgoing) = mpsc::channel::<Message>(16);
    let writer = tokio::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    });
    let status = match start(&node, &target, &wanted).await {
        Ok((running, streams)) => attend(running, streams, incoming, &sender).await,
        Err(message) => Some(json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {message}")})),
    };
    if let Some(status) = status {
        let _ = sender.send(frame(ERROR, status.to_string().as_bytes())).await;
        let done = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = sender.send(Message::Close(Some(done))).await;
    }
    drop(sender);
    let _ = writer.await;
}

async fn start(node: &Node, target: &ExecTarget, wanted: &Wanted) -> Result<(Running, Streams), String> {
    let mut process = target.process.clone();
    process.argv.clone_from(&wanted.command);
    if wanted.tty {
        process.env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    let (theirs, mut ours) =
        Streams::pipes(wanted.input, wanted.output, wanted.error, wanted.tty).map_err(|e| format!("pipes: {e}"))?;
    let mut running =
        node.launcher.exec(&target.pidfd, process, wanted.tty, theirs).await.map_err(|e| e.to_string())?;
    if let Some(terminal) = running.terminal.take() {
        ours.take_terminal(terminal, wanted.input).map_err(|e| format!("terminal: {e}"))?;
    }
    Ok((running, ours))
}

/// Sees the program through to its end. `None` if the client went away.
async fn attend(
    mut running: Running,
    streams: Streams,
    incoming: SplitStream<WebSocket>,
    sender: &mpsc::Sender<Message>,
) -> Option<Value> {
    let (ended, _) = watch::channel(false);
    let pump = |stream: Option<Arc<Stream>>, channel| output(stream, channel, sender.clone(), ended.subscribe());
    let outputs = tokio::spawn({
        let (out, err) = (pump(streams.stdout, STDOUT), pump(streams.stderr, STDERR));
        async move { tokio::join!(out, err) }
    });
    let code = tokio::select! {
        code = running.wait() => code,
        () = input(incoming, streams.stdin, streams.terminal) => {
            // Nobody is there to see it: a program of a client that is gone must not go on.
            running.kill_session();
            running.wait().await;
            outputs.abort();
            return None;
        }
    };
    // What the program wrote is in the pipes by now; what its children may write later is not waited for.
    let _ = ended.send(true);
    let _ = outputs.await;
    Some(status(code))
}

fn status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn frame(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(payload.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(payload);
    Message::Binary(bytes.into())
}

/// Passes on what the program writes, until its end and no further.
async fn output(
    stream: Option<Arc<Stream>>,
    channel: u8,
    sender: mpsc::Sender<Message>,
    mut ended: watch::Receiver<bool>,
) {
    let Some(stream) = stream else { return };
    let mut buffer = vec![0; 32 << 10];
    loop {
        let over = *ended.borrow();
        let read = if over {
            stream.try_read(&mut buffer)
        } else {
            tokio::select! {
                biased;
                read = stream.read(&mut buffer) => read,
                _ = ended.changed() => continue,
            }
        };
        match read {
            Ok(count) if count > 0 => {
                if sender.send(frame(channel, &buffer[..count])).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Passes on what the client sends. Ends when the client is gone.
async fn input(mut incoming: SplitStream<WebSocket>, mut stdin: Option<Arc<Stream>>, terminal: Option<Arc<Stream>>) {
    while let Some(Ok(message)) = incoming.next().await {
        let Message::Binary(bytes) = message else {
            if matches!(message, Message::Close(_)) {
                return;
            }
            continue;
        };
        match bytes.split_first() {
            Some((&STDIN, data)) => {
                if let Some(stream) = &stdin
                    && stream.write_all(data).await.is_err()
                {
                    // The program has closed its input; it may go on.
                    stdin = None;
                }
            }
            Some((&RESIZE, data)) => {
                if let (Some(terminal), Ok(size)) = (&terminal, serde_json::from_slice::<Size>(data)) {
                    terminal.resize(size.width, size.height);
                }
            }
            Some((&CLOSE, [STDIN])) => stdin = None,
            _ => {}
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_command_and_streams() {
        let pairs = [
            ("command", "sh"),
            ("command", "-c"),
            ("command", "a b"),
            ("input", "1"),
            ("output", "true"),
            ("tty", "0"),
        ];
        let wanted = Wanted::parse(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(wanted.command, ["sh", "-c", "a b"]);
        assert!(wanted.input && wanted.output && !wanted.error && !wanted.tty);
    }

    #[test]
    fn exit_codes_are_what_kubectl_reads() {
        assert_eq!(status(0)["status"], "Success");
        assert_eq!(status(52)["details"]["causes"][0], json!({"reason": "ExitCode", "message": "52"}));
        assert_eq!(status(52)["reason"], "NonZeroExitCode");
    }
}
