//! Config maps and secrets: reading them, and hearing of their changes.
//!
//! Nothing is cached: a change only says that it is time to read again. Start at [`fetch`] and [`watch_changes`].

use std::fmt::Debug;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::env::{Objects, Reference};

/// A config map or secret that was made, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Which object.
    pub(crate) reference: Reference,
}

/// Reads the named objects. One that does not exist is left out.
pub(crate) async fn fetch(
    client: &kube::Client,
    namespace: &str,
    references: impl IntoIterator<Item = Reference>,
) -> Result<Objects, kube::Error> {
    let mut objects = Objects::default();
    for reference in references {
        match reference {
            Reference::ConfigMap(name) => {
                let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
                if let Some(found) = api.get_opt(&name).await? {
                    objects.config_maps.insert(name, found);
                }
            }
            Reference::Secret(name) => {
                let api = Api::<Secret>::namespaced(client.clone(), namespace);
                if let Some(found) = api.get_opt(&name).await? {
                    objects.secrets.insert(name, found);
                }
            }
        }
    }
    Ok(objects)
}

/// Tells of every change until `shutdown`.
pub(crate) async fn watch_changes(
    client: kube::Client,
    changes: broadcast::Sender<Change>,
    shutdown: CancellationToken,
) {
    let config_maps = watch::<ConfigMap>(client.clone(), Reference::ConfigMap, changes.clone());
    let secrets = watch::<Secret>(client, Reference::Secret, changes);
    tokio::select! {
        () = config_maps => {}
        () = secrets => {}
        () = shutdown.cancelled() => {}
    }
}

async fn watch<K>(client: kube::Client, kind: fn(String) -> Reference, changes: broadcast::Sender<Change>)
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    // Only the metadata is asked for.
    let api = Api::<PartialObjectMeta<K>>::all(client);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                if let Some(change) = change(object, kind) {
                    // Nobody listens while no pod runs.
                    let _ = changes.send(change);
                }
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => tracing::warn!(%error, "watching objects for volumes"),
        }
    }
}

fn change<K>(object: PartialObjectMeta<K>, kind: fn(String) -> Reference) -> Option<Change> {
    let meta = object.metadata;
    Some(Change { namespace: meta.namespace?, reference: kind(meta.name?) })
}
