//! Removing secrets from what is written down.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands in a secret's place.
const MARK: &str = "[redacted]";

/// Headers whose values are credentials.
const HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-amz-security-token"];

/// What is removed, and what stays of it.
static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    let regex = |pattern| Regex::new(pattern).expect("the patterns are constants that the tests use");
    [
        // PEM, also where line breaks are escaped and where the end was cut off.
        (
            regex(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)"),
            "[redacted]",
        ),
        // A credential header within text: up to the end of the line (or of the quotation).
        (
            regex(
                r#"(?i)\b(authorization|proxy-authorization|cookie|set-cookie|x-api-key)(["']?\s*[:=]\s*["']?)[^\r\n"';]+"#,
            ),
            "${1}${2}[redacted]",
        ),
        (regex(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}"), "${1} [redacted]"),
        // A JSON Web Token: header, payload and signature, the first two JSON in base64.
        (regex(r"\beyJ[A-Za-z0-9_-]{4,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), "[redacted]"),
    ]
});

/// The text without private keys, tokens and credentials.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for (rule, instead) in RULES.iter() {
        if rule.is_match(&text) {
            text = Cow::Owned(rule.replace_all(&text, *instead).into_owned());
        }
    }
    text
}

/// Removes secrets from every text inside a value; a pair of a credential header's name and a value loses the value.
pub(super) fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = redact(text) {
                *text = clean;
            }
        }
        Value::Array(items) => match items.as_mut_slice() {
            [Value::String(name), Value::String(secret)] if HEADERS.contains(&name.to_ascii_lowercase().as_str()) => {
                MARK.clone_into(secret);
            }
            items => items.iter_mut().for_each(redact_value),
        },
        Value::Object(fields) => fields.values_mut().for_each(redact_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
        for (text, clean) in [
            (format!("token {jwt} in a path"), "token [redacted] in a path"),
            ("Bearer abcdefgh12345678 end".to_owned(), "Bearer [redacted] end"),
            (format!("a\n{key}\nb"), "a\n[redacted]\nb"),
            (key[..40].to_owned(), "[redacted]"),
            ("> Authorization: Basic dXNlcjpw\n> Accept: */*".to_owned(), "> Authorization: [redacted]\n> Accept: */*"),
            (r#"{"Cookie": "a=b"}"#.to_owned(), r#"{"Cookie": "[redacted]"}"#),
        ] {
            assert_eq!(redact(&text), clean);
        }
        for text in ["rbac_access_denied", "a bearer of news", "outbound|80||httpbin.org", "6f1a0c3b5d7e9f20"] {
            assert!(matches!(redact(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn header_pairs_lose_their_value() {
        let mut value = serde_json::json!({"headers": [["Authorization", "Basic eA=="], ["accept", "*/*"]]});
        redact_value(&mut value);
        assert_eq!(value, serde_json::json!({"headers": [["Authorization", "[redacted]"], ["accept", "*/*"]]}));
    }
}
