//! The owner's end of the control channel: sends requests, matches answers, collects events.
//! Start at [`Channel::open`].

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::{SinkExt, StreamExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::ControlError;
use crate::events::{ComponentFault, Event};
use crate::layout;
use crate::options::Options;
use crate::protocol::{self, Request, Start, StartFailure, ToOwner, ToSandbox};

type Progress = Box<dyn Fn(Event) + Send + Sync>;
type Answer = Result<(), String>;

#[derive(Debug)]
pub(super) struct Channel {
    writer: tokio::sync::Mutex<FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>>,
    next: AtomicU64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// None once the sandbox is gone.
    waiting: Option<HashMap<u64, oneshot::Sender<Answer>>>,
    unfinished: Vec<String>,
    faults: Vec<ComponentFault>,
    /// It is ready, and nobody has asked it to end.
    running: bool,
}

impl Channel {
    /// Starts to listen. The receiver gets the outcome of the start, or closes when the sandbox
    /// ends without one.
    pub(super) fn open(
        control: UnixStream,
        log: PathBuf,
        progress: Progress,
    ) -> std::io::Result<(Channel, oneshot::Receiver<Result<(), StartFailure>>)> {
        control.set_nonblocking(true)?;
        let (reader, writer) = tokio::net::UnixStream::from_std(control)?.into_split();
        let shared = Arc::new(Mutex::new(Shared { waiting: Some(HashMap::new()), ..Shared::default() }));
        let (outcome, started) = oneshot::channel();
        tokio::spawn(listen(FramedRead::new(reader, protocol::codec()), shared.clone(), outcome, log, progress));
        let writer = tokio::sync::Mutex::new(FramedWrite::new(writer, protocol::codec()));
        Ok((Channel { writer, next: AtomicU64::new(0), shared }, started))
    }

    /// Sends the first message. If the other end is gone already, the outcome says so.
    pub(super) async fn begin(&self, options: Options, state: &Path) {
        let start = Start { options, state: state.to_owned() };
        let _ = self.writer.lock().await.send(protocol::encode(&start)).await;
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, request: Request) -> Result<(), ControlError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        if matches!(request, Request::Stop) {
            lock(&self.shared).running = false;
        }
        lock(&self.shared).waiting.as_mut().ok_or(ControlError::Gone)?.insert(id, sender);
        let message = protocol::encode(&ToSandbox { id, request });
        self.writer.lock().await.send(message).await.map_err(|_| ControlError::Gone)?;
        answer.await.map_err(|_| ControlError::Gone)?.map_err(ControlError::Refused)
    }

    pub(super) fn unfinished_phases(&self) -> Vec<String> {
        lock(&self.shared).unfinished.clone()
    }

    pub(super) fn take_faults(&self) -> Vec<ComponentFault> {
        std::mem::take(&mut lock(&self.shared).faults)
    }
}

async fn listen(
    mut reader: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    shared: Arc<Mutex<Shared>>,
    outcome: oneshot::Sender<Result<(), StartFailure>>,
    log: PathBuf,
    progress: Progress,
) {
    let mut outcome = Some(outcome);
    let mut decide = |result| outcome.take().map(|outcome| outcome.send(result));
    while let Some(Ok(body)) = reader.next().await {
        let Ok(message) = protocol::decode(&body) else { break };
        match message {
            ToOwner::Event(event) => {
                note(&mut lock(&shared), &event);
                progress(event);
            }
            ToOwner::Ready => {
                lock(&shared).running = true;
                drop(decide(Ok(())));
            }
            ToOwner::Failed(failure) => drop(decide(Err(failure))),
            ToOwner::Answer { id, result } => {
                let waiting = lock(&shared).waiting.as_mut().and_then(|waiting| waiting.remove(&id));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(result);
                }
            }
        }
    }
    let last_lines = layout::last_lines(&log, 15);
    let mut shared = lock(&shared);
    shared.waiting = None;
    if shared.running {
        // With the program inside end DNS, the node and every component.
        let (name, status) = ("the sandbox's own program".to_owned(), "it closed its connection".to_owned());
        shared.faults.push(ComponentFault { name, status, last_lines, log });
    }
}

fn note(shared: &mut Shared, event: &Event) {
    match event {
        Event::PhaseStarted { phase } => shared.unfinished.push(phase.clone()),
        Event::PhaseFinished { phase, .. } => shared.unfinished.retain(|other| other != phase),
        Event::Fault(fault) => shared.faults.push(fault.clone()),
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no code panics while it holds this")
}
