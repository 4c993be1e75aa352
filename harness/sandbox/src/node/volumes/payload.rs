//! The files of configMap, secret, downwardAPI and projected volumes.
//!
//! Pure: objects and tokens are given. Start at [`of_volume`].

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::super::env::{Objects, Reference};
use super::super::facts::{FactError, Facts};
use super::files::{Files, Payload, is_inside};

/// Why the files of a volume cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PayloadError {
    /// A config map or secret that is not optional does not exist (yet).
    #[error("{0} not found")]
    Missing(Reference),
    /// The object exists without a key that `items` names.
    #[error("{reference} references non-existent key: {key}")]
    Key {
        /// The object.
        reference: Reference,
        /// The key.
        key: String,
    },
    /// A path leads out of the volume.
    #[error("path {0:?} must be relative and stay inside the volume")]
    Path(String),
    /// A downward API item without value.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// A source the node agent does not have.
    #[error("a projected source is none of configMap, secret, downwardAPI, serviceAccountToken")]
    Source,
}

/// Every config map and secret a volume reads.
pub(crate) fn references(volume: &Volume) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    found.extend(volume.config_map.iter().map(|s| Reference::ConfigMap(s.name.clone())));
    found.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()).map(Reference::Secret));
    for source in projections(volume) {
        found.extend(source.config_map.iter().map(|s| Reference::ConfigMap(s.name.clone())));
        found.extend(source.secret.iter().map(|s| Reference::Secret(s.name.clone())));
    }
    found
}

/// Every token a volume holds.
pub(crate) fn tokens(volume: &Volume) -> impl Iterator<Item = &ServiceAccountTokenProjection> {
    projections(volume).filter_map(|source| source.service_account_token.as_ref())
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume.projected.iter().flat_map(|p: &ProjectedVolumeSource| p.sources.iter().flatten())
}

/// The files of a volume. `tokens` are by path.
///
/// # Errors
/// When an object, a key or a field that is not optional is missing.
pub(crate) fn of_volume(
    volume: &Volume,
    facts: &Facts<'_>,
    container: &str,
    objects: &Objects,
    tokens: &BTreeMap<String, String>,
) -> Result<Files, PayloadError> {
    let mut files = Files::new();
    let default = |mode: Option<i32>| mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644);
    if let Some(source) = &volume.config_map {
        let mode = default(source.default_mode);
        keys(&mut files, &config_map(&source.name, objects), source.items.as_deref(), source.optional, mode)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        keys(
            &mut files,
            &secret(name, objects),
            source.items.as_deref(),
            source.optional,
            default(source.default_mode),
        )?;
    } else if let Some(source) = &volume.downward_api {
        downward(&mut files, source.items.as_deref(), facts, container, default(source.default_mode))?;
    } else if let Some(projected) = &volume.projected {
        let mode = default(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(s) = &source.config_map {
                keys(&mut files, &config_map(&s.name, objects), s.items.as_deref(), s.optional, mode)?;
            } else if let Some(s) = &source.secret {
                keys(&mut files, &secret(&s.name, objects), s.items.as_deref(), s.optional, mode)?;
            } else if let Some(s) = &source.downward_api {
                downward(&mut files, s.items.as_deref(), facts, container, mode)?;
            } else if let Some(s) = &source.service_account_token {
                let token = tokens.get(&s.path).cloned().unwrap_or_default();
                insert(&mut files, &s.path, token.into_bytes(), mode)?;
            } else {
                return Err(PayloadError::Source);
            }
        }
    }
    Ok(files)
}

/// An object's data, or `None` if it does not exist.
struct Data {
    reference: Reference,
    entries: Option<BTreeMap<String, Vec<u8>>>,
}

fn config_map(name: &str, objects: &Objects) -> Data {
    let entries = objects.config_maps.get(name).map(|found| {
        let text = found.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone().into_bytes()));
        let binary = found.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
        text.chain(binary).collect()
    });
    Data { reference: Reference::ConfigMap(name.to_owned()), entries }
}

fn secret(name: &str, objects: &Objects) -> Data {
    let entries = objects
        .secrets
        .get(name)
        .map(|found| found.data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect());
    Data { reference: Reference::Secret(name.to_owned()), entries }
}

