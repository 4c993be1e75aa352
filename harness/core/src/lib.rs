//! The pure core of egress-conformance: what a scenario says, what was observed, and whether the two agree.
//!
//! Nothing here does IO, knows the time, or knows which kind of cluster a run uses. Files are handed in as text,
//! observations as values; results come out as values.
//!
//! Start with [`scenario`] (what is promised), [`evidence`] (what was seen), [`path`] (how the four witnesses of one
//! request become one path), [`check`] (expectation against evidence) and [`report`] (the result model and its formats).

pub mod access_log;
pub mod catalogue;
pub mod check;
pub mod evidence;
pub mod path;
pub mod report;
pub mod scenario;
pub mod tutorial;
