//! The host program: what runs inside the sandbox's namespaces and plays the machine.
//!
//! It brings up network, control plane, DNS and node, then answers the owner's requests until it
//! is told to stop. It never outlives its owner: pid 1 sees to that. Start at [`main`]; the order
//! of the start is in [`start`].

mod phases;
mod start;

use futures::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use crate::component::Components;
use crate::control_plane;
use crate::enter::Entered;
use crate::events::{ComponentFault, Event};
use crate::layout::Layout;
use crate::protocol::{self, Request, StartFailure, ToOwner, ToSandbox};
use crate::store::Store;
use phases::Phases;
use start::Cluster;

/// Runs until the sandbox ends; returns the exit code.
pub(crate) fn main(entered: Entered) -> i32 {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=off,hickory_server=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start a runtime");
            return 1;
        }
    };
    // The exit must not wait for blocking threads: the process ends, and all others with it.
    let code = runtime.block_on(run(entered));
    runtime.shutdown_background();
    code
}

async fn run(entered: Entered) -> i32 {
    let Entered { start, control, door } = entered;
    let control = control.set_nonblocking(true).and_then(|()| UnixStream::from_std(control));
    let (reader, writer) = match control {
        Ok(control) => control.into_split(),
        Err(error) => {
            tracing::error!(%error, "cannot use the control channel");
            return 1;
        }
    };
    let (outbox, queue) = mpsc::unbounded_channel();
    let sending = tokio::spawn(send_all(queue, FramedWrite::new(writer, protocol::codec())));
    let requests = FramedRead::new(reader, protocol::codec());
    let code = live(start, door, requests, &outbox).await;
    // Closed and drained, so that the last message arrives before the process ends.
    drop(outbox);
    let _ = sending.await;
    code
}

type Outbox = mpsc::UnboundedSender<ToOwner>;
type Requests = FramedRead<tokio::net::unix::OwnedReadHalf, LengthDelimitedCodec>;

async fn send_all(
    mut queue: mpsc::UnboundedReceiver<ToOwner>,
    mut to: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
) {
    while let Some(message) = queue.recv().await {
        if to.send(protocol::encode(&message)).await.is_err() {
            // The owner is gone, and pid 1 will notice.
            return;
        }
    }
}

async fn live(start: protocol::Start, door: std::net::TcpListener, requests: Requests, outbox: &Outbox) -> i32 {
    let stopping = CancellationToken::new();
    let (faulty, mut faults) = mpsc::unbounded_channel();
    let layout = Layout::new(&start.state);
    let components = Components::new(layout.clone(), faulty.clone(), stopping.clone());
    let phases = Phases::new(outbox.downgrade());
    let started = tokio::select! {
        started = start::start(start.options, layout.clone(), door, components, faulty, phases, stopping.clone()) => started,
        Some(fault) = faults.recv() => Err(StartFailure::Component(fault)),
    };
    match started {
        Ok(cluster) => {
            let _ = outbox.send(ToOwner::Ready);
            serve(cluster, &layout, requests, faults, outbox, stopping).await;
            0
        }
        Err(failure) => {
            stopping.cancel();
            let _ = outbox.send(ToOwner::Failed(failure));
            1
        }
    }
}

/// Answers requests and passes faults on, until the owner asks for the end or is gone.
async fn serve(
    cluster: Cluster,
    layout: &Layout,
    mut requests: Requests,
    mut faults: mpsc::UnboundedReceiver<ComponentFault>,
    outbox: &Outbox,
    stopping: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            Some(fault) = faults.recv() => {
                tracing::error!("{fault}");
                let _ = outbox.send(ToOwner::Event(Event::Fault(fault)));
                continue;
            }
        };
        let Some(Ok(body)) = request else { return };
        let ToSandbox { id, request } = match protocol::decode(&body) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, "a request could not be read");
                return;
            }
        };
        let (result, last) = match request {
            Request::SetNames(names) => {
                cluster.dns.set_names(&names);
                (Ok(()), false)
            }
            Request::SetOutsideAddresses(addresses) => {
                (cluster.network.set_outside_addresses(&addresses).await.map_err(|e| e.to_string()), false)
            }
            Request::Trust(authority) => (cluster.authorities.trust(authority.as_deref()), false),
            Request::SaveObjects => (save_objects(layout).await, false),
            Request::Stop => {
                stopping.cancel();
                cluster.node_ended().await;
                (Ok(()), true)
            }
        };
        let _ = outbox.send(ToOwner::Answer { id, result });
        if last {
            return;
        }
    }
}

async fn save_objects(layout: &Layout) -> Result<(), String> {
    let begin = std::time::Instant::now();
    let store = Store::at(control_plane::ETCD).map_err(|e| e.to_string())?;
    let count = store.dump(&layout.saved_objects()).await.map_err(|e| e.to_string())?;
    tracing::info!(count, elapsed = ?begin.elapsed(), "objects saved");
    Ok(())
}
