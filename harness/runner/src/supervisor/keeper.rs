//! What a supervisor does: it owns the mesh, keeps the leases, and lets each client in when its turn has come.
//!
//! One message after another changes its state; whatever takes time runs as a task that reports back as a message. It
//! decides nothing about turns ([`super::grants`]) or about the mesh's life ([`super::life`]). Start at [`Keeper::take`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress_core::scenario::World;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::bring_up::{self, Reporter};
use super::grants::{Board, Id, Next};
use super::home::Home;
use super::life::{Life, Verdict};
use super::protocol::{Aftermath, Grant, News, Start, ToClient, ToSupervisor, Wanted, Welcome};
use crate::cluster::EnvironmentError;
use crate::cluster::inventory;
use crate::cluster::objects::Applied;
use crate::mesh::clean::{Touched, clean};
use crate::mesh::slot::Slot;
use crate::mesh::{Installed, Mesh};
use crate::schedule::world;

/// How many requests a client that died may have sent beyond those that it told of.
const UNTOLD_PROBES: u32 = 100;

/// Something that the keeper learns.
pub(super) enum Input {
    /// A client has connected.
    Joined(Id, UnboundedSender<ToClient>),
    /// A client says something.
    Said(Id, ToSupervisor),
    /// A client is gone.
    Left(Id),
    /// Somebody wants this process to end.
    Terminate,
    /// News of the mesh's start.
    News(News),
    /// The start is over.
    Up(Box<Result<(Mesh, Installed, Slot), EnvironmentError>>),
    /// The external servers of a client are in force, or not.
    Deployed(Id, World, Result<world::World, EnvironmentError>),
    /// A component of the mesh has died.
    Broke(String),
    /// A slot is ready to be leased, or the mesh is found broken.
    Prepared(Id, Box<Result<Held, EnvironmentError>>),
    /// A lease has been cleaned up after.
    Cleaned(Id, Box<(Slot, Installed, Aftermath)>),
    /// A slot has been added.
    Added(Box<Result<Slot, EnvironmentError>>),
    /// Another profile is in force.
    Switched(Duration, Box<Result<(Installed, Vec<Slot>), EnvironmentError>>),
    /// Nobody has come for a while, since this many events.
    Idle(u64),
}

struct Member {
    to: UnboundedSender<ToClient>,
    /// The external servers that it wants.
    world: Option<World>,
    /// It has said goodbye and waits for the last word.
    leaves: bool,
}

/// A lease that is held, with what was there before.
pub(super) struct Held {
    slot: Slot,
    lease: String,
    wanted: Wanted,
    standing: BTreeMap<String, String>,
    before: Arc<BTreeSet<String>>,
}

enum Lease {
    Preparing { client_left: bool },
    Held(Box<Held>),
    Cleaning,
}

/// The mesh, once it is up.
struct Up {
    mesh: Arc<Mesh>,
    installed: Installed,
    board: Board,
    free: Vec<Slot>,
    /// The namespace of the first slot.
    namespace: String,
    /// What the cluster holds while nobody holds a lease, as far as it is known.
    before: Option<Arc<BTreeSet<String>>>,
    world: Option<(World, BTreeMap<String, Vec<IpAddr>>)>,
    deploying: bool,
}

/// The supervisor's state.
pub(super) struct Keeper {
    home: Home,
    inputs: UnboundedSender<Input>,
    members: BTreeMap<Id, Member>,
    life: Life,
    /// What was said so far, for those who come while the mesh starts.
    news: Vec<News>,
    up: Option<Up>,
    broken: Option<EnvironmentError>,
    leases: BTreeMap<Id, Lease>,
    worlds_waiting: VecDeque<Id>,
    tasks: JoinSet<()>,
    /// Counts what happens, so that an idle time that was broken off is known.
    events: u64,
}

