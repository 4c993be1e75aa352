//! YAML as a tree in which every key and value knows where it was written.
//!
//! serde's own values forget positions and stop at the first wrong type; this tree keeps both, so that everything can
//! be checked and reported at once. Start at [`documents`].

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Options, Spanned};

use crate::scenario::model::{Position, Positions};

/// A part of a file, as bytes, and the line and column at which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

/// A text that is no YAML.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) message: String,
    pub(super) place: Option<Place>,
}

fn options() -> Options {
    // Words such as `yes` and `no` are text, as in YAML 1.2.
    serde_saphyr::options! { with_snippet: false, strict_booleans: true }
}

/// The documents of a YAML text; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Malformed> {
    let documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| malformed(&e))?;
    Ok(documents.into_iter().filter(|node| !matches!(node.content, Content::Null)).collect())
}

/// Deserialises a text whose shape was checked already.
pub(super) fn typed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Malformed> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|e| malformed(&e))
}

fn malformed(error: &serde_saphyr::Error) -> Malformed {
    use serde_saphyr::Error;
    let error = error.without_snippet();
    let place = error.location().filter(|l| l.line() > 0).map(place);
    let message = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice"),
        Error::Message { msg, .. } => msg.clone(),
        other => {
            let whole = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            // The place is reported apart.
            match whole.rfind(" at line ") {
                Some(end) => whole[..end].to_owned(),
                None => whole,
            }
        }
    };
    Malformed { message, place }
}

fn place(location: Location) -> Place {
    let span = location.span();
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Place {
        position: Position { line: size(location.line()), column: size(location.column()) },
        offset: size(span.byte_offset().unwrap_or(span.offset())),
        length: size(span.byte_len().unwrap_or(span.len())),
    }
}

impl Node {
    /// What it is, in the words of messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "a truth value",
            Content::Number(_) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entries of a map; of anything else, none.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Content::Map(entries) = &self.content { entries } else { &[] }
    }

    /// The items of a list; of anything else, none.
    pub(super) fn items(&self) -> &[Node] {
        if let Content::List(items) = &self.content { items } else { &[] }
    }

    /// Its text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// The node at a JSON pointer, or the nearest one around it.
    pub(super) fn at(&self, pointer: &str) -> &Node {
        let mut node = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            let next = match &node.content {
                Content::List(items) => token.parse::<usize>().ok().and_then(|n| items.get(n)),
                _ => node.get(&token),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Where a key of the map at a JSON pointer was written, or the nearest place around it.
    pub(super) fn key_place(&self, pointer: &str, key: &str) -> Place {
        let map = self.at(pointer);
        map.entries().iter().find(|entry| entry.key == key).map_or(map.place, |entry| entry.key_place)
    }

    /// Without positions.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_value())).collect::<Map<_, _>>())
            }
        }
    }

    /// Where every value was written, by JSON pointer.
    pub(super) fn positions(&self) -> Positions {
        let mut positions = Positions::new();
        self.collect("", &mut positions);
        positions
    }

    fn collect(&self, pointer: &str, positions: &mut Positions) {
        positions.insert(pointer.to_owned(), self.place.position);
        for (n, item) in self.items().iter().enumerate() {
            item.collect(&format!("{pointer}/{n}"), positions);
        }
        for entry in self.entries() {
            entry.value.collect(&format!("{pointer}/{}", escape(&entry.key)), positions);
        }
    }

    /// Every text of the tree, keys included, with its place.
    pub(super) fn texts<'a>(&'a self, each: &mut dyn FnMut(&'a str, Place)) {
        if let Some(text) = self.text() {
            each(text, self.place);
        }
        self.items().iter().for_each(|item| item.texts(each));
        for entry in self.entries() {
            each(&entry.key, entry.key_place);
            entry.value.texts(each);
        }
    }
}

/// One token of a JSON pointer.
pub(super) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { place: place(spanned.referenced), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom(format!("{value} is no number here")))?;
        Ok(Content::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Node>()? {
            entries.push(Entry { key_place: place(key.referenced), key: key.value, value });
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_place() {
        let text = "a: 1\nb:\n- {x: \"${v}\", 2: [true, 1.5]}\n- |\n  two\n  lines\n";
        let root = documents(text).unwrap().remove(0);
        let at = |pointer: &str| root.at(pointer).place;
        assert_eq!(at("/a").position, Position { line: 1, column: 4 });
        assert_eq!(at("/b/0/x").position, Position { line: 3, column: 7 });
        assert_eq!(&text[at("/b/0/x").offset..][..at("/b/0/x").length], "\"${v}\"");
        assert_eq!(at("/b/0/2/1").position, Position { line: 3, column: 25 });
        assert_eq!(
            root.to_value(),
            serde_json::json!({"a": 1, "b": [{"x": "${v}", "2": [true, 1.5]}, "two\nlines\n"]})
        );
        assert_eq!(root.positions()["/b/0/2/0"], Position { line: 3, column: 19 });
    }

    #[test]
    fn documents_are_counted_in_the_lines_of_the_file() {
        let documents = documents("---\na: 1\n---\n# nothing\n---\nb: 2\n---\n").unwrap();
        let lines: Vec<usize> = documents.iter().map(|d| d.place.position.line).collect();
        assert_eq!(lines, [2, 6]);
    }

    #[test]
    fn what_is_no_yaml_is_reported_with_its_place() {
        let error = documents("a: [1, 2\nb: 3\n").unwrap_err();
        assert_eq!(error.place.unwrap().position.line, 2, "{}", error.message);
        let twice = documents("a: 1\na: 2\n").unwrap_err();
        assert_eq!(twice.message, "the key `a` is there twice");
        assert_eq!(twice.place.unwrap().position, Position { line: 2, column: 1 });
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_text_when_it_is_quoted() {
        let root = documents("a: \"52\"\nb: 52\nc:\nd: ${x.address}\n").unwrap().remove(0);
        assert_eq!(root.to_value(), serde_json::json!({"a": "52", "b": 52, "c": null, "d": "${x.address}"}));
    }
}
