//! One step of a scenario as lines of text: the command, the way it takes, and what the client sees.
//!
//! Start at [`of`].

use std::collections::BTreeMap;

use crate::scenario::expect::{Got, Hop, Source};
use crate::scenario::matcher::Matcher;
use crate::scenario::schema::Step;
use crate::scenario::{Scenario, by_hand};

/// The lines; none for a step that neither sends nor looks at anything.
pub(super) fn of(scenario: &Scenario, step: &Step) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(probe) = &step.probe {
        let elsewhere = scenario.clients().get(&probe.from).and_then(|client| client.namespace.clone());
        let namespace = elsewhere.map_or("${namespace}".to_owned(), |name| format!("${{namespace.{name}}}"));
        lines.push(format!("$ {}", by_hand::command(&namespace, &probe.from, probe)));
        for path in step.expect.exchanges().unwrap_or_default() {
            lines.extend(way(&probe.from, path));
        }
    }
    if let Some(client) = &step.expect.client {
        let mut seen = Vec::new();
        let mut say = |name: &str, matcher: &Option<Matcher>| {
            if let Some(matcher) = matcher {
                seen.push(format!("{name} {matcher}"));
            }
        };
        say("exit", &client.exit);
        say("status", &client.status);
        say("body", &client.body);
        say("stderr", &client.stderr);
        say("remote", &client.remote);
        say("addresses", &client.addresses);
        seen.extend(client.headers.iter().map(|(name, matcher)| format!("{name}: {matcher}")));
        lines.push(format!("seen by the client: {}", seen.join(", ")));
    }
    for object in &step.expect.objects {
        let which = object.name.as_ref().or(object.selector.as_ref()).map_or("", String::as_str);
        lines.push(format!("{} {which}: {} is {}", object.kind, object.at, object.is));
    }
    for proxy in &step.expect.proxy {
        let (what, name) = match (&proxy.listener, &proxy.cluster) {
            (Some(name), _) => ("listener", name),
            (None, Some(name)) => ("cluster", name),
            (None, None) => continue,
        };
        let has = if proxy.present { "has" } else { "has no" };
        lines.push(format!("the proxy of {} {has} {what} {name}", proxy.of));
    }
    lines
}

/// A line for the client and one for each hop.
fn way(from: &str, path: &[Hop]) -> Vec<String> {
    let hops = path.iter().map(|hop| match hop {
        Hop::Sidecar(proxy) => place("sidecar", proxy.times.as_ref(), fields(&proxy.fields)),
        Hop::Gateway(proxy) => place("gateway", proxy.times.as_ref(), fields(&proxy.fields)),
        Hop::Destination(destination) => {
            let mut seen = Vec::new();
            seen.extend(match destination.got.unwrap_or_default() {
                Got::Request => None,
                Got::Connection => Some("a connection without a request".to_owned()),
                Got::TlsError => Some("a TLS handshake that fails".to_owned()),
            });
            seen.extend(destination.source.map(|source| match source {
                Source::Client => "from the client's address".to_owned(),
                Source::Gateway => "from the gateway's address".to_owned(),
            }));
            seen.extend(destination.sni.as_ref().map(|sni| format!("sni {sni}")));
            seen.extend(destination.host.as_ref().map(|host| format!("host {host}")));
            seen.extend(destination.headers.iter().map(|(name, matcher)| format!("{name}: {matcher}")));
            place(&destination.name, destination.times.as_ref(), seen)
        }
    });
    let mut lines = vec![from.to_owned()];
    lines.extend(hops.map(|hop| format!("──▶ {hop}")));
    if !matches!(path.last(), Some(Hop::Destination(_))) {
        lines.push("──✕".to_owned());
    }
    lines
}

/// What an access log must say, the most telling first.
fn fields(fields: &BTreeMap<String, Matcher>) -> Vec<String> {
    let rank = |name: &str| {
        ["cluster", "flags", "code", "route", "details", "upstream", "sni"].iter().position(|f| *f == name)
    };
    let mut fields: Vec<_> = fields.iter().filter(|(_, matcher)| matcher.to_string() != "absent").collect();
    fields.sort_by_key(|(name, _)| rank(name).unwrap_or(usize::MAX));
    fields.into_iter().map(|(name, matcher)| format!("{name} {matcher}")).collect()
}

fn place(name: &str, times: Option<&Matcher>, seen: Vec<String>) -> String {
    let times = times.map(|times| format!(" × {times}")).unwrap_or_default();
    let seen = if seen.is_empty() { String::new() } else { format!(": {}", seen.join(", ")) };
    format!("{name}{times}{seen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_reaches_nobody_ends_with_a_cross() {
        let hops: Vec<Hop> =
            serde_saphyr::from_str("[{sidecar: {upstream: absent, flags: [UH], cluster: X}}]").unwrap();
        assert_eq!(way("meshed", &hops), ["meshed", "──▶ sidecar: cluster X, flags [UH]", "──✕"]);
        assert_eq!(way("meshed", &[]), ["meshed", "──✕"]);
    }
}
