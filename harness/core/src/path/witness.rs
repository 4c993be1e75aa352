//! All witnesses of one observation, read and ready to be joined.

use std::net::{IpAddr, SocketAddr};

use super::connection::{Connection, connections};
use super::model::{JoinedBy, Leftover, PeerOf, ProxySeen, canonical, canonical_ip};
use crate::access_log::{Format, Record};
use crate::evidence::{Observation, PodSeen};

/// One access-log line that fits its format.
pub(super) struct Line<'a> {
    pub(super) pod: &'a str,
    pub(super) pod_ip: Option<IpAddr>,
    pub(super) gateway: bool,
    pub(super) text: &'a str,
    pub(super) record: Record,
    /// Whether it is on the path.
    pub(super) used: bool,
}

/// What there is to join.
pub(super) struct Witnesses<'a> {
    pub(super) observation: &'a Observation,
    pub(super) token: Option<&'a str>,
    /// curl's own socket.
    pub(super) local: Option<SocketAddr>,
    pub(super) client_ip: Option<IpAddr>,
    pub(super) gateway_ips: Vec<IpAddr>,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) connections: Vec<Connection<'a>>,
    pub(super) unparsed: Vec<Leftover>,
}

impl<'a> Witnesses<'a> {
    pub(super) fn read(observation: &'a Observation, format: &Format) -> Self {
        let local = observation.client.as_ref().and_then(|c| c.local).map(canonical);
        let client_ip = observation.client_pod.ip.map(canonical_ip).or(local.map(|s| s.ip()));
        let mut witnesses = Self {
            observation,
            token: observation.token.as_deref(),
            local,
            client_ip,
            gateway_ips: observation.gateways.iter().filter_map(|g| g.pod.ip).map(canonical_ip).collect(),
            lines: Vec::new(),
            connections: connections(&observation.servers),
            unparsed: Vec::new(),
        };
        // A later request of ours that only proves the silence before it.
        let sentinel = observation.sentinel.as_deref();
        let sidecar = observation.sidecar.as_deref().unwrap_or_default();
        let sidecar = sidecar.iter().filter(|line| Some(line.as_str()) != sentinel);
        witnesses.add(&observation.client_pod, client_ip, false, sidecar, format);
        for gateway in &observation.gateways {
            witnesses.add(&gateway.pod, gateway.pod.ip.map(canonical_ip), true, gateway.lines.iter(), format);
        }
        witnesses
    }

    fn add(
        &mut self,
        pod: &'a PodSeen,
        pod_ip: Option<IpAddr>,
        gateway: bool,
        lines: impl Iterator<Item = &'a String>,
        format: &Format,
    ) {
        for line in lines {
            match format.parse(line) {
                Ok(record) => {
                    self.lines.push(Line { pod: &pod.name, pod_ip, gateway, text: line, record, used: false });
                }
                // Proxies write other things to the same stream (Envoy's own log); they are kept and shown.
                Err(error) => self.unparsed.push(Leftover::Line {
                    pod: pod.name.clone(),
                    line: line.clone(),
                    why: format!(
                        "does not fit the access-log format at byte {}: expected {}",
                        error.at, error.expected
                    ),
                }),
            }
        }
    }

    /// Whether a line carries the token. `None`: the line shows no user agent, or the token is unknown.
    pub(super) fn token_in(&self, line: &Line<'_>) -> Option<bool> {
        Some(line.record.get("user_agent")?.contains(self.token?))
    }

    /// Whose address this is.
    pub(super) fn owner(&self, ip: IpAddr) -> PeerOf {
        if self.client_ip == Some(ip) {
            PeerOf::Client
        } else if self.gateway_ips.contains(&ip) {
            PeerOf::Gateway
        } else {
            PeerOf::Other
        }
    }
}

impl Line<'_> {
    pub(super) fn downstream(&self) -> Option<SocketAddr> {
        self.record.downstream_remote_address()
    }

    pub(super) fn seen(&self, joined_by: JoinedBy) -> ProxySeen {
        ProxySeen { pod: self.pod.to_owned(), record: self.record.clone(), line: self.text.to_owned(), joined_by }
    }
}
