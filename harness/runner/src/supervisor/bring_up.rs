//! How a supervisor comes to its mesh: from a snapshot where there is one, else by an installation, which leaves a snapshot
//! for the next time.
//!
//! It decides nothing about who may use the mesh. Start at [`bring_up`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::keeper::Input;
use super::protocol::{ClusterStart, News, Start};
use crate::cluster::kind::KindProvider;
use crate::cluster::sandbox::SandboxProvider;
use crate::cluster::saved::{self, Shelf};
use crate::cluster::{EnvironmentError, Provider};
use crate::mesh::slot::Slot;
use crate::mesh::{Installed, Mesh, broken_off};
use crate::progress::Progress;

/// How long each step of a start from a snapshot may take: it is quick, or something is wrong with it.
const RESTORE_BOUND: Duration = Duration::from_secs(45);

/// Tells the keeper how the start goes.
#[derive(Clone)]
pub(super) struct Reporter(pub(super) UnboundedSender<Input>);

impl Progress for Reporter {
    fn working(&self, what: &str) {
        let _ = self.0.send(Input::News(News::Working(what.to_owned())));
    }

    fn phase(&self, what: &str, took: Duration) {
        let _ = self.0.send(Input::News(News::Phase(what.to_owned(), took)));
    }

    fn line(&self, text: &str) {
        let _ = self.0.send(Input::News(News::Line(text.to_owned())));
    }
}

type Came = (Mesh, Installed, Slot);

/// Brings a mesh up, unless `stop` comes first. What was made until then has ended when it returns.
pub(super) async fn bring_up(
    start: Start,
    reporter: Reporter,
    stop: CancellationToken,
) -> Result<Came, EnvironmentError> {
    let begun = Instant::now();
    let shelf = start.snapshots.clone().map(Shelf::at).zip(key(&start));
    if let Some((shelf, key)) = &shelf
        && let Some(found) = shelf.find(key)
    {
        let bound = start.timeout.min(RESTORE_BOUND);
        let resumed = async {
            let provider =
                provider(start.cluster.clone(), Some(found.cluster.clone()), bound, &reporter, &stop).await?;
            let istioctl = start.istioctl.clone();
            Mesh::resume(provider, istioctl, found.run.clone(), &start.profile, bound, &reporter, &stop).await
        };
        match resumed.await {
            Ok(up) => {
                reporter.phase("mesh up", begun.elapsed());
                return Ok(up);
            }
            // That says nothing about the snapshot.
            Err(error) if stop.is_cancelled() => return Err(error),
            Err(error) => {
                found.discard();
                let line = format!("warning: the saved mesh did not come up, so a new one is made: {error}");
                tracing::warn!("{line}");
                reporter.line(&line);
            }
        }
    }
    let provider = provider(start.cluster, None, start.timeout, &reporter, &stop).await?;
    let up = Mesh::up(provider, start.istioctl, &start.profile, start.timeout, &reporter, &stop).await?;
    reporter.phase("mesh up", begun.elapsed());
    if let Some((shelf, key)) = &shelf {
        // Now, because nobody has changed anything yet; it takes a moment only.
        let begun = Instant::now();
        match shelf.keep(key, up.0.objects.run(), &*up.0.provider).await {
            Ok(()) => reporter.phase("snapshot saved", begun.elapsed()),
            Err(error) => tracing::warn!("the next start will take as long as this one: {error}"),
        }
    }
    Ok(up)
}

/// The snapshot that this start could use. Only a sandbox can be saved.
fn key(start: &Start) -> Option<String> {
    match &start.cluster {
        ClusterStart::Sandbox(made) => {
            Some(saved::key(&made.programs, &made.kubernetes_version, &start.profile, made.overlays()))
        }
        ClusterStart::Kind(_) => None,
    }
}

async fn provider(
    cluster: ClusterStart,
    restore: Option<PathBuf>,
    timeout: Duration,
    reporter: &Reporter,
    stop: &CancellationToken,
) -> Result<Box<dyn Provider>, EnvironmentError> {
    let listener = reporter.clone();
    match cluster {
        ClusterStart::Sandbox(start) => {
            let listen = move |event| listener.sandbox_event(&event);
            tokio::select! {
                started = SandboxProvider::start(start, restore, timeout, listen) => Ok(Box::new(started?)),
                () = stop.cancelled() => Err(broken_off()),
            }
        }
        ClusterStart::Kind(start) => Ok(Box::new(KindProvider::start(start, timeout, listener, stop.clone()).await?)),
    }
}
