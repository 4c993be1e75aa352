//! The Kubernetes objects that a command carries in a heredoc, as far as they are YAML.
//!
//! Start at [`objects`].

use serde_json::Value;

/// The objects in the heredocs of a command; what is no object is left out.
#[must_use]
pub fn objects(command: &str) -> Vec<Value> {
    let Some((_, text)) = command.split_once("<<") else { return Vec::new() };
    let Some((_, body)) = text.split_once('\n') else { return Vec::new() };
    let mut found = Vec::new();
    for document in body.split("\n---") {
        let lines = document.lines().filter(|line| line.trim() != "EOF" && line.trim() != "---");
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        if let Ok(value) = serde_saphyr::from_str::<Value>(&text)
            && value["kind"].is_string()
        {
            found.push(value);
        }
    }
    found
}

/// The strings of a list inside an object.
#[must_use]
pub fn strings(object: &Value, pointer: &str) -> Vec<String> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heredocs_hold_objects() {
        let command =
            "kubectl apply -f - <<EOF\nkind: ServiceEntry\nspec:\n  hosts:\n  - a.com\n---\nkind: Gateway\nEOF";
        let found = objects(command);
        assert_eq!(found.len(), 2);
        assert_eq!(strings(&found[0], "/spec/hosts"), ["a.com"]);
        assert!(objects("cat <<EOF > proxy.conf\nhttp_port 3128\nEOF").is_empty());
        assert!(objects("kubectl get pod").is_empty());
    }
}
