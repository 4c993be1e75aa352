//! The private `/etc` of a container: resolver, hosts, users.
//!
//! Pure: makes the contents; `container::rootfs` writes them. Start at [`files`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// The host name of a pod: `spec.hostname`, else its name, at most 63 characters.
pub(crate) fn hostname(pod: &Pod) -> String {
    let given = pod.spec.as_ref().and_then(|s| s.hostname.clone());
    let mut name = given.or_else(|| pod.metadata.name.clone()).unwrap_or_else(|| "pod".to_owned());
    name.truncate(63);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// Every generated file of `/etc`, by name.
pub(crate) fn files(
    pod: &Pod,
    pod_ip: Ipv4Addr,
    cluster_dns: Ipv4Addr,
    user: u32,
    group: u32,
) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("resolv.conf".to_owned(), resolv_conf(pod, cluster_dns)),
        ("hosts".to_owned(), hosts(pod, pod_ip)),
        ("hostname".to_owned(), hostname(pod) + "\n"),
        ("passwd".to_owned(), passwd(user, group)),
        ("group".to_owned(), group_file(group)),
        (
            "nsswitch.conf".to_owned(),
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n".to_owned(),
        ),
    ])
}

/// `resolv.conf` from `dnsPolicy` and `dnsConfig`.
///
/// `Default` would be the node's own resolver; the sandbox's node has none but the cluster's, without search domains.
pub(crate) fn resolv_conf(pod: &Pod, cluster_dns: Ipv4Addr) -> String {
    let spec: Option<&PodSpec> = pod.spec.as_ref();
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let (mut servers, mut searches, mut options) = match policy {
        "None" => (vec![], vec![], vec![]),
        "Default" => (vec![cluster_dns.to_string()], vec![], vec![]),
        _ => (
            vec![cluster_dns.to_string()],
            vec![format!("{namespace}.svc.cluster.local"), "svc.cluster.local".into(), "cluster.local".into()],
            vec![("ndots".to_owned(), Some("5".to_owned()))],
        ),
    };
    if let Some(config) = spec.and_then(|s| s.dns_config.as_ref()) {
        append_new(&mut servers, config.nameservers.as_deref());
        append_new(&mut searches, config.searches.as_deref());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|(known, _)| known != name);
            options.push((name.clone(), option.value.clone()));
        }
    }
    let mut text = String::new();
    if !searches.is_empty() {
        text += &format!("search {}\n", searches.join(" "));
    }
    for server in servers {
        text += &format!("nameserver {server}\n");
    }
    if !options.is_empty() {
        let words: Vec<String> = options
            .into_iter()
            .map(|(name, value)| value.map_or(name.clone(), |value| format!("{name}:{value}")))
            .collect();
        text += &format!("options {}\n", words.join(" "));
    }
    text
}

fn append_new(list: &mut Vec<String>, more: Option<&[String]>) {
    for item in more.into_iter().flatten() {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn hosts(pod: &Pod, pod_ip: Ipv4Addr) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let name = hostname(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let spec = pod.spec.as_ref();
    text += &match spec.and_then(|s| s.subdomain.as_deref()) {
        Some(sub) => format!("{pod_ip}\t{name}.{sub}.{namespace}.svc.cluster.local\t{name}\n"),
        None => format!("{pod_ip}\t{name}\n"),
    };
    for alias in spec.into_iter().flat_map(|s| s.host_aliases.iter().flatten()) {
        text += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

fn passwd(user: u32, group: u32) -> String {
    let mut text = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_owned();
    if user != 0 && user != 65534 {
        text += &format!("app:x:{user}:{group}:app:/tmp:/bin/sh\n");
    }
    text
}

fn group_file(group: u32) -> String {
    let mut text = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".to_owned();
    if ![0, 5, 65534].contains(&group) {
        text += &format!("app:x:{group}:\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

    fn pod(spec: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": {"containers": []}}))
            .map(|mut pod: Pod| {
                let mut base = json!({"containers": []});
                base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
                pod.spec = serde_json::from_value(base).unwrap();
                pod
            })
            .unwrap()
    }

    #[test]
    fn cluster_first_searches_the_pods_namespace() {
        let text = resolv_conf(&pod(&json!({})), DNS);
        assert_eq!(
            text,
            "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }

    #[test]
    fn dns_config_adds_and_overrides() {
        let spec = json!({"dnsConfig": {"nameservers": ["1.1.1.1", "10.96.0.10"], "searches": ["x.test"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        let text = resolv_conf(&pod(&spec), DNS);
        assert!(text.contains("cluster.local x.test\nnameserver 10.96.0.10\nnameserver 1.1.1.1\n"), "{text}");
        assert!(text.ends_with("options ndots:2 edns0\n"), "{text}");
    }

    #[test]
    fn policy_none_has_only_what_dns_config_says() {
        let spec = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.20.0.1"]}});
        assert_eq!(resolv_conf(&pod(&spec), DNS), "nameserver 10.20.0.1\n");
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let spec = json!({"subdomain": "web", "hostAliases": [{"ip": "9.9.9.9", "hostnames": ["a", "b"]}]});
        let text = hosts(&pod(&spec), Ipv4Addr::new(10, 244, 0, 3));
        assert!(text.contains("10.244.0.3\tweb-0.web.shop.svc.cluster.local\tweb-0\n"), "{text}");
        assert!(text.ends_with("9.9.9.9\ta\tb\n"), "{text}");
    }

    #[test]
    fn long_names_make_valid_host_names() {
        let mut long = pod(&json!({}));
        long.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(20)));
        assert_eq!(hostname(&long), "a".repeat(62));
    }
}
