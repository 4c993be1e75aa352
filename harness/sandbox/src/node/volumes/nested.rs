//! Mount points inside volumes: a container may mount one volume below another's path, also where that is read-only.
//!
//! Pure. The kubelet makes the same folders before a container starts.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// The folders a volume must have for other mounts of the pod, relative to it.
pub(super) fn mount_points(pod: &Pod, volume: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let Some(spec) = &pod.spec else { return found };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let outer = mounts.iter().filter(|m| m.name == volume && m.sub_path.is_none() && m.sub_path_expr.is_none());
        for outer in outer {
            let base = Path::new(&outer.mount_path);
            for inner in mounts.iter().filter(|m| m.mount_path != outer.mount_path) {
                let Ok(below) = Path::new(&inner.mount_path).strip_prefix(base) else { continue };
                // A volume between the two holds the mount point instead.
                let between = mounts.iter().any(|m| {
                    let path = Path::new(&m.mount_path);
                    path != base
                        && path != Path::new(&inner.mount_path)
                        && path.starts_with(base)
                        && Path::new(&inner.mount_path).starts_with(path)
                });
                let stays = below.components().all(|c| matches!(c, Component::Normal(_)));
                if !between && stays && !below.as_os_str().is_empty() {
                    found.insert(below.to_owned());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_volume_right_above_holds_a_mount_point() {
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "volumeMounts": [
            mount("ca", "/var/run/secrets/istio"), mount("crl", "/var/run/secrets/istio/crl"),
            mount("deep", "/var/run/secrets/istio/crl/a/b"), mount("other", "/var/run/secrets/istiod"),
        ]}]}}))
        .unwrap();
        let paths = |volume| mount_points(&pod, volume).into_iter().collect::<Vec<_>>();
        assert_eq!(paths("ca"), [PathBuf::from("crl")]);
        assert_eq!(paths("crl"), [PathBuf::from("a/b")]);
        assert!(paths("deep").is_empty() && paths("other").is_empty());
    }
}
