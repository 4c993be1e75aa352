//! What a caller hears while images are made. Start at [`ImageProgress`].

use std::path::Path;
use std::time::{Duration, Instant};

/// Receives events. What is cached causes none.
pub trait ImageProgress: Send + Sync {
    /// One event; it should return quickly, since the work waits for it.
    fn event(&self, event: ImageEvent<'_>);
}

/// A listener that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl ImageProgress for Silent {
    fn event(&self, _: ImageEvent<'_>) {}
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ImageEvent<'a> {
    /// Something missing is being made: a root file system, an archive.
    Started {
        /// What.
        what: &'a str,
    },
    /// Another process makes the same thing; this one waits for it.
    Waiting {
        /// What.
        what: &'a str,
        /// Who makes it, as that process wrote it down.
        holder: &'a str,
    },
    /// A new line of a tool's output, or a new stage.
    Step {
        /// What is being made.
        what: &'a str,
        /// Time since its start.
        elapsed: Duration,
        /// The line.
        message: &'a str,
    },
    /// It is in the cache.
    Finished {
        /// What.
        what: &'a str,
        /// Time since its start.
        elapsed: Duration,
        /// Where it is.
        path: &'a Path,
    },
}

/// The listener together with what is being made.
#[derive(Clone, Copy)]
pub(crate) struct Reporter<'a> {
    pub(crate) progress: &'a dyn ImageProgress,
    pub(crate) what: &'a str,
    pub(crate) start: Instant,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(progress: &'a dyn ImageProgress, what: &'a str) -> Self {
        Self { progress, what, start: Instant::now() }
    }

    pub(crate) fn started(&self) {
        self.progress.event(ImageEvent::Started { what: self.what });
    }

    pub(crate) fn step(&self, message: &str) {
        self.progress.event(ImageEvent::Step { what: self.what, elapsed: self.start.elapsed(), message });
    }

    pub(crate) fn finished(&self, path: &Path) {
        self.progress.event(ImageEvent::Finished { what: self.what, elapsed: self.start.elapsed(), path });
    }
}
