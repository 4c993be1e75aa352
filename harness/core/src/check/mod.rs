//! Comparing: what a step expects against what was seen.
//!
//! [`check`] gives one [`Finding`] for everything that is not as expected, named by hop and field; none means that the
//! promise held. [`explain`] writes the findings up for a person. Nothing here decides an outcome: a path that is not
//! closed makes its findings worthless, which is for the caller to say. Start at [`check`].

mod align;
mod client;
mod diagnose;
mod explain;
mod field;
mod finding;
mod path;
#[cfg(test)]
mod tests;

pub use diagnose::{Diagnosis, diagnose};
pub use explain::explain;
pub use finding::{Directory, Fault, Finding};

use crate::evidence::Observation;
use crate::path::Joined;
use crate::scenario::schema::{ApplyExpect, Expect};

/// Compares what a probe's four witnesses said with the expectation, whose variables are expanded.
///
/// Only `client`, `path` and `paths` are looked at; what was applied is for [`check_apply`], and objects and proxies for whoever
/// can ask the cluster.
#[must_use]
pub fn check(expect: &Expect, observation: &Observation, joined: &Joined, directory: &Directory) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(expected) = &expect.client {
        findings.extend(client::check(expected, observation));
    }
    if let Some(expected) = path::expected(expect) {
        findings.extend(path::check(&expected, &joined.path, directory));
    }
    findings
}

/// Compares what became of `apply` with the expectation; `refused` has the message of each object that was refused.
#[must_use]
pub fn check_apply(expect: Option<&ApplyExpect>, refused: &[String]) -> Vec<Finding> {
    let finding = |expected: String, seen: &str| Finding {
        what: "apply".to_owned(),
        expected,
        seen: seen.to_owned(),
        at: "the API server".to_owned(),
        fault: Fault::Mesh,
    };
    let Some(ApplyExpect { rejected }) = expect else {
        return refused.iter().map(|message| finding("accepted".to_owned(), &format!("refused: {message}"))).collect();
    };
    let expected = || format!("refused with a message {rejected}");
    if refused.is_empty() {
        return vec![finding(expected(), "accepted")];
    }
    let accepted = |message: &&String| rejected.accepts(&crate::scenario::matcher::Seen::Text(message.as_str().into()));
    if refused.iter().any(|message| accepted(&message)) {
        return Vec::new();
    }
    refused.iter().map(|message| finding(expected(), &format!("refused: {message}"))).collect()
}
