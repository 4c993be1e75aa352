//! The program of an exec: started in its container, its output passed on, and what it says of its end.
//!
//! Knows nothing of how the client is connected. Start at [`start`] and [`attend`].

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::Message;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::super::super::context::Node;
use super::super::super::launch::Running;
use super::super::super::registry::ExecTarget;
use super::super::spdy::{Gone, StreamWriter};
use super::super::streams::{Stream, Streams};
use super::{Wanted, websocket};

/// Where one of the program's two outputs goes.
#[derive(Debug)]
pub(super) enum Output {
    /// A channel of a WebSocket.
    Channel(u8, mpsc::Sender<Message>),
    /// A stream of its own.
    Stream(Arc<StreamWriter>),
}

impl Output {
    async fn send(&self, data: &[u8]) -> Result<(), Gone> {
        match self {
            Self::Channel(channel, sender) => sender.send(websocket::frame(*channel, data)).await.map_err(|_| Gone),
            Self::Stream(writer) => writer.send(Bytes::copy_from_slice(data)).await,
        }
    }
}

/// Starts the program.
///
/// # Errors
/// The status that the client gets instead.
pub(super) async fn start(node: &Node, target: &ExecTarget, wanted: &Wanted) -> Result<(Running, Streams), Value> {
    launch(node, target, wanted).await.map_err(|message| {
        json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {message}")})
    })
}

async fn launch(node: &Node, target: &ExecTarget, wanted: &Wanted) -> Result<(Running, Streams), String> {
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

/// Sees the program through to its end. `input` passes on what the client sends, and ends when the client is gone.
/// `None` if that comes first.
pub(super) async fn attend(
    mut running: Running,
    [stdout, stderr]: [Option<Arc<Stream>>; 2],
    [to_stdout, to_stderr]: [Option<Output>; 2],
    input: impl Future<Output = ()>,
) -> Option<Value> {
    let (ended, _) = watch::channel(false);
    let outputs = tokio::spawn({
        let stdout = output(stdout, to_stdout, ended.subscribe());
        let stderr = output(stderr, to_stderr, ended.subscribe());
        async move { tokio::join!(stdout, stderr) }
    });
    let code = tokio::select! {
        code = running.wait() => code,
        () = input => {
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

/// Passes on what the program writes, until its end and no further.
async fn output(from: Option<Arc<Stream>>, to: Option<Output>, mut ended: watch::Receiver<bool>) {
    let (Some(stream), Some(to)) = (from, to) else { return };
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
                if to.send(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_what_kubectl_reads() {
        assert_eq!(status(0)["status"], "Success");
        assert_eq!(status(52)["details"]["causes"][0], json!({"reason": "ExitCode", "message": "52"}));
        assert_eq!(status(52)["reason"], "NonZeroExitCode");
    }
}
