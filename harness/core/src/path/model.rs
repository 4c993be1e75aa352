//! What a joined path looks like. Everything serialises into the report.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::access_log::Record;
use crate::evidence::ServerRecord;
use crate::scenario::schema::Got;

/// What joining the witnesses of one request gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// The hops that were found, in order.
    pub path: Path,
    /// What was seen and is no part of the path.
    pub leftovers: Vec<Leftover>,
    /// Whether the path is all there is.
    pub state: State,
}

/// Whether a path is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Every hop is joined to the next, and the last one names no further.
    Closed,
    /// A witness points to something that has not been seen yet.
    Open {
        /// What is waited for.
        waiting_for: String,
    },
    /// More evidence would not help.
    Inconclusive {
        /// Why the path cannot be known.
        why: String,
    },
}

/// The hops of one probe, in order. Empty: the request never left the client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// The hops.
    pub hops: Vec<SeenHop>,
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hop", rename_all = "lowercase")]
pub enum SeenHop {
    /// The client's own sidecar.
    Sidecar(ProxySeen),
    /// A pod of the egress gateway.
    Gateway(ProxySeen),
    /// An external server.
    Destination(DestinationSeen),
}

/// One line of a proxy's access log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxySeen {
    /// The proxy's pod, `namespace/name`.
    pub pod: String,
    /// The line's fields.
    pub record: Record,
    /// The line.
    pub line: String,
    /// How the line was found to belong to the request.
    pub joined_by: JoinedBy,
}

/// What an external server saw: one request, or a connection without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationSeen {
    /// The destination's name.
    pub name: String,
    /// The server's own socket.
    pub address: SocketAddr,
    /// What arrived.
    pub got: Got,
    /// The server name that the TLS handshake asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The `Host` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The request's method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request's path, with the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The request's headers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Why a TLS handshake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The peer that the server saw.
    pub peer: SocketAddr,
    /// Whose address that is.
    pub source: PeerOf,
    /// How many connections look like this one: attempts of one proxy that all failed in the same way are one hop.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub connections: u32,
    /// How the record was found to belong to the request.
    pub joined_by: JoinedBy,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

/// Whose address a server saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerOf {
    /// The client's pod, with or without its sidecar.
    Client,
    /// A pod of the egress gateway.
    Gateway,
    /// Somebody else: a node that masquerades, or an unknown proxy.
    Other,
}

/// How a witness was joined to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinedBy {
    /// Both name the same socket.
    #[serde(rename = "sockets")]
    Sockets,
    /// Both name the same socket, and it carries the probe's token.
    #[serde(rename = "sockets+token")]
    SocketsAndToken,
    /// It carries the probe's token; no socket joins it.
    #[serde(rename = "token")]
    Token,
    /// By what is left: the pod and the time. Nothing rests on it alone.
    #[serde(rename = "unknown")]
    Unknown,
}

impl JoinedBy {
    /// As it stands in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::SocketsAndToken => "sockets+token",
            Self::Token => "token",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that was seen after the bookmark and is no part of the path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Leftover {
    /// A line of an access log.
    Line {
        /// The proxy's pod.
        pod: String,
        /// The line.
        line: String,
        /// Why it is none of the path's.
        why: String,
    },
    /// A connection in an external server's record.
    Connection {
        /// Its first record.
        record: ServerRecord,
        /// Why it is none of the path's.
        why: String,
    },
}

impl SeenHop {
    /// `sidecar`, `gateway` or `destination`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sidecar(_) => "sidecar",
            Self::Gateway(_) => "gateway",
            Self::Destination(_) => "destination",
        }
    }

    /// The proxy, where the hop is one.
    #[must_use]
    pub fn proxy(&self) -> Option<&ProxySeen> {
        match self {
            Self::Sidecar(proxy) | Self::Gateway(proxy) => Some(proxy),
            Self::Destination(_) => None,
        }
    }
}

/// Sockets are compared after this: an IPv4 address mapped into IPv6 is the IPv4 address.
pub(super) fn canonical(socket: SocketAddr) -> SocketAddr {
    SocketAddr::new(socket.ip().to_canonical(), socket.port())
}

pub(super) fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
