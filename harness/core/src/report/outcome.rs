//! The verdict of a step or a scenario, how verdicts combine, and the exit code that they lead to.
//!
//! Nothing here looks at evidence: [`crate::check`] finds faults, the runner turns them into an [`Outcome`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{Report, StepResult};

/// What became of a step or a scenario. Why it did is a text of its own beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything that was expected was seen.
    #[default]
    Passed,
    /// The mesh broke the promise.
    Failed,
    /// It failed, and then passed on the one repetition that classifies a failure. Not conformant.
    Flaky,
    /// No observation that could be trusted, neither for nor against.
    Inconclusive,
    /// Left out on purpose: the mesh's version, the selection, or an earlier step that did not hold.
    Skipped,
    /// The cluster lacks a capability that it requires.
    Unsupported,
    /// The environment or the harness went wrong, so that nothing is known about the mesh.
    Errored,
}

impl Outcome {
    /// Every outcome, in the order in which totals name them.
    pub const ALL: [Self; 7] = [
        Self::Passed,
        Self::Failed,
        Self::Flaky,
        Self::Inconclusive,
        Self::Errored,
        Self::Skipped,
        Self::Unsupported,
    ];

    /// The word that reports use.
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

    /// Whether a run with this outcome has something to explain: it ran and did not pass.
    #[must_use]
    pub fn needs_explanation(self) -> bool {
        matches!(self, Self::Failed | Self::Flaky | Self::Inconclusive | Self::Errored)
    }

    /// Which of several outcomes decides: the higher one.
    ///
    /// `failed` comes first, because a broken promise that was seen stays broken whatever else went wrong. `flaky`
    /// comes next as the second finding against the mesh. `errored` and `inconclusive` say that something is not
    /// known, so they outrank what passed. A skipped step leaves the claim unproved, so it outranks what passed too.
    fn weight(self) -> u8 {
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

/// The outcome of a scenario from those of its steps.
///
/// The first that applies: `failed`, `flaky`, `errored`, `inconclusive`, `unsupported`, `skipped`, `passed`. Without
/// any step nothing was proved: that is `errored`, never `passed`.
#[must_use]
pub fn combine(steps: &[StepResult]) -> Outcome {
    steps.iter().map(|step| step.outcome).max_by_key(|outcome| outcome.weight()).unwrap_or(Outcome::Errored)
}

/// Exit code of an interrupted run (128 + SIGINT).
pub const EXIT_INTERRUPTED: u8 = 130;
/// Exit code where nothing was selected; bad usage and invalid scenarios have the same.
pub const EXIT_USAGE: u8 = 2;
/// Exit code where something failed or was flaky.
pub const EXIT_FAILED: u8 = 1;
/// Exit code where something errored or was inconclusive.
pub const EXIT_ERRORED: u8 = 3;

impl Report {
    /// The exit code of the run, the first that applies: 130 interrupted, 2 nothing was selected, 1 something failed
    /// or was flaky, 3 something errored or was inconclusive, 0.
    ///
    /// Skipped and unsupported scenarios do not count: whoever requires a capability turns its skips into errors.
    #[must_use]
    pub fn exit_code(&self, interrupted: bool) -> u8 {
        let any = |wanted: [Outcome; 2]| self.scenarios.iter().any(|scenario| wanted.contains(&scenario.outcome));
        if interrupted {
            EXIT_INTERRUPTED
        } else if self.scenarios.is_empty() {
            EXIT_USAGE
        } else if any([Outcome::Failed, Outcome::Flaky]) {
            EXIT_FAILED
        } else if any([Outcome::Errored, Outcome::Inconclusive]) {
            EXIT_ERRORED
        } else {
            0
        }
    }
}
