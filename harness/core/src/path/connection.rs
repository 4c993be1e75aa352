//! The external servers' records, grouped by connection.

use std::net::SocketAddr;

use super::model::{DestinationSeen, JoinedBy, PeerOf, canonical};
use crate::evidence::{ServerEvent, ServerRecord};
use crate::scenario::schema::Got;

/// One connection that an external server accepted.
pub(super) struct Connection<'a> {
    pub(super) first: &'a ServerRecord,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) sni: Option<&'a str>,
    pub(super) tls_error: Option<&'a str>,
    pub(super) preview: Option<&'a str>,
    pub(super) closed: bool,
    pub(super) requests: Vec<Request<'a>>,
    /// Whether it is on the path, as a connection without a request.
    pub(super) used: bool,
}

/// One request on a connection.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) headers: &'a [(String, String)],
    /// Whether it is on the path.
    pub(super) used: bool,
}

/// Groups records by connection, in the order of the first record of each.
pub(super) fn connections(records: &[ServerRecord]) -> Vec<Connection<'_>> {
    let mut found: Vec<Connection<'_>> = Vec::new();
    for record in records {
        let same = |c: &Connection<'_>| {
            c.first.connection == record.connection
                && c.first.destination == record.destination
                && c.first.peer == record.peer
                && c.first.local == record.local
        };
        let at = found.iter().position(same).unwrap_or_else(|| {
            found.push(Connection {
                first: record,
                peer: canonical(record.peer),
                local: canonical(record.local),
                sni: None,
                tls_error: None,
                preview: None,
                closed: false,
                requests: Vec::new(),
                used: false,
            });
            found.len() - 1
        });
        found[at].add(&record.event);
    }
    found
}

impl<'a> Connection<'a> {
    fn add(&mut self, event: &'a ServerEvent) {
        match event {
            ServerEvent::Connection => {}
            ServerEvent::Tls { sni } => self.sni = sni.as_deref(),
            ServerEvent::TlsError { sni, message } => {
                self.sni = sni.as_deref();
                self.tls_error = Some(message);
            }
            ServerEvent::Request { method, path, host, headers, sni } => {
                self.sni = self.sni.or(sni.as_deref());
                self.requests.push(Request { method, path, host: host.as_deref(), headers, used: false });
            }
            ServerEvent::Data { preview, .. } => self.preview = Some(preview),
            ServerEvent::Closed => self.closed = true,
        }
    }

    /// Whether nothing more can come that would change what arrived.
    pub(super) fn settled(&self) -> bool {
        self.closed || self.tls_error.is_some() || self.preview.is_some() || !self.requests.is_empty()
    }

    /// Whether raw bytes on it carry the token.
    pub(super) fn carries(&self, token: &str) -> bool {
        self.preview.is_some_and(|text| text.contains(token))
    }

    /// The hop that a request of this connection is; without one, the hop that the connection itself is.
    pub(super) fn hop(&self, request: Option<&Request<'a>>, source: PeerOf, joined_by: JoinedBy) -> DestinationSeen {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        DestinationSeen {
            name: self.first.destination.clone(),
            address: self.local,
            got: match (request, self.tls_error) {
                (Some(_), _) => Got::Request,
                (None, Some(_)) => Got::TlsError,
                (None, None) => Got::Connection,
            },
            sni: owned(self.sni),
            host: owned(request.and_then(|r| r.host)),
            method: owned(request.map(|r| r.method)),
            path: owned(request.map(|r| r.path)),
            headers: request.map(|r| r.headers.to_vec()).unwrap_or_default(),
            error: owned(self.tls_error.filter(|_| request.is_none())),
            peer: self.peer,
            source,
            connections: 1,
            joined_by,
        }
    }
}

impl Request<'_> {
    /// Whether its `User-Agent` carries the token.
    pub(super) fn carries(&self, token: &str) -> bool {
        self.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("user-agent") && value.contains(token))
    }
}
