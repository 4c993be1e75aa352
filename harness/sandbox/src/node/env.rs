//! The environment and the command line of a container.
//!
//! Pure: config maps and secrets are given. Which ones a container needs says [`references`]; start at [`build`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Secret};

use super::facts::{FactError, Facts};

/// A config map or a secret of the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reference {
    /// A ConfigMap by name.
    ConfigMap(String),
    /// A Secret by name.
    Secret(String),
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(f, "configmap {name:?}"),
            Self::Secret(name) => write!(f, "secret {name:?}"),
        }
    }
}

/// The objects that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    /// By name.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    /// By name.
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// Why an environment cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum EnvError {
    /// A config map or secret that is not optional does not exist.
    #[error("{0} not found")]
    Missing(Reference),
    /// The object exists without the key.
    #[error("couldn't find key {key} in {reference}")]
    Key {
        /// The object.
        reference: Reference,
        /// The key.
        key: String,
    },
    /// A downward API field without a value.
    #[error("variable {name}: {source}")]
    Fact {
        /// The variable.
        name: String,
        /// Why.
        source: FactError,
    },
    /// A source of a variable that the sandbox does not serve.
    #[error("variable {0}: its valueFrom is none of fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef")]
    Source(String),
}

/// Every config map and secret that the environment reads.
pub(crate) fn references(container: &Container) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for source in container.env_from.iter().flatten() {
        found.extend(source.config_map_ref.iter().map(|r| Reference::ConfigMap(r.name.clone())));
        found.extend(source.secret_ref.iter().map(|r| Reference::Secret(r.name.clone())));
    }
    for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        found.extend(from.config_map_key_ref.iter().map(|r| Reference::ConfigMap(r.name.clone())));
        found.extend(from.secret_key_ref.iter().map(|r| Reference::Secret(r.name.clone())));
    }
    found
}

/// Expands `$(NAME)`; `$$` is a dollar sign, and an unknown name stays as it is.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match lookup(name) {
                Some(value) => result.push_str(&value),
                None => result.push_str(&rest[at..rest.len() - after.len()]),
            }
            rest = after;
        } else {
            result.push('$');
            rest = tail;
        }
    }
    result.push_str(rest);
    result
}

/// The environment of `container`: the image's, the API server's address, `envFrom`, then `env` in order.
///
/// # Errors
/// When a source that is not optional has no value.
pub(crate) fn build(
    container: &Container,
    image: &BTreeMap<String, String>,
    facts: &Facts<'_>,
    objects: &Objects,
    hostname: &str,
    api_service: (Ipv4Addr, u16),
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
        ("KUBERNETES_SERVICE_HOST".to_owned(), api_service.0.to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), api_service.1.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), api_service.1.to_string()),
        ("KUBERNETES_PORT".to_owned(), format!("tcp://{}:{}", api_service.0, api_service.1)),
    ]);
    env.extend(image.iter().map(|(k, v)| (k.clone(), v.clone())));
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &source.config_map_ref {
            let found = objects.config_maps.get(&r.name);
            if found.is_none() && r.optional != Some(true) {
                return Err(EnvError::Missing(Reference::ConfigMap(r.name.clone())));
            }
            let data = found.and_then(|m| m.data.as_ref());
            env.extend(data.into_iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
        }
        if let Some(r) = &source.secret_ref {
            let found = objects.secrets.get(&r.name);
            if found.is_none() && r.optional != Some(true) {
                return Err(EnvError::Missing(Reference::Secret(r.name.clone())));
            }
            let data = found.and_then(|m| m.data.as_ref());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            env.extend(data.into_iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), text(&v.0))));
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(from)) => from_source(&variable.name, &container.name, from, facts, objects)?,
            (Some(text), None) => Some(expand(text, |name| env.get(name).cloned())),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// `None` where an optional source is not there.
