//! The streams of an exec as streams of one SPDY connection: how clients and API servers ask that do not use WebSocket.
//!
//! Start at [`session`].

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::super::super::context::Node;
use super::super::super::registry::ExecTarget;
use super::super::spdy::{Incoming, Opened, StreamReader, connection};
use super::super::streams::Stream;
use super::program::{self, Output};
use super::{Wanted, resize};

/// What is spoken. Every client since Kubernetes 1.4 knows it.
pub(super) const PROTOCOL: &str = "v4.channel.k8s.io";
/// How long the client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);
/// How long it may take to leave once it has got everything.
const LEAVING: Duration = Duration::from_secs(10);
/// Longest line that says a size.
const MAX_LINE: usize = 1 << 10;

/// Runs a program for the client at the other end.
pub(super) async fn session(node: Arc<Node>, target: ExecTarget, wanted: Wanted, io: impl AsyncRead + AsyncWrite) {
    let (sender, opened) = mpsc::channel(8);
    let mut serving = std::pin::pin!(serve(&node, &target, &wanted, opened));
    tokio::select! {
        () = &mut serving => return,
        ended = connection::run(io, sender) => if let Err(error) = ended {
            tracing::debug!(%error, "exec ended");
        },
    }
    // Its streams have ended with the connection, and what is left is to end the program.
    serving.await;
}

/// The streams of one client.
#[derive(Debug, Default)]
struct Client {
    error: Option<Opened>,
    stdin: Option<Opened>,
    stdout: Option<Opened>,
    stderr: Option<Opened>,
    resize: Option<Opened>,
}

impl Client {
    /// Takes streams until all are there that the request has named. `None` if the client does not open them.
    async fn open(wanted: &Wanted, opened: &mut mpsc::Receiver<Opened>) -> Option<Self> {
        let mut client = Self::default();
        while !client.is_complete(wanted) {
            let stream = opened.recv().await?;
            let place = match stream.headers.get("streamtype")? {
                "error" => &mut client.error,
                "stdin" => &mut client.stdin,
                "stdout" => &mut client.stdout,
                "stderr" => &mut client.stderr,
                "resize" => &mut client.resize,
                _ => return None,
            };
            *place = Some(stream);
        }
        Some(client)
    }

    fn is_complete(&self, wanted: &Wanted) -> bool {
        self.error.is_some()
            && self.stdin.is_some() == wanted.input
            && self.stdout.is_some() == wanted.output
            && self.stderr.is_some() == (wanted.error && !wanted.tty)
            && self.resize.is_some() == wanted.tty
    }
}

async fn serve(node: &Node, target: &ExecTarget, wanted: &Wanted, mut opened: mpsc::Receiver<Opened>) {
    let Ok(Some(client)) = tokio::time::timeout(OPENING, Client::open(wanted, &mut opened)).await else {
        return tracing::debug!(?wanted, "exec: the client did not open its streams");
    };
    let Client { error: Some(mut error), stdin, stdout, stderr, resize } = client else { return };
    let (stdin, stdin_writer) = stdin.map(|stream| (stream.reader, stream.writer)).unzip();
    let [stdout, stderr] = [stdout, stderr].map(|stream| stream.map(|stream| Arc::new(stream.writer)));
    let status = match program::start(node, target, wanted).await {
        Ok((running, streams)) => {
            let outputs = [&stdout, &stderr].map(|writer| writer.clone().map(Output::Stream));
            let (resizes, terminal) = (resize.map(|stream| stream.reader), streams.terminal);
            let input = async {
                tokio::select! {
                    () = gone(&mut error.reader) => {}
                    ((), ()) = async { tokio::join!(feed(stdin, streams.stdin), resize_by(resizes, terminal)) } => {}
                }
            };
            program::attend(running, [streams.stdout, streams.stderr], outputs, input).await
        }
        Err(status) => Some(status),
    };
    let Some(status) = status else { return };
    for writer in [stdout, stderr, stdin_writer.map(Arc::new)].into_iter().flatten() {
        let _ = writer.finish().await;
    }
    let _ = error.writer.send(status.to_string().into()).await;
    let _ = error.writer.finish().await;
    // Closing before the client does would cut off what is still on its way.
    let _ = tokio::time::timeout(LEAVING, gone(&mut error.reader)).await;
}

/// Waits until the client has ended a stream on which it sends nothing.
async fn gone(reader: &mut StreamReader) {
    while reader.next().await != Incoming::Reset {}
}

/// Passes on what the client sends to the program. Ends when the client is gone.
async fn feed(reader: Option<StreamReader>, mut stdin: Option<Arc<Stream>>) {
    let Some(mut reader) = reader else { return std::future::pending().await };
    loop {
        match reader.next().await {
            Incoming::Data(data) => {
                if let Some(stream) = &stdin
                    && stream.write_all(&data).await.is_err()
                {
                    // The program has closed its input; it may go on.
                    stdin = None;
                }
            }
            Incoming::Finished => stdin = None,
            Incoming::Reset => return,
        }
    }
}

/// Gives the terminal the sizes that the client sends, one to a line. Ends when the client is gone.
async fn resize_by(reader: Option<StreamReader>, terminal: Option<Arc<Stream>>) {
    let Some(mut reader) = reader else { return std::future::pending().await };
    let mut text = Vec::new();
    loop {
        match reader.next().await {
            Incoming::Data(data) => text.extend_from_slice(&data),
            Incoming::Finished => {}
            Incoming::Reset => return,
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            resize(terminal.as_deref(), &line);
        }
        if text.len() > MAX_LINE {
            return;
        }
    }
}
