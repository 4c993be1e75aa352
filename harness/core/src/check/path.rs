//! The hops that were seen, against those that were expected: exact in number, kind and order.
//!
//! [`align`] pairs the two lists so that one hop too many or too few is named as just that, and every other hop is
//! still compared with its own expectation.

use super::value::{self, Value};
use super::{Directory, Fault, Finding};
use crate::evidence::Observation;
use crate::path::{DestinationSeen, Joined, ProxySeen, SeenHop};
use crate::scenario::schema::{DestinationHop, Hop, ProxyHop};

pub(super) fn compare(
    expected: &[Hop],
    observation: &Observation,
    joined: &Joined,
    directory: &Directory,
    findings: &mut Vec<Finding>,
) {
    let mut last = observation.client_pod.name.clone();
    for pair in align(expected, &joined.path.hops, directory) {
        match pair {
            Pair::Both(n, want, seen) => {
                last = place(seen);
                for row in rows(want, seen, directory).into_iter().filter(|row| !row.fits) {
                    findings.push(Finding {
                        what: format!("path[{n}].{}.{}", kind(want), row.key),
                        expected: row.expected,
                        seen: row.seen,
                        at: last.clone(),
                        fault: Fault::Mesh,
                    });
                }
            }
            Pair::Missing(n, want) => findings.push(Finding {
                what: format!("path[{n}].{}", kind(want)),
                expected: describe(want),
                seen: "no such hop".into(),
                at: format!("after {last}"),
                fault: Fault::Mesh,
            }),
            Pair::Extra(n, seen) => {
                last = place(seen);
                findings.push(Finding {
                    what: format!("path[{n}]"),
                    expected: if n >= expected.len() { "no further hop".into() } else { "no hop of this kind here".into() },
                    seen: summary(seen, directory),
                    at: last.clone(),
                    fault: Fault::Mesh,
                });
            }
        }
    }
}

