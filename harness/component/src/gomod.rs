//! The few facts that the pins need from a `go.mod`: its `go` line, its `tool` lines, the versions of its `require` lines.
//!
//! Never resolves anything: Go itself does, against `go.sum`. Syntax: <https://go.dev/ref/mod#go-mod-file>. Start at [`GoMod::parse`].

use std::collections::{BTreeMap, BTreeSet};

/// What a `go.mod` says, as far as pins need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GoMod {
    /// The `go` line: the oldest Go that may build it.
    pub(crate) go: Option<String>,
    /// Package paths of the `tool` lines.
    pub(crate) tools: BTreeSet<String>,
    /// Module path to version, from the `require` lines.
    pub(crate) requires: BTreeMap<String, String>,
}

impl GoMod {
    /// Reads the directives of interest; others (`replace`, `exclude`, ...) are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let mut block: Option<String> = None;
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().map(|w| w.trim_matches('"')).collect();
            match (block.as_deref(), words.as_slice()) {
                (_, []) => {}
                (Some(_), [")"]) => block = None,
                (Some(verb), arguments) => found.directive(verb, arguments),
                (None, [verb, "("]) => block = Some((*verb).to_owned()),
                (None, [verb, arguments @ ..]) => found.directive(verb, arguments),
            }
        }
        found
    }

    fn directive(&mut self, verb: &str, arguments: &[&str]) {
        match (verb, arguments) {
            ("go", [version]) => self.go = Some((*version).to_owned()),
            ("tool", [package]) => {
                self.tools.insert((*package).to_owned());
            }
            ("require", [module, version]) => {
                self.requires.insert((*module).to_owned(), (*version).to_owned());
            }
            _ => {}
        }
    }
}

/// Whether a module version names a commit rather than a release (`v0.0.0-20260827124520-eed52ebb66ad`).
pub(crate) fn is_pseudo_version(version: &str) -> bool {
    let mut parts = version.rsplit('-');
    let commit = parts.next().unwrap_or_default();
    let time = parts.next().and_then(|p| p.rsplit('.').next()).unwrap_or_default();
    commit.len() == 12
        && commit.chars().all(|c| c.is_ascii_hexdigit())
        && time.len() == 14
        && time.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "module m\n\ngo 1.26.0 // comment\n\ntool a.test/one\n\ntool (\n\tb.test/two\n\t\"b.test/three\"\n)\n\n\
        require a.test v1.2.3 // indirect\nrequire (\n\tb.test v0.1.0\n)\nreplace x => ./y\n";

    #[test]
    fn reads_lines_and_blocks() {
        let found = GoMod::parse(TEXT);
        assert_eq!(found.go.as_deref(), Some("1.26.0"));
        assert_eq!(
            found.tools.iter().map(String::as_str).collect::<Vec<_>>(),
            ["a.test/one", "b.test/three", "b.test/two"]
        );
        assert_eq!(found.requires["a.test"], "v1.2.3");
        assert_eq!(found.requires["b.test"], "v0.1.0");
        assert_eq!(found.requires.len(), 2);
    }

    #[test]
    fn pseudo_versions_are_told_from_releases() {
        assert!(is_pseudo_version("v0.0.0-20260827124520-eed52ebb66ad"));
        assert!(is_pseudo_version("v1.36.1-0.20260729145720-a2d8c7492908"));
        assert!(!is_pseudo_version("v1.36.3"));
        assert!(!is_pseudo_version("v1.0.0-rc.1"));
    }
}
