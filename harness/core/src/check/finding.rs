//! One disagreement between expectation and evidence, and whose fault it is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One disagreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was compared, such as `path[1].gateway.cluster`. Hops are counted from 0, as they are written.
    pub what: String,
    /// What the scenario expects, in the words of its matcher.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Where it was seen: a pod and its log line, or a server.
    pub at: String,
    /// Who broke it.
    pub fault: Fault,
}

/// Who broke what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The mesh: the promise that the scenario is about.
    Mesh,
    /// What the mesh runs in: the network, the API server, an external server.
    Environment,
    /// The harness: it did not see what it had to see.
    Harness,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mesh => "mesh",
            Self::Environment => "environment",
            Self::Harness => "harness",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, seen {}", self.what, self.expected, self.seen)?;
        if !self.at.is_empty() {
            write!(f, " ({})", self.at)?;
        }
        Ok(())
    }
}