fn from_source(
    variable: &str,
    container: &str,
    from: &EnvVarSource,
    facts: &Facts<'_>,
    objects: &Objects,
) -> Result<Option<String>, EnvError> {
    let fact = |source| EnvError::Fact { name: variable.to_owned(), source };
    if let Some(field) = &from.field_ref {
        return facts.field(&field.field_path).map(Some).map_err(fact);
    }
    if let Some(resource) = &from.resource_field_ref {
        return facts.resource(container, resource).map(Some).map_err(fact);
    }
    let (reference, key, optional, exists, value) = if let Some(r) = &from.config_map_key_ref {
        let object = objects.config_maps.get(&r.name);
        let value = object.and_then(|m| m.data.as_ref()?.get(&r.key).cloned());
        (Reference::ConfigMap(r.name.clone()), &r.key, r.optional, object.is_some(), value)
    } else if let Some(r) = &from.secret_key_ref {
        let object = objects.secrets.get(&r.name);
        let bytes = object.and_then(|s| s.data.as_ref()?.get(&r.key));
        let value = bytes.map(|b| String::from_utf8_lossy(&b.0).into_owned());
        (Reference::Secret(r.name.clone()), &r.key, r.optional, object.is_some(), value)
    } else {
        return Err(EnvError::Source(variable.to_owned()));
    };
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if exists => Err(EnvError::Key { reference, key: key.clone() }),
        None => Err(EnvError::Missing(reference)),
    }
}

/// What is executed: the container's `command` and `args` over the image's entrypoint and command, expanded.
pub(crate) fn command_line(
    container: &Container,
    entrypoint: &[String],
    command: &[String],
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let given = container.command.as_deref().unwrap_or_default();
    let args = container.args.as_deref().unwrap_or_default();
    let (first, rest) = match (given.is_empty(), args.is_empty()) {
        (true, true) => (entrypoint, command),
        (true, false) => (entrypoint, args),
        (false, _) => (given, args),
    };
    first.iter().chain(rest).map(|word| expand(word, |name| env.get(name).cloned())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::super::facts::Capacity;
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "A").then(|| "1".to_owned())
    }

    #[test]
    fn variables_expand_as_the_kubelet_does() {
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("é$", "é$"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }

    fn env_of(container: &serde_json::Value, objects: &Objects) -> Result<BTreeMap<String, String>, EnvError> {
        let container: Container = serde_json::from_value(container.clone()).unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}})).unwrap();
        let facts = Facts {
            pod: &pod,
            pod_ip: Ipv4Addr::new(10, 244, 0, 9),
            host_ip: Ipv4Addr::LOCALHOST,
            node: "n",
            capacity: Capacity { cpus: 2, memory: 1 << 30 },
        };
        let image = BTreeMap::from([("IMAGE".to_owned(), "i".to_owned())]);
        build(&container, &image, &facts, objects, "p", (Ipv4Addr::new(10, 96, 0, 1), 443))
    }

    #[test]
    fn sources_are_read_in_order() {
        let mut objects = Objects::default();
        objects
            .config_maps
            .insert("cm".into(), serde_json::from_value(json!({"data": {"k": "v", "IMAGE": "over"}})).unwrap());
        objects.secrets.insert("s".into(), serde_json::from_value(json!({"data": {"t": "dA=="}})).unwrap());
        let env = env_of(
            &json!({"name": "c", "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"configMapRef": {"name": "no", "optional": true}}],
                "env": [
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "URL", "value": "http://$(IP):$(PORT)"},
                    {"name": "T", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}},
                    {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
                    {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "zz", "optional": true}}},
                    {"name": "EMPTY"}]}),
            &objects,
        )
        .unwrap();
        assert_eq!(env["P_k"], "v");
        assert_eq!(env["IMAGE"], "i");
        assert_eq!(env["URL"], "http://10.244.0.9:$(PORT)");
        assert_eq!((env["T"].as_str(), env["K"].as_str(), env["EMPTY"].as_str()), ("t", "v", ""));
        assert!(!env.contains_key("O"));
        assert_eq!(env["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing =
            json!({"name": "c", "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "t"}}}]});
        assert_eq!(env_of(&missing, &Objects::default()), Err(EnvError::Missing(Reference::Secret("s".into()))));
        let container: Container = serde_json::from_value(missing).unwrap();
        assert_eq!(references(&container), BTreeSet::from([Reference::Secret("s".into())]));
    }

    #[test]
    fn command_and_args_replace_their_halves() {
        let entry = ["/e".to_owned()];
        let cmd = ["c".to_owned()];
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let line = |value: serde_json::Value| command_line(&serde_json::from_value(value).unwrap(), &entry, &cmd, &env);
        assert_eq!(line(json!({"name": "x"})), ["/e", "c"]);
        assert_eq!(line(json!({"name": "x", "args": ["$(A)"]})), ["/e", "1"]);
        assert_eq!(line(json!({"name": "x", "command": ["sh"]})), ["sh"]);
        assert_eq!(line(json!({"name": "x", "command": ["sh"], "args": ["-c"]})), ["sh", "-c"]);
    }
}
