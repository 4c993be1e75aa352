//! The streams of an exec as channels of one WebSocket: the first byte of a message says which.
//!
//! Start at [`session`].

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use super::super::super::context::Node;
use super::super::super::registry::ExecTarget;
use super::super::streams::Stream;
use super::program::{self, Output};
use super::{Wanted, resize};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Newest first. Both have the same channels; only the newer one closes them.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Runs a program for the client at the other end.
pub(super) async fn session(node: Arc<Node>, target: ExecTarget, wanted: Wanted, socket: WebSocket) {
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
    let status = match program::start(&node, &target, &wanted).await {
        Ok((running, streams)) => {
            let outputs = [STDOUT, STDERR].map(|channel| Some(Output::Channel(channel, sender.clone())));
            let input = input(incoming, streams.stdin, streams.terminal);
            program::attend(running, [streams.stdout, streams.stderr], outputs, input).await
        }
        Err(status) => Some(status),
    };
    if let Some(status) = status {
        let _ = sender.send(frame(ERROR, status.to_string().as_bytes())).await;
        let done = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = sender.send(Message::Close(Some(done))).await;
    }
    drop(sender);
    let _ = writer.await;
}

/// A message of one channel.
pub(super) fn frame(channel: u8, payload: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(payload.len() + 1);
    bytes.push(channel);
    bytes.extend_from_slice(payload);
    Message::Binary(bytes.into())
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
            Some((&RESIZE, data)) => resize(terminal.as_deref(), data),
            Some((&CLOSE, [STDIN])) => stdin = None,
            _ => {}
        }
    }
}
