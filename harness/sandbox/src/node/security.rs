//! Who a container runs as, and what it may do: `securityContext` of pod and container over the image's user.
//!
//! Pure. What would let a pod change the host is refused here. Start at [`Identity::of`] and [`check_pod`].

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::images::Image;

/// What container runtimes give by default, without MKNOD.
const DEFAULT: [&str; 13] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// What a pod may add: it stays within its own namespaces.
const GRANTABLE: [&str; 7] = [
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
];

/// What the sandbox does not do for a pod.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A setting that would reach the host.
    #[error(
        "{what} is refused by the sandbox, where a pod must never reach the host: remove it, or use a kind cluster"
    )]
    Host {
        /// The setting.
        what: String,
    },
    /// A part of Kubernetes the node agent does not have.
    #[error("{what} is not supported by the sandbox's node agent")]
    Missing {
        /// The part.
        what: String,
    },
    /// `runAsNonRoot` on what would run as root.
    #[error("container has runAsNonRoot and would run as root: set runAsUser, or use an image with another user")]
    Root,
}

fn host(what: impl Into<String>) -> Refusal {
    Refusal::Host { what: what.into() }
}

/// Ids, groups and privileges of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
}

impl Identity {
    /// Merges the container's `securityContext` over the pod's and the image's user.
    ///
    /// # Errors
    /// When it asks for what would reach the host, or for root against `runAsNonRoot`.
    pub(crate) fn of(pod: &PodSpec, container: &Container, image: &Image) -> Result<Self, Refusal> {
        let pod = pod.security_context.clone().unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        if own.privileged == Some(true) {
            return Err(host("privileged: true"));
        }
        let id = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        let uid = own.run_as_user.or(pod.run_as_user).map_or(image.user, id);
        let image_group = if uid == image.user { image.group } else { 0 };
        let gid = own.run_as_group.or(pod.run_as_group).map_or(image_group, id);
        if uid == 0 && own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
            return Err(Refusal::Root);
        }
        let mut groups: BTreeSet<u32> = pod.supplemental_groups.iter().flatten().map(|g| id(*g)).collect();
        groups.extend(pod.fs_group.map(id));
        groups.insert(gid);
        let asked = own.capabilities.unwrap_or_default();
        let capabilities =
            capabilities(asked.add.as_deref().unwrap_or_default(), asked.drop.as_deref().unwrap_or_default())?;
        Ok(Self {
            uid,
            gid,
            groups: groups.into_iter().collect(),
            capabilities,
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            read_only_root: own.read_only_root_filesystem == Some(true),
        })
    }
}

fn capabilities(add: &[String], drop: &[String]) -> Result<Vec<String>, Refusal> {
    let full = |name: &String| {
        let name = name.to_uppercase();
        if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let mut set: BTreeSet<String> = DEFAULT.iter().map(|c| (*c).to_owned()).collect();
    let dropped: Vec<String> = drop.iter().map(full).collect();
    if dropped.iter().any(|c| c == "CAP_ALL") {
        set.clear();
    }
    set.retain(|c| !dropped.contains(c));
    for name in add.iter().map(full) {
        let known = DEFAULT.contains(&name.as_str()) || GRANTABLE.contains(&name.as_str());
        if !known {
            return Err(host(format!("capability {}", name.trim_start_matches("CAP_"))));
        }
        set.insert(name);
    }
    Ok(set.into_iter().collect())
}

/// Looks for what the sandbox cannot give this pod at all.
///
/// # Errors
/// The first such thing.
pub(crate) fn check_pod(spec: &PodSpec) -> Result<(), Refusal> {
    for (set, what) in [(spec.host_network, "hostNetwork"), (spec.host_pid, "hostPID"), (spec.host_ipc, "hostIPC")] {
        if set == Some(true) {
            return Err(host(what));
        }
    }
    if spec.share_process_namespace == Some(true) {
        return Err(Refusal::Missing { what: "shareProcessNamespace".into() });
    }
    for volume in spec.volumes.iter().flatten() {
        if volume.host_path.is_some() {
            return Err(host(format!("hostPath (volume {:?})", volume.name)));
        }
        let known = volume.empty_dir.is_some()
            || volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some();
        if !known {
            return Err(Refusal::Missing {
                what: format!(
                    "volume {:?}: only emptyDir, configMap, secret, downwardAPI and projected are served; its kind",
                    volume.name
                ),
            });
        }
    }
    for sysctl in spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        if !sysctl.name.starts_with("net.") || sysctl.name.contains("..") || sysctl.name.contains('/') {
            return Err(host(format!("sysctl {}", sysctl.name)));
        }
    }
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in all {
        for probe in [&container.startup_probe, &container.readiness_probe, &container.liveness_probe] {
            if probe.as_ref().is_some_and(|p| p.grpc.is_some()) {
                return Err(Refusal::Missing { what: format!("a grpc probe (container {:?})", container.name) });
            }
        }
        if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
            return Err(host(format!("volumeDevices (container {:?})", container.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(pod: serde_json::Value, container: serde_json::Value) -> Result<Identity, Refusal> {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [], "securityContext": pod})).unwrap();
        let container: Container = serde_json::from_value(json!({"name": "c", "securityContext": container})).unwrap();
        let image: Image = serde_json::from_value(json!({"user": 100, "group": 101})).unwrap();
        Identity::of(&spec, &container, &image)
    }

    #[test]
    fn the_container_comes_before_the_pod_and_the_pod_before_the_image() {
        let plain = identity(json!({}), json!({})).unwrap();
        assert_eq!((plain.uid, plain.gid, plain.groups), (100, 101, vec![101]));
        assert_eq!(plain.capabilities.len(), DEFAULT.len());
        let pod = json!({"runAsUser": 7, "runAsGroup": 8, "fsGroup": 9, "supplementalGroups": [3]});
        let own = identity(pod.clone(), json!({"runAsUser": 1337})).unwrap();
        assert_eq!((own.uid, own.gid, own.groups), (1337, 8, vec![3, 8, 9]));
        assert_eq!(identity(json!({"runAsUser": 7}), json!({})).unwrap().gid, 0);
    }

    #[test]
    fn capabilities_are_dropped_before_they_are_added() {
        let own = json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]}});
        assert_eq!(identity(json!({}), own).unwrap().capabilities, ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        let without = identity(json!({}), json!({"capabilities": {"drop": ["net_raw"]}})).unwrap();
        assert!(!without.capabilities.contains(&"CAP_NET_RAW".to_owned()));
        assert!(!without.capabilities.contains(&"CAP_MKNOD".to_owned()));
    }

    #[test]
    fn what_reaches_the_host_is_refused() {
        for own in [
            json!({"privileged": true}),
            json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
            json!({"capabilities": {"add": ["MKNOD"]}}),
            json!({"capabilities": {"add": ["ALL"]}}),
        ] {
            let error = identity(json!({}), own).unwrap_err();
            assert!(matches!(error, Refusal::Host { .. }), "{error}");
        }
        let root = identity(json!({"runAsNonRoot": true}), json!({"runAsUser": 0}));
        assert_eq!(root, Err(Refusal::Root));
        for spec in [
            json!({"hostNetwork": true}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        ] {
            let mut whole = json!({"containers": []});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let spec: PodSpec = serde_json::from_value(whole).unwrap();
            assert!(matches!(check_pod(&spec), Err(Refusal::Host { .. })), "{spec:?}");
        }
    }

    #[test]
    fn an_ordinary_pod_is_accepted() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}],
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
            "volumes": [{"name": "v", "emptyDir": {}}]}))
        .unwrap();
        assert_eq!(check_pod(&spec), Ok(()));
    }
}
