//! Ports of a pod over the channels of one WebSocket, as libraries ask for them that speak no SPDY.
//!
//! Each port has two channels, one for its data and one on which the client is told why there is no data; the first byte
//! of a message is the channel's number. The first message on each channel is the port, least significant byte first
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`). Start at [`run`].

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::session::{CHUNK, Target, connect};

/// What is spoken.
pub(super) const PROTOCOL: &str = "v4.channel.k8s.io";
/// As many ports have channels that fit into a byte.
pub(super) const MOST_PORTS: usize = 127;
/// How many messages may wait for a client that reads slowly.
const WAITING: usize = 16;

/// The ports that a request's query asks for (`port=80&port=443`, or with commas between them).
pub(super) fn ports(query: &str) -> Result<Vec<u16>, String> {
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("port="));
    let texts = values.flat_map(|value| value.split("%2C")).flat_map(|value| value.split(','));
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("no port: {text:?}"));
    let ports: Vec<u16> = texts.map(port).collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err("the query names no port".to_owned()),
        n if n > MOST_PORTS => Err(format!("{n} ports, and there can be {MOST_PORTS}")),
        _ => Ok(ports),
    }
}

/// Serves one client to its end.
pub(super) async fn run(socket: WebSocket, target: Target, ports: Vec<u16>) {
    let target = Arc::new(target);
    let (mut sink, mut stream) = socket.split();
    let (sender, mut messages) = mpsc::channel::<(u8, Bytes)>(WAITING);
    let mut forwards = JoinSet::new();
    let mut to_pods: Vec<Option<OwnedWriteHalf>> = Vec::new();
    for (number, port) in (0u8..).zip(&ports) {
        for channel in [number * 2, number * 2 + 1] {
            let _ = sink.send(message(channel, &port.to_le_bytes())).await;
        }
        match connect(&target, *port).await {
            Ok(connection) => {
                let (from_pod, to_pod) = connection.into_split();
                to_pods.push(Some(to_pod));
                forwards.spawn(downwards(number * 2, from_pod, sender.clone()));
            }
            Err(why) => {
                to_pods.push(None);
                let why = format!("error forwarding port {port} to pod {}: {why}", target.pod);
                let _ = sink.send(message(number * 2 + 1, why.as_bytes())).await;
            }
        }
    }
    drop(sender);
    let upwards = async {
        while let Some(Ok(received)) = stream.next().await {
            let Message::Binary(bytes) = received else { continue };
            let Some((channel, data)) = bytes.split_first() else { continue };
            let to_pod = to_pods.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(Some(connection)) = to_pod
                && connection.write_all(data).await.is_err()
            {
                // It has stopped reading; it may still be writing.
                to_pods[usize::from(channel / 2)] = None;
            }
        }
    };
    let to_client = async {
        while let Some((channel, data)) = messages.recv().await {
            if sink.send(message(channel, &data)).await.is_err() {
                return;
            }
        }
        // Every pod has ended its side.
        let _ = sink.close().await;
    };
    tokio::select! {
        () = upwards => {}
        () = to_client => {}
    }
    // With the client go its connections.
    forwards.shutdown().await;
}

fn message(channel: u8, data: &[u8]) -> Message {
    Message::Binary([&[channel], data].concat().into())
}

async fn downwards(channel: u8, mut from_pod: OwnedReadHalf, sender: mpsc::Sender<(u8, Bytes)>) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from_pod.read(&mut buffer).await {
        if sender.send((channel, Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_the_query() {
        assert_eq!(ports("port=80"), Ok(vec![80]));
        assert_eq!(ports("x=1&port=80&port=443"), Ok(vec![80, 443]));
        assert_eq!(ports("port=80,443&port=15000"), Ok(vec![80, 443, 15000]));
        assert_eq!(ports("port=80%2C443"), Ok(vec![80, 443]));
        assert!(ports("").is_err());
        assert!(ports("port=0").is_err());
        assert!(ports("port=65536").is_err());
        assert!(ports(&"port=1&".repeat(MOST_PORTS + 1)).is_err());
    }
}
