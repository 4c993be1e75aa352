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
static RULES: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    let regex = |pattern| Regex::new(pattern).expect("the patterns are constants that the tests use");
    [
        // PEM, also where line breaks are escaped and where the end was cut off.
        (
            regex(r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)"),
            "[redacted]",
        ),
        // A credential header within text: up to the end of the line (or of the quotation). Not an option, as in
        // `--cookie=a=b`, whose value ends with the word.
        (
            regex(r#"(?i)(^|[^-\w]|\w-)(authorization|cookie|x-api-key)(["']?\s*[:=]\s*["']?)[^\r\n"';]+"#),
            "${1}${2}${3}[redacted]",
        ),
        (regex(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{8,}"), "${1} [redacted]"),
        // A JSON Web Token: header, payload and signature, the first two JSON in base64.
        (regex(r"\beyJ[A-Za-z0-9_-]{4,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"), "[redacted]"),
        // A name and password in an address.
        (regex(r#"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#@'"<>]+@"#), "${1}[redacted]@"),
    ]
});

/// Options of curl whose values are credentials, as a shell has them: a quoted word, also one that was cut off, or one
/// without spaces.
static CURL: LazyLock<Regex> = LazyLock::new(|| {
    let long = "user|proxy-user|cookie|oauth2-bearer|pass|proxy-pass|tlspassword|proxy-tlspassword";
    let word = r#"(?:'(?:[^']|'\\'')*(?:'|\z)|"[^"]*(?:"|\z)|[^\s'"]+)+"#;
    let option = format!(r"(\s(?:--(?:{long})(?:\s+|=)|-[a-zA-Z]*[ubU]\s*)){word}");
    Regex::new(&option).expect("the pattern is a constant that the tests use")
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
    let is_command = |line: &str| line.contains("curl ") && CURL.is_match(line);
    if text.lines().any(is_command) {
        let clean =
            |line| if is_command(line) { CURL.replace_all(line, "${1}[redacted]") } else { Cow::Borrowed(line) };
        text = Cow::Owned(text.split_inclusive('\n').map(clean).collect());
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
            (
                "< set-cookie: a=b\nProxy-Authorization: x y".to_owned(),
                "< set-cookie: [redacted]\nProxy-Authorization: [redacted]",
            ),
            ("at http://me:secret@host:80/x".to_owned(), "at http://[redacted]@host:80/x"),
            ("$ curl -sS -u me:secret http://a/".to_owned(), "$ curl -sS -u [redacted] http://a/"),
            ("curl -su 'me:a b' x\n-u me".to_owned(), "curl -su [redacted] x\n-u me"),
            (
                "curl --cookie=a=b --user me:x -b'c=d".to_owned(),
                "curl --cookie=[redacted] --user [redacted] -b[redacted]",
            ),
        ] {
            assert_eq!(redact(&text), clean);
        }
        for text in [
            "rbac_access_denied",
            "a bearer of news",
            "outbound|80||httpbin.org",
            "6f1a0c3b5d7e9f20",
            "curl -sS -H 'a: b' http://a/b@c --max-time 3",
            "kubectl exec -n ns deploy/meshed -c curl -- curl -sS http://a/",
        ] {
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