impl Keeper {
    /// A keeper that begins to bring its mesh up.
    pub(super) fn new(home: Home, start: Start, inputs: UnboundedSender<Input>) -> Self {
        let mut keeper = Self {
            home,
            inputs,
            members: BTreeMap::new(),
            life: Life::default(),
            news: Vec::new(),
            up: None,
            broken: None,
            leases: BTreeMap::new(),
            worlds_waiting: VecDeque::new(),
            tasks: JoinSet::new(),
            events: 0,
        };
        let reporter = Reporter(keeper.inputs.clone());
        keeper.work(async move { Input::Up(Box::new(bring_up::bring_up(start, reporter).await)) });
        keeper
    }

    /// Runs something that takes time; what it gives comes back as an input.
    fn work(&mut self, task: impl Future<Output = Input> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move { drop(inputs.send(task.await)) });
    }

    fn tell(&self, id: Id, message: impl Into<ToClient>) {
        if let Some(member) = self.members.get(&id) {
            // A client that is gone is told by its own input.
            let _ = member.to.send(message.into());
        }
    }

    /// Takes in one thing; breaks when the mesh has ended.
    pub(super) async fn take(&mut self, input: Input) -> ControlFlow<()> {
        self.events += 1;
        match input {
            Input::Joined(id, to) => {
                let _ = to.send(ToClient::Progress(News::Working("the mesh starts".into())));
                self.members.insert(id, Member { to, world: None, leaves: false });
                return ControlFlow::Continue(());
            }
            Input::News(news) => {
                self.members.keys().for_each(|id| self.tell(*id, ToClient::Progress(news.clone())));
                self.news.push(news);
            }
            Input::Said(id, message) => return self.said(id, message).await,
            Input::Left(id) => {
                self.members.remove(&id);
                self.end_lease(id, Vec::new(), UNTOLD_PROBES);
                self.worlds_waiting.retain(|waiting| *waiting != id);
                if let Some(up) = &mut self.up {
                    up.board.withdraw(id);
                }
            }
            Input::Terminate => return self.end(Some("its supervisor was told to end")).await,
            Input::Up(up) => self.came_up(*up),
            Input::Deployed(id, world, result) => self.deployed(id, world, result),
            Input::Broke(why) => {
                let held = self.leases.iter().filter(|(_, lease)| matches!(lease, Lease::Held(_)));
                held.for_each(|(id, _)| self.tell(*id, ToClient::Broken(why.clone())));
            }
            Input::Prepared(id, held) => self.prepared(id, *held),
            Input::Cleaned(id, cleaned) => self.cleaned(id, *cleaned),
            Input::Added(slot) => self.added(*slot),
            Input::Switched(took, switched) => self.switched(took, *switched),
            Input::Idle(events) if events + 1 == self.events && self.members.is_empty() => return self.end(None).await,
            Input::Idle(_) => {}
        }
        self.go_on();
        self.live_or_end().await
    }

    async fn said(&mut self, id: Id, message: ToSupervisor) -> ControlFlow<()> {
        match message {
            ToSupervisor::Hello(purpose) => {
                self.life.wanted(purpose);
                match (&self.broken, &self.up) {
                    (Some(broken), _) => self.tell(id, broken.clone()),
                    (None, Some(up)) => self.tell(id, up.welcome(&self.home)),
                    (None, None) => {
                        self.news.iter().for_each(|news| self.tell(id, ToClient::Progress(news.clone())));
                    }
                }
            }
            ToSupervisor::World(world) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.world = Some(world);
                    self.worlds_waiting.push_back(id);
                }
            }
            ToSupervisor::Lease(wanted) => {
                if let Some(broken) = &self.broken {
                    self.tell(id, broken.clone());
                } else if let Some(up) = &mut self.up {
                    up.board.allow_slots(wanted.most_slots);
                    up.board.ask(id, wanted);
                }
            }
            ToSupervisor::Release { live, probes } => self.end_lease(id, live, probes),
            ToSupervisor::Leave => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.leaves = true;
                }
            }
            ToSupervisor::Down { by_force } => {
                let others = self.members.iter().filter(|(other, m)| **other != id && !m.leaves).count();
                if others > 0 && !by_force {
                    let message = format!("{others} other clients use the mesh");
                    let remedy = "wait until they have ended, or end it all the same: `down --force`";
                    self.tell(id, EnvironmentError::new(message).with_remedy(remedy));
                } else {
                    if let Some(member) = self.members.get_mut(&id) {
                        member.leaves = true;
                    }
                    return self.end(Some("it was ended by `down`")).await;
                }
            }
        }
        self.go_on();
        self.live_or_end().await
    }

    fn came_up(&mut self, up: Result<(Mesh, Installed, Slot), EnvironmentError>) {
        match up {
            Ok((mesh, installed, slot)) => {
                let up = Up {
                    mesh: Arc::new(mesh),
                    board: Board::new(installed.profile.clone()),
                    namespace: slot.namespace.clone(),
                    installed,
                    free: vec![slot],
                    before: None,
                    world: None,
                    deploying: false,
                };
                let welcome = up.welcome(&self.home);
                let mesh = Arc::clone(&up.mesh);
                self.work(async move { Input::Broke(mesh.broken().await) });
                self.up = Some(up);
                self.members.keys().for_each(|id| self.tell(*id, welcome.clone()));
            }
            Err(error) => self.break_down(error),
        }
    }

    /// The mesh is of no more use: whoever wants something of it is told so, and new clients start another.
    fn break_down(&mut self, error: EnvironmentError) {
        self.retire();
        self.members.keys().for_each(|id| self.tell(*id, error.clone()));
        self.broken.get_or_insert(error);
    }

    /// From now on clients that come start another.
    fn retire(&self) {
        let _ = std::fs::remove_file(self.home.socket());
    }

    /// Does what can be done now.
    fn go_on(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.deploy_next();
        while let Some(next) = self.up.as_mut().and_then(|up| up.board.next()) {
            match next {
                Next::Grant(id) => self.prepare(id),
                Next::AddSlot => self.add_slot(),
                Next::Switch(profile) => self.switch(profile),
            }
        }
    }

    // ---- external servers

    fn deploy_next(&mut self) {
        let Some(up) = &mut self.up else { return };
        if up.deploying {
            return;
        }
        let Some(&id) = self.worlds_waiting.front() else { return };
        let Some(wanted) = self.members.get(&id).and_then(|m| m.world.clone()) else {
            self.worlds_waiting.pop_front();
            return;
        };
        if let Some((world, destinations)) = &up.world
            && world.covers(&wanted)
        {
            let destinations = destinations.clone();
            self.worlds_waiting.pop_front();
            self.tell(id, ToClient::World { destinations });
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

    fn deployed(&mut self, id: Id, world: World, result: Result<world::World, EnvironmentError>) {
        let Some(up) = &mut self.up else { return };
        up.deploying = false;
        match result {
            Ok(deployed) => {
                up.world = Some((world, deployed.destinations.clone()));
                self.tell(id, ToClient::World { destinations: deployed.destinations });
            }
            Err(error) => self.tell(id, error),
        }
    }

    // ---- leases

    fn prepare(&mut self, id: Id) {
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

    fn prepared(&mut self, id: Id, held: Result<Held, EnvironmentError>) {
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
    fn end_lease(&mut self, id: Id, live: Vec<Applied>, probes: u32) {
        match self.leases.get_mut(&id) {
            Some(Lease::Preparing { client_left }) => *client_left = true,
            Some(held @ Lease::Held(_)) => {
                let Lease::Held(held) = std::mem::replace(held, Lease::Cleaning) else { return };
                self.clean(id, *held, live, probes);
            }
            Some(Lease::Cleaning) | None => {}
        }
    }

    fn clean(&mut self, id: Id, held: Held, live: Vec<Applied>, probes: u32) {
        let Some(up) = &self.up else { return };
        let Held { mut slot, lease, wanted, standing, before } = held;
        slot.probes = slot.probes.wrapping_add(probes);
        let (mesh, mut installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let whole = wanted.whole;
        // A lease of the whole mesh may have changed what every client sees.
        let others: Vec<Slot> = if whole { up.free.clone() } else { Vec::new() };
        self.work(async move {
            let touched = |live| Touched { lease: &lease, servers: &wanted.servers, before: &before, whole, live };
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
            if !faults.is_empty() {
                aftermath.spoiled = Some(faults.join("; "));
            } else if let Err(why) = cleaned {
                aftermath.spoiled = Some(format!("the clean-up failed: {why}"));
            }
            slot.before = (!whole).then_some(before);
            Input::Cleaned(id, Box::new((slot, installed, aftermath)))
        });
    }

    fn cleaned(&mut self, id: Id, (slot, installed, mut aftermath): (Slot, Installed, Aftermath)) {
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

    // ---- the mesh itself

    fn add_slot(&mut self) {
        let Some(up) = &self.up else { return };
        let (mesh, installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let number = up.board.slots() + 1;
        self.work(async move { Input::Added(Box::new(mesh.add_slot(&installed, number).await)) });
    }

    fn added(&mut self, slot: Result<Slot, EnvironmentError>) {
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

    fn switch(&mut self, profile: String) {
        let Some(up) = &mut self.up else { return };
        let (mesh, mut installed) = (Arc::clone(&up.mesh), up.installed.clone());
        let mut slots = std::mem::take(&mut up.free);
        self.work(async move {
            let start = Instant::now();
            let switched = mesh.switch(&mut installed, &mut slots, &profile).await;
            Input::Switched(start.elapsed(), Box::new(switched.map(|()| (installed, slots))))
        });
    }

    fn switched(&mut self, took: Duration, switched: Result<(Installed, Vec<Slot>), EnvironmentError>) {
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

    // ---- the end

    async fn live_or_end(&mut self) -> ControlFlow<()> {
        if self.members.values().any(|m| !m.leaves) {
            // Others go on; those who leave need not wait.
            let last = ToClient::Ended { stays: true, kept: self.life.is_kept(), problem: None };
            self.members.values().filter(|m| m.leaves).for_each(|m| drop(m.to.send(last.clone())));
            return ControlFlow::Continue(());
        }
        match self.life.verdict(self.broken.is_some()) {
            Verdict::End => return self.end(None).await,
            Verdict::Stay => {}
            Verdict::EndAfter(time) if self.members.is_empty() => {
                let (inputs, events) = (self.inputs.clone(), self.events);
                self.tasks.spawn(async move {
                    tokio::time::sleep(time).await;
                    let _ = inputs.send(Input::Idle(events));
                });
            }
            Verdict::EndAfter(_) => {}
        }
        let last = ToClient::Ended { stays: true, kept: self.life.is_kept(), problem: None };
        self.members.values().for_each(|m| drop(m.to.send(last.clone())));
        ControlFlow::Continue(())
    }

    /// Ends the mesh, and tells everybody how that went. `why` is for those who still used it.
    async fn end(&mut self, why: Option<&str>) -> ControlFlow<()> {
        self.retire();
        self.tasks.shutdown().await;
        let mut problem = None;
        if let Some(up) = self.up.take() {
            let Up { mesh, free, .. } = up;
            drop(free);
            self.leases.clear();
            match Arc::into_inner(mesh) {
                Some(mesh) => problem = mesh.provider.stop().await.err().map(|e| e.message),
                None => problem = Some("the mesh was still in use by the supervisor itself".to_owned()),
            }
        }
        for member in self.members.values() {
            if !member.leaves
                && let Some(why) = why
            {
                let _ = member.to.send(EnvironmentError::new(format!("the mesh is gone: {why}")).into());
            }
            let _ = member.to.send(ToClient::Ended { stays: false, kept: false, problem: problem.clone() });
        }
        self.members.clear();
        ControlFlow::Break(())
    }
}

impl Up {
    fn welcome(&self, home: &Home) -> ToClient {
        let provider = &self.mesh.provider;
        ToClient::Welcome(Box::new(Welcome {
            kind: provider.kind().to_owned(),
            kubeconfig: provider.kubeconfig().to_owned(),
            logs: provider.logs().unwrap_or_else(|| home.path().to_owned()),
            run: self.mesh.objects.run().to_owned(),
            installed: self.installed.clone(),
            namespace: self.namespace.clone(),
            capabilities: provider.capabilities().iter().map(|c| (*c).to_owned()).collect(),
            unused: provider.unused_address(),
            servers: provider.servers().control().to_string(),
        }))
    }
}
