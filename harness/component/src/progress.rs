//! What a caller hears while components are built or fetched.
//!
//! Never draws anything: the command line does. Start at [`Progress`].

use std::path::Path;
use std::time::Duration;

use crate::component::SourceKind;
use crate::name::ProgramName;

/// Receives events, possibly from several threads. A cached component causes none.
pub trait Progress: Send + Sync {
    /// One event; it should return quickly, since the work waits for it.
    fn event(&self, event: ProgressEvent<'_>);
}

/// A listener that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: ProgressEvent<'_>) {}
}

/// One thing that happened to one component.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ProgressEvent<'a> {
    /// Work on a missing component begins.
    Started {
        /// Which one.
        component: &'a ProgramName,
        /// Its pinned version.
        version: &'a str,
        /// Where it comes from.
        source: SourceKind,
        /// Its place among those missing, from 1.
        position: usize,
        /// How many are missing.
        total: usize,
    },
    /// Another process makes the same component; this one waits for it.
    Waiting {
        /// Which one.
        component: &'a ProgramName,
        /// Time since its start.
        elapsed: Duration,
        /// Who makes it, as that process wrote it down.
        holder: &'a str,
    },
    /// A new line of output or a new stage; repeated every few seconds when a tool is silent.
    Step {
        /// Which one.
        component: &'a ProgramName,
        /// Time since its start.
        elapsed: Duration,
        /// The last line of output, or what is being done.
        message: &'a str,
    },
    /// The component is in the cache, checked.
    Finished {
        /// Which one.
        component: &'a ProgramName,
        /// Time since its start.
        elapsed: Duration,
        /// Where it is.
        path: &'a Path,
        /// Its size in bytes.
        size: u64,
    },
}

/// The listener together with the component at work and its start time.
#[derive(Clone, Copy)]
pub(crate) struct Reporter<'a> {
    pub(crate) progress: &'a dyn Progress,
    pub(crate) component: &'a ProgramName,
    pub(crate) start: std::time::Instant,
}

impl Reporter<'_> {
    pub(crate) fn step(&self, message: &str) {
        self.progress.event(ProgressEvent::Step { component: self.component, elapsed: self.start.elapsed(), message });
    }

    pub(crate) fn waiting(&self, holder: &str) {
        self.progress.event(ProgressEvent::Waiting {
            component: self.component,
            elapsed: self.start.elapsed(),
            holder,
        });
    }
}
