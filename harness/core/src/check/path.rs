//! The expected path against the seen one: number, kinds and order of hops exactly, then field by field.

use super::align::{Row, align};
use super::field::{self, Mismatch, got_name};
use super::finding::{Directory, Fault, Finding};
use crate::path::{Path, SeenHop};
use crate::scenario::schema::Hop;

pub(super) fn check(expected: &[Hop], path: &Path, directory: &Directory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in rows(expected, path, directory) {
        match row {
            Row::Both(e, s) => {
                let (kind, seen) = (kind(&expected[e]), &path.hops[s]);
                for Mismatch { field, expected, seen: value } in
                    mismatches(&expected[e], seen, directory).unwrap_or_default()
                {
                    findings.push(finding(format!("path[{e}].{kind}.{field}"), expected, value, place(seen)));
                }
            }
            Row::Missing(e) => {
                let seen = if path.hops.is_empty() { "no hop at all".to_owned() } else { kinds(path) };
                let at = format!("after hop {e}");
                findings.push(finding(format!("path[{e}].{}", kind(&expected[e])), describe(&expected[e]), seen, at));
            }
            Row::Extra(s) => {
                let seen = &path.hops[s];
                let what = format!("path[{s}].{}", seen.kind());
                findings.push(finding(what, "no such hop".to_owned(), seen.summary(), place(seen)));
            }
        }
    }
    findings
}

/// The alignment of both paths.
pub(super) fn rows(expected: &[Hop], path: &Path, directory: &Directory) -> Vec<Row> {
    align(expected.len(), path.hops.len(), |e, s| {
        mismatches(&expected[e], &path.hops[s], directory).map(|list| list.len())
    })
}

/// The wrong fields of a hop; `None` if it is of another kind.
fn mismatches(expected: &Hop, seen: &SeenHop, directory: &Directory) -> Option<Vec<Mismatch>> {
    match (expected, seen) {
        (Hop::Sidecar(expected), SeenHop::Sidecar(seen)) | (Hop::Gateway(expected), SeenHop::Gateway(seen)) => {
            Some(field::proxy(expected, seen, directory))
        }
        (Hop::Destination(expected), SeenHop::Destination(seen)) => Some(field::destination(expected, seen)),
        _ => None,
    }
}

fn finding(what: String, expected: String, seen: String, at: String) -> Finding {
    Finding { what, expected, seen, at, fault: Fault::Mesh }
}

fn kind(hop: &Hop) -> &'static str {
    match hop {
        Hop::Sidecar(_) => "sidecar",
        Hop::Gateway(_) => "gateway",
        Hop::Destination(_) => "destination",
    }
}

/// An expected hop in one line.
pub(super) fn describe(hop: &Hop) -> String {
    match hop {
        Hop::Sidecar(proxy) | Hop::Gateway(proxy) => {
            let fields: Vec<_> = proxy.fields.iter().map(|(name, matcher)| format!("{name} {matcher}")).collect();
            format!("{} {}", kind(hop), fields.join(", ")).trim_end().to_owned()
        }
        Hop::Destination(destination) => {
            let mut words = vec![format!("destination {}", destination.name)];
            words.push(format!("got {}", got_name(destination.got.unwrap_or_default())));
            words.extend(destination.sni.as_ref().map(|m| format!("SNI {m}")));
            words.extend(destination.host.as_ref().map(|m| format!("Host {m}")));
            words.extend(destination.headers.iter().map(|(name, m)| format!("{name}: {m}")));
            words.extend(destination.source.map(|source| format!("from the {}", source_name(source))));
            words.join(", ")
        }
    }
}

fn source_name(source: crate::scenario::schema::Source) -> &'static str {
    match source {
        crate::scenario::schema::Source::Client => "client",
        crate::scenario::schema::Source::Gateway => "gateway",
    }
}

fn kinds(path: &Path) -> String {
    let kinds: Vec<_> = path.hops.iter().map(SeenHop::kind).collect();
    format!("no such hop (seen: {})", kinds.join(" > "))
}

fn place(hop: &SeenHop) -> String {
    match hop {
        SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy) => format!("{}: {}", proxy.pod, proxy.line),
        SeenHop::Destination(seen) => format!("the record of {} for the connection from {}", seen.name, seen.peer),
    }
}
