//! The external servers that clients want: one world at a time, shared by those who want no other. Start at
//! [`Keeper::deploy_next`].

use std::sync::Arc;

use egress_core::scenario::World;

use super::super::grants::Id;
use super::super::protocol::{News, ToClient};
use super::{Input, Keeper};
use crate::cluster::EnvironmentError;
use crate::schedule::world;

impl Keeper {
    pub(super) fn deploy_next(&mut self) {
        let Some(up) = &mut self.up else { return };
        if up.deploying {
            return;
        }
        let Some(&id) = self.worlds_waiting.front() else { return };
        let Some(wanted) = self.members.get(&id).and_then(|m| m.world.clone()) else {
            self.worlds_waiting.pop_front();
            return;
        };
        if let Some((world, deployed)) = &up.world
            && world.covers(&wanted)
        {
            let deployed = deployed.clone();
            self.worlds_waiting.pop_front();
            self.tell(id, ToClient::World(Box::new(deployed)));
            return self.deploy_next();
        }
        let others = self
            .members
            .iter()
            .any(|(other, m)| *other != id && m.world.is_some() && !self.worlds_waiting.contains(other));
        if others {
            let waits = "waiting: other clients of this mesh use other external servers";
            return self.tell(id, ToClient::Progress(News::Working(waits.into())));
        }
        up.deploying = true;
        up.world = None;
        self.worlds_waiting.pop_front();
        let mesh = Arc::clone(&up.mesh);
        self.work(async move {
            let deployed = world::deploy(&*mesh.provider, &wanted).await;
            Input::Deployed(id, wanted, deployed)
        });
    }

    pub(super) fn deployed(&mut self, id: Id, world: World, result: Result<world::World, EnvironmentError>) {
        let Some(up) = &mut self.up else { return };
        up.deploying = false;
        match result {
            Ok(deployed) => {
                up.world = Some((world, deployed.clone()));
                self.tell(id, ToClient::World(Box::new(deployed)));
            }
            Err(error) => self.tell(id, error),
        }
    }
}
