//! A path as text, hop by hop with the log lines.

use std::fmt::Write;

use super::model::{DestinationSeen, Path, ProxySeen, SeenHop};
use crate::scenario::schema::Got;

/// The path hop by hop: what each said in short, how it was joined, and the line or record behind it.
#[must_use]
pub fn render_path(path: &Path) -> String {
    if path.hops.is_empty() {
        return "the request reached no hop\n".to_owned();
    }
    let mut text = String::new();
    for (n, hop) in path.hops.iter().enumerate() {
        let (joined_by, detail) = match hop {
            SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy) => (proxy.joined_by, proxy.line.clone()),
            SeenHop::Destination(seen) => (seen.joined_by, record_line(seen)),
        };
        let _ = writeln!(text, "{}. {} (joined by {})", n + 1, hop.summary(), joined_by.as_str());
        let _ = writeln!(text, "   {detail}");
    }
    text
}

impl SeenHop {
    /// The hop in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Sidecar(proxy) | Self::Gateway(proxy) => format!("{} {}", self.kind(), proxy.summary()),
            Self::Destination(seen) => format!("destination {}", seen.summary()),
        }
    }
}

impl ProxySeen {
    /// What the line says about the request: where it was sent, and how that ended.
    #[must_use]
    pub fn summary(&self) -> String {
        let field = |name| self.record.get(name);
        let mut words = vec![self.pod.clone()];
        if let Some(code) = self.record.response_code() {
            words.push(code.to_string());
        }
        words.extend(field("response_flags").map(|f| format!("flags {f}")));
        words.push(format!("cluster {}", field("upstream_cluster").unwrap_or("none")));
        words.extend(field("route_name").map(|r| format!("route {r}")));
        words.push(format!("upstream {}", field("upstream_host").unwrap_or("none")));
        words.join(", ")
    }
}

impl DestinationSeen {
    /// What the server saw, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut words = vec![format!("{} at {}", self.name, self.address)];
        words.push(match self.got {
            Got::Request => "got a request".to_owned(),
            Got::Connection => "got a connection without a readable request".to_owned(),
            Got::TlsError => "got a TLS handshake that failed".to_owned(),
        });
        if self.connections > 1 {
            words.push(format!("{} times", self.connections));
        }
        words.extend(self.sni.as_ref().map(|sni| format!("SNI {sni}")));
        words.push(format!("from {}", self.peer));
        words.join(", ")
    }
}

fn record_line(seen: &DestinationSeen) -> String {
    let mut line = String::new();
    if let (Some(method), Some(path)) = (&seen.method, &seen.path) {
        let _ = write!(line, "{method} {path}, Host {}", seen.host.as_deref().unwrap_or("none"));
        for (name, value) in seen.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            let _ = write!(line, "; {name}: {value}");
        }
    } else if let Some(error) = &seen.error {
        let _ = write!(line, "TLS: {error}");
    } else {
        line.push_str("no request was read");
    }
    line
}
