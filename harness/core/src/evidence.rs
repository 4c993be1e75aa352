//! What the four witnesses of one request said, as plain values.
//!
//! Everything serialises, so a recorded observation can be replayed later without a cluster. Nothing here judges:
//! [`crate::path`] joins the witnesses, [`crate::check`] compares. Start at [`Observation`].

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that was seen of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The probe's own token, carried in the `User-Agent`. `None`: unknown (an old recording).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What curl said. `None`: the answer never came back whole (no end mark).
    pub client: Option<ClientResult>,
    /// The client's pod.
    pub client_pod: PodSeen,
    /// Log lines of the client's sidecar after the probe's bookmark; `None` where the client has no sidecar.
    pub sidecar: Option<Vec<String>>,
    /// The egress gateway's pods, each with its log lines after the bookmark.
    #[serde(default)]
    pub gateways: Vec<GatewaySeen>,
    /// The external servers' records after the bookmark.
    #[serde(default)]
    pub servers: Vec<ServerRecord>,
    /// Set when no hop spoke and a later request of ours was seen in the same sidecar's log: silence is then proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<String>,
}

/// A pod, as far as correlation needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSeen {
    /// `namespace/name`.
    pub name: String,
    /// Its address. `None`: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
}

/// One gateway pod and what it logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaySeen {
    /// The pod.
    pub pod: PodSeen,
    /// Its log lines after the probe's bookmark.
    pub lines: Vec<String>,
}

/// What curl reported (`--write-out '%{json}'` and its outputs).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientResult {
    /// curl's exit code.
    pub exit: i32,
    /// HTTP status of the last response; `None` where there was none.
    pub status: Option<u16>,
    /// Response headers, in order, of the last response.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body, as (lossy) text, at most 64 KiB.
    #[serde(default)]
    pub body: String,
    /// Standard error, at most 64 KiB.
    #[serde(default)]
    pub stderr: String,
    /// curl's own socket. `None`: it had none, or it is unknown (an old recording).
    pub local: Option<SocketAddr>,
    /// The address that curl connected to.
    pub remote: Option<SocketAddr>,
    /// What a name was resolved to, where that was the probe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Total time in milliseconds.
    #[serde(default)]
    pub total_ms: f64,
    /// How many connections curl made; more than one makes the socket of the first unknown.
    #[serde(default)]
    pub connects: u32,
}

/// One entry of an external server's own record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// When, by the server's clock.
    pub time: Timestamp,
    /// Name of the destination.
    pub destination: String,
    /// The connection that it belongs to, unique within one server process.
    pub connection: u64,
    /// The server's own socket.
    pub local: SocketAddr,
    /// The peer that the server saw.
    pub peer: SocketAddr,
    /// What happened.
    pub event: ServerEvent,
}

/// What happened at an external server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ServerEvent {
    /// A connection was accepted.
    Connection,
    /// A TLS handshake was completed.
    Tls {
        /// The server name asked for.
        sni: Option<String>,
    },
    /// A TLS handshake failed.
    TlsError {
        /// The server name asked for, if it came that far.
        sni: Option<String>,
        /// Why it failed.
        message: String,
    },
    /// A request was read.
    Request {
        /// Method.
        method: String,
        /// Path with query.
        path: String,
        /// `Host` or `:authority`.
        host: Option<String>,
        /// Headers in order as received.
        headers: Vec<(String, String)>,
        /// The server name of the connection's handshake, which may have been before this probe.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sni: Option<String>,
    },
    /// First bytes on a raw TCP connection.
    Data {
        /// How many.
        bytes: u64,
        /// Their beginning, as lossy text.
        preview: String,
    },
    /// The connection ended.
    Closed,
}
