//! Findings in words: the expected and the seen path side by side, who answered, what to look at, how to see it again.
//!
//! Plain text without colour. Start at [`explain`].

use std::fmt::Write;

use super::path::{Pair, align, describe, kind, rows, seen_kind, summary};
use super::{Directory, Finding, hint};
use crate::evidence::Observation;
use crate::path::{Joined, Path, ProxySeen, SeenHop, State};
use crate::report::redact;
use crate::scenario::schema::{Expect, Hop};

/// At most this many lines of one log are shown that are not on the path.
const NEAREST: usize = 3;

/// Explains a step that did not hold. `reproduce` is the command that shows it again; empty: none is known.
///
/// Addresses of the egress gateway are taken from the observation. Secrets are taken out.
#[must_use]
pub fn explain(
    expect: &Expect,
    observation: &Observation,
    joined: &Joined,
    findings: &[Finding],
    reproduce: &str,
) -> String {
    let directory = directory_of(observation, joined);
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{}\n  expected  {}\n  seen      {}", finding.what, finding.expected, finding.seen);
    }
    if let Some(hops) = &expect.path {
        text.push('\n');
        side_by_side(&mut text, hops, &joined.path, findings, &directory);
    }
    match &joined.state {
        State::Closed => {}
        State::Open { waiting_for } => {
            let _ = writeln!(text, "\nThe path is not complete: still waiting for {waiting_for}.");
        }
        State::Inconclusive { why } => {
            let _ = writeln!(text, "\nThe path cannot be told: {why}.");
        }
    }
    let _ = writeln!(text, "\n{}", who_answered(observation, &joined.path));
    hints(&mut text, &joined.path, &directory);
    lines(&mut text, observation, &joined.path);
    if !reproduce.is_empty() {
        let _ = writeln!(text, "\nTo see it again:\n  {reproduce}");
    }
    redact(text.trim_start_matches('\n')).into_owned()
}

/// What is known of addresses without the caller's directory: gateways by their pods, destinations by their records.
fn directory_of(observation: &Observation, joined: &Joined) -> Directory {
    let mut directory =
        Directory { gateways: observation.gateways.iter().filter_map(|g| g.pod.ip).collect(), ..Directory::default() };
    let on_path = |name: &str| {
        joined.path.hops.iter().any(|hop| matches!(hop, SeenHop::Destination(seen) if seen.name == name))
    };
    for record in observation.servers.iter().filter(|record| on_path(&record.destination)) {
        let names = directory.destinations.entry(record.local.ip().to_canonical()).or_default();
        if !names.contains(&record.destination) {
            names.push(record.destination.clone());
        }
    }
    directory
}

/// The two paths in two columns; `!` marks what differs.
fn side_by_side(
    text: &mut String,
    expected: &[Hop],
    seen: &Path,
    findings: &[Finding],
    directory: &Directory,
) {
    let mut table: Vec<(bool, String, String)> = Vec::new();
    for pair in align(expected, &seen.hops, directory) {
        match pair {
            Pair::Both(n, want, hop) => {
                table.push((false, format!("{n} {}", kind(want)), format!("{} {}", seen_kind(hop), pod(hop))));
                for row in rows(want, hop, directory) {
                    // The check knew the names of all addresses, so its findings decide on what differs.
                    let what = format!("path[{n}].{}.{}", kind(want), row.key);
                    let finding = findings.iter().find(|finding| finding.what == what);
                    let said = finding.map_or(row.seen, |finding| finding.seen.clone());
                    table.push((
                        finding.is_some(),
                        format!("    {} {}", row.key, row.expected),
                        format!("  {} {said}", row.key),
                    ));
                }
            }
            Pair::Missing(n, want) => table.push((true, format!("{n} {}", describe(want)), "no such hop".into())),
            Pair::Extra(_, hop) => {
                table.push((true, "no hop here".into(), format!("{} {}", seen_kind(hop), pod(hop))));
                let said = summary(hop, directory);
                let fields = said.split_once(": ").map_or("", |(_, fields)| fields);
                let fields = fields.split(", ").filter(|field| !field.is_empty());
                table.extend(fields.map(|field| (true, String::new(), format!("  {field}"))));
            }
        }
    }
    if expected.is_empty() {
        table.insert(0, (!seen.hops.is_empty(), "nothing: it never leaves the client".into(), String::new()));
    }
    if seen.hops.is_empty() {
        table.push((!expected.is_empty(), String::new(), "nothing: no hop saw it".into()));
    }
    let width = table.iter().map(|(_, left, _)| left.chars().count()).max().unwrap_or(0).clamp(24, 60);
    let _ = writeln!(text, "  {:width$}   seen path", "expected path");
    for (differs, left, right) in table {
        let mark = if differs { '!' } else { ' ' };
        let _ = writeln!(text, "{}", format!("{mark} {left:width$}   {right}").trim_end());
    }
}

