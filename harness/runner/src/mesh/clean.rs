//! Taking back what a lease left in the cluster, and proving that nothing else was left.
//!
//! It works by the lease's label, so it needs nobody who remembers: a client that was killed is cleaned up after in the
//! same way as one that said goodbye. What the commands of a tutorial applied has no label: then whatever was not there
//! before goes. Start at [`clean`].

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use external_server::model::Behaviour;

use super::slot::Slot;
use super::{Installed, Mesh};
use crate::cluster::inventory;
use crate::cluster::objects::Applied;
use crate::gate::Change;
use crate::wait;

/// How long deleted objects may take to go, and proxies to forget them.
const BOUND: Duration = Duration::from_secs(30);

/// What a lease may have touched.
pub struct Touched<'a> {
    /// The label of its objects.
    pub lease: &'a str,
    /// External servers whose behaviour it may have changed.
    pub servers: &'a BTreeSet<String>,
    /// What there was before it, where it ran.
    pub before: &'a BTreeSet<String>,
    /// Whether it had the whole mesh.
    pub whole: bool,
    /// Whether what it applied carries no label: then everything goes that was not there before.
    pub unlabelled: bool,
    /// What it says it has applied; empty if it died.
    pub live: Vec<Applied>,
}

/// Deletes everything that carries the lease's label, newest first as far as the lease has told, waits until the cluster
/// holds what it held before, and then until the proxies of its slot, and of `others`, have forgotten it.
///
/// # Errors
/// What is left, or which proxy does not forget.
pub async fn clean(
    mesh: &Mesh,
    installed: &Installed,
    slot: &Slot,
    others: &[Slot],
    touched: Touched<'_>,
) -> Result<(), String> {
    let Touched { lease, servers, before, whole, unlabelled, mut live } = touched;
    for server in servers {
        let reset = mesh.provider.servers().set_behaviour(server, Behaviour::Up).await;
        reset.map_err(|e| format!("external server {server} cannot be reset: {e}"))?;
    }
    live.reverse();
    for object in &live {
        mesh.objects.delete(object).await.map_err(|e| e.to_string())?;
    }
    for object in &live {
        mesh.objects.gone(object, BOUND).await.map_err(|e| e.to_string())?;
    }
    let deleted = Mutex::new(live);
    // Controllers remove what they made a little later.
    wait::until("the cluster's return to what it was", BOUND, || async {
        let now = inventory::take(&mesh.objects, slot.extent(whole), lease).await.map_err(|e| e.to_string())?;
        let known = || deleted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let namespaces: BTreeSet<_> =
            known().iter().filter(|object| object.gvk.kind == "Namespace").map(|object| object.name.clone()).collect();
        for object in now.stranded(&namespaces) {
            mesh.objects.delete(object).await.map_err(|e| e.to_string())?;
        }
        let foreign = now.objects.iter().filter(|(name, _)| unlabelled && !before.contains(*name));
        let foreign: Vec<_> = foreign.map(|(_, object)| object.clone()).collect();
        for object in now.labelled.into_iter().chain(foreign) {
            mesh.objects.delete(&object).await.map_err(|e| e.to_string())?;
            known().push(object);
        }
        let changed = inventory::difference(before, &now.names);
        if changed.is_empty() { Ok(()) } else { Err(changed.join(", ")) }
    })
    .await
    .map_err(|e| e.to_string())?;
    let absent = deleted.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if absent.is_empty() {
        return Ok(());
    }
    let change = Change { present: Vec::new(), absent };
    mesh.settle(installed, std::iter::once(slot).chain(others), &change, BOUND).await.map_err(|e| e.message)
}
