//! The result of a run: its model, its formats, and what follows from it.
//!
//! Writers only write; they print nothing, know no terminal (whether colour is wanted is told to them) and judge
//! nothing. Start at [`Report`]; then [`to_json`], [`to_junit`], [`text`] and [`compare`](compare()).

mod compare;
mod json;
mod junit;
mod model;
mod outcome;
mod redact;
mod render;
pub mod text;

pub use compare::{Change, Comparison, compare};
pub use json::{ReadError, from_json, to_json};
pub use junit::{JunitError, to_junit};
pub use model::{ClientSummary, ClusterInfo, Report, SCHEMA, ScenarioResult, StepResult, Totals};
pub use outcome::{EXIT_ERRORED, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, Outcome, combine};
pub use redact::{REDACTED, redact};
pub use render::render_path;
