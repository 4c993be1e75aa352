//! What a page tells the harness, in HTML comments that readers do not see.
//!
//! `<!-- tutorial: … -->` holds YAML for the whole page, or for the block that follows. Other comments are none of our
//! business. Start at [`Settings`] and [`BlockSettings`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::verify::Verify;
use crate::scenario::schema::DestinationSpec;

/// The profile of a page that names none.
pub const DEFAULT_PROFILE: &str = "registry-only";

/// What a page says of itself: `<!-- tutorial: {mesh: …} -->` before its first command.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The mesh profile that it starts from; default: [`DEFAULT_PROFILE`].
    #[serde(default)]
    pub mesh: Option<String>,
    /// Servers outside, beside those that follow from the page's own names; one of the same name takes its place.
    #[serde(default)]
    pub destinations: BTreeMap<String, DestinationSpec>,
}

/// What a page says of its next block: `<!-- tutorial: {verify: contains, path: [sidecar, gateway, cnn]} -->`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockSettings {
    /// How outputs are compared; default: as a reader would.
    #[serde(default)]
    pub verify: Option<Verify>,
    /// The hops that each command's request takes.
    #[serde(default)]
    pub path: Option<Vec<String>>,
    /// Not to be run, and why.
    #[serde(default)]
    pub skip: Option<String>,
}

/// A comment of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Comment {
    Page(Box<Settings>),
    Block(BlockSettings),
}

/// Reads a comment's text; `None` where it is not ours.
pub(super) fn read(comment: &str) -> Option<Result<Comment, String>> {
    let text = comment.trim().strip_prefix("tutorial:")?;
    let text = text.trim_matches('\n');
    let keys: BTreeMap<String, serde_json::Value> = match serde_saphyr::from_str(text) {
        Ok(keys) => keys,
        Err(error) => return Some(Err(format!("the comment is no YAML map: {}", first_line(&error.to_string())))),
    };
    let of_page = ["mesh", "destinations"];
    let of_block = ["verify", "path", "skip"];
    if let Some(unknown) = keys.keys().find(|k| !of_page.contains(&k.as_str()) && !of_block.contains(&k.as_str())) {
        let near = of_page.iter().chain(&of_block).max_by(|a, b| {
            strsim::jaro(a, unknown).partial_cmp(&strsim::jaro(b, unknown)).unwrap_or(std::cmp::Ordering::Equal)
        });
        return Some(Err(format!(
            "unknown key `{unknown}` in a comment; did you mean `{}`?",
            near.copied().unwrap_or_default()
        )));
    }
    let said = if keys.keys().any(|k| of_page.contains(&k.as_str())) {
        serde_saphyr::from_str(text).map(|settings| Comment::Page(Box::new(settings)))
    } else {
        serde_saphyr::from_str(text).map(Comment::Block)
    };
    Some(said.map_err(|e| format!("the comment cannot be read: {}", first_line(&e.to_string()))))
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_others_are_left_alone() {
        assert_eq!(read(" a remark "), None);
        assert_eq!(read("TODO: tutorial"), None);
    }

    #[test]
    fn pages_and_blocks_say_what_they_want() {
        let page = read("tutorial:\nmesh: allow-any\ndestinations:\n  a: {serves: files, port: 1234}\n");
        let Some(Ok(Comment::Page(page))) = page else { panic!("{page:?}") };
        assert_eq!((page.mesh.as_deref(), page.destinations["a"].port), (Some("allow-any"), 1234));
        let block = read("tutorial: {verify: contains, path: [sidecar, cnn]}");
        let Some(Ok(Comment::Block(block))) = block else { panic!("{block:?}") };
        assert_eq!((block.verify, block.path), (Some(Verify::Contains), Some(vec!["sidecar".into(), "cnn".into()])));
    }

    #[test]
    fn a_mistake_is_told_with_the_nearest_word() {
        let Some(Err(message)) = read("tutorial: {verfiy: same}") else { panic!() };
        assert!(message.contains("did you mean `verify`"), "{message}");
        assert!(matches!(read("tutorial: {verify: sam}"), Some(Err(_))));
        assert!(matches!(read("tutorial: ["), Some(Err(_))));
    }
}
