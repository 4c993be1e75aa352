//! Kubernetes objects of any kind: apply, delete, wait until they are gone.
//!
//! Every object that is applied carries [`RUN_LABEL`], so that cleanup and `sweep` find it. Nothing here knows what the
//! objects mean. Start at [`Objects`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiCapabilities, Scope};
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::wait::{self, TimedOut};

/// The label that every object of a run carries; its value is the run's id.
pub const RUN_LABEL: &str = "egress-conformance.dev/run";
const FIELD_MANAGER: &str = "egress-conformance";

/// Applies and deletes objects of any kind that the cluster knows.
pub struct Objects {
    client: Client,
    run: String,
    kinds: Arc<Mutex<BTreeMap<String, (ApiResource, ApiCapabilities)>>>,
}

/// One object that exists because we applied it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Group, version and kind.
    pub gvk: GroupVersionKind,
    /// Namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// The uid that the API server gave it.
    pub uid: String,
    /// Its generation; 0 where the kind has none.
    pub generation: i64,
    /// The object as the API server returned it.
    pub object: Value,
}

impl Applied {
    /// `Kind namespace/name`, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.gvk.kind, self.name),
            None => format!("{} {}", self.gvk.kind, self.name),
        }
    }
}

/// An object could not be applied, read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The document has no kind, API version or name.
    #[error("the document is no Kubernetes object: {0}")]
    NotAnObject(String),
    /// The cluster does not know the kind.
    #[error("the cluster does not know the kind {kind} ({source})")]
    UnknownKind {
        /// apiVersion and kind.
        kind: String,
        /// What the discovery said.
        source: Box<kube::Error>,
    },
    /// The API server, or an admission webhook, refused.
    #[error("{object} was refused: {message}")]
    Refused {
        /// Kind and name.
        object: String,
        /// The API server's own message.
        message: String,
    },
    /// The API server could not be asked.
    #[error("{doing} failed: {source}")]
    Api {
        /// What was tried.
        doing: String,
        /// What kube says.
        source: Box<kube::Error>,
    },
    /// An object did not go away.
    #[error(transparent)]
    Timeout(#[from] TimedOut),
}

impl Objects {
    /// Objects of one run, in one cluster.
    #[must_use]
    pub fn new(client: Client, run: String) -> Self {
        Self { client, run, kinds: Arc::default() }
    }

    /// Objects of another run in the same cluster; what is known of its kinds is shared.
    #[must_use]
    pub fn of_run(&self, run: String) -> Self {
        Self { client: self.client.clone(), run, kinds: Arc::clone(&self.kinds) }
    }

    /// The client that it uses.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The run's id, the value of [`RUN_LABEL`].
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    async fn kind(&self, gvk: &GroupVersionKind) -> Result<(ApiResource, ApiCapabilities), ObjectError> {
        let key = format!("{}/{}", gvk.api_version(), gvk.kind);
        if let Some(known) = self.kinds.lock().await.get(&key) {
            return Ok(known.clone());
        }
        let found = discovery::pinned_kind(&self.client, gvk)
            .await
            .map_err(|source| ObjectError::UnknownKind { kind: key.clone(), source: Box::new(source) })?;
        self.kinds.lock().await.insert(key, found.clone());
        Ok(found)
    }

    async fn api(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
    ) -> Result<(Api<DynamicObject>, bool), ObjectError> {
        let (resource, capabilities) = self.kind(gvk).await?;
        Ok(match (capabilities.scope, namespace) {
            (Scope::Namespaced, Some(namespace)) => {
                (Api::namespaced_with(self.client.clone(), namespace, &resource), true)
            }
            (Scope::Namespaced, None) => (Api::default_namespaced_with(self.client.clone(), &resource), true),
            (Scope::Cluster, _) => (Api::all_with(self.client.clone(), &resource), false),
        })
    }

