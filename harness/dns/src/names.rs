//! External names and their answers, as the harness says them. Start at [`Names`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// External DNS names and what to answer for them. Names are absolute, without a final dot.
pub type Names = BTreeMap<String, NameAnswer>;

/// The answer to a DNS question for one external name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameAnswer {
    /// These addresses: IPv4 for A, IPv6 for AAAA. The other kind gets an empty answer.
    Addresses(Vec<IpAddr>),
    /// The name does not exist. Same as leaving it out, but says so in a record of the run.
    NxDomain,
}
