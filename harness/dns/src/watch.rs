//! Keeps the store up to date with the cluster's Services and EndpointSlices.
//!
//! Each watch starts with a list and restarts by itself when the API server closes it; what was
//! deleted in between is found out by the next list. Start at [`follow`].

use std::collections::HashSet;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::oneshot;

use super::Dns;
use super::store::{Key, Service, Slice, Store};

/// Watches in the background; returns once both watches have listed what exists.
pub(super) async fn follow(dns: Dns, client: Client) {
    let (services_listed, services) = oneshot::channel();
    let (slices_listed, slices) = oneshot::channel();
    let kinds = Api::<ServiceObject>::all(client.clone());
    tokio::spawn(keep(
        dns.clone(),
        kinds,
        services_listed,
        |store, key, object| {
            store.set_service(key, object.and_then(service));
        },
        Store::keep_services,
    ));
    let kinds = Api::<EndpointSlice>::all(client);
    tokio::spawn(keep(
        dns,
        kinds,
        slices_listed,
        |store, key, object| {
            store.set_slice(key, object.and_then(slice));
        },
        Store::keep_slices,
    ));
    // The tasks never end, so neither sender is dropped unused.
    let _ = tokio::join!(services, slices);
}

async fn keep<K>(
    dns: Dns,
    api: Api<K>,
    listed: oneshot::Sender<()>,
    set: impl Fn(&mut Store, Key, Option<&K>) + Send + 'static,
    retain: impl Fn(&mut Store, &HashSet<Key>) + Send + 'static,
) where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut listed = Some(listed);
    let mut seen = HashSet::new();
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => seen.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                seen.insert(key(&object));
                dns.write(|store| set(store, key(&object), Some(&object)));
            }
            Ok(watcher::Event::InitDone) => {
                dns.write(|store| retain(store, &seen));
                if let Some(listed) = listed.take() {
                    let _ = listed.send(());
                }
            }
            Ok(watcher::Event::Apply(object)) => dns.write(|store| set(store, key(&object), Some(&object))),
            Ok(watcher::Event::Delete(object)) => dns.write(|store| set(store, key(&object), None)),
            Err(error) => tracing::warn!(%error, "a watch of the DNS server was interrupted"),
        }
    }
}

fn key<K: kube::Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn service(object: &ServiceObject) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.clone().map(Service::ExternalName);
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(Service::Headless);
    }
    let addresses = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
    Some(Service::ClusterIp(addresses.collect()))
}

fn slice(object: &EndpointSlice) -> Option<Slice> {
    let service = object.labels().get("kubernetes.io/service-name")?.clone();
    // Absent means ready, by the API's own rule.
    let ready =
        object.endpoints.iter().flatten().filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    let endpoints = ready
        .flat_map(|e| e.addresses.iter().map(|a| (a.parse(), e.hostname.clone())))
        .filter_map(|(address, host)| Some((address.ok()?, host)))
        .collect();
    Some(Slice { service, endpoints })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read_service(spec: Value) -> Option<Service> {
        service(&serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).unwrap())
    }

    #[test]
    fn the_three_kinds_of_service() {
        let ip = read_service(json!({"type": "ClusterIP", "clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"]}));
        assert_eq!(ip, Some(Service::ClusterIp(vec!["10.96.1.1".parse().unwrap()])));
        assert_eq!(read_service(json!({"clusterIP": "None", "clusterIPs": ["None"]})), Some(Service::Headless));
        let alias = read_service(json!({"type": "ExternalName", "externalName": "a.b"}));
        assert_eq!(alias, Some(Service::ExternalName("a.b".to_owned())));
    }

    #[test]
    fn only_ready_endpoints_count_and_no_condition_means_ready() {
        let object = json!({
            "addressType": "IPv4",
            "metadata": {"name": "x", "labels": {"kubernetes.io/service-name": "db"}},
            "endpoints": [
                {"addresses": ["10.244.0.1"], "conditions": {"ready": true}, "hostname": "db-0"},
                {"addresses": ["10.244.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.244.0.3"]},
            ],
        });
        let slice = slice(&serde_json::from_value(object).unwrap()).unwrap();
        let addresses: Vec<_> = slice.endpoints.iter().map(|(a, h)| (a.to_string(), h.as_deref())).collect();
        assert_eq!(slice.service, "db");
        assert_eq!(addresses, [("10.244.0.1".to_owned(), Some("db-0")), ("10.244.0.3".to_owned(), None)]);
    }
}
