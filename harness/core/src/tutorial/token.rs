//! Words of an output that differ from run to run: addresses, ages, versions, identifiers, times, generated names.
//!
//! Start at [`alike`].

use std::sync::LazyLock;

use regex::Regex;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

/// What a varying word is.
static KINDS: LazyLock<[(&str, Regex); 7]> = LazyLock::new(|| {
    [
        ("address", pattern(r"^\d{1,3}(\.\d{1,3}){3}(/\d+)?(:\d+)?$")),
        ("age", pattern(r"^(\d+(\.\d+)?(ms|us|µs|[smhdy]))+$")),
        ("version", pattern(r"^v?\d+\.\d+(\.\d+)?([-+][\w.+-]+)?$")),
        ("identifier", pattern(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")),
        ("time", pattern(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?$")),
        ("hash", pattern(r"^[0-9a-f]{16,}$")),
        ("serial", pattern(r"^\d{15,}$")),
    ]
});

/// The name of a pod: what its owner is named, and what a controller adds.
static POD: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([a-z0-9-]+?)-[a-f0-9]{6,10}-[a-z0-9]{5}$"));

/// Whether two lines say the same to a reader.
pub(super) fn alike(expected: &str, seen: &str) -> bool {
    if expected.trim() == seen.trim() {
        return true;
    }
    let (wanted, got): (Vec<&str>, Vec<&str>) = (words(expected), words(seen));
    // A page may end a line with `...` where the rest is of no interest.
    if let Some((last, first)) = wanted.split_last()
        && matches!(*last, "..." | "…")
        && got.len() >= first.len()
    {
        return first.iter().zip(&got).all(|(a, b)| word_alike(a, b));
    }
    wanted.len() == got.len() && wanted.iter().zip(&got).all(|(a, b)| word_alike(a, b))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn word_alike(expected: &str, seen: &str) -> bool {
    let bare = |word: &str| word.trim_matches(['"', '\'', ',', '(', ')', '[', ']', ';']).to_owned();
    let (a, b) = (bare(expected), bare(seen));
    if a == b || matches!(a.as_str(), "..." | "…") {
        return true;
    }
    if KINDS.iter().any(|(_, kind)| kind.is_match(&a) && kind.is_match(&b)) {
        return true;
    }
    if let (Some(a), Some(b)) = (POD.captures(&a), POD.captures(&b)) {
        return a[1] == b[1];
    }
    // `key=value`, `key:value`: the value may be of such a kind.
    for mark in ['=', '/'] {
        if let (Some((ka, va)), Some((kb, vb))) = (a.split_once(mark), b.split_once(mark))
            && ka == kb
            && !va.is_empty()
            && word_alike(va, vb)
        {
            return true;
        }
    }
    false
}

/// `_verify_like` of istio.io: as many words, each equal or of one kind, or names with a common generated prefix.
pub(super) fn line_alike(expected: &str, seen: &str) -> bool {
    static AGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([0-9]+[smhd])+$"));
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d{1,3}(\.\d{1,3}){3}$"));
    static PREFIX: LazyLock<Regex> = LazyLock::new(|| pattern(r"^([a-zA-Z0-9_]+-)+"));
    let (wanted, got) = (words(expected), words(seen));
    let same = |(a, b): (&&str, &&str)| {
        let common: String = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x).collect();
        a == b
            || *a == "..."
            || (AGE.is_match(a) && AGE.is_match(b))
            || (ADDRESS.is_match(a) && ADDRESS.is_match(b))
            || PREFIX.is_match(&common)
    };
    wanted.len() == got.len() && wanted.iter().zip(&got).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_alike() {
        for (a, b) in [
            ("curl-776b7bcdcd-gkjt2   2/2   Running   0   4h32m", "curl-5b549b49b8-x9x2z 2/2 Running 0 3s"),
            ("my-httpbin ClusterIP 10.0.0.1 80/TCP 4s", "my-httpbin ClusterIP 10.96.3.4 80/TCP 1m2s"),
            ("< date: 2024-01-01T00:00:00Z", "< date: 2026-11-21T12:00:00.1Z"),
            ("client version: 1.20.0", "client version: 1.31.0"),
            ("real    0m5.024s", "real 0m5.1s"),
            (
                "< x-request-id: 84961386-6d84-929d-98bd-c5aee93b5c88",
                "< x-request-id: 00000000-6d84-929d-98bd-c5aee93b5c88",
            ),
            ("HTTP/1.1 200 ...", "HTTP/1.1 200 OK"),
            ("\"origin\": \"10.1.2.3\",", "\"origin\": \"10.9.9.9\","),
        ] {
            assert!(alike(a, b), "{a} / {b}");
        }
    }

    #[test]
    fn what_a_reader_minds_is_not_alike() {
        for (a, b) in [
            ("HTTP/2 200", "HTTP/2 502"),
            ("HTTP/1.1 301 Moved Permanently", "HTTP/1.1 200 OK"),
            ("command terminated with exit code 35", "command terminated with exit code 6"),
            ("curl-776b7bcdcd-gkjt2 2/2 Running", "other-776b7bcdcd-gkjt2 2/2 Running"),
            ("curl 2/2", "curl 1/2"),
            ("a b", "a b c"),
        ] {
            assert!(!alike(a, b), "{a} / {b}");
        }
    }

    #[test]
    fn verify_like_is_that_of_istio_io() {
        assert!(line_alike("pod-a-1 10.1.1.1 4s", "pod-a-2 10.2.2.2 3h"));
        assert!(line_alike("a ... c", "a b c"));
        assert!(!line_alike("a b", "a b c"));
        assert!(!line_alike("Running", "Pending"));
    }
}
