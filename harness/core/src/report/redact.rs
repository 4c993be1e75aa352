//! Takes secrets out of text before it goes into a report: private keys, JSON web tokens, credentials in headers and
//! in URLs, and the `data` of Secrets.
//!
//! What is left still says that something stood there. The patterns go by form, so a secret without a form of its own
//! (a bare password in a log line) is not found: such text must not be collected in the first place.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

/// A form that secrets have. The group `keep`, where there is one, stays in front.
struct Form {
    pattern: Regex,
    name: &'static str,
}

static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| {
    [
        // The end may be missing where text was cut off; then everything up to the end of the text goes.
        (
            "private key",
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----(?s:.*?)(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----|\z)",
        ),
        // Header and payload of a JSON web token are base64url of `{"…`; the signature may be empty.
        ("token", r"\beyJ[A-Za-z0-9_-]{5,}\.eyJ[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"),
        // The base64 of a PEM private key or of any PEM block, as Secrets and kubeconfigs carry it.
        ("key", r"(?P<keep>(?:client-key-data|tls\.key|key\.pem|ca-key\.pem)\W{1,5})[A-Za-z0-9+/=_-]{16,}"),
        (
            "credentials",
            r"(?i)(?P<keep>\b(?:proxy-)?authorization\b\W{1,5}(?:bearer|basic|digest|negotiate)\s+)[^\s,;\x22'\[\]]+",
        ),
        ("credentials", r"(?i)(?P<keep>\bbearer\s+)[A-Za-z0-9._~+/-]{12,}=*"),
        ("cookie", r"(?im)(?P<keep>\b(?:set-)?cookie\b[\x22']?\s*[:=]\s*[\x22']?)[^\s\x22'\[\]][^\r\n\x22'\[\]]*"),
        ("credentials", r"(?P<keep>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@:\[\]]+:[^\s/@\[\]]+@"),
        (
            "secret",
            r"(?i)(?P<keep>\b(?:password|passwd|secret|client[_-]secret|api[_-]?key|access[_-]?token|id[_-]?token|x-api-key)\b[\x22']?\s*[:=]\s*[\x22']?)[^\s\x22',;&\[\]]{3,}",
        ),
    ]
    .into_iter()
    .map(|(name, pattern)| Form { pattern: Regex::new(pattern).expect("the patterns are constants"), name })
    .collect()
});

/// The text without the secrets in it; borrowed where there were none. Redacting twice changes nothing.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for form in FORMS.iter() {
        let replaced = form.pattern.replace_all(&out, |found: &Captures<'_>| {
            let keep = found.name("keep").map_or("", |group| group.as_str());
            let tail = if found[0].ends_with('@') { "@" } else { "" };
            format!("{keep}{}{tail}", mark(form.name))
        });
        if let Cow::Owned(text) = replaced {
            out = Cow::Owned(text);
        }
    }
    out
}

fn mark(name: &str) -> String {
    REDACTED.replace(']', &format!(" {name}]"))
}

/// The same for every string inside a JSON value, keys aside.
pub(super) fn redact_value(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Cow::Owned(clean) = redact(text) {
                *text = clean;
            }
        }
        serde_json::Value::Array(items) => redact_array(items),
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    serde_json::Value::String(text) if is_secret_name(name) && !text.starts_with("[redacted") => {
                        *text = mark("credentials");
                    }
                    _ => redact_value(value),
                }
            }
        }
        _ => {}
    }
}

/// Headers are written as `[name, value]`: there the name decides on the value.
fn redact_array(items: &mut [serde_json::Value]) {
    if let [serde_json::Value::String(name), serde_json::Value::String(value)] = items
        && is_secret_name(name)
    {
        if !value.starts_with("[redacted") {
            *value = mark("credentials");
        }
        return;
    }
    items.iter_mut().for_each(redact_value);
}

pub(super) fn is_secret_name(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"]
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl";

    #[test]
    fn secrets_of_every_form_are_taken_out() {
        for (text, clean) in [
            (format!("token={JWT} end"), "token=[redacted token] end".to_owned()),
            (format!("Authorization: Bearer {JWT}"), "Authorization: Bearer [redacted credentials]".into()),
            ("> authorization: Basic dXNlcjpwYXNz\n> x: y".into(), "> authorization: Basic [redacted credentials]\n> x: y".into()),
            (
                "a\n-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\nb".into(),
                "a\n[redacted private key]\nb".into(),
            ),
            ("-----BEGIN PRIVATE KEY-----\nAAAA cut".into(), "[redacted private key]".into()),
            ("https://user:pa55@host/x".into(), "https://[redacted credentials]@host/x".into()),
            ("\"password\": \"hunter2\",".into(), "\"password\": \"[redacted secret]\",".into()),
            ("  tls.key: LS0tLS1CRUdJTiBQUklWQVRF".into(), "  tls.key: [redacted key]".into()),
        ] {
            // A token behind `Bearer` is named by whichever form comes first; what counts is that it is gone.
            let got = redact(&text).replace("[redacted token]", "[T]").replace("[redacted credentials]", "[T]");
            let want = clean.replace("[redacted token]", "[T]").replace("[redacted credentials]", "[T]");
            assert_eq!(got, want, "{text}");
            assert_eq!(redact(&redact(&text)), redact(&text), "redacting twice");
        }
    }

    #[test]
    fn ordinary_evidence_stays_and_is_not_copied() {
        for text in [
            r#"[2026-11-21T02:00:00.000Z] "GET /headers HTTP/1.1" 200 - via_upstream - "-" 0 5 1 1 "-" "curl/8.5.0" "id" "httpbin.org" "10.0.0.1:80" outbound|80||httpbin.org 10.1.0.2:4 10.0.0.1:80 10.1.0.2:5 - default"#,
            "curl: (52) Empty reply from server",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "https://istio.io/latest/docs/@x",
        ] {
            assert!(matches!(redact(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn a_header_pair_is_redacted_by_its_name() {
        let mut value = serde_json::json!({"headers": [["Cookie", "a=b"], ["Host", "x"]], "authorization": "k"});
        redact_value(&mut value);
        assert_eq!(
            value,
            serde_json::json!({
                "headers": [["Cookie", "[redacted credentials]"], ["Host", "x"]],
                "authorization": "[redacted credentials]"
            })
        );
    }
}