    /// Applies one document (server-side apply), in its own namespace or else in `default_namespace`.
    ///
    /// # Errors
    /// [`ObjectError::Refused`] with the API server's or the webhook's message; the others where nothing was decided.
    pub async fn apply(&self, document: &Value, default_namespace: &str) -> Result<Applied, ObjectError> {
        let gvk = gvk_of(document)?;
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let name = text("/metadata/name").ok_or_else(|| ObjectError::NotAnObject("metadata.name is missing".into()))?;
        let namespace = text("/metadata/namespace").unwrap_or_else(|| default_namespace.to_owned());
        let (api, namespaced) = self.api(&gvk, Some(&namespace)).await?;
        let mut object = document.clone();
        object["metadata"]["labels"][RUN_LABEL] = Value::String(self.run.clone());
        if namespaced {
            object["metadata"]["namespace"] = Value::String(namespace.clone());
        }
        let described = format!("{} {name}", gvk.kind);
        let patched = api
            .patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object))
            .await
            .map_err(|error| refused_or_api(&described, "apply", error))?;
        Ok(Applied {
            namespace: namespaced.then_some(namespace),
            name,
            uid: patched.uid().unwrap_or_default(),
            generation: patched.metadata.generation.unwrap_or(0),
            object: serde_json::to_value(&patched).unwrap_or(Value::Null),
            gvk,
        })
    }

    /// Deletes an object; one that is gone already is no error.
    ///
    /// # Errors
    /// [`ObjectError::Api`] or [`ObjectError::Refused`].
    pub async fn delete(&self, object: &Applied) -> Result<(), ObjectError> {
        let (api, _) = self.api(&object.gvk, object.namespace.as_deref()).await?;
        match api.delete(&object.name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(refused_or_api(&object.describe(), "delete", error)),
        }
    }

    /// Waits until the object (this very one, by uid) is gone.
    ///
    /// # Errors
    /// [`ObjectError::Timeout`] says which finalizers hold it.
    pub async fn gone(&self, object: &Applied, bound: Duration) -> Result<(), ObjectError> {
        let (api, _) = self.api(&object.gvk, object.namespace.as_deref()).await?;
        wait::until(&format!("the end of {}", object.describe()), bound, || async {
            match api.get_opt(&object.name).await {
                Ok(None) => Ok(()),
                Ok(Some(seen)) if seen.uid().as_deref() != Some(&object.uid) => Ok(()),
                Ok(Some(seen)) => Err(format!("still there, finalizers {:?}", seen.finalizers())),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        Ok(())
    }

    /// Reads the objects of a kind in all namespaces.
    ///
    /// # Errors
    /// [`ObjectError::UnknownKind`], [`ObjectError::Api`].
    pub async fn everywhere(&self, gvk: &GroupVersionKind) -> Result<Vec<Value>, ObjectError> {
        let (resource, _) = self.kind(gvk).await?;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let failed = |source| ObjectError::Api { doing: format!("reading {}", gvk.kind), source: Box::new(source) };
        let list = api.list_metadata(&ListParams::default()).await.map_err(failed)?;
        Ok(list.items.into_iter().map(|object| serde_json::to_value(object).unwrap_or(Value::Null)).collect())
    }

    /// Reads objects of a kind: one by name, or those that a label selector finds.
    ///
    /// # Errors
    /// [`ObjectError::UnknownKind`], [`ObjectError::Api`].
    pub async fn read(
        &self,
        gvk: &GroupVersionKind,
        namespace: &str,
        name: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<Value>, ObjectError> {
        let (api, _) = self.api(gvk, Some(namespace)).await?;
        let doing = || format!("reading {} {}", gvk.kind, name.or(selector).unwrap_or("*"));
        let failed = |source| ObjectError::Api { doing: doing(), source: Box::new(source) };
        let found = if let Some(name) = name {
            api.get_opt(name).await.map_err(failed)?.into_iter().collect()
        } else {
            let params = selector.map_or_else(ListParams::default, |s| ListParams::default().labels(s));
            api.list(&params).await.map_err(failed)?.items
        };
        Ok(found
            .into_iter()
            .map(|mut object| {
                object.metadata.managed_fields = None;
                serde_json::to_value(object).unwrap_or(Value::Null)
            })
            .collect())
    }
}

/// Group, version and kind of a document.
///
/// # Errors
/// [`ObjectError::NotAnObject`] says which of the two fields is missing.
pub fn gvk_of(document: &Value) -> Result<GroupVersionKind, ObjectError> {
    let text = |key: &str| {
        document[key].as_str().ok_or_else(|| ObjectError::NotAnObject(format!("`{key}` is missing or no text")))
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Ok(GroupVersionKind::gvk(group, version, kind))
}

fn refused_or_api(object: &str, doing: &str, error: kube::Error) -> ObjectError {
    match error {
        kube::Error::Api(status) if (400..500).contains(&status.code) => {
            ObjectError::Refused { object: object.to_owned(), message: status.message }
        }
        other => ObjectError::Api { doing: format!("{doing} of {object}"), source: Box::new(other) },
    }
}
