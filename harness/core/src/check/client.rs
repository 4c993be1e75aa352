//! What curl said against what it should have said.

use super::finding::{Fault, Finding};
use crate::evidence::{ClientResult, Observation};
use crate::scenario::matcher::{Matcher, Seen};
use crate::scenario::schema::ClientExpect;

/// How much of a body or of standard error a finding quotes, in characters.
const QUOTE: usize = 300;

/// curl's exit codes that say it was called wrongly or could not work at all.
const MISUSE: [i32; 5] = [2, 3, 4, 26, 27];

pub(super) fn check(expect: &ClientExpect, observation: &Observation) -> Vec<Finding> {
    let at = format!("curl in {}", observation.client_pod.name);
    let Some(client) = &observation.client else {
        return vec![Finding {
            what: "client".to_owned(),
            expected: "an answer with its end mark".to_owned(),
            seen: "the answer did not come back whole".to_owned(),
            at,
            fault: Fault::Harness,
        }];
    };
    let fault = if MISUSE.contains(&client.exit) { Fault::Harness } else { Fault::Mesh };
    let mut findings = Vec::new();
    let mut compare = |what: String, matcher: &Matcher, seen: Seen<'_>| {
        if !matcher.accepts(&seen) {
            let expected = matcher.to_string();
            findings.push(Finding { what, expected, seen: quote(&seen.to_string()), at: at.clone(), fault });
        }
    };
    let text = |value: String| Seen::Text(value.into());
    let some = |value: &str| if value.is_empty() { Seen::Absent } else { Seen::Text(value.to_owned().into()) };
    let addresses = client.addresses.iter().map(|address| address.to_canonical().to_string().into()).collect();
    let checks: [(&str, &Option<Matcher>, Seen<'_>); 6] = [
        ("exit", &expect.exit, text(client.exit.to_string())),
        ("status", &expect.status, client.status.map_or(Seen::Absent, |s| text(s.to_string()))),
        ("body", &expect.body, some(&client.body)),
        ("stderr", &expect.stderr, some(&client.stderr)),
        ("remote", &expect.remote, client.remote.map_or(Seen::Absent, |s| text(s.ip().to_string()))),
        ("addresses", &expect.addresses, Seen::Set(addresses)),
    ];
    for (name, matcher, seen) in checks {
        if let Some(matcher) = matcher {
            compare(format!("client.{name}"), matcher, seen);
        }
    }
    for (name, matcher) in &expect.headers {
        compare(format!("client.headers.{name}"), matcher, header(&client.headers, name));
    }
    if let Some(finding) = findings.first_mut() {
        finding.seen.push_str(&complaint(client));
    }
    findings
}

/// All values of a header, any case, as one.
pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Seen<'a> {
    let mut values = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    match (values.next(), values.collect::<Vec<_>>()) {
        (None, _) => Seen::Absent,
        (Some(first), rest) if rest.is_empty() => Seen::Text(first.into()),
        (Some(first), rest) => Seen::Text(format!("{first}, {}", rest.join(", ")).into()),
    }
}

/// What curl complained about, if it did.
fn complaint(client: &ClientResult) -> String {
    let last = client.stderr.lines().rev().find(|line| line.starts_with("curl: ("));
    last.map(|line| format!(" ({line})")).unwrap_or_default()
}

fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}