fn keys(
    files: &mut Files,
    data: &Data,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
) -> Result<(), PayloadError> {
    let optional = optional == Some(true);
    let Some(entries) = &data.entries else {
        return if optional { Ok(()) } else { Err(PayloadError::Missing(data.reference.clone())) };
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return entries.iter().try_for_each(|(key, content)| insert(files, key, content.clone(), mode));
    };
    for item in items {
        let Some(content) = entries.get(&item.key) else {
            if optional {
                continue;
            }
            return Err(PayloadError::Key { reference: data.reference.clone(), key: item.key.clone() });
        };
        let mode = item.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
        insert(files, &item.path, content.clone(), mode)?;
    }
    Ok(())
}

fn downward(
    files: &mut Files,
    items: Option<&[DownwardAPIVolumeFile]>,
    facts: &Facts<'_>,
    container: &str,
    mode: u32,
) -> Result<(), PayloadError> {
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => facts.field(&field.field_path)?,
            (None, Some(resource)) => facts.resource(container, resource)?,
            (None, None) => String::new(),
        };
        let mode = item.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
        insert(files, &item.path, value.into_bytes(), mode)?;
    }
    Ok(())
}

fn insert(files: &mut Files, path: &str, content: Vec<u8>, mode: u32) -> Result<(), PayloadError> {
    if !is_inside(path) {
        return Err(PayloadError::Path(path.to_owned()));
    }
    files.insert(path.to_owned(), Payload { content, mode });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::super::super::facts::Capacity;
    use super::*;

    fn files_of(volume: serde_json::Value) -> Result<Files, PayloadError> {
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c"}]}}))
            .unwrap();
        let facts = Facts {
            pod: &pod,
            pod_ip: Ipv4Addr::LOCALHOST,
            host_ip: Ipv4Addr::LOCALHOST,
            node: "node",
            capacity: Capacity { cpus: 2, memory: 1 << 30 },
        };
        let mut objects = Objects::default();
        let map = json!({"data": {"k": "v", "l": "w"}, "binaryData": {"b": "AAE="}});
        objects.config_maps.insert("cm".into(), serde_json::from_value(map).unwrap());
        objects.secrets.insert("s".into(), serde_json::from_value(json!({"data": {"t": "dA=="}})).unwrap());
        let tokens = BTreeMap::from([("token".to_owned(), "secret-token".to_owned())]);
        of_volume(&volume, &facts, "c", &objects, &tokens)
    }

    fn text<'a>(files: &'a Files, path: &str) -> &'a str {
        std::str::from_utf8(&files[path].content).unwrap()
    }

    #[test]
    fn config_maps_give_all_keys_or_the_items() {
        let all = files_of(json!({"name": "v", "configMap": {"name": "cm", "defaultMode": 0o600}})).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["b", "k", "l"]);
        assert_eq!((all["b"].content.as_slice(), all["k"].mode), ([0_u8, 1].as_slice(), 0o600));
        let some = files_of(json!({"name": "v", "configMap": {"name": "cm",
            "items": [{"key": "k", "path": "x/y", "mode": 0o400}]}}))
        .unwrap();
        assert_eq!((some.len(), text(&some, "x/y"), some["x/y"].mode), (1, "v", 0o400));
    }

    #[test]
    fn what_is_missing_is_an_error_unless_optional() {
        let missing = json!({"name": "v", "secret": {"secretName": "no"}});
        assert_eq!(files_of(missing), Err(PayloadError::Missing(Reference::Secret("no".into()))));
        assert!(files_of(json!({"name": "v", "secret": {"secretName": "no", "optional": true}})).unwrap().is_empty());
        let key = json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}});
        assert!(matches!(files_of(key), Err(PayloadError::Key { .. })));
        let out = json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "t", "path": "../z"}]}});
        assert_eq!(files_of(out), Err(PayloadError::Path("../z".into())));
    }

    #[test]
    fn projected_volumes_join_their_sources() {
        let volume = json!({"name": "v", "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"path": "token", "audience": "istio-ca"}},
            {"configMap": {"name": "cm", "items": [{"key": "k", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}});
        let parsed: Volume = serde_json::from_value(volume.clone()).unwrap();
        assert_eq!(references(&parsed), BTreeSet::from([Reference::ConfigMap("cm".into())]));
        assert_eq!(tokens(&parsed).count(), 1);
        let files = files_of(volume).unwrap();
        assert_eq!((text(&files, "token"), text(&files, "ca.crt"), text(&files, "ns")), ("secret-token", "v", "n"));
    }
}
