//! One access-log line as fields.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The fields of one line. A field that was `-`, null or empty is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record {
    fields: BTreeMap<String, String>,
}

impl Record {
    /// Sets a field; a value that stands for none (`-`, empty) removes it.
    pub fn set(&mut self, field: &str, value: &str) {
        if matches!(value, "" | "-") {
            self.fields.remove(field);
        } else {
            self.fields.insert(field.to_owned(), value.to_owned());
        }
    }

    /// A field's value, by the name of Istio's JSON access log.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(String::as_str)
    }

    /// All fields that are present, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The response flags, in the order of the line; their order varies and means nothing.
    #[must_use]
    pub fn flags(&self) -> Vec<&str> {
        self.get("response_flags").map(|flags| flags.split(',').collect()).unwrap_or_default()
    }

    /// Whether a response flag is set.
    #[must_use]
    pub fn has_flag(&self, flag: &str) -> bool {
        self.get("response_flags").is_some_and(|flags| flags.split(',').any(|f| f == flag))
    }

    /// A field that holds an address with a port. An IPv4 address mapped into IPv6 is given as IPv4.
    #[must_use]
    pub fn socket(&self, field: &str) -> Option<SocketAddr> {
        let socket: SocketAddr = self.get(field)?.parse().ok()?;
        Some(SocketAddr::new(socket.ip().to_canonical(), socket.port()))
    }

    /// Where the proxy sent the request, or tried to.
    #[must_use]
    pub fn upstream_host(&self) -> Option<SocketAddr> {
        self.socket("upstream_host")
    }

    /// The proxy's own socket towards upstream. `None`: no upstream connection was established.
    #[must_use]
    pub fn upstream_local_address(&self) -> Option<SocketAddr> {
        self.socket("upstream_local_address")
    }

    /// The peer's socket that the request came from.
    #[must_use]
    pub fn downstream_remote_address(&self) -> Option<SocketAddr> {
        self.socket("downstream_remote_address")
    }

    /// When the request or connection began. `None` where the format writes times in a form of its own.
    #[must_use]
    pub fn start_time(&self) -> Option<Timestamp> {
        self.get("start_time")?.parse().ok()
    }

    /// The response code; 0 and absent are both `None` (TCP, or no response).
    #[must_use]
    pub fn response_code(&self) -> Option<u16> {
        self.get("response_code")?.parse().ok().filter(|code| *code > 0)
    }

    /// Whether the line is about an HTTP request, and not about a TCP connection.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.get("method").is_some() || self.get("protocol").is_some()
    }
}

/// A line that does not fit the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("an access-log line does not fit the format: {expected} expected at byte {at}: {line}")]
pub struct Unparsed {
    /// The line.
    pub line: String,
    /// Where it stopped to fit, as a byte offset.
    pub at: usize,
    /// What should have been there.
    pub expected: String,
}
