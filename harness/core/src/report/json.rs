//! `report.json`: the result model as it is, with secrets taken out, and back again.
//!
//! Reading refuses a report of another format version, and ignores fields it does not know. Start at [`to_json`].

use super::model::{Report, SCHEMA};
use super::redact::redact_value;

/// Why a report could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no JSON, or no report.
    #[error("expected a report as `report.json` holds it, but {0}; give the file that a run wrote")]
    Json(#[from] serde_json::Error),
    /// It is a report of another format version.
    #[error(
        "expected a report of format version {SCHEMA}, but this one has version {seen} and was written by {tool}; read it with that version of the tool"
    )]
    Schema {
        /// The version that it has.
        seen: u64,
        /// The tool that wrote it.
        tool: String,
    },
}

/// The report as JSON, indented, with a line break at the end. Totals are added for those who only count.
///
/// Secrets are taken out of every text ([`super::redact()`]).
#[must_use]
pub fn to_json(report: &Report) -> String {
    let mut value = serde_json::to_value(report).expect("the result model has only string keys");
    if let serde_json::Value::Object(fields) = &mut value {
        let totals = serde_json::to_value(report.totals()).expect("totals are numbers");
        fields.insert("totals".into(), totals);
    }
    redact_value(&mut value);
    let mut text = serde_json::to_string_pretty(&value).expect("a JSON value can be written");
    text.push('\n');
    text
}

/// Reads what [`to_json`] wrote. The totals are not trusted but counted anew ([`Report::totals`]).
///
/// # Errors
/// [`ReadError`], where the text is no report or has another format version.
pub fn from_json(text: &str) -> Result<Report, ReadError> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let seen = value.get("schema").and_then(serde_json::Value::as_u64);
    if let Some(seen) = seen
        && seen != u64::from(SCHEMA)
    {
        let tool = value.get("tool").and_then(serde_json::Value::as_str).unwrap_or("an unknown tool").to_owned();
        return Err(ReadError::Schema { seen, tool });
    }
    Ok(serde_json::from_value(value)?)
}
