//! Images: which programs and which configuration stand behind an image reference.
//!
//! Pure: reads `fixtures/images.yaml` from a string and answers look-ups. It never touches the file system.
//! Start at [`Images::parse`] and [`Images::find`].

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

/// One image: what a container of it sees in its file system, and how it starts.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Image {
    /// What the entry stands for; shown where images are listed.
    #[serde(default)]
    pub(crate) description: String,
    /// Components that appear in `/usr/local/bin`.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    /// Programs of the host that must be installed.
    #[serde(default)]
    pub(crate) host: Vec<String>,
    /// Path in the container to the component whose file is put there.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// User id where `securityContext` names none.
    #[serde(default)]
    pub(crate) user: u32,
    /// Group id that goes with `user`.
    #[serde(default)]
    pub(crate) group: u32,
    /// Environment of the image.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Replaced by a container's `command`.
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    /// Replaced by a container's `args` (and dropped when `command` is given).
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// Where the program starts when the container names no `workingDir`.
    #[serde(default = "root_directory")]
    pub(crate) working_dir: String,
}

fn root_directory() -> String {
    "/".to_owned()
}

/// The table of images, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    pattern: String,
    matcher: GlobMatcher,
    image: Image,
}

/// Why the table, or an image in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    /// The file is not valid.
    #[error("images.yaml: {0}")]
    Syntax(Box<serde_saphyr::Error>),
    /// A pattern is not a glob.
    #[error("images.yaml: pattern {pattern:?} is not a glob: {source}")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What the glob parser says.
        source: globset::Error,
    },
    /// No pattern fits the reference.
    #[error(
        "no image {reference:?} in the sandbox, which has no registry: add it to fixtures/images.yaml, for example\n\
         \"{reference}\":\n  description: what it is\n  host: [sh]\n  user: 0\n  group: 0\n  command: [sh]\n\
         known patterns: {known}"
    )]
    Unknown {
        /// The reference asked for.
        reference: String,
        /// All patterns, joined.
        known: String,
    },
}

/// A YAML mapping whose order is kept, since the first pattern that fits wins.
struct Ordered(Vec<(String, Image)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Ordered;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping from reference pattern to image")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl Images {
    /// Reads the table.
    ///
    /// # Errors
    /// When the text is not YAML of the expected shape (unknown keys included), or a pattern is not a glob.
    pub(crate) fn parse(text: &str) -> Result<Self, ImagesError> {
        let Ordered(pairs) = serde_saphyr::from_str(text).map_err(|error| ImagesError::Syntax(Box::new(error)))?;
        let entries = pairs
            .into_iter()
            .map(|(pattern, image)| {
                let glob = GlobBuilder::new(&pattern).literal_separator(false).empty_alternates(true).build();
                match glob {
                    Ok(glob) => Ok(Entry { matcher: glob.compile_matcher(), pattern, image }),
                    Err(source) => Err(ImagesError::Pattern { pattern, source }),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// The image behind a reference, and the pattern that fitted.
    ///
    /// # Errors
    /// [`ImagesError::Unknown`], whose text says what to add.
    pub(crate) fn find(&self, reference: &str) -> Result<(&str, &Image), ImagesError> {
        self.entries
            .iter()
            .find(|entry| entry.matcher.is_match(reference))
            .map(|entry| (entry.pattern.as_str(), &entry.image))
            .ok_or_else(|| ImagesError::Unknown {
                reference: reference.to_owned(),
                known: self.entries.iter().map(|e| e.pattern.as_str()).collect::<Vec<_>>().join(", "),
            })
    }

    /// Every component that some image uses.
    pub(crate) fn components(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().flat_map(|entry| {
            let names = entry.image.programs.iter().chain(entry.image.files.values());
            names.map(|name| (entry.pattern.as_str(), name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Images {
        Images::parse(include_str!("../../../../fixtures/images.yaml")).expect("the shipped table")
    }

    #[test]
    fn references_find_their_image() {
        let images = shipped();
        for (reference, user) in [
            ("docker.io/istio/proxyv2:1.31.0", 1337),
            ("gcr.io/istio-testing/pilot:latest", 1337),
            ("gcr.io/x/proxyv2@sha256:00", 1337),
            ("curlimages/curl", 100),
            ("docker.io/curlimages/curl:8.16.0", 100),
            ("busybox", 0),
            ("busybox:1.36", 0),
            ("docker.io/library/busybox:stable", 0),
        ] {
            assert_eq!(images.find(reference).unwrap().1.user, user, "{reference}");
        }
    }

    #[test]
    fn an_unknown_image_says_what_to_add() {
        for reference in ["redis:1", "busyboxes", "xproxyv2"] {
            let message = shipped().find(reference).unwrap_err().to_string();
            assert!(message.contains("fixtures/images.yaml"), "{message}");
            assert!(message.contains(&format!("\"{reference}\":\n")), "{message}");
            assert!(message.contains("*/proxyv2"), "{message}");
        }
    }

    #[test]
    fn the_first_pattern_wins_and_unknown_keys_are_refused() {
        let images = Images::parse("\"a*\": {user: 1}\n\"*\": {user: 2}\n").unwrap();
        assert_eq!(images.find("abc").unwrap().1.user, 1);
        assert_eq!(images.find("xyz").unwrap().1.user, 2);
        let error = Images::parse("x: {usr: 1}\n").unwrap_err().to_string();
        assert!(error.contains("usr"), "{error}");
    }
}
