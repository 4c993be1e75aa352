//! Leases: prepared, held, given back, cleaned up after. Start at [`Keeper::prepare`].

use std::sync::Arc;

use super::super::grants::Id;
use super::super::protocol::{Aftermath, Grant, ToClient};
use super::{Held, Input, Keeper, Lease};
use crate::cluster::EnvironmentError;
use crate::cluster::inventory;
use crate::cluster::objects::Applied;
use crate::mesh::Installed;
use crate::mesh::clean::{Touched, clean};
use crate::mesh::slot::Slot;

impl Keeper {
    pub(super) fn prepare(&mut self, id: Id) {
        let kept = self.life.is_kept();
        let Some(up) = &mut self.up else { return };
        let Some(mut slot) = up.free.pop() else { return };
        let Some(wanted) = up.board.granted(id).cloned() else { return };
        let furnished = wanted.namespaces.is_subset(&slot.further);
        let known = if wanted.whole { &up.before } else { &slot.before };
        let known = known.clone().filter(|_| !kept && furnished);
        self.leases.insert(id, Lease::Preparing { client_left: false });
        let (mesh, installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let lease = format!("{}-{:08x}", mesh.objects.run(), rand::random::<u32>());
        self.work(async move {
            let prepared = async {
                mesh.intact()?;
                mesh.follow_istiod(&installed, &mut slot).await?;
                mesh.furnish(&mut slot, &wanted.namespaces).await?;
                let before = match known {
                    Some(known) => known,
                    None => {
                        let taken = inventory::take(&mesh.objects, slot.extent(wanted.whole), &lease).await;
                        Arc::new(taken.map_err(|e| EnvironmentError::new(e.to_string()))?.names)
                    }
                };
                let standing = mesh.standing(&installed, &slot).await;
                Ok(Held { slot, lease, wanted, standing, before })
            };
            let prepared = prepared.await;
            Input::Prepared(id, Box::new(prepared))
        });
    }

    pub(super) fn prepared(&mut self, id: Id, held: Result<Held, EnvironmentError>) {
        let held = match held {
            Ok(held) => held,
            Err(error) => return self.break_down(error),
        };
        let Some(up) = &mut self.up else { return };
        if held.wanted.whole {
            up.before = Some(Arc::clone(&held.before));
        }
        let left = !matches!(self.leases.get(&id), Some(Lease::Preparing { client_left: false }));
        if left {
            self.leases.remove(&id);
            up.board.release(id);
            up.free.push(held.slot);
            return;
        }
        let grant = Grant {
            lease: held.lease.clone(),
            namespace: held.slot.namespace.clone(),
            namespaces: held.wanted.namespaces.iter().map(|n| (n.clone(), held.slot.further_namespace(n))).collect(),
            clients: held.slot.clients.clone(),
            probes: held.slot.probes,
            installed: up.installed.clone(),
        };
        self.leases.insert(id, Lease::Held(Box::new(held)));
        self.tell(id, ToClient::Granted(Box::new(grant)));
    }

    /// Ends a client's lease, if it has one, and cleans up after it.
    pub(super) fn end_lease(&mut self, id: Id, live: Vec<Applied>, probes: u32) {
        match self.leases.get_mut(&id) {
            Some(Lease::Preparing { client_left }) => *client_left = true,
            Some(held @ Lease::Held(_)) => {
                let Lease::Held(held) = std::mem::replace(held, Lease::Cleaning) else { return };
                self.clean(id, *held, live, probes);
            }
            Some(Lease::Cleaning) | None => {}
        }
    }

    pub(super) fn clean(&mut self, id: Id, held: Held, live: Vec<Applied>, probes: u32) {
        let Some(up) = &self.up else { return };
        let Held { mut slot, lease, wanted, standing, before } = held;
        slot.probes = slot.probes.wrapping_add(probes);
        let (mesh, mut installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let whole = wanted.whole;
        // A lease of the whole mesh may have changed what every client sees.
        let others: Vec<Slot> = if whole { up.free.clone() } else { Vec::new() };
        self.work(async move {
            let touched = |live| Touched {
                lease: &lease,
                servers: &wanted.servers,
                before: &before,
                whole,
                unlabelled: wanted.unlabelled,
                live,
            };
            let cleaning = clean(&mesh, &installed, &slot, &others, touched(live));
            let mut cleaned = mesh.while_intact(cleaning).await;
            let mut aftermath = Aftermath::default();
            let faults = mesh.provider.faults();
            let changed = if faults.is_empty() { mesh.changed(&installed, &slot, &standing).await } else { Vec::new() };
            if !changed.is_empty() {
                aftermath.disturbed = Some(changed.join("; "));
                let recovered = async { mesh.recover(&mut installed, &mut slot).await.map_err(|e| e.message) };
                match mesh.while_intact(recovered).await {
                    // A clean-up that failed while a pod was away is made good.
                    Ok(()) if cleaned.is_err() => {
                        cleaned = clean(&mesh, &installed, &slot, &others, touched(Vec::new())).await;
                    }
                    Ok(()) => {}
                    Err(why) => cleaned = Err(why),
                }
            }
            if wanted.unlabelled && faults.is_empty() && cleaned.is_ok() {
                let disturbed = aftermath.disturbed.is_some();
                let back = async { mesh.put_back(&mut installed, &mut slot, disturbed).await.map_err(|e| e.message) };
                match mesh.while_intact(back).await {
                    Ok(true) => drop(aftermath.disturbed.get_or_insert("Istio was installed anew".to_owned())),
                    Ok(false) => {}
                    Err(why) => cleaned = Err(why),
                }
            }
            if !faults.is_empty() {
                aftermath.spoiled = Some(faults.join("; "));
            } else if let Err(why) = cleaned {
                aftermath.spoiled = Some(format!("the clean-up failed: {why}"));
            }
            slot.before = (!whole).then_some(before);
            Input::Cleaned(id, Box::new((slot, installed, aftermath)))
        });
    }

    pub(super) fn cleaned(&mut self, id: Id, (slot, installed, mut aftermath): (Slot, Installed, Aftermath)) {
        self.leases.remove(&id);
        let Some(up) = &mut self.up else { return };
        if aftermath.disturbed.is_some() {
            up.installed = installed;
        }
        up.board.release(id);
        up.free.push(slot);
        if let Some(broken) = &self.broken {
            aftermath.spoiled.get_or_insert(broken.message.clone());
        }
        let spoiled = aftermath.spoiled.clone();
        self.tell(id, ToClient::Released(aftermath));
        if let Some(why) = spoiled.filter(|_| self.broken.is_none()) {
            let error = EnvironmentError::new(format!("the mesh is of no more use: {why}"));
            self.retire();
            self.broken = Some(error.clone());
            let others = self.members.keys().filter(|other| **other != id && !self.leases.contains_key(other));
            others.for_each(|other| self.tell(*other, error.clone()));
        }
    }
}
