//! A kind node's image: Debian with systemd, kind's own static files, the node's programs, and a containerd that already
//! knows the control plane's images.
//!
//! What kind expects of it is in its own recipe, `images/base/Dockerfile` and `pkg/build/nodeimage` of kind's module.
//! Left out: storage (nfs-common, open-iscsi, a provisioner), fuse-overlayfs, kindnet and CoreDNS: whoever makes a cluster
//! brings the pods' network and DNS. One node per cluster. Start at [`image`].

use std::path::{Path, PathBuf};

use egress_component::{ProgramName, Programs};
use serde_json::{Value, json};

use crate::archive::{Config, Image};
use crate::cluster::Layers;
use crate::debian::Root;
use crate::error::Error;
use crate::layer::{Blob, Layer, write_tar};

/// kind's package list without storage. Its script is that of kind's base image: units that have no place in a container
/// are switched off; sysctl settings of packages go, since most are not of a namespace but of the whole machine.
pub(crate) const ROOT: Root = Root {
    name: "kind node",
    packages: &[
        "systemd",
        "conntrack",
        "iptables",
        "nftables",
        "iproute2",
        "ethtool",
        "util-linux",
        "mount",
        "kmod",
        "runc",
        "jq",
        "procps",
        "bash",
        "ca-certificates",
        "curl",
        "socat",
    ],
    script: "\
rm -f usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
rm -f usr/lib/systemd/system/multi-user.target.wants/* etc/systemd/system/*.wants/*
rm -f usr/lib/systemd/system/local-fs.target.wants/* usr/lib/systemd/system/basic.target.wants/*
rm -f usr/lib/systemd/system/sockets.target.wants/*udev* usr/lib/systemd/system/sockets.target.wants/*initctl*
rm -f usr/lib/sysctl.d/*
echo ReadKMsg=no >>etc/systemd/journald.conf
ln -sf /usr/lib/systemd/systemd usr/sbin/init
ln -sf /dev/null etc/systemd/system/systemd-binfmt.service
mkdir -p etc/kubernetes/manifests etc/cni/net.d opt/cni/bin kind/manifests
chmod 755 kind
",
};

/// Units that start with the node.
const ENABLED: [&str; 3] = ["kubelet.service", "containerd.service", "undo-mount-hacks.service"];

/// Programs and where they are in the node.
const PROGRAMS: [(ProgramName, &str); 11] = [
    (ProgramName::KUBEADM, "usr/bin/kubeadm"),
    (ProgramName::KUBELET, "usr/bin/kubelet"),
    (ProgramName::KUBECTL, "usr/bin/kubectl"),
    (ProgramName::CONTAINERD, "usr/local/bin/containerd"),
    (ProgramName::CTR, "usr/local/bin/ctr"),
    (ProgramName::CONTAINERD_SHIM, "usr/local/bin/containerd-shim-runc-v2"),
    (ProgramName::CRICTL, "usr/local/bin/crictl"),
    (ProgramName::CNI_PTP, "opt/cni/bin/ptp"),
    (ProgramName::CNI_LOOPBACK, "opt/cni/bin/loopback"),
    (ProgramName::CNI_HOST_LOCAL, "opt/cni/bin/host-local"),
    (ProgramName::CNI_PORTMAP, "opt/cni/bin/portmap"),
];

/// kind's static files: the folder of which the component's entry names one.
fn base_files(programs: &Programs) -> PathBuf {
    let entry = programs.path(&ProgramName::KIND_BASE);
    entry.ancestors().nth(4).unwrap_or(entry).to_owned()
}

/// containerd's configuration as kind has it, with the one change that a host without `CAP_SYS_RESOURCE` needs: no
/// process gets a better out-of-memory score than its parent.
fn containerd_config(programs: &Programs) -> Result<String, Error> {
    let path = base_files(programs).join("etc/containerd/config.toml");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let (from, to) = ("restrict_oom_score_adj = false", "restrict_oom_score_adj = true");
    if !text.contains(from) {
        return Err(Error::Answer {
            what: "containerd's configuration in kind's base image".to_owned(),
            expected: format!("a line {from:?}"),
            seen: "none".to_owned(),
        });
    }
    Ok(text.replace(from, to))
}

/// The pause image that containerd's configuration names.
pub(crate) fn pause_reference(programs: &Programs) -> Result<String, Error> {
    let text = containerd_config(programs)?;
    let named = text.lines().find_map(|line| line.trim().strip_prefix("sandbox_image = ")).map(|v| v.trim_matches('"'));
    named.map(str::to_owned).ok_or_else(|| Error::Answer {
        what: "containerd's configuration in kind's base image".to_owned(),
        expected: "a line sandbox_image".to_owned(),
        seen: "none".to_owned(),
    })
}

/// The runtime specification for pods: containerd's default with kind's hook, and without limits of its own.
fn pod_spec(mut default: Value) -> Value {
    if let Some(process) = default["process"].as_object_mut() {
        process.remove("rlimits");
    }
    default["hooks"] = json!({"createContainer": [{"path": "/kind/bin/mount-product-files.sh"}]});
    default
}

/// Everything above Debian but the images.
pub(crate) fn layer(programs: &Programs, default_spec: Value, version: &str) -> Result<Layer, Error> {
    let mut layer = Layer::default();
    let base = base_files(programs);
    layer = add_folder(layer, &base, &base)?;
    layer.0.retain(|entry| entry.path != "etc/containerd/config.toml");
    layer = layer.text("etc/containerd/config.toml", containerd_config(programs)?);
    for (name, path) in PROGRAMS {
        layer = layer.program(path, programs.path(&name));
    }
    for unit in ENABLED {
        let wanted = format!("etc/systemd/system/multi-user.target.wants/{unit}");
        layer = layer.link(&wanted, &format!("/etc/systemd/system/{unit}"));
    }
    let pretty = |value: &Value| serde_json::to_vec_pretty(value).expect("JSON values can be written");
    Ok(layer
        .text("etc/containerd/cri-base.json", pretty(&pod_spec(default_spec)))
        .text("kind/version", format!("v{version}"))
        // kind applies these two; with `disableDefaultCNI` only the second.
        .text("kind/manifests/default-cni.yaml", NO_STORAGE)
        .text("kind/manifests/default-storage.yaml", NO_STORAGE))
}

/// kind wants at least one object: a class of which nobody provides a volume.
const NO_STORAGE: &str = "\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
";

/// Adds kind's files with the modes of its recipe: programs in these two folders may be run, the rest is data.
fn add_folder(mut layer: Layer, root: &Path, dir: &Path) -> Result<Layer, Error> {
    for item in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = item.map_err(Error::io("read", dir))?.path();
        if path.is_dir() {
            layer = add_folder(layer, root, &path)?;
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let runs = relative.starts_with("usr/local/bin/") || relative.starts_with("kind/bin/");
        layer = if runs { layer.program(&relative, &path) } else { layer.file(&relative, &path) };
    }
    Ok(layer)
}

/// A folder of the host as a layer, below that path.
pub(crate) fn folder_layer(source: &Path, at: &str, to: &Path) -> Result<Blob, Error> {
    write_tar(to, |tar| {
        tar.mode(tar::HeaderMode::Complete);
        tar.append_dir_all(at, source)
    })
}

/// The node's image.
pub(crate) fn image(tag: String, root: Blob, own: &Layer, store: Blob, layers: &mut Layers) -> Result<Image, Error> {
    let own = layers.write(own)?;
    let mut config = Config::new(&["/usr/local/bin/entrypoint", "/sbin/init"]).env("container=docker");
    "SIGRTMIN+3".clone_into(&mut config.stop_signal);
    Ok(Image { tags: vec![tag], layers: vec![root, own, store], config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_kinds_hook_and_no_limits() {
        let spec = pod_spec(json!({"process": {"rlimits": [{"type": "RLIMIT_NOFILE"}], "cwd": "/"}, "hooks": {}}));
        assert_eq!(spec["process"], json!({"cwd": "/"}));
        assert_eq!(spec["hooks"]["createContainer"][0]["path"], "/kind/bin/mount-product-files.sh");
    }
}
