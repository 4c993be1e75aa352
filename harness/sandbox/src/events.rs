//! What a sandbox tells its owner: progress while it starts, and faults of its components later.
//! Plain data, exchanged as JSON; nothing here acts.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Something that happened inside a sandbox, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A phase of the start began. Several run at once.
    PhaseStarted {
        /// Name of the phase, such as `API server`.
        phase: String,
    },
    /// A phase of the start ended well.
    PhaseFinished {
        /// Name of the phase, as in [`Event::PhaseStarted`].
        phase: String,
        /// How long it took, from its own beginning.
        elapsed: Duration,
    },
    /// A component ended although nobody asked it to. Also kept for
    /// [`Sandbox::take_faults`](crate::Sandbox::take_faults).
    Fault(ComponentFault),
}

/// A component that ended although nobody asked it to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentFault {
    /// Which one, such as `etcd`.
    pub name: String,
    /// How it ended, such as `exit status: 1` or `signal: 9 (SIGKILL)`.
    pub status: String,
    /// Last lines of its log, oldest first.
    pub last_lines: Vec<String>,
    /// Its whole log. It is gone once the sandbox has stopped, unless logs are kept.
    pub log: PathBuf,
}

impl std::fmt::Display for ComponentFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ended unexpectedly ({})", self.name, self.status)?;
        if self.last_lines.is_empty() {
            return write!(f, "; its log is empty: {}", self.log.display());
        }
        write!(f, "; the last lines of {}:", self.log.display())?;
        for line in &self.last_lines {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
