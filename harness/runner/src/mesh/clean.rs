//! Taking back what a lease left in the cluster, and proving that nothing else was left.
//!
//! It works by the lease's label, so it needs nobody who remembers: a client that was killed is cleaned up after in the
//! same way as one that said goodbye. Start at [`clean`].

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use super::slot::Slot;
use super::{Installed, Mesh};
use crate::cluster::inventory::{self, Extent};
use crate::cluster::objects::Applied;
use crate::gate::Change;
use crate::wait;

/// How long deleted objects may take to go, and proxies to forget them.
const BOUND: Duration = Duration::from_secs(30);

/// What a lease may have touched.
pub struct Touched<'a> {
    /// The label of its objects.
    pub lease: &'a str,
    /// Where it ran.
    pub extent: Extent<'a>,
    /// What there was before it.
    pub before: &'a BTreeSet<String>,
    /// What it says it has applied; empty if it died.
    pub live: Vec<Applied>,
}

/// Deletes everything that carries the lease's label, newest first as far as the lease has told, waits until the cluster
/// holds what it held before, and then until the proxies of these slots have forgotten it.
///
/// # Errors
/// What is left, or which proxy does not forget.
pub async fn clean(mesh: &Mesh, installed: &Installed, slots: &[&Slot], touched: Touched<'_>) -> Result<(), String> {
    let Touched { lease, extent, before, mut live } = touched;
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
        let now = inventory::take(&mesh.objects, extent, lease).await.map_err(|e| e.to_string())?;
        for object in now.labelled {
            mesh.objects.delete(&object).await.map_err(|e| e.to_string())?;
            deleted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(object);
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
    mesh.settle(installed, slots.iter().copied(), &change, BOUND).await.map_err(|e| e.message)
}
