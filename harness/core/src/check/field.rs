//! The fields of a hop as matchers see them.

use super::client::header;
use super::finding::Directory;
use crate::path::{DestinationSeen, PeerOf, ProxySeen};
use crate::scenario::matcher::{Matcher, Seen};
use crate::scenario::schema::{DestinationHop, Got, ProxyHop, Source};

/// One field that is not as expected.
pub(super) struct Mismatch {
    pub(super) field: String,
    pub(super) expected: String,
    pub(super) seen: String,
}

/// The full name of a field that a scenario may write short.
fn full_name(field: &str) -> &str {
    match field {
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

/// What a proxy's line says otherwise than expected.
pub(super) fn proxy(expect: &ProxyHop, seen: &ProxySeen, directory: &Directory) -> Vec<Mismatch> {
    let mismatch = |field: &str, matcher: &Matcher, seen: String| Mismatch {
        field: field.to_owned(),
        expected: matcher.to_string(),
        seen,
    };
    let mut found = Vec::new();
    for (field, matcher) in &expect.fields {
        if field == "upstream" {
            let names = upstream(seen, directory);
            if !one_accepted(matcher, &names) {
                found.push(mismatch(field, matcher, described(&names)));
            }
            continue;
        }
        let value = match full_name(field) {
            "response_flags" => Seen::Set(seen.record.flags().into_iter().map(Into::into).collect()),
            name => seen.record.get(name).map_or(Seen::Absent, |value| Seen::Text(value.into())),
        };
        if !matcher.accepts(&value) {
            found.push(mismatch(field, matcher, value.to_string()));
        }
    }
    found
}

/// Everything that the upstream may be called: names, the address with its port, the address.
fn upstream(seen: &ProxySeen, directory: &Directory) -> Vec<String> {
    let Some(text) = seen.record.get("upstream_host") else { return Vec::new() };
    let Some(socket) = seen.record.upstream_host() else { return vec![text.to_owned()] };
    let mut names: Vec<String> = directory.names(socket.ip()).into_iter().map(str::to_owned).collect();
    names.extend([socket.to_string(), socket.ip().to_string()]);
    names
}

/// Whether one of the names is what the matcher asks for; `not` asks that none is.
fn one_accepted(matcher: &Matcher, names: &[String]) -> bool {
    if let Matcher::Form(form) = matcher
        && let Some(inner) = &form.not
    {
        let rest = crate::scenario::matcher::Form { not: None, ..form.clone() };
        let rest_holds = rest == crate::scenario::matcher::Form::default() || one_accepted(&Matcher::Form(rest), names);
        return rest_holds && !one_accepted(inner, names);
    }
    if names.is_empty() {
        return matcher.accepts(&Seen::Absent);
    }
    names.iter().any(|name| matcher.accepts(&Seen::Text(name.as_str().into())))
}

fn described(names: &[String]) -> String {
    match names {
        [] => "absent".to_owned(),
        [only] => only.clone(),
        [names @ .., socket, _] if !names.is_empty() => format!("{} ({socket})", names.join(", ")),
        [.., socket, _] => socket.clone(),
    }
}

/// What a server's record says otherwise than expected.
pub(super) fn destination(expect: &DestinationHop, seen: &DestinationSeen) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let mut note = |field: &str, expected: String, seen: String| {
        found.push(Mismatch { field: field.to_owned(), expected, seen });
    };
    if expect.name != seen.name {
        note("name", expect.name.clone(), seen.name.clone());
    }
    let got = expect.got.unwrap_or_default();
    if got != seen.got {
        let why = seen.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        note("got", got_name(got).to_owned(), format!("{}{why}", got_name(seen.got)));
    }
    let mut compare = |field: String, matcher: &Matcher, value: Seen<'_>| {
        if !matcher.accepts(&value) {
            note(&field, matcher.to_string(), value.to_string());
        }
    };
    let text = |value: &Option<String>| value.clone().map_or(Seen::Absent, |v| Seen::Text(v.into()));
    if let Some(matcher) = &expect.sni {
        compare("sni".to_owned(), matcher, text(&seen.sni));
    }
    if let Some(matcher) = &expect.host {
        compare("host".to_owned(), matcher, text(&seen.host));
    }
    for (name, matcher) in &expect.headers {
        compare(format!("headers.{name}"), matcher, header(&seen.headers, name));
    }
    if let Some(source) = expect.source {
        let same =
            matches!((source, seen.source), (Source::Client, PeerOf::Client) | (Source::Gateway, PeerOf::Gateway));
        if !same {
            let expected = if source == Source::Client { "client" } else { "gateway" };
            let who = match seen.source {
                PeerOf::Client => "client",
                PeerOf::Gateway => "gateway",
                PeerOf::Other => "somebody else",
            };
            note("source", expected.to_owned(), format!("{who} ({})", seen.peer));
        }
    }
    found
}

pub(super) fn got_name(got: Got) -> &'static str {
    match got {
        Got::Request => "request",
        Got::Connection => "connection",
        Got::TlsError => "tls-error",
    }
}
