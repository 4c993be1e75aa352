//! The matchers of a step, each with the place where it stands.
//!
//! Start at [`matchers`].

use crate::scenario::matcher::{Form, Matcher, Scalar, Seen};
use crate::scenario::schema::{Expect, Hop};
use crate::scenario::variable::variables;

use super::node::escape;

/// No request takes one hop more often than this.
const MOST_TIMES: u32 = 1000;

/// Every matcher of an expectation, with its JSON pointer below the expectation.
pub(super) fn matchers(expect: &Expect) -> Vec<(String, &Matcher)> {
    let mut all = Vec::new();
    if let Some(client) = &expect.client {
        let fields = [
            ("exit", &client.exit),
            ("status", &client.status),
            ("body", &client.body),
            ("stderr", &client.stderr),
            ("remote", &client.remote),
            ("addresses", &client.addresses),
        ];
        all.extend(fields.into_iter().filter_map(|(f, m)| Some((format!("/client/{f}"), m.as_ref()?))));
        all.extend(client.headers.iter().map(|(name, m)| (format!("/client/headers/{}", escape(name)), m)));
    }
    for (place, hop) in hops(expect) {
        let base = format!("{place}/{}", hop_name(hop));
        all.extend(times(hop).map(|m| (format!("{base}/times"), m)));
        match hop {
            Hop::Sidecar(proxy) | Hop::Gateway(proxy) => {
                all.extend(proxy.fields.iter().map(|(f, m)| (format!("{base}/{f}"), m)));
            }
            Hop::Destination(server) => {
                let fields = [("sni", &server.sni), ("host", &server.host)];
                all.extend(fields.into_iter().filter_map(|(f, m)| Some((format!("{base}/{f}"), m.as_ref()?))));
                all.extend(server.headers.iter().map(|(h, m)| (format!("{base}/headers/{}", escape(h)), m)));
            }
        }
    }
    all.extend(expect.apply.iter().map(|apply| ("/apply/rejected".to_owned(), &apply.rejected)));
    all.extend(expect.objects.iter().enumerate().map(|(n, object)| (format!("/objects/{n}/is"), &object.is)));
    all
}

/// Every hop of an expectation, with its JSON pointer below the expectation.
fn hops(expect: &Expect) -> impl Iterator<Item = (String, &Hop)> {
    let path = expect.path.iter().map(|path| ("/path".to_owned(), path));
    let paths = expect.paths.iter().flatten().enumerate().map(|(n, path)| (format!("/paths/{n}"), path));
    path.chain(paths).flat_map(|(at, path)| path.iter().enumerate().map(move |(n, hop)| (format!("{at}/{n}"), hop)))
}

/// How many times a hop is taken, where it says so.
pub(super) fn times(hop: &Hop) -> Option<&Matcher> {
    match hop {
        Hop::Sidecar(proxy) | Hop::Gateway(proxy) => proxy.times.as_ref(),
        Hop::Destination(server) => server.times.as_ref(),
    }
}

/// Whether a matcher is a number of times, from 1.
pub(super) fn counts(matcher: &Matcher) -> Result<(), String> {
    let accepts = |n: u32| matcher.accepts(&Seen::Text(n.to_string().into()));
    if accepts(0) || matcher.accepts(&Seen::Absent) {
        return Err("`times` counts from 1: a hop that is not taken is not on the path".to_owned());
    }
    if (1..=MOST_TIMES).any(accepts) { Ok(()) } else { Err(format!("`times` fits no number from 1 to {MOST_TIMES}")) }
}

/// The word for a hop.
pub(super) fn hop_name(hop: &Hop) -> &'static str {
    match hop {
        Hop::Sidecar(_) => "sidecar",
        Hop::Gateway(_) => "gateway",
        Hop::Destination(_) => "destination",
    }
}

/// What is wrong with a matcher, if anything. Variables in a regular expression count as a character.
pub(super) fn fault(matcher: &Matcher) -> Option<String> {
    without_variables(matcher).validate().err()
}

fn without_variables(matcher: &Matcher) -> Matcher {
    let Matcher::Form(form) = matcher else { return matcher.clone() };
    let plain = |text: &String| variables(text).iter().fold(text.clone(), |t, v| t.replace(v.text, "0"));
    Matcher::Form(Form {
        matches: form.matches.as_ref().map(plain),
        not: form.not.as_ref().map(|inner| Box::new(without_variables(inner))),
        ..form.clone()
    })
}

/// The words that a matcher compares whole values with.
pub(super) fn words(matcher: &Matcher) -> Vec<&str> {
    fn text(scalar: &Scalar) -> Option<&str> {
        if let Scalar::Text(text) = scalar { Some(text) } else { None }
    }
    match matcher {
        Matcher::Equal(scalar) => text(scalar).into_iter().collect(),
        Matcher::Set(items) => items.iter().filter_map(text).collect(),
        Matcher::Form(form) => {
            let listed = form.one_of.iter().flatten().filter_map(text);
            listed.chain(form.not.iter().flat_map(|inner| words(inner))).collect()
        }
    }
}
