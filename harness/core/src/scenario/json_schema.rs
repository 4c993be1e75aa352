//! The JSON schema of scenario files, made from the types, for editors and for the loader's own check of shapes.
//!
//! Start at [`schema_json`].

use serde_json::Value;

use super::schema::ScenarioFile;

/// Keys, each of a type of the language, that everything here understands and the engine does not carry out yet. A
/// scenario that uses one of them does not load. When the engine can do it, its line goes.
const AHEAD_OF_THE_ENGINE: &[(&str, &str)] = &[("Probe", "tcp")];

/// How much of the language a file may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// What the engine carries out.
    Runnable,
    /// All that is defined, for tests of what is ahead of the engine.
    Whole,
}

impl Language {
    /// Its JSON schema.
    pub(super) fn schema(self) -> Value {
        let mut schema = serde_json::to_value(schemars::schema_for!(ScenarioFile)).expect("a schema is plain JSON");
        let left_out = if self == Self::Whole { &[] } else { AHEAD_OF_THE_ENGINE };
        for (of, key) in left_out {
            let owner = if schema["title"] == *of { &mut schema } else { &mut schema["$defs"][of] };
            let properties = owner["properties"].as_object_mut().expect("only keys of maps are left out");
            properties.retain(|name, _| name != key);
        }
        schema
    }
}

/// The JSON schema of `scenario.yaml` as text, ending with a newline. `scenarios/schema.json` is this text.
#[must_use]
pub fn schema_json() -> String {
    serde_json::to_string_pretty(&Language::Runnable.schema()).expect("a schema is plain JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use crate::scenario::schema::PROXY_FIELDS;

    #[test]
    fn what_is_ahead_of_the_engine_is_not_in_the_schema() {
        let (runnable, whole) = (super::Language::Runnable.schema(), super::Language::Whole.schema());
        for (of, key) in super::AHEAD_OF_THE_ENGINE {
            let at = if *of == "ScenarioFile" { String::new() } else { format!("/$defs/{of}") };
            let pointer = format!("{at}/properties/{key}");
            assert!(whole.pointer(&pointer).is_some() && runnable.pointer(&pointer).is_none(), "{pointer}");
        }
    }

    #[test]
    fn the_schema_lists_the_fields_of_a_proxy_and_allows_no_others() {
        let schema: serde_json::Value = serde_json::from_str(&super::schema_json()).unwrap();
        let hop = &schema["$defs"]["ProxyHop"];
        let fields: Vec<&str> = hop["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields[1..], PROXY_FIELDS.map(|(name, _)| name));
        assert_eq!(fields[0], "times");
        assert_eq!(hop["additionalProperties"], false);
        assert_eq!(hop["properties"]["cluster"]["$ref"], "#/$defs/Matcher");
    }
}
