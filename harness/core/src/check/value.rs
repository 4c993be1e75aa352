//! What a hop says about one field of an expectation, and whether a matcher takes it.
//!
//! Short forms of fields are resolved here, and addresses get the names that the scenario knows them by.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::Directory;
use crate::path::{PeerOf, ProxySeen};
use crate::scenario::matcher::{Form, Matcher, Seen};
use crate::scenario::schema::{Got, Source};

/// The name that `upstream` gives to a pod of the egress gateway.
const GATEWAY: &str = "gateway";

/// The field of Istio's JSON access log that a key of an expectation means.
pub(super) fn field_name(key: &str) -> &str {
    match key {
        "cluster" => "upstream_cluster",
        "flags" => "response_flags",
        "upstream" => "upstream_host",
        "sni" => "requested_server_name",
        "route" => "route_name",
        "code" => "response_code",
        "details" => "response_code_details",
        other => other,
    }
}

/// One observed value: every name that it goes by, and how it is shown.
pub(super) struct Value<'a> {
    names: Vec<Seen<'a>>,
    pub(super) shown: String,
}

impl<'a> Value<'a> {
    pub(super) fn absent() -> Self {
        Self { names: vec![Seen::Absent], shown: Seen::Absent.to_string() }
    }

    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        Self { shown: shorten(&text), names: vec![Seen::Text(text)] }
    }

    pub(super) fn optional(text: Option<impl Into<Cow<'a, str>>>) -> Self {
        text.map_or_else(Self::absent, Self::text)
    }

    /// A header by its name in any case; several values are joined as HTTP does it.
    pub(super) fn header(headers: &'a [(String, String)], name: &str) -> Self {
        let values: Vec<&str> =
            headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect();
        match values[..] {
            [] => Self::absent(),
            [one] => Self::text(one),
            _ => Self::text(values.join(", ")),
        }
    }

    /// What a proxy's line says about a key of an expectation.
    pub(super) fn proxy(proxy: &'a ProxySeen, key: &str, directory: &Directory) -> Self {
        let field = field_name(key);
        if field == "response_flags" {
            let seen = Seen::Set(proxy.record.flags().into_iter().map(Cow::Borrowed).collect());
            return Self { shown: seen.to_string(), names: vec![seen] };
        }
        match proxy.record.get(field) {
            Some(host) if key == "upstream" => Self::upstream(host, directory),
            value => Self::optional(value),
        }
    }

    fn upstream(host: &'a str, directory: &Directory) -> Self {
        let ip = host.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| host.parse::<IpAddr>());
        let Ok(ip) = ip.map(|ip| ip.to_canonical()) else { return Self::text(host) };
        let known = names_of(ip, directory);
        let shown = if known.is_empty() { host.to_owned() } else { format!("{} ({host})", known.join(", ")) };
        let names = known.into_iter().chain([host.to_owned(), ip.to_string()]);
        Self { names: names.map(|name| Seen::Text(name.into())).collect(), shown }
    }

    /// Whether the matcher takes it: under some name, and a `not` under every name.
    pub(super) fn fits(&self, matcher: &Matcher) -> bool {
        if let Matcher::Form(form @ Form { not: Some(inner), .. }) = matcher {
            let rest = Form { not: None, ..form.clone() };
            return !self.fits(inner) && (rest == Form::default() || self.fits(&Matcher::Form(rest)));
        }
        self.names.iter().any(|name| matcher.accepts(name))
    }
}

/// What the scenario calls an address.
fn names_of(ip: IpAddr, directory: &Directory) -> Vec<String> {
    let mut names = directory.destinations.get(&ip).cloned().unwrap_or_default();
    if directory.gateways.iter().any(|gateway| gateway.to_canonical() == ip) {
        names.push(GATEWAY.to_owned());
    }
    names
}

/// At most this many characters of a value are shown.
const SHOWN: usize = 240;

/// A value as it is shown: on one line, and not too long.
pub(super) fn shorten(text: &str) -> String {
    let line = text.lines().map(str::trim_end).collect::<Vec<_>>().join(" ⏎ ");
    let count = line.chars().count();
    if line.trim().is_empty() {
        return format!("{text:?}");
    }
    if count <= SHOWN {
        return line;
    }
    format!("{}… ({count} characters)", line.chars().take(SHOWN).collect::<String>())
}

pub(super) fn got(got: Got) -> &'static str {
    match got {
        Got::Request => "request",
        Got::Connection => "connection",
        Got::TlsError => "tls-error",
    }
}

pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Client => "client",
        Source::Gateway => "gateway",
    }
}

pub(super) fn peer(peer: &PeerOf) -> &'static str {
    match peer {
        PeerOf::Client => "client",
        PeerOf::Gateway => "gateway",
        PeerOf::Other => "neither client nor gateway",
    }
}
