//! The JSON schema of scenario files, made from the types, for editors and for the loader's own check of shapes.
//!
//! Start at [`schema_json`].

use serde_json::Value;

use super::schema::ScenarioFile;

/// The JSON schema of `scenario.yaml`.
pub(super) fn schema() -> Value {
    serde_json::to_value(schemars::schema_for!(ScenarioFile)).expect("a schema is plain JSON")
}

/// The JSON schema of `scenario.yaml` as text, ending with a newline. `scenarios/schema.json` is this text.
#[must_use]
pub fn schema_json() -> String {
    serde_json::to_string_pretty(&schema()).expect("a schema is plain JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use crate::scenario::schema::PROXY_FIELDS;

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
