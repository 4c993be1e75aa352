//! One port-forward: pairs the client's streams, and joins each pair with a connection inside the pod.
//!
//! For each connection the client opens two streams with the same request id: one for the data, one on which it is
//! told why there is no data. Start at [`run`].

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::bytes::BytesMut;

use super::super::spdy::{Headers, Incoming, Opened, StreamReader, StreamWriter, connection};
use crate::network;

/// How long a stream may wait for the other one of its pair.
const PAIRING: Duration = Duration::from_secs(30);
pub(super) const CHUNK: usize = 32 << 10;

/// Where connections are made.
#[derive(Debug)]
pub(super) struct Target {
    /// The pod's network.
    pub(super) netns: PathBuf,
    /// Its namespace and name, for messages.
    pub(super) pod: String,
}

/// Serves one client to its end.
pub(super) async fn run(io: impl AsyncRead + AsyncWrite, target: Target) {
    let (sender, opened) = mpsc::channel(16);
    let ((), ended) = tokio::join!(forward_all(opened, Arc::new(target)), connection::run(io, sender));
    if let Err(error) = ended {
        tracing::debug!(%error, "port-forward ended");
    }
}

async fn forward_all(mut opened: mpsc::Receiver<Opened>, target: Arc<Target>) {
    let mut pairs = Pairs::default();
    let mut forwards = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = opened.recv() => stream,
            Some(_) = forwards.join_next() => continue,
        };
        // With the client go its connections.
        let Some(stream) = stream else { return };
        match pairs.add(stream, Instant::now()) {
            Ok(Some(pair)) => drop(forwards.spawn(forward(pair, target.clone()))),
            Ok(None) => {}
            Err(unusable) => {
                for stream in unusable {
                    let _ = stream.writer.reset().await;
                }
            }
        }
    }
}

/// Streams whose other half has not come yet, by request id.
#[derive(Debug, Default)]
struct Pairs(HashMap<String, (Opened, Role, Instant)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Data,
    Error,
}

#[derive(Debug)]
struct Pair {
    port: u16,
    data: Opened,
    error: Opened,
}

/// What a stream is for: its role, the port and the request's id.
fn purpose(headers: &Headers) -> Option<(Role, u16, &str)> {
    let role = match headers.get("streamtype")? {
        "data" => Role::Data,
        "error" => Role::Error,
        _ => return None,
    };
    let port = headers.get("port")?.parse().ok().filter(|port| *port != 0)?;
    Some((role, port, headers.get("requestid")?))
}

impl Pairs {
    /// Takes a stream; gives its pair once it is complete, or streams that cannot be used.
    fn add(&mut self, stream: Opened, now: Instant) -> Result<Option<Pair>, Vec<Opened>> {
        let Some((role, port, id)) = purpose(&stream.headers) else { return Err(vec![stream]) };
        let id = id.to_owned();
        match self.0.remove(&id) {
            None => {
                self.0.insert(id, (stream, role, now));
                let late = |(_, _, since): &mut (Opened, Role, Instant)| now.duration_since(*since) > PAIRING;
                let late: Vec<Opened> = self.0.extract_if(|_, waiting| late(waiting)).map(|(_, w)| w.0).collect();
                if late.is_empty() { Ok(None) } else { Err(late) }
            }
            Some((other, known, _)) if known != role && purpose(&other.headers).is_some_and(|p| p.1 == port) => {
                let (data, error) = if role == Role::Data { (stream, other) } else { (other, stream) };
                Ok(Some(Pair { port, data, error }))
            }
            Some((other, ..)) => Err(vec![stream, other]),
        }
    }
}

async fn forward(pair: Pair, target: Arc<Target>) {
    let Pair { port, data, error } = pair;
    match connect(&target, port).await {
        Ok(connection) => exchange(data.reader, data.writer, connection).await,
        Err(why) => {
            let message = format!("error forwarding port {port} to pod {}: {why}", target.pod);
            tracing::debug!(message, "port-forward");
            let _ = error.writer.send(message.into()).await;
            let _ = data.writer.finish().await;
        }
    }
    // The client waits for this even when there is nothing to say.
    let _ = error.writer.finish().await;
}