/// An expected hop beside the seen one. The number is the hop's place: in the expectation, or for an extra one in the
/// seen path.
pub(super) enum Pair<'a> {
    /// Of one kind, so that their fields can be compared.
    Both(usize, &'a Hop, &'a SeenHop),
    /// Expected, and not seen.
    Missing(usize, &'a Hop),
    /// Seen, and not expected.
    Extra(usize, &'a SeenHop),
}

/// A hop without partner costs more than any number of fields that differ.
const ALONE: usize = 1000;

/// Pairs hops of one kind in order, with as few left alone as possible, and then as few differing fields as possible.
pub(super) fn align<'a>(expected: &'a [Hop], seen: &'a [SeenHop], directory: &Directory) -> Vec<Pair<'a>> {
    let both = |i: usize, j: usize| {
        let (want, hop) = (&expected[i], &seen[j]);
        (kind(want) == seen_kind(hop)).then(|| rows(want, hop, directory).iter().filter(|row| !row.fits).count())
    };
    // cost[i][j]: the cheapest way to pair what begins at i and j.
    let mut cost = vec![vec![0; seen.len() + 1]; expected.len() + 1];
    for i in (0..=expected.len()).rev() {
        for j in (0..=seen.len()).rev() {
            if i == expected.len() || j == seen.len() {
                cost[i][j] = ALONE * (expected.len() - i + seen.len() - j);
                continue;
            }
            let alone = ALONE + cost[i + 1][j].min(cost[i][j + 1]);
            cost[i][j] = both(i, j).map_or(alone, |differing| alone.min(differing + cost[i + 1][j + 1]));
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < expected.len() || j < seen.len() {
        let paired = i < expected.len() && j < seen.len();
        if paired && both(i, j).is_some_and(|differing| cost[i][j] == differing + cost[i + 1][j + 1]) {
            pairs.push(Pair::Both(i, &expected[i], &seen[j]));
            (i, j) = (i + 1, j + 1);
        } else if i < expected.len() && cost[i][j] == ALONE + cost[i + 1][j] {
            pairs.push(Pair::Missing(i, &expected[i]));
            i += 1;
        } else {
            pairs.push(Pair::Extra(j, &seen[j]));
            j += 1;
        }
    }
    pairs
}

/// One field of a pair of hops.
pub(super) struct Row {
    pub(super) key: String,
    pub(super) expected: String,
    pub(super) seen: String,
    pub(super) fits: bool,
}

/// Every field that is expected of a hop, beside what was seen. Hops of different kinds have no row.
pub(super) fn rows(want: &Hop, seen: &SeenHop, directory: &Directory) -> Vec<Row> {
    match (want, seen) {
        (Hop::Sidecar(want), SeenHop::Sidecar(seen)) | (Hop::Gateway(want), SeenHop::Gateway(seen)) => {
            proxy_rows(want, seen, directory)
        }
        (Hop::Destination(want), SeenHop::Destination(seen)) => destination_rows(want, seen),
        _ => Vec::new(),
    }
}

fn proxy_rows(want: &ProxyHop, seen: &ProxySeen, directory: &Directory) -> Vec<Row> {
    let row = |(key, matcher): (&String, &crate::scenario::matcher::Matcher)| {
        let value = Value::proxy(seen, key, directory);
        Row { key: key.clone(), expected: matcher.to_string(), fits: value.fits(matcher), seen: value.shown }
    };
    want.fields.iter().map(row).collect()
}

fn destination_rows(want: &DestinationHop, seen: &DestinationSeen) -> Vec<Row> {
    let row = |key: &str, expected: &str, seen: &str| Row {
        key: key.into(),
        fits: expected == seen,
        expected: expected.into(),
        seen: seen.into(),
    };
    let mut rows = vec![
        row("name", &want.name, &seen.name),
        row("got", value::got(want.got.unwrap_or_default()), value::got(seen.got)),
    ];
    if let Some(source) = want.source {
        let mut row = row("source", value::source(source), value::peer(&seen.source));
        row.seen = format!("{} ({})", row.seen, seen.peer);
        rows.push(row);
    }
    let fields = [("sni", &want.sni, &seen.sni), ("host", &want.host, &seen.host)];
    for (key, matcher, value) in fields {
        if let Some(matcher) = matcher {
            let value = Value::optional(value.as_deref());
            let (expected, fits) = (matcher.to_string(), value.fits(matcher));
            rows.push(Row { key: key.into(), expected, fits, seen: value.shown });
        }
    }
    for (name, matcher) in &want.headers {
        let value = Value::header(&seen.headers, name);
        let (expected, fits) = (matcher.to_string(), value.fits(matcher));
        rows.push(Row { key: format!("headers.{name}"), expected, fits, seen: value.shown });
    }
    rows
}

pub(super) fn kind(hop: &Hop) -> &'static str {
    match hop {
        Hop::Sidecar(_) => "sidecar",
        Hop::Gateway(_) => "gateway",
        Hop::Destination(_) => "destination",
    }
}

pub(super) fn seen_kind(hop: &SeenHop) -> &'static str {
    match hop {
        SeenHop::Sidecar(_) => "sidecar",
        SeenHop::Gateway(_) => "gateway",
        SeenHop::Destination(_) => "destination",
    }
}

/// An expected hop in one line.
pub(super) fn describe(hop: &Hop) -> String {
    match hop {
        Hop::Sidecar(proxy) | Hop::Gateway(proxy) => {
            let fields: Vec<_> = proxy.fields.iter().map(|(key, matcher)| format!("{key} {matcher}")).collect();
            format!("{}{}{}", kind(hop), if fields.is_empty() { "" } else { ": " }, fields.join(", "))
        }
        Hop::Destination(destination) => {
            format!("destination: {} got {}", destination.name, value::got(destination.got.unwrap_or_default()))
        }
    }
}

/// The fields by which a proxy's line is told at a glance.
pub(super) const GLANCE: [&str; 6] = ["cluster", "upstream", "flags", "code", "details", "route"];

/// A seen hop in one line.
pub(super) fn summary(hop: &SeenHop, directory: &Directory) -> String {
    match hop {
        SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy) => {
            let fields = GLANCE.iter().filter_map(|key| {
                proxy.record.get(value::field_name(key))?;
                Some(format!("{key} {}", Value::proxy(proxy, key, directory).shown))
            });
            format!("{}: {}", seen_kind(hop), fields.collect::<Vec<_>>().join(", "))
        }
        SeenHop::Destination(seen) => {
            format!("destination: {} got {} from {}", seen.name, value::got(seen.got), seen.peer)
        }
    }
}

/// Where a hop was seen.
fn place(hop: &SeenHop) -> String {
    match hop {
        SeenHop::Sidecar(proxy) | SeenHop::Gateway(proxy) => format!("{}: {}", proxy.pod, proxy.line),
        SeenHop::Destination(seen) => format!("record of {}, peer {}", seen.name, seen.peer),
    }
}
