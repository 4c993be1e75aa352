//! The matchers of a step, each with the place where it stands.
//!
//! Start at [`matchers`].

use crate::scenario::matcher::{Form, Matcher, Scalar};
use crate::scenario::schema::{Expect, Hop};
use crate::scenario::variable::variables;

use super::node::escape;

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
        ];
        all.extend(fields.into_iter().filter_map(|(f, m)| Some((format!("/client/{f}"), m.as_ref()?))));
        all.extend(client.headers.iter().map(|(name, m)| (format!("/client/headers/{}", escape(name)), m)));
    }
    for (n, hop) in expect.path.iter().flatten().enumerate() {
        match hop {
            Hop::Sidecar(proxy) | Hop::Gateway(proxy) => {
                let base = format!("/path/{n}/{}", hop_name(hop));
                all.extend(proxy.fields.iter().map(|(f, m)| (format!("{base}/{f}"), m)));
            }
            Hop::Destination(server) => {
                let base = format!("/path/{n}/destination");
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
