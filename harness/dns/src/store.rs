//! What names exist, and what they mean. Pure: no socket, no clock, no API server.
//!
//! The rules are those of the Kubernetes DNS specification 1.1 for Services (A, AAAA, CNAME; not
//! SRV and PTR), and CoreDNS's `pods insecure` for addresses of pods. Start at [`Store::look_up`].

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use crate::names::{NameAnswer, Names};

const SERVICES: &str = ".svc.cluster.local";
const PODS: &str = ".pod.cluster.local";
/// Longest chain of aliases that is followed.
const LONGEST_CHAIN: usize = 8;

/// Namespace and name of an object.
pub(super) type Key = (String, String);

/// What a Service means to DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Service {
    /// It has addresses of its own.
    ClusterIp(Vec<IpAddr>),
    /// It stands for its endpoints.
    Headless,
    /// It is another name for this one.
    ExternalName(String),
}

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Name of the Service, in the slice's namespace.
    pub(super) service: String,
    /// Addresses of ready endpoints, with the host name a pod of a StatefulSet has.
    pub(super) endpoints: Vec<(IpAddr, Option<String>)>,
}

/// An answer to the question for a name, of whatever type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Answer {
    /// Aliases followed on the way, in order: each means the next, the last means `addresses`.
    pub(super) aliases: Vec<(String, String)>,
    /// Addresses of the name, or of what its alias means. None if the name does not exist.
    pub(super) addresses: Option<Vec<IpAddr>>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    services: HashMap<Key, Service>,
    /// By namespace and name of the slice.
    slices: BTreeMap<Key, Slice>,
    external: HashMap<String, Vec<IpAddr>>,
}

impl Store {
    pub(super) fn set_service(&mut self, key: Key, service: Option<Service>) {
        match service {
            Some(service) => drop(self.services.insert(key, service)),
            None => drop(self.services.remove(&key)),
        }
    }

    pub(super) fn set_slice(&mut self, key: Key, slice: Option<Slice>) {
        match slice {
            Some(slice) => drop(self.slices.insert(key, slice)),
            None => drop(self.slices.remove(&key)),
        }
    }

    /// Forgets every Service that is not listed: those were deleted while nobody watched.
    pub(super) fn keep_services(&mut self, known: &std::collections::HashSet<Key>) {
        self.services.retain(|key, _| known.contains(key));
    }

    /// The same for EndpointSlices.
    pub(super) fn keep_slices(&mut self, known: &std::collections::HashSet<Key>) {
        self.slices.retain(|key, _| known.contains(key));
    }

    pub(super) fn set_names(&mut self, names: &Names) {
        let existing = names.iter().filter_map(|(name, answer)| match answer {
            NameAnswer::Addresses(addresses) => Some((canonical(name), addresses.clone())),
            NameAnswer::NxDomain => None,
        });
        self.external = existing.collect();
    }

    /// What a name means. Upper case and a final dot make no difference.
    pub(super) fn look_up(&self, name: &str) -> Answer {
        let mut answer = Answer::default();
        let mut name = canonical(name);
        loop {
            match self.meaning(&name) {
                Meaning::Nothing => return answer,
                Meaning::Addresses(addresses) => {
                    answer.addresses = Some(addresses);
                    return answer;
                }
                Meaning::Alias(target) => {
                    answer.aliases.push((name, target.clone()));
                    if answer.aliases.len() == LONGEST_CHAIN {
                        return answer;
                    }
                    name = target;
                }
            }
        }
    }

    fn meaning(&self, name: &str) -> Meaning {
        if let Some(addresses) = self.external.get(name) {
            return Meaning::Addresses(addresses.clone());
        }
        let found = if let Some(rest) = name.strip_suffix(SERVICES) {
            self.service(rest)
        } else if let Some(rest) = name.strip_suffix(PODS) {
            pod(rest).map(|address| Meaning::Addresses(vec![address.into()]))
        } else {
            None
        };
        found.unwrap_or(Meaning::Nothing)
    }

    /// `SERVICE.NAMESPACE`, or `HOST.SERVICE.NAMESPACE` for one endpoint of a headless Service.
    fn service(&self, rest: &str) -> Option<Meaning> {
        let labels: Vec<&str> = rest.split('.').collect();
        let (host, service, namespace) = match labels[..] {
            [service, namespace] => (None, service, namespace),
            [host, service, namespace] => (Some(host), service, namespace),
            _ => return None,
        };
        let kind = self.services.get(&(namespace.to_owned(), service.to_owned()))?;
        match (kind, host) {
            (Service::ClusterIp(addresses), None) => Some(Meaning::Addresses(addresses.clone())),
            (Service::ExternalName(target), None) => Some(Meaning::Alias(canonical(target))),
            (Service::Headless, None) => {
                let all = self.endpoints(namespace, service).map(|(address, _)| *address);
                Some(Meaning::Addresses(in_order(all)))
            }
            (Service::Headless, Some(host)) => {
                let is_it = |name: &Option<String>| name.as_deref() == Some(host);
                let found = self.endpoints(namespace, service).filter(|(_, name)| is_it(name));
                let addresses = in_order(found.map(|(address, _)| *address));
                (!addresses.is_empty()).then_some(Meaning::Addresses(addresses))
            }
            _ => None,
        }
    }

    fn endpoints<'a>(
        &'a self,
        namespace: &'a str,
        service: &'a str,
    ) -> impl Iterator<Item = &'a (IpAddr, Option<String>)> {
        let of_service = move |(key, slice): &(&Key, &Slice)| key.0 == namespace && slice.service == service;
        self.slices.iter().filter(of_service).flat_map(|(_, slice)| &slice.endpoints)
    }
}

