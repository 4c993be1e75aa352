//! Shapes: whether a tree has the keys and types that the scenario language has.
//!
//! Walks the tree along the JSON schema that is made from the types, so that one mistake does not hide the next and
//! there is no second description of the language. It knows the keywords that schemars writes for our types, no more.
//! Start at [`check`].

use serde_json::Value;

use super::did_you_mean;
use super::error::Problem;
use super::node::{Content, Entry, Node};

/// Reports everything in which the tree differs from the schema.
pub(super) fn check(schema: &Value, root: &Node, problems: &mut Vec<Problem>) {
    Walk { root: schema, problems }.node(schema, root, "");
}

struct Walk<'a> {
    root: &'a Value,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            schema = self.root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        }
        schema
    }

    /// The schemas of which the value must satisfy one, `null` left out; one schema is its own alternative.
    fn alternatives(&self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolve(schema);
        match schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            Some(list) => list.iter().flat_map(|s| self.alternatives(s)).filter(|s| s["type"] != "null").collect(),
            None => vec![schema],
        }
    }

    fn node(&mut self, schema: &'a Value, node: &Node, path: &str) {
        if matches!(node.content, Content::Null) {
            let message = format!("{} has no value", named(path));
            self.report(node, message, Some("write one, or leave the key out".into()));
            return;
        }
        let alternatives = self.alternatives(schema);
        let fitting: Vec<_> = alternatives.iter().copied().filter(|s| accepts(s, node)).collect();
        match (&node.content, &fitting[..]) {
            (_, []) => self.wrong_type(&alternatives, node, path),
            (Content::Text(text), fitting) if fitting.iter().all(|s| s.get("const").is_some()) => {
                self.word(fitting, text, node, path);
            }
            (Content::Map(_), [_, _, ..]) => self.one_key(&fitting, node, path),
            (_, [schema, ..]) => self.content(schema, node, path),
        }
    }

    fn content(&mut self, schema: &'a Value, node: &Node, path: &str) {
        match &node.content {
            Content::Map(entries) => self.map(schema, entries, node, path),
            Content::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.node(&schema["items"], item, &format!("{path}[{n}]"));
                }
            }
            Content::Number(number) => {
                let value = number.as_f64().unwrap_or_default();
                let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
                if min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max) {
                    let limit = |n: Option<f64>| n.map(|n| n.to_string()).unwrap_or_default();
                    let message = format!(
                        "{}: expected a number from {} to {}, found {number}",
                        named(path),
                        limit(min),
                        limit(max)
                    );
                    self.report(node, message, None);
                }
            }
            _ => {}
        }
    }

    fn map(&mut self, schema: &'a Value, entries: &[Entry], node: &Node, path: &str) {
        for entry in entries {
            match (schema["properties"].get(&entry.key), &schema["additionalProperties"]) {
                (Some(inner), _) => self.node(inner, &entry.value, &below(path, &entry.key)),
                (None, inner @ Value::Object(_)) => self.node(inner, &entry.value, &below(path, &entry.key)),
                _ => self.unknown_key(entry, keys(schema), path),
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !entries.iter().any(|entry| entry.key == required) {
                let message = match path {
                    "" => format!("the key `{required}` is missing"),
                    _ => format!("{} lacks the key `{required}`", named(path)),
                };
                self.report(node, message, None);
            }
        }
    }

    /// A map of which each alternative has one key of its own, such as a hop.
    fn one_key(&mut self, schemas: &[&'a Value], node: &Node, path: &str) {
        let all: Vec<&str> = schemas.iter().flat_map(|s| keys(s)).collect();
        let [entry] = node.entries() else {
            let message = format!("{}: expected a map with one key, one of {}", named(path), all.join(", "));
            let help = match node.entries() {
                [_, ..] => Some("begin another item of the list for each".to_owned()),
                [] => None,
            };
            return self.report(node, message, help);
        };
        match schemas.iter().find(|s| s["properties"].get(&entry.key).is_some()) {
            Some(schema) => self.content(schema, node, path),
            None => self.unknown_key(entry, all, path),
        }
    }

    fn word(&mut self, schemas: &[&Value], text: &str, node: &Node, path: &str) {
        let known: Vec<&str> = schemas.iter().filter_map(|s| s["const"].as_str()).collect();
        if !known.contains(&text) {
            let message = format!("{}: unknown value `{text}`, expected one of {}", named(path), known.join(", "));
            self.report(node, message, did_you_mean(text, known));
        }
    }

    fn unknown_key(&mut self, entry: &Entry, known: Vec<&str>, path: &str) {
        let message = match path {
            "" => format!("unknown key `{}`", entry.key),
            _ => format!("unknown key `{}` in {}", entry.key, named(path)),
        };
        let help = did_you_mean(&entry.key, known.iter().copied())
            .or_else(|| Some(format!("known keys are {}", known.join(", "))));
        self.problems.push(Problem { message, help, place: Some(entry.key_place) });
    }

    fn wrong_type(&mut self, alternatives: &[&Value], node: &Node, path: &str) {
        let mut expected: Vec<&str> = Vec::new();
        for schema in alternatives {
            for word in types(schema).into_iter().map(in_words) {
                if !expected.contains(&word) {
                    expected.push(word);
                }
            }
        }
        let message = format!("{}: expected {}, found {}", named(path), expected.join(" or "), node.kind());
        let help = (expected == ["text"] && matches!(node.content, Content::Number(_) | Content::Bool(_)))
            .then(|| "put it in quotes".to_owned())
            .or_else(|| (expected == ["a list"] && node.text().is_some()).then(|| "write [VALUE, …]".to_owned()));
        self.report(node, message, help);
    }

    fn report(&mut self, node: &Node, message: String, help: Option<String>) {
        self.problems.push(Problem { message, help, place: Some(node.place) });
    }
}

fn keys(schema: &Value) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    }
}

