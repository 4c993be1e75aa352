//! What curl said, against what it was expected to say.

use super::value::Value;
use super::{Fault, Finding};
use crate::evidence::Observation;
use crate::scenario::matcher::Matcher;
use crate::scenario::schema::ClientExpect;

pub(super) fn compare(expect: &ClientExpect, observation: &Observation, findings: &mut Vec<Finding>) {
    let pod = &observation.client_pod.name;
    let Some(client) = &observation.client else {
        findings.push(Finding {
            what: "client".into(),
            expected: "curl's whole answer".into(),
            seen: "no end mark: the answer was cut off".into(),
            at: pod.clone(),
            fault: Fault::Harness,
        });
        return;
    };
    let mut field = |what: String, matcher: Option<&Matcher>, value: Value<'_>| {
        if let Some(matcher) = matcher
            && !value.fits(matcher)
        {
            let at = format!("curl in {pod}");
            let (expected, seen) = (matcher.to_string(), value.shown);
            findings.push(Finding { what, expected, seen, at, fault: Fault::Mesh });
        }
    };
    field("client.exit".into(), expect.exit.as_ref(), Value::text(client.exit.to_string()));
    field("client.status".into(), expect.status.as_ref(), Value::optional(client.status.map(|s| s.to_string())));
    field("client.body".into(), expect.body.as_ref(), present(&client.body));
    field("client.stderr".into(), expect.stderr.as_ref(), present(&client.stderr));
    let remote = client.remote.map(|remote| remote.ip().to_canonical().to_string());
    field("client.remote".into(), expect.remote.as_ref(), Value::optional(remote));
    for (name, matcher) in &expect.headers {
        field(format!("client.headers.{name}"), Some(matcher), Value::header(&client.headers, name));
    }
}

/// An empty text counts as none.
fn present(text: &str) -> Value<'_> {
    if text.is_empty() { Value::absent() } else { Value::text(text) }
}
