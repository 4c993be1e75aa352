//! The expected path against the seen one: number, kinds and order of hops exactly, then field by field.

use std::collections::BTreeMap;

use super::align::{Hops, Row, align};
use super::field::{self, Mismatch, got_name};
use super::finding::{Directory, Fault, Finding};
use crate::path::{Path, SeenHop};
use crate::scenario::matcher::{Matcher, Seen};
use crate::scenario::schema::{Expect, Got, Hop};

/// An expected hop and what it is called in findings, such as `path[1]` or `paths[0][1]`.
pub(super) struct Named<'a> {
    name: String,
    pub(super) hop: &'a Hop,
}

/// The expected hops in order; `None` where no path is expected.
pub(super) fn expected(expect: &Expect) -> Option<Vec<Named<'_>>> {
    let several = expect.path.is_none();
    let exchanges = expect.exchanges()?.into_iter().enumerate();
    let named = exchanges.flat_map(|(x, path)| {
        path.iter().enumerate().map(move |(n, hop)| {
            let name = if several { format!("paths[{x}][{n}]") } else { format!("path[{n}]") };
            Named { name, hop }
        })
    });
    Some(named.collect())
}

pub(super) fn check(expected: &[Named<'_>], path: &Path, directory: &Directory) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rows = rows(expected, path, directory);
    for row in &rows {
        match *row {
            Row::Both(e, s) | Row::Again(e, s) => {
                let (Named { name, hop }, seen) = (&expected[e], &path.hops[s]);
                for Mismatch { field, expected, seen: value } in mismatches(hop, seen, directory).unwrap_or_default() {
                    findings.push(finding(format!("{name}.{}.{field}", kind(hop)), expected, value, place(seen)));
                }
            }
            Row::Missing(e) => {
                let Named { name, hop } = &expected[e];
                let seen = if path.hops.is_empty() { "no hop at all".to_owned() } else { kinds(path) };
                let at = format!("after hop {e}");
                findings.push(finding(format!("{name}.{}", kind(hop)), describe(hop), seen, at));
            }
            Row::Extra(s) => {
                let seen = &path.hops[s];
                let what = format!("path[{s}].{}", seen.kind());
                findings.push(finding(what, "no such hop".to_owned(), seen.summary(), place(seen)));
            }
        }
    }
    findings.extend(wrong_counts(expected, path, &rows));
    findings
}

/// Hops that were taken, and not as often as expected.
fn wrong_counts(expected: &[Named<'_>], path: &Path, rows: &[Row]) -> Vec<Finding> {
    let mut runs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for row in rows {
        if let Row::Both(e, s) | Row::Again(e, s) = *row {
            runs.entry(e).or_default().push(s);
        }
    }
    let mut findings = Vec::new();
    for (e, run) in runs {
        let Named { name, hop } = &expected[e];
        let Some(times) = times(hop) else { continue };
        let (first, last) = (run[0], run[run.len() - 1]);
        let count = count(hop, &path.hops[first..=last]);
        if !fits(times, count) {
            let what = format!("{name}.{}.times", kind(hop));
            findings.push(finding(what, times.to_string(), count.to_string(), place(&path.hops[last])));
        }
    }
    findings
}

/// The alignment of both paths.
pub(super) fn rows(expected: &[Named<'_>], path: &Path, directory: &Directory) -> Vec<Row> {
    align(&Hops {
        expected: expected.len(),
        seen: path.hops.len(),
        difference: |e: usize, s: usize| mismatches(expected[e].hop, &path.hops[s], directory).map(|list| list.len()),
        repeats: |e: usize, from: usize, length: usize| {
            let hop = expected[e].hop;
            Some(fits(times(hop)?, count(hop, &path.hops[from..from + length])))
        },
    })
}

fn times(hop: &Hop) -> Option<&Matcher> {
    match hop {
        Hop::Sidecar(proxy) | Hop::Gateway(proxy) => proxy.times.as_ref(),
        Hop::Destination(server) => server.times.as_ref(),
    }
}

fn fits(times: &Matcher, count: u32) -> bool {
    times.accepts(&Seen::Text(count.to_string().into()))
}

/// How often a hop was taken: attempts that failed alike are one seen hop, and count each where no request is expected.
fn count(expected: &Hop, run: &[SeenHop]) -> u32 {
    let connections = matches!(expected, Hop::Destination(d) if d.got.unwrap_or_default() != Got::Request);
    let one = |hop: &SeenHop| match hop {
        SeenHop::Destination(seen) if connections => seen.connections,
        _ => 1,
    };
    run.iter().map(one).sum()
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
    let times = times(hop).map(|times| format!("{times} times in a row"));
    match hop {
        Hop::Sidecar(proxy) | Hop::Gateway(proxy) => {
            let fields = proxy.fields.iter().map(|(name, matcher)| format!("{name} {matcher}"));
            let words: Vec<String> = fields.chain(times).collect();
            format!("{} {}", kind(hop), words.join(", ")).trim_end().to_owned()
        }
        Hop::Destination(destination) => {
            let mut words = vec![format!("destination {}", destination.name)];
            words.push(format!("got {}", got_name(destination.got.unwrap_or_default())));
            words.extend(destination.sni.as_ref().map(|m| format!("SNI {m}")));
            words.extend(destination.host.as_ref().map(|m| format!("Host {m}")));
            words.extend(destination.headers.iter().map(|(name, m)| format!("{name}: {m}")));
            words.extend(destination.source.map(|source| format!("from the {}", source_name(source))));
            words.extend(times);
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
