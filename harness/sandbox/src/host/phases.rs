//! Times the phases of a start and tells the owner about each. Start at [`Phases::run`].

use std::fmt::Display;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::events::Event;
use crate::protocol::{StartFailure, ToOwner};

/// Reports phases. Weak, so that a task still holding it does not keep the channel open.
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    outbox: mpsc::WeakUnboundedSender<ToOwner>,
}

impl Phases {
    pub(super) fn new(outbox: mpsc::WeakUnboundedSender<ToOwner>) -> Self {
        Phases { outbox }
    }

    /// Runs one phase. Its error becomes the start's, under the phase's name.
    pub(super) async fn run<T, E: Display>(
        &self,
        phase: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StartFailure> {
        let begin = Instant::now();
        self.tell(Event::PhaseStarted { phase: phase.to_owned() });
        let value = work.await.map_err(|e| StartFailure::Phase { phase: phase.to_owned(), message: e.to_string() })?;
        let elapsed = begin.elapsed();
        tracing::info!(phase, ?elapsed, "phase finished");
        self.tell(Event::PhaseFinished { phase: phase.to_owned(), elapsed });
        Ok(value)
    }

    fn tell(&self, event: Event) {
        if let Some(outbox) = self.outbox.upgrade() {
            let _ = outbox.send(ToOwner::Event(event));
        }
    }
}
