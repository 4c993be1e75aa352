//! What runs on the node now, for the kubelet API: logs and programs by namespace, pod and container.
//!
//! Lifecycle code writes it, the API reads it. Start at [`Registry`].

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::arrivals::Arrivals;
use super::container::spec::Process;

/// All pods of the node.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pods: RwLock<HashMap<(String, String), Arc<PodEntry>>>,
}

/// One pod.
#[derive(Debug)]
pub(crate) struct PodEntry {
    /// Its uid; a name may come back with another.
    pub(crate) uid: String,
    /// The object as last seen.
    pub(crate) pod: watch::Receiver<Arc<Pod>>,
    /// Its network namespace.
    pub(crate) netns: PathBuf,
    containers: RwLock<HashMap<String, ContainerEntry>>,
}

/// One container, with its current and its last instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerEntry {
    /// The instance that was started last.
    pub(crate) current: Option<Instance>,
    /// The one before it.
    pub(crate) previous: Option<Instance>,
}

/// One start of a container.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Everything it wrote.
    pub(crate) log: PathBuf,
    /// When it wrote it.
    pub(crate) arrivals: Arc<Arrivals>,
    /// Turns true at its end.
    pub(crate) ended: watch::Receiver<bool>,
    /// How to run programs in it.
    pub(crate) target: ExecTarget,
}

/// A running container to start programs in.
#[derive(Clone, Debug)]
pub(crate) struct ExecTarget {
    /// Its first process.
    pub(crate) pidfd: Arc<OwnedFd>,
    /// What its programs run as; `argv` is the container's own.
    pub(crate) process: Process,
}

impl Registry {
    /// Adds a pod.
    pub(crate) fn insert(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        pod: watch::Receiver<Arc<Pod>>,
        netns: PathBuf,
    ) -> Arc<PodEntry> {
        let entry = Arc::new(PodEntry { uid: uid.to_owned(), pod, netns, containers: RwLock::default() });
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        pods.insert((namespace.to_owned(), name.to_owned()), entry.clone());
        entry
    }

    /// Removes a pod, unless its name already belongs to another.
    pub(crate) fn remove(&self, namespace: &str, name: &str, uid: &str) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        if pods.get(&key).is_some_and(|entry| entry.uid == uid) {
            pods.remove(&key);
        }
    }

    /// A pod by name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<PodEntry>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Every pod's object.
    pub(crate) fn objects(&self) -> Vec<Arc<Pod>> {
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        pods.values().map(|entry| entry.pod.borrow().clone()).collect()
    }
}

impl PodEntry {
    /// A container's instances; empty ones if it never started.
    pub(crate) fn container(&self, name: &str) -> ContainerEntry {
        let containers = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        containers.get(name).cloned().unwrap_or_default()
    }

    /// Notes a start. The instance before the previous one is given back, for its files to be removed.
    pub(crate) fn started(&self, name: &str, instance: Instance) -> Option<Instance> {
        let mut containers = self.containers.write().unwrap_or_else(PoisonError::into_inner);
        let entry = containers.entry(name.to_owned()).or_default();
        let oldest = entry.previous.take();
        entry.previous = entry.current.replace(instance);
        oldest
    }
}
