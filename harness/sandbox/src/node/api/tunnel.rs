//! A WebSocket as a stream of bytes: each binary message is some of them, wherever they are cut.
//!
//! This is how clients carry SPDY through proxies that only know WebSocket. Start at [`bytes`].

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const CHUNK: usize = 64 << 10;

/// The bytes of a WebSocket, and the work that moves them, which ends when either side does.
pub(super) fn bytes(socket: WebSocket) -> (DuplexStream, impl Future<Output = ()>) {
    let (ours, theirs) = tokio::io::duplex(CHUNK);
    (theirs, carry(socket, ours))
}

async fn carry(socket: WebSocket, pipe: DuplexStream) {
    let (mut sink, mut messages) = socket.split();
    let (mut from_server, mut to_server) = tokio::io::split(pipe);
    let inwards = async {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(data) => {
                    if to_server.write_all(&data).await.is_err() {
                        return;
                    }
                }
                Message::Text(_) | Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    let outwards = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count) = from_server.read(&mut buffer).await
            && count > 0
        {
            if sink.send(Message::Binary(buffer[..count].to_vec().into())).await.is_err() {
                return;
            }
        }
        // Clients read any other close as a failure.
        let done = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = sink.send(Message::Close(Some(done))).await;
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}
