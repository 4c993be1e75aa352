//! Probes: what is sent, by whom, and what such a probe can show.
//!
//! Start at [`check`].

use super::did_you_mean;
use super::error::Problem;
use super::node::Node;
use super::references::Names;
use crate::scenario::schema::{ClientExpect, Probe};
use crate::scenario::variable::variables;

/// Arguments of curl that the harness itself gives, and how it uses them.
const OWN_ARGUMENTS: [(&str, &str); 12] = [
    ("-A", "the User-Agent carries the probe's token"),
    ("--user-agent", "the User-Agent carries the probe's token"),
    ("-w", "the result is written that way"),
    ("--write-out", "the result is written that way"),
    ("-o", "the body is kept that way"),
    ("--output", "the body is kept that way"),
    ("-D", "the headers are kept that way"),
    ("--dump-header", "the headers are kept that way"),
    ("-K", "a probe says in the scenario what it does"),
    ("--config", "a probe says in the scenario what it does"),
    ("--local-port", "each probe has source ports of its own"),
    ("--next", "a probe is one request"),
];

/// Reports what is wrong with a probe; `base` is its JSON pointer.
pub(super) fn check(probe: &Probe, root: &Node, base: &str, names: &Names<'_>, problems: &mut Vec<Problem>) {
    let mut report = |below: &str, message: String, help: Option<String>| {
        let place = Some(root.at(&format!("{base}{below}")).place);
        problems.push(Problem { message, help, place });
    };
    let from = &probe.from;
    if !names.clients.contains_key(from) {
        let help = did_you_mean(from, names.clients.keys().map(String::as_str))
            .or_else(|| Some("declare it under `clients`".to_owned()));
        report("/from", format!("`{from}` is no client of this scenario"), help);
    }
    let curl = root.at(base).get("curl").is_some();
    let forms = [curl, probe.resolve.is_some(), probe.tcp.is_some()];
    if forms.into_iter().filter(|there| *there).count() != 1 {
        report("", "a probe is exactly one of `curl`, `resolve` and `tcp`".into(), None);
        return;
    }
    if curl && probe.curl.is_empty() {
        report("/curl", "`curl` needs at least a URL".into(), None);
    }
    for (n, argument) in probe.curl.iter().enumerate() {
        let own = OWN_ARGUMENTS.iter().find(|(own, _)| {
            let long = own.starts_with("--");
            argument == own || (!long && argument.starts_with(own)) || argument.starts_with(&format!("{own}="))
        });
        if let Some((own, why)) = own {
            report(&format!("/curl/{n}"), format!("curl's `{own}` belongs to the harness: {why}"), None);
        }
    }
    if probe.resolve.as_ref().is_some_and(String::is_empty) {
        report("/resolve", "`resolve` needs a name".into(), None);
    }
    if let Some(tcp) = &probe.tcp {
        // Variables count as a digit, which can be part of a host and of a port.
        let to = variables(&tcp.to).iter().fold(tcp.to.clone(), |text, v| text.replace(v.text, "1"));
        let port = to.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
        if port.is_none_or(|port: u16| port == 0) {
            let help = Some("write it like \"my.server.com:1234\"".to_owned());
            report("/tcp/to", format!("`{}` is no HOST:PORT", tcp.to), help);
        }
        if tcp.send.is_empty() {
            report("/tcp/send", "`send` needs at least a byte".into(), None);
        }
    }
}

/// The word for a probe, and the fields of `client` that it can show.
pub(super) fn shows(probe: &Probe) -> (&'static str, &'static [&'static str]) {
    match (&probe.resolve, &probe.tcp) {
        (Some(_), _) => ("resolve", &["exit", "addresses", "stderr"]),
        (None, Some(_)) => ("tcp", &["exit", "body", "remote", "stderr"]),
        (None, None) => ("curl", &["exit", "status", "headers", "body", "remote", "stderr"]),
    }
}

/// The fields of `client` that are expected.
pub(super) fn asked(client: &ClientExpect) -> impl Iterator<Item = &'static str> {
    let fields = [
        ("exit", client.exit.is_some()),
        ("status", client.status.is_some()),
        ("body", client.body.is_some()),
        ("stderr", client.stderr.is_some()),
        ("remote", client.remote.is_some()),
        ("addresses", client.addresses.is_some()),
        ("headers", !client.headers.is_empty()),
    ];
    fields.into_iter().filter(|(_, there)| *there).map(|(name, _)| name)
}