fn accepts(schema: &Value, node: &Node) -> bool {
    types(schema).iter().any(|word| match &node.content {
        Content::Null => false,
        Content::Bool(_) => *word == "boolean",
        Content::Number(n) => *word == "number" || (*word == "integer" && (n.is_i64() || n.is_u64())),
        Content::Text(_) => *word == "string",
        Content::List(_) => *word == "array",
        Content::Map(_) => *word == "object",
    })
}

fn in_words(word: &str) -> &str {
    match word {
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "text",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn named(path: &str) -> String {
    if path.is_empty() { "the scenario".to_owned() } else { format!("`{path}`") }
}

#[cfg(test)]
mod tests {
    use super::super::node::documents;
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let schema = serde_json::to_value(schemars::schema_for!(crate::scenario::schema::ScenarioFile)).unwrap();
        let mut problems = Vec::new();
        check(&schema, &documents(text).unwrap()[0], &mut problems);
        problems
            .into_iter()
            .map(|p| {
                let at = p.place.unwrap().position;
                format!("{}:{} {} / {}", at.line, at.column, p.message, p.help.unwrap_or_default())
            })
            .collect()
    }

    const HEAD: &str = "title: t\nabout: a\nscope: mesh\nmesh: registry-only\n";

    #[test]
    fn a_whole_scenario_has_the_right_shape() {
        let text = "steps:\n- name: x\n  apply: [a.yaml]\n  probe: {from: meshed, curl: [x]}\n  expect:\n    \
                    client: {exit: {in: [52, 56]}, status: absent, headers: {server: {not: {contains: 1.5}}}}\n    \
                    path: [{sidecar: {flags: [UH], code: {min: 1, max: 2.5}}}, {destination: {name: d, got: tls-error}}]\n";
        assert_eq!(problems(&format!("{HEAD}{text}")), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_reported_not_only_the_first() {
        let text = "levl: core\nlevel: cor\nlinks: x\ndestinations:\n  d: {serves: file, port: 70000}\nsteps:\n- nam: x\n  \
                    expect:\n    client: {exit: {inn: [1]}}\n    path: [{sidecr: {}}, {sidecar: {clutser: a}}, {}]\n";
        assert_eq!(
            problems(&format!("{HEAD}{text}")),
            [
                "5:1 unknown key `levl` / did you mean `level`?",
                "6:8 `level`: unknown value `cor`, expected one of core, extended / did you mean `core`?",
                "7:8 `links`: expected a list, found text / write [VALUE, …]",
                "9:15 `destinations.d.serves`: unknown value `file`, expected one of files, httpbin, page, redirect, tcp, proxy / did you mean `files`?",
                "9:27 `destinations.d.port`: expected a number from 0 to 65535, found 70000 / ",
                "11:3 unknown key `nam` in `steps[0]` / did you mean `name`?",
                "13:21 unknown key `inn` in `steps[0].expect.client.exit` / did you mean `in`?",
                "14:13 unknown key `sidecr` in `steps[0].expect.path[0]` / did you mean `sidecar`?",
                "14:37 unknown key `clutser` in `steps[0].expect.path[1].sidecar` / did you mean `cluster`?",
                "14:51 `steps[0].expect.path[2]`: expected a map with one key, one of sidecar, gateway, destination / ",
                "11:3 `steps[0]` lacks the key `name` / ",
            ]
        );
    }

    #[test]
    fn wrong_types_say_what_was_expected() {
        assert_eq!(
            problems(&format!("{HEAD}istio: 1.22\nsteps: {{}}\nclients:\nrequires: [1]\n")),
            [
                "5:8 `istio`: expected text, found a number / put it in quotes",
                "6:8 `steps`: expected a list, found a map / ",
                "7:8 `clients` has no value / write one, or leave the key out",
                "8:12 `requires[0]`: expected text, found a number / put it in quotes",
            ]
        );
    }
}
