//! A failure written up for a person: what was asked, what was expected beside what was seen, and where to look.

use std::fmt::Write;

use super::align::Row;
use super::diagnose::diagnose;
use super::finding::{Directory, Fault, Finding};
use super::path::{Named, describe, expected, rows};
use crate::evidence::Observation;
use crate::path::{Joined, Leftover, Path, SeenHop, State};
use crate::scenario::schema::{Expect, Hop};

/// How many lines that are none of the path's are shown; the nearest are the last ones.
const NEAREST: usize = 5;
/// The widest that the left column gets.
const COLUMN: usize = 58;

/// Explains what a probe gave where it is not what was expected.
///
/// `reproduce` is the command that does it again. The text has no colours and ends with a line break.
#[must_use]
pub fn explain(
    expect: &Expect,
    observation: &Observation,
    joined: &Joined,
    findings: &[Finding],
    reproduce: &str,
) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "client: {}", client(observation));
    for finding in findings {
        let _ = writeln!(text, "{}: expected {}, seen {}", finding.what, finding.expected, finding.seen);
        let fault = match finding.fault {
            Fault::Mesh => "",
            Fault::Environment => " (the environment's fault)",
            Fault::Harness => " (the harness' fault)",
        };
        let _ = writeln!(text, "  at {}{fault}", finding.at);
    }
    if let Some(expected) = expected(expect) {
        side_by_side(&mut text, &expected, &joined.path);
    } else {
        let _ = write!(text, "path:\n{}", indent(&crate::path::render_path(&joined.path)));
    }
    if let Some(who) = answered(&joined.path) {
        let _ = writeln!(text, "answered by: {who}");
    }
    match &joined.state {
        State::Closed => {}
        State::Open { waiting_for } => {
            let _ = writeln!(text, "the path is not complete: still missing is {waiting_for}");
        }
        State::Inconclusive { why } => {
            let _ = writeln!(text, "the path cannot be known: {why}");
        }
    }
    hints(&mut text, expect, observation, joined);
    lines(&mut text, joined);
    let _ = writeln!(text, "reproduce: {reproduce}");
    text
}

fn client(observation: &Observation) -> String {
    let pod = &observation.client_pod.name;
    let Some(client) = &observation.client else { return format!("curl in {pod} gave no whole answer") };
    let mut words = vec![format!("curl in {pod} ended with exit code {}", client.exit)];
    words.push(client.status.map_or_else(|| "without an HTTP response".to_owned(), |s| format!("HTTP status {s}")));
    words.extend(client.remote.map(|remote| format!("connected to {remote}")));
    words.join(", ")
}

fn side_by_side(text: &mut String, expected: &[Named<'_>], path: &Path) {
    let rows = rows(expected, path, &Directory::default());
    let cells: Vec<(String, String)> = rows
        .into_iter()
        .map(|row| match row {
            Row::Both(e, s) => (describe(expected[e].hop), path.hops[s].summary()),
            Row::Again(_, s) => ("(again)".to_owned(), path.hops[s].summary()),
            Row::Missing(e) => (describe(expected[e].hop), "(missing)".to_owned()),
            Row::Extra(s) => ("(none)".to_owned(), path.hops[s].summary()),
        })
        .collect();
    if cells.is_empty() {
        let _ = writeln!(text, "expected and seen: the request reaches no hop");
        return;
    }
    let longest = cells.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    let width = longest.clamp("expected".len(), COLUMN);
    let _ = writeln!(text, "  {:width$} | seen", "expected");
    for (left, right) in cells {
        let (mut left, mut right) = (wrap(&left, width).into_iter(), wrap(&right, 2 * COLUMN).into_iter());
        let (mut l, mut r) = (left.next(), right.next());
        while l.is_some() || r.is_some() {
            let line = format!("  {:width$} | {}", l.unwrap_or_default(), r.unwrap_or_default());
            let _ = writeln!(text, "{}", line.trim_end());
            (l, r) = (left.next(), right.next());
        }
    }
}

/// Breaks a text at blanks; a word that is too long stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The last hop that could have sent what the client got.
fn answered(path: &Path) -> Option<String> {
    Some(match path.hops.last()? {
        SeenHop::Sidecar(proxy) => format!("the client's sidecar {}", proxy.pod),
        SeenHop::Gateway(proxy) => format!("the egress gateway {}", proxy.pod),
        SeenHop::Destination(seen) => format!("the external server {}", seen.name),
    })
}

fn hints(text: &mut String, expect: &Expect, observation: &Observation, joined: &Joined) {
    let is_gateway = |hop: &SeenHop| matches!(hop, SeenHop::Gateway(_));
    let wanted = expect.hops().any(|hop| matches!(hop, Hop::Gateway(_)));
    let straight = joined.path.hops.last().is_some_and(|hop| matches!(hop, SeenHop::Destination(_)));
    if wanted && straight && !joined.path.hops.iter().any(is_gateway) {
        let _ = writeln!(text, "likely: the request was not led to the egress gateway");
        let _ = writeln!(
            text,
            "  look at VirtualService: its hosts, `mesh` among its gateways, match (port, destinationSubnets, sniHosts), exportTo"
        );
    }
    for hint in diagnose(&joined.path, observation) {
        let place = hint.hop.map(|n| format!(" (hop {})", n + 1)).unwrap_or_default();
        let _ = writeln!(text, "likely{place}: {}", hint.says);
        let _ = writeln!(text, "  look at {}", hint.look_at);
    }
}

fn lines(text: &mut String, joined: &Joined) {
    if !joined.path.hops.is_empty() {
        let _ = writeln!(text, "witnesses:");
        text.push_str(&indent(&crate::path::render_path(&joined.path)));
    }
    if joined.leftovers.is_empty() {
        return;
    }
    let hidden = joined.leftovers.len().saturating_sub(NEAREST);
    let _ = writeln!(text, "also seen, and not of this request:");
    if hidden > 0 {
        let _ = writeln!(text, "  ({hidden} earlier ones left out)");
    }
    for leftover in &joined.leftovers[hidden..] {
        let _ = match leftover {
            Leftover::Line { pod, line, why } => writeln!(text, "  {pod}: {line} ({why})"),
            Leftover::Connection { record, why } => {
                writeln!(text, "  {}: connection from {} ({why})", record.destination, record.peer)
            }
        };
    }
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    })
}
