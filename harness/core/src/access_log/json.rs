//! JSON formats: an object of keys and format strings.
//!
//! A key that holds one operator gives that operator's field; a key with more gives its own name, and the fields of its
//! operators too where it can be taken apart. Keys of nested objects are joined by `.`.

use serde_json::{Map, Value};

use super::format::FormatError;
use super::operator::{ISTIO_FIELDS, Operator};
use super::record::{Record, Unparsed};
use super::text::{self, Segment};

/// Fields that Envoy writes as JSON numbers.
const NUMBERS: [&str; 4] = ["bytes_received", "bytes_sent", "duration", "response_code"];

#[derive(Debug, Clone)]
pub(super) struct JsonFormat {
    keys: Vec<(String, Key)>,
}

/// What a key of a JSON format holds.
#[derive(Debug, Clone)]
enum Key {
    /// One operator.
    Field(Operator),
    /// Several, or literal text.
    Text(Vec<Segment>),
    /// No format string at all.
    Constant(Value),
}

impl JsonFormat {
    /// The format that Istio writes by default.
    pub(super) fn istio() -> Self {
        let operator = |field: &&str| {
            // `UPSTREAM_CLUSTER` stands for `UPSTREAM_CLUSTER_RAW` too, whose values never have the suffix.
            ((*field).to_owned(), Key::Field(Operator::named(&field.to_ascii_uppercase())))
        };
        Self { keys: ISTIO_FIELDS.iter().map(operator).collect() }
    }

    pub(super) fn compile(format: &str) -> Result<Self, FormatError> {
        let value: Value = serde_json::from_str(format).map_err(|e| FormatError::NotJson(e.to_string()))?;
        let Value::Object(object) = value else {
            return Err(FormatError::NotJson("it is another kind of value".into()));
        };
        let mut keys = Vec::new();
        for (key, value) in flatten(object) {
            let content = match value {
                Value::String(text) => {
                    let mut segments = text::compile(&text).map_err(FormatError::Operator)?;
                    match segments.as_slice() {
                        [Segment::Value(_)] => match segments.remove(0) {
                            Segment::Value(operator) => Key::Field(operator),
                            literal @ Segment::Literal(_) => Key::Text(vec![literal]),
                        },
                        _ => Key::Text(segments),
                    }
                }
                other => Key::Constant(other),
            };
            keys.push((key, content));
        }
        Ok(Self { keys })
    }

    pub(super) fn parse(&self, line: &str) -> Result<Record, Unparsed> {
        let line = line.trim_end_matches(['\n', '\r']);
        let unparsed =
            |at: usize, expected: &str| Unparsed { line: line.to_owned(), at, expected: expected.to_owned() };
        let value: Value =
            serde_json::from_str(line).map_err(|e| unparsed(e.column().saturating_sub(1), "a JSON object"))?;
        let Value::Object(object) = value else { return Err(unparsed(0, "a JSON object")) };
        let values: Map<String, Value> = flatten(object).into_iter().collect();
        // Keys of absent values may be left out; a line that shares none of the keys is something else.
        if !self.keys.iter().any(|(key, _)| values.contains_key(key)) {
            return Err(unparsed(0, "a key of the access-log format"));
        }
        let mut record = Record::default();
        for (key, content) in &self.keys {
            let text = match values.get(key) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => continue,
                Some(other) => other.to_string(),
            };
            match content {
                Key::Field(operator) => record.set(&operator.field, operator.clean(&text)),
                Key::Constant(_) => record.set(key, &text),
                Key::Text(segments) => {
                    if let Ok(inner) = text::parse(segments, &text) {
                        inner.iter().for_each(|(field, value)| record.set(field, value));
                    }
                    record.set(key, &text);
                }
            }
        }
        Ok(record)
    }

    pub(super) fn render(&self, record: &Record) -> String {
        let mut object = Map::new();
        for (key, content) in &self.keys {
            let value = match content {
                Key::Constant(value) => value.clone(),
                Key::Text(segments) => text::render(segments, record).into(),
                Key::Field(operator) => match record.get(&operator.field) {
                    None => Value::Null,
                    Some(text) if NUMBERS.contains(&operator.field.as_str()) => {
                        text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
                    }
                    Some(text) => text.into(),
                },
            };
            insert(&mut object, key, value);
        }
        Value::Object(object).to_string()
    }
}

fn flatten(object: Map<String, Value>) -> Vec<(String, Value)> {
    let mut flat = Vec::with_capacity(object.len());
    for (key, value) in object {
        match value {
            Value::Object(inner) => {
                flat.extend(flatten(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            value => flat.push((key, value)),
        }
    }
    flat
}

fn insert(object: &mut Map<String, Value>, key: &str, value: Value) {
    let nested = key.split_once('.');
    let inner = nested.map(|(head, _)| object.entry(head).or_insert_with(|| Value::Object(Map::new())));
    match (nested, inner) {
        (Some((_, tail)), Some(Value::Object(inner))) => insert(inner, tail, value),
        _ => {
            object.insert(key.to_owned(), value);
        }
    }
}
