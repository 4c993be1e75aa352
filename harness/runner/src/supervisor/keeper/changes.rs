//! What changes the mesh itself: another slot, another profile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::protocol::{News, ToClient};
use super::{Input, Keeper};
use crate::cluster::EnvironmentError;
use crate::mesh::Installed;
use crate::mesh::slot::Slot;

impl Keeper {
    pub(super) fn add_slot(&mut self) {
        let Some(up) = &self.up else { return };
        let (mesh, installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let number = up.board.slots() + 1;
        self.work(async move { Input::Added(Box::new(mesh.add_slot(&installed, number).await)) });
    }

    pub(super) fn added(&mut self, slot: Result<Slot, EnvironmentError>) {
        let Some(up) = &mut self.up else { return };
        up.board.slot_added(slot.is_ok());
        // There is a namespace more, whether its clients came up or not.
        up.before = None;
        match slot {
            Ok(slot) => up.free.push(slot),
            Err(error) => {
                tracing::warn!("{error}");
                let line = News::Line(format!("warning: no further slot, so fewer scenarios side by side: {error}"));
                if let Some(id) = up.board.first_waiting() {
                    self.tell(id, ToClient::Progress(line));
                }
            }
        }
    }

    pub(super) fn switch(&mut self, profile: String) {
        let Some(up) = &mut self.up else { return };
        let (mesh, mut installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let mut slots = std::mem::take(&mut up.free);
        self.work(async move {
            let start = Instant::now();
            let switched = mesh.switch(&mut installed, &mut slots, &profile).await;
            Input::Switched(start.elapsed(), Box::new(switched.map(|()| (installed, slots))))
        });
    }

    pub(super) fn switched(&mut self, took: Duration, switched: Result<(Installed, Vec<Slot>), EnvironmentError>) {
        match (switched, &mut self.up) {
            (Ok((installed, slots)), Some(up)) => {
                if let Some(id) = up.board.first_waiting() {
                    // One of those who wait tells it; they may all be of one process.
                    let news = News::Phase(format!("profile {} in force", installed.profile), took);
                    if let Some(member) = self.members.get(&id) {
                        let _ = member.to.send(ToClient::Progress(news));
                    }
                }
                up.board.switched(installed.profile.clone());
                up.free = slots;
                up.installed = installed;
                up.before = None;
                up.free.iter_mut().for_each(|slot| slot.before = None);
            }
            (Ok(_), None) => {}
            (Err(error), _) => self.break_down(error),
        }
    }
}
