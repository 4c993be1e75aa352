//! Verdicts, and how they combine.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::StepResult;

/// What became of a step or a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The mesh kept the promise.
    Passed,
    /// The mesh broke the promise.
    Failed,
    /// It failed, and passed when tried again: reported, and not conformant.
    Flaky,
    /// There is no trustworthy observation. Also what holds as long as nothing else is said.
    #[default]
    Inconclusive,
    /// Not run, by choice.
    Skipped,
    /// Not run, because the cluster lacks a capability.
    Unsupported,
    /// The environment or the harness failed.
    Errored,
}

impl Outcome {
    /// As it stands in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Flaky => "flaky",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
            Self::Unsupported => "unsupported",
            Self::Errored => "errored",
        }
    }

    /// Every outcome, in the order in which totals are given.
    pub const ALL: [Self; 7] =
        [Self::Passed, Self::Failed, Self::Flaky, Self::Inconclusive, Self::Errored, Self::Skipped, Self::Unsupported];

    /// Which of two outcomes says more about the whole: a broken promise above all, then a flaky one, then what is not
    /// known, then what was not run.
    pub(super) fn weight(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Skipped => 1,
            Self::Unsupported => 2,
            Self::Inconclusive => 3,
            Self::Errored => 4,
            Self::Flaky => 5,
            Self::Failed => 6,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The outcome of a scenario from those of its steps: the weightiest. A scenario without steps proved nothing.
#[must_use]
pub fn combine(steps: &[StepResult]) -> Outcome {
    steps.iter().map(|step| step.outcome).max_by_key(|outcome| outcome.weight()).unwrap_or(Outcome::Inconclusive)
}