fn pod(hop: &SeenHop) -> &str {
    match hop {
        SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy) => &proxy.pod,
        SeenHop::Destination(seen) => &seen.name,
    }
}

/// Which hop gave the answer that curl saw.
fn who_answered(observation: &Observation, path: &Path) -> String {
    for hop in &path.hops {
        let (SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy)) = hop else { continue };
        let name = format!("the {} {}", seen_kind(hop), proxy.pod);
        let code = proxy.record.get("response_code").filter(|code| *code != "0");
        let details = proxy.record.get("response_code_details");
        match (code, details) {
            (Some(_), Some("via_upstream")) => {}
            (Some(code), details) => {
                let details = details.map(|d| format!(" ({d})")).unwrap_or_default();
                return format!("Who answered: {name} itself, with {code}{details}.");
            }
            (None, _) if !proxy.record.flags().is_empty() => {
                return format!("Who answered: nobody; {name} ended the connection, flags {}.", flags(proxy));
            }
            (None, _) => {}
        }
    }
    match path.hops.last() {
        Some(SeenHop::Destination(seen)) => format!("Who answered: the destination {}.", seen.name),
        Some(hop) => format!("Who answered: something behind the {} {}.", seen_kind(hop), pod(hop)),
        None => match &observation.client {
            Some(client) if client.status.is_some() => "Who answered: unknown; no hop saw the request.".into(),
            _ => "Who answered: nobody; no hop saw the request.".into(),
        },
    }
}

fn flags(proxy: &ProxySeen) -> String {
    proxy.record.flags().join(",")
}

fn hints(text: &mut String, path: &Path, directory: &Directory) {
    let mut any = false;
    for hop in &path.hops {
        let (proxy, gateway) = match hop {
            SeenHop::Sidecar(proxy) => (proxy, false),
            SeenHop::Gateway(proxy) => (proxy, true),
            SeenHop::Destination(_) => continue,
        };
        if let Some(says) = hint::hint(proxy, gateway, directory) {
            if !any {
                text.push_str("\nMost likely:\n");
                any = true;
            }
            let _ = writeln!(text, "  {}: {says}", seen_kind(hop));
        }
    }
}

/// The lines on the path, and the last ones of each log that are not.
fn lines(text: &mut String, observation: &Observation, path: &Path) {
    let on_path: Vec<&ProxySeen> = path
        .hops
        .iter()
        .filter_map(|hop| match hop {
            SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy) => Some(proxy),
            SeenHop::Destination(_) => None,
        })
        .collect();
    if !on_path.is_empty() {
        text.push_str("\nLog lines of the path:\n");
    }
    for proxy in &on_path {
        let _ = writeln!(text, "  {}: {}", proxy.pod, proxy.line.trim_end());
    }
    let sidecar = observation.sidecar.iter().map(|lines| (&observation.client_pod.name, lines));
    let gateways = observation.gateways.iter().map(|gateway| (&gateway.pod.name, &gateway.lines));
    let mut any = false;
    for (pod, log) in sidecar.chain(gateways) {
        let others: Vec<&String> = log.iter().filter(|line| !on_path.iter().any(|proxy| proxy.line == **line)).collect();
        for line in &others[others.len().saturating_sub(NEAREST)..] {
            if !any {
                text.push_str("\nNearest other log lines:\n");
                any = true;
            }
            let _ = writeln!(text, "  {pod}: {}", line.trim_end());
        }
    }
    if on_path.is_empty() && !any {
        text.push_str("\nNo proxy logged anything after the probe began.\n");
    }
}
