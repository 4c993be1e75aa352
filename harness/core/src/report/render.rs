//! A path as text, hop by hop with the log lines.

use std::fmt::Write;

use super::redact::redact;
use crate::path::{DestinationSeen, Path, PeerOf, ProxySeen, SeenHop};
use crate::scenario::schema::Got;

/// The fields of a proxy's line that are shown before the line itself, with their titles.
const FIELDS: [(&str, &str); 8] = [
    ("cluster", "upstream_cluster"),
    ("upstream", "upstream_host"),
    ("route", "route_name"),
    ("host", "authority"),
    ("sni", "requested_server_name"),
    ("code", "response_code"),
    ("flags", "response_flags"),
    ("details", "response_code_details"),
];

/// The path hop by hop: where each hop sent it, how that ended, and the line or the server's record behind it.
///
/// Hops are counted from 0, as findings count them. Secrets are taken out. Ends with a line break.
#[must_use]
pub fn render_path(path: &Path) -> String {
    if path.hops.is_empty() {
        return "no hop saw the request\n".into();
    }
    let mut text = String::new();
    for (n, hop) in path.hops.iter().enumerate() {
        match hop {
            SeenHop::Sidecar(proxy) => proxy_lines(&mut text, n, "sidecar", proxy),
            SeenHop::Gateway(proxy) => proxy_lines(&mut text, n, "gateway", proxy),
            SeenHop::Destination(seen) => destination_lines(&mut text, n, seen),
        }
    }
    redact(&text).into_owned()
}

fn proxy_lines(text: &mut String, n: usize, kind: &str, proxy: &ProxySeen) {
    let _ = writeln!(text, "{n} {kind} {}", proxy.pod);
    let fields = FIELDS.iter().filter_map(|(title, field)| {
        let value = proxy.record.get(field)?;
        // TCP lines carry code 0, which says nothing.
        (value != "0").then(|| format!("{title} {value}"))
    });
    let _ = writeln!(text, "    {}", fields.collect::<Vec<_>>().join(", "));
    let _ = writeln!(text, "    | {}", proxy.line.trim_end());
}

fn destination_lines(text: &mut String, n: usize, seen: &DestinationSeen) {
    let _ = writeln!(text, "{n} destination {}", seen.name);
    let got = match seen.got {
        Got::Request => "a request",
        Got::Connection => "a connection without a readable request",
        Got::TlsError => "a TLS handshake that failed",
    };
    let whose = match seen.source {
        PeerOf::Client => "the client's pod",
        PeerOf::Gateway => "the gateway",
        PeerOf::Other => "neither client nor gateway",
    };
    let sni = seen.sni.as_ref().map(|sni| format!(", sni {sni}")).unwrap_or_default();
    let _ = writeln!(text, "    got {got} from {} ({whose}){sni}", seen.peer);
    if let (Some(method), Some(path)) = (&seen.method, &seen.path) {
        let _ = writeln!(text, "    | {method} {path}");
    }
    for (name, value) in &seen.headers {
        let value = if super::redact::is_secret_name(name) { "[redacted credentials]" } else { value };
        let _ = writeln!(text, "    | {name}: {value}");
    }
}
