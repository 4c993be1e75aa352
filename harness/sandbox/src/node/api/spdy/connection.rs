//! One SPDY connection: reads frames, hands out the streams they open, and writes what the streams send.
//!
//! A stream whose reader is slow holds up the whole connection once its queue is full, as with a kubelet: the protocol
//! as Kubernetes uses it has no windows. Start at [`run`].

use std::collections::HashMap;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::bytes::BytesMut;

use super::frame::{self, CANCEL, Frame, FrameError, MAX_PAYLOAD, PROTOCOL_ERROR, REFUSED_STREAM};
use super::headers::{Compressor, Decompressor, HeaderError, Headers};

/// Frames of one stream that wait to be read. The clients' have up to 32 KiB.
const QUEUE: usize = 64;
/// Frames of all streams that wait to be written.
const OUTGOING: usize = 32;
/// Streams at a time. Each connection through a port-forward takes two.
const MAX_STREAMS: usize = 2048;

/// Why a connection ended otherwise than by its client's wish.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ConnectionError {
    /// The client does not speak SPDY/3.1.
    #[error("SPDY: {0}")]
    Frame(#[from] FrameError),
    /// Its headers are not readable.
    #[error("SPDY: {0}")]
    Headers(#[from] HeaderError),
    /// The transport failed.
    #[error("SPDY connection: {0}")]
    Io(#[from] std::io::Error),
}

/// A stream that the client has opened.
#[derive(Debug)]
pub(in super::super) struct Opened {
    /// What it is for.
    pub(in super::super) headers: Headers,
    /// What the client sends.
    pub(in super::super) reader: StreamReader,
    /// What the client gets.
    pub(in super::super) writer: StreamWriter,
}

/// What comes in on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Incoming {
    /// Bytes.
    Data(Bytes),
    /// The client sends no more.
    Finished,
    /// The client has ended the stream, or is gone.
    Reset,
}

/// The client's half of a stream.
#[derive(Debug)]
pub(in super::super) struct StreamReader {
    queue: mpsc::Receiver<Incoming>,
    finished: bool,
}

impl StreamReader {
    /// The next of what the client sends. After [`Incoming::Finished`] it waits for the reset, which comes at the
    /// latest with the connection's end.
    pub(in super::super) async fn next(&mut self) -> Incoming {
        match self.queue.recv().await {
            Some(Incoming::Finished) if self.finished => Incoming::Reset,
            Some(incoming) => {
                self.finished |= incoming == Incoming::Finished;
                incoming
            }
            None => Incoming::Reset,
        }
    }
}

/// The node's half of a stream.
#[derive(Debug)]
pub(in super::super) struct StreamWriter {
    stream: u32,
    outgoing: mpsc::Sender<Outgoing>,
}

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Gone;

impl StreamWriter {
    /// Sends bytes.
    pub(in super::super) async fn send(&self, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(MAX_PAYLOAD));
            self.put(Frame::Data { stream: self.stream, fin: false, data: part }).await?;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(in super::super) async fn finish(&self) -> Result<(), Gone> {
        self.put(Frame::Data { stream: self.stream, fin: true, data: Bytes::new() }).await
    }

    /// Ends the stream in both directions.
    pub(in super::super) async fn reset(&self) -> Result<(), Gone> {
        self.put(Frame::Reset { stream: self.stream, status: CANCEL }).await
    }

    async fn put(&self, frame: Frame) -> Result<(), Gone> {
        self.outgoing.send(Outgoing::Frame(frame)).await.map_err(|_| Gone)
    }
}

/// What is to be written.
#[derive(Debug)]
enum Outgoing {
    Frame(Frame),
    /// Accepts a stream. Its block is made when it is written, because blocks must be written in the order they are
    /// compressed in.
    Reply(u32),
}

/// Serves one connection to its end, and hands each stream that the client opens to `opened`.
///
/// # Errors
/// When the client breaks the protocol or the transport fails.
pub(in super::super) async fn run(
    io: impl AsyncRead + AsyncWrite,
    opened: mpsc::Sender<Opened>,
) -> Result<(), ConnectionError> {
    let (reading, writing) = tokio::io::split(io);
    let (sender, receiver) = mpsc::channel(OUTGOING);
    tokio::select! {
        read = read(reading, &sender, &opened) => read,
        written = write(writing, receiver) => written,
    }
}

async fn write(io: impl AsyncWrite, mut outgoing: mpsc::Receiver<Outgoing>) -> Result<(), ConnectionError> {
    let mut io = std::pin::pin!(io);
    let mut compressor = Compressor::new()?;
    let mut batch = Vec::with_capacity(OUTGOING);
    let mut buffer = BytesMut::new();
    while outgoing.recv_many(&mut batch, OUTGOING).await > 0 {
        for item in batch.drain(..) {
            match item {
                Outgoing::Frame(frame) => frame.encode(&mut buffer),
                Outgoing::Reply(stream) => {
                    let block = compressor.pack(&Headers::default())?.into();
                    Frame::SynReply { stream, fin: false, block }.encode(&mut buffer);
                }
            }
        }
        io.write_all_buf(&mut buffer).await?;
        io.flush().await?;
    }
    Ok(())
}

async fn read(
    io: impl AsyncRead,
    outgoing: &mpsc::Sender<Outgoing>,
    opened: &mpsc::Sender<Opened>,
) -> Result<(), ConnectionError> {
    let mut io = std::pin::pin!(io);
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut streams = Streams { open: HashMap::new(), last: 0, unpacking: Decompressor::new(), outgoing, opened };
    loop {
        while let Some(frame) = frame::decode(&mut buffer)? {
            if streams.take(frame).await?.is_none() {
                return Ok(());
            }
        }
        if io.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// The reading side's view of the streams.
struct Streams<'a> {
    /// Those that the client has neither finished nor reset.
    open: HashMap<u32, mpsc::Sender<Incoming>>,
    /// The newest one's number.
    last: u32,
    unpacking: Decompressor,
    outgoing: &'a mpsc::Sender<Outgoing>,
    opened: &'a mpsc::Sender<Opened>,
}

impl Streams<'_> {
    /// Acts on one frame. `None` ends the connection.
    async fn take(&mut self, frame: Frame) -> Result<Option<()>, ConnectionError> {
        match frame {
            Frame::SynStream { stream, fin, block } => {
                // Even that of a refused stream has to be read, for the next to be readable.
                let headers = self.unpacking.unpack(&block)?;
                return Ok(self.open(stream, fin, headers).await);
            }
            Frame::SynReply { block, .. } => drop(self.unpacking.unpack(&block)?),
            Frame::Headers { stream, fin, block } => {
                self.unpacking.unpack(&block)?;
                self.received(stream, Bytes::new(), fin).await;
            }
            Frame::Data { stream, fin, data } => self.received(stream, data, fin).await,
            Frame::Reset { stream, .. } => {
                // Its reader sees the end of the queue.
                self.open.remove(&stream);
            }
            // The client numbers its own with odd numbers; even ones would be answers to ours.
            Frame::Ping { id } if id % 2 == 1 => return Ok(self.put(Outgoing::Frame(Frame::Ping { id })).await),
            Frame::GoAway { .. } => return Ok(None),
            Frame::Ping { .. } | Frame::Ignored { .. } => {}
        }
        Ok(Some(()))
    }

    async fn put(&self, item: Outgoing) -> Option<()> {
        self.outgoing.send(item).await.ok()
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: Headers) -> Option<()> {
        let refusal = if stream.is_multiple_of(2) || stream <= self.last {
            Some(PROTOCOL_ERROR)
        } else {
            self.last = stream;
            self.open.retain(|_, queue| !queue.is_closed());
            (self.open.len() >= MAX_STREAMS).then_some(REFUSED_STREAM)
        };
        if let Some(status) = refusal {
            return self.put(Outgoing::Frame(Frame::Reset { stream, status })).await;
        }
        let (queue, receiver) = mpsc::channel(QUEUE);
        self.open.insert(stream, queue);
        // Before anybody can write on it: clients drop data that comes before the reply.
        self.put(Outgoing::Reply(stream)).await?;
        let reader = StreamReader { queue: receiver, finished: false };
        let writer = StreamWriter { stream, outgoing: self.outgoing.clone() };
        self.opened.send(Opened { headers, reader, writer }).await.ok()?;
        if fin {
            self.received(stream, Bytes::new(), true).await;
        }
        Some(())
    }

    async fn received(&mut self, stream: u32, data: Bytes, fin: bool) {
        // One that is not there has ended; the client may not know yet.
        let Some(queue) = self.open.get(&stream) else { return };
        let mut delivered = data.is_empty() || queue.send(Incoming::Data(data)).await.is_ok();
        if fin {
            delivered &= queue.send(Incoming::Finished).await.is_ok();
        }
        if !delivered {
            self.open.remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::*;

    fn connected() -> (Client, mpsc::Receiver<Opened>, tokio::task::JoinHandle<Result<(), ConnectionError>>) {
        let (io, theirs) = tokio::io::duplex(64 << 10);
        let (sender, opened) = mpsc::channel(4);
        let task = tokio::spawn(run(theirs, sender));
        (Client::new(io), opened, task)
    }

    fn data(stream: u32, fin: bool, text: &'static str) -> Frame {
        Frame::Data { stream, fin, data: Bytes::from_static(text.as_bytes()) }
    }

    #[tokio::test]
    async fn streams_carry_both_directions_and_end_one_by_one() {
        let (mut client, mut opened, task) = connected();
        for number in [1, 3] {
            client.open(number, false, &[("number", &number.to_string())]).await;
            client.expect_reply(number).await;
        }
        let (mut one, mut three) = (opened.recv().await.unwrap(), opened.recv().await.unwrap());
        assert_eq!((one.headers.get("number"), three.headers.get("number")), (Some("1"), Some("3")));
        client.send(data(3, false, "up")).await;
        client.send(data(3, true, "")).await;
        assert_eq!(three.reader.next().await, Incoming::Data("up".into()));
        assert_eq!(three.reader.next().await, Incoming::Finished);
        one.writer.send("down".into()).await.unwrap();
        one.writer.finish().await.unwrap();
        assert_eq!(client.next().await, Some(data(1, false, "down")));
        assert_eq!(client.next().await, Some(data(1, true, "")));
        client.send(Frame::Reset { stream: 1, status: CANCEL }).await;
        assert_eq!(one.reader.next().await, Incoming::Reset);
        client.send(Frame::Ping { id: 7 }).await;
        assert_eq!(client.next().await, Some(Frame::Ping { id: 7 }));
        client.send(Frame::GoAway { last: 0, status: 0 }).await;
        assert_eq!(three.reader.next().await, Incoming::Reset);
        task.await.unwrap().unwrap();
        assert_eq!(client.next().await, None);
    }

    #[tokio::test]
    async fn a_stream_may_be_finished_from_the_start_and_nobody_need_read_it() {
        let (mut client, mut opened, _task) = connected();
        client.open(1, true, &[]).await;
        client.expect_reply(1).await;
        assert_eq!(opened.recv().await.unwrap().reader.next().await, Incoming::Finished);
        client.open(3, false, &[]).await;
        client.expect_reply(3).await;
        drop(opened.recv().await.unwrap());
        for _ in 0..2 * QUEUE {
            client.send(data(3, false, "nobody reads this")).await;
        }
        client.send(Frame::Ping { id: 1 }).await;
        assert_eq!(client.next().await, Some(Frame::Ping { id: 1 }));
    }

    #[tokio::test]
    async fn what_breaks_the_protocol_is_refused() {
        let (mut client, mut opened, task) = connected();
        client.open(3, false, &[]).await;
        client.expect_reply(3).await;
        client.open(3, false, &[]).await;
        assert_eq!(client.next().await, Some(Frame::Reset { stream: 3, status: PROTOCOL_ERROR }));
        // The compression of headers has not been disturbed.
        client.open(5, false, &[("number", "5")]).await;
        client.expect_reply(5).await;
        let _three = opened.recv().await.unwrap();
        assert_eq!(opened.recv().await.unwrap().headers.get("number"), Some("5"));
        client.send(Frame::SynStream { stream: 7, fin: false, block: Bytes::from_static(b"no zlib") }).await;
        assert!(matches!(task.await.unwrap(), Err(ConnectionError::Headers(_))));
    }
}
