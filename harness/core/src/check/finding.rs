//! One thing that is not as expected, and who is who on the network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, such as `client.exit` or `path[1].gateway.cluster`.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// Where it was seen: a pod and its log line, a server's record, the client.
    pub at: String,
    /// Who is to blame.
    pub fault: Fault,
}

/// Who is to blame for a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The mesh broke the promise.
    Mesh,
    /// The cluster or the world outside did not do its part.
    Environment,
    /// The harness itself.
    Harness,
}

/// Who has which address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The destinations at each address; several where one machine has several ports.
    pub destinations: BTreeMap<IpAddr, Vec<String>>,
    /// The addresses of the gateway's pods.
    pub gateways: Vec<IpAddr>,
}

impl Directory {
    /// All names of an address: destinations, and `gateway`.
    #[must_use]
    pub fn names(&self, address: IpAddr) -> Vec<&str> {
        let address = address.to_canonical();
        let mut names: Vec<_> = self.destinations.get(&address).into_iter().flatten().map(String::as_str).collect();
        if self.gateways.contains(&address) {
            names.push("gateway");
        }
        names
    }
}
