//! The supervisor's process: its home, its runtime, its sockets and signals.
//!
//! Carries messages and decides nothing. Start at [`main`].

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, FramedWrite};

use super::grants::Id;
use super::home::Home;
use super::keeper::{Input, Keeper};
use super::protocol::{self, Start, ToClient};

/// How long the last words may take to reach clients that do not read them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The whole life of a supervisor. `home` is the argument behind the hidden one.
pub(super) fn main(home: Option<OsString>) -> ! {
    let code = match home.ok_or_else(|| "it was started without its home".to_owned()).and_then(|h| live(&h)) {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("error: {message}");
            1
        }
    };
    std::process::exit(code)
}

fn live(home: &OsString) -> Result<(), String> {
    // Away from the client's terminal and its job: it serves others, too.
    let _ = nix::unistd::setsid();
    let home = Home::at(home.into());
    let lock = File::create(home.lock()).map_err(|e| format!("{}: {e}", home.lock().display()))?;
    lock.try_lock().map_err(|e| format!("{} is locked by another: {e}", home.lock().display()))?;
    let text = std::fs::read(home.start()).map_err(|e| format!("{}: {e}", home.start().display()))?;
    let start: Start = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", home.start().display()))?;
    let listening = std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("no socket: {e}"))?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("EGRESS_CONFORMANCE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let served = runtime.block_on(serve(listening.into(), &home, start));
    // Before the connections close: then a client that waited for the end finds nothing left.
    let _ = std::fs::remove_dir_all(home.path());
    runtime.shutdown_timeout(LAST_WORDS);
    drop(lock);
    served
}

async fn serve(listener: std::os::unix::net::UnixListener, home: &Home, start: Start) -> Result<(), String> {
    listener.set_nonblocking(true).map_err(|e| format!("the socket: {e}"))?;
    let listener = UnixListener::from_std(listener).map_err(|e| format!("the socket: {e}"))?;
    let mut term = signal(SignalKind::terminate()).map_err(|e| format!("signals: {e}"))?;
    let (inputs, mut said) = mpsc::unbounded_channel();
    let mut keeper = Keeper::new(home.clone(), start, inputs.clone());
    let mut writers: Vec<JoinHandle<()>> = Vec::new();
    let mut next: Id = 1;
    loop {
        let input = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let id = next;
                    next += 1;
                    writers.retain(|w| !w.is_finished());
                    let (to, writer) = converse(stream, id, &inputs);
                    writers.push(writer);
                    Input::Joined(id, to)
                }
                Err(error) => {
                    tracing::warn!("a client could not be accepted: {error}");
                    continue;
                }
            },
            Some(input) = said.recv() => input,
            _ = term.recv() => Input::Terminate,
        };
        if keeper.take(input).await.is_break() {
            break;
        }
    }
    drop(keeper);
    // A mesh that came up at this very moment.
    said.close();
    while let Some(input) = said.recv().await {
        if let Input::Up(up) = input
            && let Ok((mesh, ..)) = *up
            && let Err(error) = mesh.provider.stop().await
        {
            tracing::warn!("{error}");
        }
    }
    let _ = tokio::time::timeout(LAST_WORDS, futures::future::join_all(writers)).await;
    Ok(())
}

/// Reads what a client says, and writes what it is told.
fn converse(
    stream: UnixStream,
    id: Id,
    inputs: &mpsc::UnboundedSender<Input>,
) -> (mpsc::UnboundedSender<ToClient>, JoinHandle<()>) {
    let (read, write) = stream.into_split();
    let (to, mut messages) = mpsc::unbounded_channel::<ToClient>();
    let inputs = inputs.clone();
    tokio::spawn(async move {
        let mut frames = FramedRead::new(read, protocol::codec());
        while let Some(Ok(frame)) = frames.next().await {
            match protocol::decode(&frame) {
                Ok(message) => drop(inputs.send(Input::Said(id, message))),
                Err(error) => {
                    tracing::warn!("client {id} says what this build does not understand: {error}");
                    break;
                }
            }
        }
        let _ = inputs.send(Input::Left(id));
    });
    let writer = tokio::spawn(async move {
        let mut frames = FramedWrite::new(write, protocol::codec());
        while let Some(message) = messages.recv().await {
            if frames.send(protocol::encode(&message)).await.is_err() {
                break;
            }
        }
    });
    (to, writer)
}
