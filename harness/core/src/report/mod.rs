//! Results: one model, several ways to write it.
//!
//! [`Report`] serialises to JSON and reads back; text, JUnit, Markdown, the conformance report and comparisons are made from it.
//! Secrets are removed on the way out, by every writer. Nothing here runs or judges anything. Start at [`Report`].

mod compare;
mod conformance;
mod github;
mod json;
mod junit;
pub mod matrix;
mod model;
mod outcome;
mod redact;
#[cfg(test)]
mod tests;
pub mod text;

pub use compare::{Comparison, Difference, compare};
pub use conformance::to_conformance;
pub use github::to_github;
pub use json::{ReadError, from_json, to_json};
pub use junit::{JunitError, to_junit};
pub use model::{ClientSummary, ClusterInfo, Report, SCHEMA, ScenarioResult, StepResult, Totals};
pub use outcome::{Outcome, combine};
pub use redact::redact;

pub use crate::path::render_path;
