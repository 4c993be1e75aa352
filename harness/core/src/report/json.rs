//! The report as JSON, and back.

use serde::Deserialize;
use serde_json::Value;

use super::model::{Report, SCHEMA};
use super::redact::redact_value;

/// A report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no JSON, or no report.
    #[error("this is no report of egress-conformance: {0}")]
    NotAReport(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("the report has schema {found}, and this program reads up to {SCHEMA}: use a newer egress-conformance")]
    TooNew {
        /// Its schema.
        found: u32,
    },
}

/// The report as indented JSON, secrets removed, with its totals.
#[must_use]
pub fn to_json(report: &Report) -> String {
    let mut value = serde_json::to_value(report).expect("a report has string keys and finite numbers only");
    redact_value(&mut value);
    if let Value::Object(fields) = &mut value {
        let totals = serde_json::to_value(report.totals()).expect("totals are numbers");
        fields.insert("totals".to_owned(), totals);
    }
    let mut text = serde_json::to_string_pretty(&value).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// Reads a report. Keys that this version does not know are passed over.
///
/// # Errors
/// [`ReadError`] if it is none, or if its schema is newer than this program.
pub fn from_json(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let Head { schema } = serde_json::from_str(text)?;
    if schema > SCHEMA {
        return Err(ReadError::TooNew { found: schema });
    }
    Ok(serde_json::from_str(text)?)
}
