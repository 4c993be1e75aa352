//! Expectation against evidence: what a step promised, compared with what its witnesses said.
//!
//! Pure: nothing here waits, and nothing here decides on an outcome; every disagreement becomes a [`Finding`]. Start at
//! [`check`]; [`explain`](explain()) puts findings into words.

mod client;
mod explain;
mod finding;
mod hint;
mod path;
mod value;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::Observation;
use crate::path::{Joined, State};
use crate::scenario::schema::{ApplyExpect, Expect};

pub use explain::explain;
pub use finding::{Fault, Finding};
pub use hint::hint;

/// What addresses are called: the scenario's names for what a log line shows as an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// The names of the destinations at each address.
    pub destinations: BTreeMap<IpAddr, Vec<String>>,
    /// Addresses of the egress gateway's pods.
    pub gateways: Vec<IpAddr>,
}

/// Compares what a probe was expected to show with what was seen of it. No finding means that it held.
///
/// The expectation's variables are expanded already. What concerns objects and proxies of the cluster is not compared
/// here, because it is waited for; for what became of `apply` see [`check_apply`].
///
/// A client whose answer never came back whole, and a path that could not be joined, are findings against the
/// harness: they say nothing about the mesh, and the caller must not take them for a verdict on it.
#[must_use]
pub fn check(expect: &Expect, observation: &Observation, joined: &Joined, directory: &Directory) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(client) = &expect.client {
        client::compare(client, observation, &mut findings);
    }
    if let Some(hops) = &expect.path {
        match &joined.state {
            State::Closed => path::compare(hops, observation, joined, directory, &mut findings),
            State::Open { waiting_for } => findings.push(Finding {
                what: "path".into(),
                expected: "a complete path".into(),
                seen: format!("no end of it: still waiting for {waiting_for}"),
                at: observation.client_pod.name.clone(),
                fault: Fault::Harness,
            }),
            State::Inconclusive { why } => findings.push(Finding {
                what: "path".into(),
                expected: "a path that can be told apart from others".into(),
                seen: format!("none: {why}"),
                at: observation.client_pod.name.clone(),
                fault: Fault::Harness,
            }),
        }
    }
    findings
}

/// Compares what became of `apply` with what was expected: `refusals` are the messages with which the API server, or
/// Istio's validation, refused objects.
///
/// Without an expectation every refusal is a finding against the environment, because the step never came to be as the
/// scenario has it.
#[must_use]
pub fn check_apply(expect: Option<&ApplyExpect>, refusals: &[String]) -> Vec<Finding> {
    use crate::scenario::matcher::Seen;

    let finding = |expected: String, seen: String, fault| Finding {
        what: "apply".into(),
        expected,
        seen,
        at: "the API server".into(),
        fault,
    };
    match expect {
        None => refusals
            .iter()
            .map(|message| finding("accepted".into(), format!("refused: {message}"), Fault::Environment))
            .collect(),
        Some(expect) if refusals.iter().any(|message| expect.rejected.accepts(&Seen::Text(message.into()))) => {
            Vec::new()
        }
        Some(expect) => {
            let seen =
                if refusals.is_empty() { "accepted".into() } else { format!("refused: {}", refusals.join("; ")) };
            vec![finding(format!("refused with a message: {}", expect.rejected), seen, Fault::Mesh)]
        }
    }
}
