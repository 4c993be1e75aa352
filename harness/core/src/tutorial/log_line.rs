//! Sample lines of access logs on a page: compared by what they say, since their form differs from version to version.
//!
//! The pages of istio.io mix four forms of 2018 to 2024, so a sample is read without a format: request, status, cluster,
//! authority and server name are found by their shape. Start at [`find`].

use std::sync::LazyLock;

use regex::Regex;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

static SAMPLE: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^\s*\[[^\]]*\d{4}-\d\d-\d\d[^\]]*\] "([^"]*)" (\d+) "#));
static CLUSTER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"((?:inbound|outbound)\|\d+\|[^|\s"]*\|[^\s"]*|PassthroughCluster|BlackHoleCluster)"#));

/// Whether a line is a sample of an access log in Istio's text form.
pub(super) fn is_sample(line: &str) -> bool {
    SAMPLE.is_match(line)
}

/// What was found for a sample.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// A line that says the same, in the same form.
    Same,
    /// A line that says the same, in another form.
    OtherForm(String),
    /// None; beside it the nearest one.
    None(Option<String>),
}

/// Looks for a line that says what the sample says.
pub(super) fn find(sample: &str, seen: &[&str]) -> Match {
    let Some(wanted) = Meaning::of(sample) else { return Match::None(None) };
    let mut nearest: Option<&str> = None;
    let mut other = None;
    for line in seen {
        let Some(meaning) = Meaning::of(line) else { continue };
        if wanted.holds_in(&meaning) {
            if meaning.fields == wanted.fields {
                return Match::Same;
            }
            other = Some((*line).to_owned());
        }
        nearest = Some(line);
    }
    match other {
        Some(line) => Match::OtherForm(line),
        None => Match::None(nearest.map(str::to_owned)),
    }
}

/// How many fields a sample has, where quotes hold one together.
fn fields(line: &str) -> usize {
    let mut count = 0;
    let mut quoted = false;
    let mut inside = false;
    for c in line.trim().chars() {
        match c {
            '"' => {
                quoted = !quoted;
                if !inside {
                    (inside, count) = (true, count + 1);
                }
            }
            c if c.is_whitespace() && !quoted => inside = false,
            _ if !inside => (inside, count) = (true, count + 1),
            _ => {}
        }
    }
    count
}

struct Meaning {
    request: String,
    status: String,
    cluster: Option<String>,
    fields: usize,
}

impl Meaning {
    fn of(line: &str) -> Option<Self> {
        let found = SAMPLE.captures(line)?;
        let cluster = CLUSTER.captures(line).map(|c| c[1].trim_end_matches(';').to_owned());
        Some(Self { request: found[1].to_owned(), status: found[2].to_owned(), cluster, fields: fields(line) })
    }

    /// Of the request the protocol's version may differ: proxies choose it among themselves.
    fn holds_in(&self, seen: &Self) -> bool {
        let request = |text: &str| text.rsplit_once(' ').map_or(text.to_owned(), |(first, _)| first.to_owned());
        request(&self.request) == request(&seen.request)
            && self.status == seen.status
            && (self.cluster.is_none() || self.cluster == seen.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"[2019-01-24T12:17:11.640Z] "GET /headers HTTP/1.1" 200 - 0 599 214 214 "-" "curl/7.60.0" "17fde8f7-fa62-9b39-8999-302324e6def2" "httpbin.org" "35.173.6.94:80" outbound|80||httpbin.org - 35.173.6.94:80 172.30.109.82:55314 -"#;
    const NEW: &str = r#"[2026-11-21T01:00:00.000Z] "GET /headers HTTP/1.1" 200 - via_upstream - "-" 0 599 3 2 "-" "curl/8" "17fde8f7-fa62-9b39-8999-302324e6def2" "httpbin.org" "192.168.0.80:80" outbound|80||httpbin.org 10.244.0.9:51000 192.168.0.80:80 10.244.0.9:51002 - default"#;

    #[test]
    fn samples_are_compared_by_what_they_say() {
        assert!(is_sample(OLD) && is_sample(NEW) && !is_sample("HTTP/2 200"));
        assert_eq!(find(NEW, &[NEW]), Match::Same);
        assert_eq!(find(OLD, &["x", NEW]), Match::OtherForm(NEW.into()));
        let blocked =
            NEW.replace(" 200 - via_upstream", " 502 - direct_response").replace("outbound|80||httpbin.org", "-");
        assert_eq!(find(OLD, &[&blocked]), Match::None(Some(blocked.clone())));
        assert_eq!(find(OLD, &["nothing"]), Match::None(None));
    }

    #[test]
    fn fields_are_counted_with_quotes() {
        assert_eq!((fields(OLD), fields(NEW)), (18, 22));
        assert_eq!(fields(r#"a "b c" "" d"#), 4);
    }
}