enum Meaning {
    Nothing,
    Addresses(Vec<IpAddr>),
    Alias(String),
}

/// Each address once: mirrored slices may repeat one.
fn in_order(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let set: std::collections::BTreeSet<IpAddr> = addresses.collect();
    set.into_iter().collect()
}

/// `10-244-0-7.NAMESPACE` as the address it spells.
fn pod(rest: &str) -> Option<Ipv4Addr> {
    let (address, namespace) = rest.split_once('.')?;
    (!namespace.is_empty() && !namespace.contains('.')).then_some(())?;
    address.replace('-', ".").parse().ok()
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn store() -> Store {
        let mut store = Store::default();
        store.set_service(key("default", "web"), Some(Service::ClusterIp(vec![ip("10.96.1.1")])));
        store.set_service(key("default", "db"), Some(Service::Headless));
        let alias = |target: &str| Some(Service::ExternalName(target.to_owned()));
        store.set_service(key("default", "bin"), alias("HTTPBIN.org."));
        store.set_service(key("default", "dangling"), alias("nobody.example"));
        store.set_service(key("default", "ping"), alias("pong.default.svc.cluster.local"));
        store.set_service(key("default", "pong"), alias("ping.default.svc.cluster.local"));
        let slice = |address: &str, host: &str| Slice {
            service: "db".to_owned(),
            endpoints: vec![(ip(address), Some(host.to_owned()))],
        };
        store.set_slice(key("default", "db-1"), Some(slice("10.244.0.9", "db-0")));
        store.set_slice(key("default", "db-2"), Some(slice("10.244.0.8", "db-1")));
        store.set_slice(key("other", "db-1"), Some(slice("10.244.0.7", "db-0")));
        let names = [
            ("httpbin.org".to_owned(), NameAnswer::Addresses(vec![ip("192.168.0.79")])),
            ("nx.example.com".to_owned(), NameAnswer::NxDomain),
        ];
        store.set_names(&names.into());
        store
    }

    fn addresses(name: &str) -> Option<Vec<IpAddr>> {
        store().look_up(name).addresses
    }

    #[test]
    fn a_service_is_its_cluster_address() {
        assert_eq!(addresses("web.default.svc.cluster.local"), Some(vec![ip("10.96.1.1")]));
        assert_eq!(addresses("WEB.Default.svc.cluster.local."), Some(vec![ip("10.96.1.1")]));
        assert_eq!(addresses("web.other.svc.cluster.local"), None);
        assert_eq!(addresses("web"), None);
    }

    #[test]
    fn a_headless_service_is_its_endpoints_and_each_has_its_name() {
        assert_eq!(addresses("db.default.svc.cluster.local"), Some(vec![ip("10.244.0.8"), ip("10.244.0.9")]));
        assert_eq!(addresses("db-0.db.default.svc.cluster.local"), Some(vec![ip("10.244.0.9")]));
        assert_eq!(addresses("db-7.db.default.svc.cluster.local"), None);
    }

    #[test]
    fn a_headless_service_without_endpoints_exists_and_is_empty() {
        let mut store = store();
        store.set_slice(key("default", "db-1"), None);
        store.set_slice(key("default", "db-2"), None);
        assert_eq!(store.look_up("db.default.svc.cluster.local").addresses, Some(vec![]));
    }

    #[test]
    fn an_external_name_is_an_alias_with_the_addresses_behind_it() {
        let answer = store().look_up("bin.default.svc.cluster.local");
        let alias = ("bin.default.svc.cluster.local".to_owned(), "httpbin.org".to_owned());
        assert_eq!(answer, Answer { aliases: vec![alias], addresses: Some(vec![ip("192.168.0.79")]) });
        let dangling = store().look_up("dangling.default.svc.cluster.local");
        assert_eq!((dangling.aliases.len(), dangling.addresses), (1, None));
    }

    #[test]
    fn a_circle_of_aliases_ends() {
        let answer = store().look_up("ping.default.svc.cluster.local");
        assert_eq!((answer.aliases.len(), answer.addresses), (LONGEST_CHAIN, None));
    }

    #[test]
    fn search_domains_behind_an_external_name_find_nothing() {
        for name in
            ["httpbin.org.default.svc.cluster.local", "httpbin.org.svc.cluster.local", "httpbin.org.cluster.local"]
        {
            assert_eq!(addresses(name), None, "{name}");
        }
        assert_eq!(addresses("httpbin.org"), Some(vec![ip("192.168.0.79")]));
        assert_eq!(addresses("nx.example.com"), None);
    }

    #[test]
    fn new_names_replace_the_old() {
        let mut store = store();
        store.set_names(&[("my.server.com".to_owned(), NameAnswer::Addresses(vec![]))].into());
        assert_eq!(store.look_up("httpbin.org").addresses, None);
        assert_eq!(store.look_up("my.server.com").addresses, Some(vec![]));
    }

    #[test]
    fn what_was_deleted_unseen_is_forgotten() {
        let mut store = store();
        store.keep_services(&[key("default", "db")].into());
        store.keep_slices(&[key("default", "db-2")].into());
        assert_eq!(store.look_up("web.default.svc.cluster.local").addresses, None);
        assert_eq!(store.look_up("db.default.svc.cluster.local").addresses, Some(vec![ip("10.244.0.8")]));
    }

    #[test]
    fn the_name_of_a_pod_spells_its_address() {
        assert_eq!(addresses("10-244-0-7.default.pod.cluster.local"), Some(vec![ip("10.244.0.7")]));
        assert_eq!(addresses("10-244-0.default.pod.cluster.local"), None);
    }
}