/// Connects to the port on the pod's loopback, by IPv4 before IPv6.
pub(super) async fn connect(target: &Target, port: u16) -> io::Result<TcpStream> {
    let by = async |address| network::connect_inside(&target.netns, SocketAddr::new(address, port)).await;
    let connection = match by(Ipv4Addr::LOCALHOST.into()).await {
        Ok(connection) => connection,
        Err(first) => by(Ipv6Addr::LOCALHOST.into()).await.map_err(|_| first)?,
    };
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// Carries both directions until the pod has ended its own, or one of the sides broke off.
async fn exchange(mut reader: StreamReader, writer: StreamWriter, connection: TcpStream) {
    let (mut from_pod, mut to_pod) = connection.into_split();
    let upwards = async {
        loop {
            match reader.next().await {
                Incoming::Data(data) => {
                    // A pod that has stopped reading may still be writing.
                    if to_pod.write_all(&data).await.is_err() {
                        break;
                    }
                }
                Incoming::Finished => {
                    let _ = to_pod.shutdown().await;
                    break;
                }
                Incoming::Reset => return,
            }
        }
        // What else comes is dropped, so that it does not hold up other streams.
        while reader.next().await != Incoming::Reset {}
    };
    let downwards = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            buffer.reserve(CHUNK);
            match from_pod.read_buf(&mut buffer).await {
                Ok(0) => return writer.finish().await,
                Ok(_) => writer.send(Bytes::from(buffer.split())).await?,
                Err(_reset_by_pod) => return writer.reset().await,
            }
        }
    };
    // The pod's end is the end: clients reset their stream then, and what they still sent has nowhere to go.
    tokio::select! {
        () = upwards => {}
        _ = downwards => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spdy::client::Client;
    use super::super::super::spdy::frame::Frame;
    use super::*;

    /// A port-forward to a pod whose network is gone.
    fn connected() -> (Client, tokio::task::JoinHandle<()>) {
        let (io, theirs) = tokio::io::duplex(64 << 10);
        let target = Target { netns: "/nonexistent/netns".into(), pod: "space/name".into() };
        (Client::new(io), tokio::spawn(run(theirs, target)))
    }

    fn headers<'a>(role: &'a str, port: &'a str, id: &'a str) -> [(&'a str, &'a str); 3] {
        [("streamtype", role), ("port", port), ("requestid", id)]
    }

    #[tokio::test]
    async fn a_pair_that_cannot_be_connected_is_told_why() {
        let (mut client, task) = connected();
        client.open(1, true, &headers("error", "80", "0")).await;
        client.expect_reply(1).await;
        client.open(3, false, &headers("data", "80", "0")).await;
        client.expect_reply(3).await;
        let mut message = String::new();
        let mut finished = Vec::new();
        while finished.len() < 2 {
            match client.next().await {
                Some(Frame::Data { stream: 1, fin: false, data }) => message += std::str::from_utf8(&data).unwrap(),
                Some(Frame::Data { stream, fin: true, .. }) => finished.push(stream),
                other => panic!("{other:?}"),
            }
        }
        assert!(
            message.starts_with("error forwarding port 80 to pod space/name: network: cannot enter /nonexistent/netns"),
            "{message}"
        );
        finished.sort_unstable();
        assert_eq!(finished, [1, 3]);
        drop(client);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn streams_that_make_no_pair_are_reset() {
        let (mut client, _task) = connected();
        let mut number = 1;
        for unusable in [
            vec![headers("video", "80", "0")],
            vec![headers("data", "0", "0")],
            vec![headers("data", "65536", "0")],
            vec![headers("data", "80", "1"), headers("data", "80", "1")],
            vec![headers("data", "80", "2"), headers("error", "81", "2")],
        ] {
            let mut wanted = Vec::new();
            for headers in unusable {
                client.open(number, false, &headers).await;
                client.expect_reply(number).await;
                wanted.push(number);
                number += 2;
            }
            let mut seen = Vec::new();
            while seen.len() < wanted.len() {
                match client.next().await {
                    Some(Frame::Reset { stream, .. }) => seen.push(stream),
                    other => panic!("{other:?}"),
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, wanted);
        }
    }
}
